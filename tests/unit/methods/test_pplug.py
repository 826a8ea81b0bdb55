"""Persona-Plug against loops over the paper's formula, and where the released code and the mended one differ."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from planted import dialogues, prepared_corpus, requests_of, small_config, small_module
from tiny import tiny_decoder, tiny_rendered
from torch import Tensor

from querier.config import Config, from_plain
from querier.data.collate import TrainingBatches, collate
from querier.data.preparation import Prepared
from querier.methods.pplug import INSTRUCTION, PERSONAL, PersonaPlug
from querier.module import QuerierModule
from querier.types import STYLE, Batch, Items, Tokens

ROOT = Path(__file__).parents[3]
SIZE = 16


def made(faithful: bool, **conditioning: Any) -> PersonaPlug:
    plain = {"conditioning": {"model": "pplug", "kind": "soft_prompt", "faithful": faithful, **conditioning}}
    config: Config = from_plain(Config, plain)
    decoder = tiny_decoder()
    torch.manual_seed(3)
    return PersonaPlug(config, SIZE, decoder.geometry, decoder.embedding_rms).eval()


def batch_of(lengths: list[int], seed: int = 0, spread: float = 1.0) -> Batch:
    """Histories of these lengths; with a small spread all items point nearly one way."""
    chance = torch.Generator().manual_seed(seed)
    count, slots = len(lengths), max(1, *lengths)
    unit = torch.nn.functional.normalize
    common = torch.randn(1, 1, SIZE, generator=chance)
    inputs, outputs = (unit(common + spread * torch.randn(count, slots, SIZE, generator=chance), dim=-1) for _ in "ab")
    zeros, numbers = torch.zeros(count, slots, dtype=torch.int64), torch.arange(count)
    mask = torch.arange(slots)[None] < torch.tensor(lengths)[:, None]
    history = Items(inputs, outputs, torch.zeros(count, slots, STYLE), zeros, zeros, mask, mask)
    query = unit(torch.randn(count, SIZE, generator=chance), dim=-1)
    return Batch(numbers, numbers, numbers, numbers, query, history, history, Tokens(zeros, zeros, zeros))


def prompt(model: PersonaPlug, batch: Batch, strength: float = 1.0) -> Tensor:
    found = model.condition(batch, strength).soft_prompt
    assert found is not None
    return found


def slow(model: PersonaPlug, batch: Batch, row: int, scale: float) -> Tensor:
    """Σ_j softmax_j(scale · ⟨q, h_j⟩) MLP(h_j), one item after the other."""
    items = []
    for place in range(int(batch.history.mask[row].sum())):
        both = batch.history.inputs[row, place] + batch.history.outputs[row, place]
        items.append(both / both.norm())
    powers = [math.exp(scale * float(batch.query[row] @ item)) for item in items]
    return sum(
        (power / sum(powers) * model.align(item) for power, item in zip(powers, items, strict=True)), torch.zeros(1)
    )


@torch.no_grad()
@pytest.mark.parametrize("faithful", [False, True])
def test_the_personal_token_is_the_papers_sum(faithful: bool) -> None:
    model, batch = made(faithful), batch_of([5, 1, 3])
    found = prompt(model, batch)
    assert found.shape == (3, 2, 32)
    for row in range(3):
        personal = slow(model, batch, row, 1.0 if faithful else float(model.log_scale.exp()))
        instruction = model.align_instruction(model.instruction)
        if faithful:
            wanted = torch.stack([instruction * INSTRUCTION, personal * PERSONAL])
        else:
            both = torch.stack([instruction, personal])
            wanted = both / both.square().mean(-1, keepdim=True).sqrt() * model.rms
        assert torch.allclose(found[row], wanted, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_published_attention_is_nearly_a_mean_and_mended_attention_chooses() -> None:
    batch = batch_of([60, 60], spread=0.5)
    weights = {faithful: made(faithful).attention(batch.query, batch.history) for faithful in (False, True)}
    items = {faithful: 1 / found.square().sum(-1) for faithful, found in weights.items()}
    assert (items[True] > 55).all()  # of 60 items: as good as all of them count
    assert (items[False] < items[True] - 5).all()


@torch.no_grad()
def test_published_tokens_are_far_louder_than_the_decoders_own() -> None:
    loud, matched = (prompt(made(faithful), batch_of([4])).square().mean(-1).sqrt() for faithful in (True, False))
    rms = made(True).rms
    assert (loud > 20 * rms).all()
    assert torch.allclose(matched, rms.expand(1, 2), rtol=1e-3)


def test_without_history_the_published_one_has_no_number_and_the_mended_one_a_learned_vector() -> None:
    batch = batch_of([2, 0])
    published = prompt(made(True), batch)
    assert (made(True).scales, made(False).scales) == (False, True)
    assert published[0].isfinite().all()
    assert published[1, 1].isnan().all()
    model = made(False)
    said = prompt(model, batch)
    said.sum().backward()
    assert all(value.grad is None or value.grad.isfinite().all() for value in model.parameters())
    alone = prompt(model, replace(batch_of([0]), query=batch.query[1:]))
    assert torch.allclose(said[1], alone[0], atol=1e-5)
    assert torch.allclose(prompt(model, batch, strength=0.0)[0, 1], said[1, 1], atol=1e-5)
    attention = model.condition(batch).explain["attention"]
    assert torch.allclose(attention.sum(-1), torch.ones(2, 1))
    assert attention[1, 0, 0] == 1


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_causal_and_seq2seq_decoders_read_it(architecture: str) -> None:
    decoder = tiny_decoder(architecture)
    config: Config = from_plain(Config, {"conditioning": {"model": "pplug", "kind": "soft_prompt"}})
    model = PersonaPlug(config, SIZE, decoder.geometry, decoder.embedding_rms).eval()
    tokens = decoder.score_tokens(tiny_rendered(2))
    one, other = (decoder.log_prob(tokens, model.condition(batch_of([3, 3], seed))) for seed in (0, 1))
    assert (one - other).abs().max() > 1e-4
    assert len(decoder.generate(decoder.prompt_tokens(tiny_rendered(2)), model.condition(batch_of([3, 3])), 3)) == 2


@pytest.mark.parametrize("faithful", [False, True])
def test_it_trains_on_histories_of_which_nothing_is_left(tmp_path: Path, faithful: bool) -> None:
    """As shipped most rows drop items by chance, and the first dialogue of a querier has none."""
    dropout = yaml.safe_load((ROOT / "conf/method/pplug.yaml").read_text())["towers"]["history_dropout"]
    prepared, module = trained_path(tmp_path, faithful, dropout)
    config = module.config
    batches = TrainingBatches(requests_of(prepared, config), config, module.decoder.score_tokens, parts=False)
    optimizer = torch.optim.AdamW(module.conditioner.parameters(), lr=1e-3)
    for step in range(3):
        batch = batches.build(prepared.pool, 0, step)
        assert not batch.history.mask.any(1).all()
        total = module.losses(batch).total
        assert total.isfinite()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert all(value.isfinite().all() for value in module.conditioner.parameters())


def test_as_published_rows_with_history_train_as_they_are_scored() -> None:
    batch, alone = batch_of([5, 0, 3]), batch_of([5, 0, 3])
    alone.history.mask[1, 0] = True
    scored, trained = prompt(made(True), alone), prompt(made(True).train(), batch)
    assert torch.equal(trained[[0, 2]], scored[[0, 2]])
    assert trained[1, 1].eq(0).all()


def trained_path(tmp_path: Path, faithful: bool, dropout: float) -> tuple[Prepared, QuerierModule]:
    config = small_config(
        tmp_path,
        conditioning={"model": "pplug", "kind": "soft_prompt", "faithful": faithful},
        loss={"specific": 0.0, "general": 0.0, "swap": 0.0},
        towers={"history_dropout": dropout},
        decoder={"train": "frozen", "layers": 1, "width": 32, "vocabulary": 300, "max_length": 96},
    )
    prepared = prepared_corpus(dialogues(6, 8), config, tmp_path)
    return prepared, small_module(prepared, config).train()


def test_it_trains_through_the_one_path_and_leaves_the_decoder_alone(tmp_path: Path) -> None:
    prepared, module = trained_path(tmp_path, False, 0.3)
    config = module.config
    requests = [requests_of(prepared, config).matched(int(row)) for row in prepared.pool[-6:]]
    batch = collate(requests, module.decoder.score_tokens([one.rendered for one in requests]), 8)
    parts = module.losses(batch)
    assert set(parts.parts) == {"lm"}
    parts.total.backward()
    assert module.conditioner is not None
    assert all(value.grad is not None for value in module.conditioner.parameters())
    assert all(value.grad is None for value in module.decoder.parameters())
