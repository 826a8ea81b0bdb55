"""What a module logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import dialogues, prepared_corpus, requests_of, small_config, small_module

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
