"""A method of one's own: the seam carries one that reaches into the decoder and has a loss and buffers of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from planted import dialogues, prepared_corpus, requests_of, small_config, small_module
from torch import Tensor, nn

from querier.data.collate import TrainingBatches
from querier.data.preparation import Prepared
from querier.errors import InputError
from querier.losses import Sum
from querier.models.conditioner import Conditioner, Outputs
from querier.models.decoder import Decoder
from querier.models.geometry import find_layers
from querier.module import QuerierModule
from querier.types import Batch, Conditioning


class Louder(Conditioner):
    """Adds a trained shift behind the first layer, counts what it saw, and is punished for the size of the shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weights = {"size": 0.5}
        self.shift = nn.Parameter(torch.full((width,), 0.1))
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()))
        self._hook: Any = None

    def condition(self, batch: Batch, strength: float = 1.0) -> Conditioning:
        return Conditioning()

    def attach(self, decoder: Decoder) -> None:
        layer = find_layers(decoder.model, False)[0]
        self._hook = layer.register_forward_hook(lambda module, given, found: found + self.shift)

    def detach(self) -> None:
        self._hook.remove()

    def auxiliary_losses(self, batch: Batch, outputs: Outputs) -> dict[str, Sum]:
        self.seen += len(batch)
        assert outputs.log_prob.shape[0] == len(batch)
        return {"size": Sum(self.shift.square().sum() * len(batch), torch.tensor(len(batch)))}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("seam")
    return prepared_corpus(dialogues(6, 8), small_config(folder), folder)


def test_a_method_of_ones_own_is_trained_scored_and_removed(prepared: Prepared) -> None:
    config = small_config(Path(), conditioning={"kind": "none"})
    bare = small_module(prepared, config)
    requests = requests_of(prepared, config)
    rows = prepared.pool[-4:]
    asked = [requests.matched(int(row)) for row in rows]
    before = [one.log_prob for one in bare.score(asked)]

    louder = Louder(bare.decoder.geometry.width)
    louder.attach(bare.decoder)
    module = QuerierModule(config, bare.decoder, louder)
    batch = TrainingBatches(requests, config, module.decoder.score_tokens, parts=False).build(rows, 0, 0)
    parts = module.losses(batch)
    assert set(parts.parts) == {"lm", "size"}
    assert parts.parts["size"].item() == pytest.approx(0.01 * len(louder.shift), rel=1e-5)
    assert parts.total.item() == pytest.approx(parts.parts["lm"].item() + 0.5 * parts.parts["size"].item(), rel=1e-5)
    parts.total.backward()
    assert louder.shift.grad is not None
    assert (louder.shift.grad - 0.5 * 2 * 0.1).abs().max() > 1e-6  # the language-model loss moves it as well
    assert louder.seen.item() == len(rows)
    assert [one.log_prob for one in module.score(asked)] != pytest.approx(before, abs=1e-4)
    assert len(module.generate(asked, 3)) == len(asked)
    state = louder.own_state()
    assert set(state) == {"shift", "seen"}

    louder.detach()
    assert [one.log_prob for one in module.score(asked)] == before


def test_what_a_method_lacks_is_said(prepared: Prepared) -> None:
    louder = Louder(4)
    with pytest.raises(ValueError, match="Louder has no vectors of queriers"):
        louder.embed(requests_of)  # type: ignore[arg-type]  # is not looked at
    with pytest.raises(InputError, match="lack seen: another version .* train the run again"):
        louder.load_own_state({"shift": torch.zeros(4)})
