"""What a module logs: losses that there are, and sums on devices that have no float64."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from planted import dialogues, prepared_corpus, requests_of, small_config, small_module
from torch import Tensor

from querier.data.collate import TrainingBatches
from querier.data.preparation import Prepared
from querier.module import QuerierModule
from querier.types import Split


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared")
    return prepared_corpus(dialogues(8, 12), small_config(folder), folder)


def logged_by(module: QuerierModule) -> dict[str, Any]:
    """What the module will log, without a trainer."""
    found: dict[str, Any] = {}
    module.log_dict = lambda values, **_: found.update(values)  # type: ignore[method-assign]
    return found


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, {"echo"}),
        ({"conditioning": {"kind": "residual", "expectation": True}}, set()),
        ({"towers": {"general": False}}, {"echo", "general"}),
        ({"loss": {"swap_fraction": 0.0}}, {"echo", "swap"}),
    ],
)
def test_only_losses_that_there_are_are_logged(prepared: Prepared, changes: dict[str, Any], missing: set[str]) -> None:
    module = small_module(prepared, small_config(Path(), **changes)).train()
    requests = requests_of(prepared, module.config)
    batch = TrainingBatches(requests, module.config, module.decoder.score_tokens).build(
        prepared.corpus.rows_in(Split.TRAIN)[-12:], epoch=0, index=0
    )
    logged = logged_by(module)
    module.training_step(batch, 0)
    assert {f"train/{name}" for name in ({"loss", "lm", "specific", "general", "swap", "echo"} - missing)} == set(
        logged
    )


class WithoutDoubles(Tensor):
    """As on a device that has no float64, as Apple's."""

    def double(self) -> Tensor:  # type: ignore[override]
        raise TypeError("no float64 on this device")

    def cpu(self) -> Tensor:  # type: ignore[override]
        return self.as_subclass(Tensor)


def test_scores_and_validation_need_no_doubles_on_the_device(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = small_module(prepared, small_config(Path())).eval()
    requests = requests_of(prepared, module.config)
    asked = [requests.matched(int(row)) for row in prepared.corpus.rows_in(Split.TEST)[:3]]
    wanted, honest = [one.log_prob for one in module.score(asked)], module.decoder.log_prob
    with monkeypatch.context() as patch:
        patch.setattr(
            module.decoder, "log_prob", lambda *given: honest(*given).as_subclass(WithoutDoubles), raising=True
        )
        assert [one.log_prob for one in module.score(asked)] == wanted
    module._validation = [(3.0, 2, 4), (1.0, 2, 4)]
    monkeypatch.setattr(QuerierModule, "device", torch.device("meta"))  # which holds no values at all
    monkeypatch.setattr(QuerierModule, "trainer", SimpleNamespace(world_size=1))
    logged = logged_by(module)
    module.on_validation_epoch_end()
    assert logged == {"val/nll_per_token": 1.0, "val/nll_per_byte": 0.5}
