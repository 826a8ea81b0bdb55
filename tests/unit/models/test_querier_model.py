"""What the conditioner must never mix up: who is asked for, who is not, and who has no history."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import tiny_decoder
from torch import Tensor

from querier.choices import Fusion, Kind
from querier.config import Config, from_plain
from querier.models.conditioner import Outputs
from querier.models.querier_model import QuerierModel
from querier.types import STYLE, Batch, Conditioning, Items, Tokens

SIZE, CLUSTERS = 16, 3
TOWERS = {"width": 16, "heads": 2, "virtual_tokens": 2, "history": 6, "neighbours": 4, "rank": 8}


def select(items: Items, rows: object) -> Items:
    return Items(**{name: value[rows] for name, value in vars(items).items()})


def make_model(**changes: Any) -> QuerierModel:
    towers = {**TOWERS, **changes.pop("towers", {})}
    speaks = {"conditioning": {"kind": "soft_prompt"}}  # a residual shift says nothing before it has learned
    config: Config = from_plain(Config, {"towers": towers, **speaks, **changes})
    decoder = tiny_decoder()
    torch.manual_seed(3)
    return QuerierModel(config, CLUSTERS, SIZE, decoder.geometry, decoder.embedding_rms).eval()


def make_items(count: int, lengths: list[int], seed: int, width: int | None = None) -> Items:
    chance = torch.Generator().manual_seed(seed)
    slots = max([1, *lengths]) if width is None else width
    vectors = torch.nn.functional.normalize(torch.randn(2, count, slots, SIZE, generator=chance), dim=-1)
    mask = torch.arange(slots)[None] < torch.tensor(lengths)[:, None]
    return Items(
        inputs=vectors[0],
        outputs=vectors[1],
        style=torch.nn.functional.normalize(torch.randn(count, slots, STYLE, generator=chance), dim=-1),
        cluster=torch.randint(CLUSTERS, (count, slots), generator=chance),
        rank=torch.arange(slots).expand(count, -1),
        same_responder=torch.rand(count, slots, generator=chance) < 0.5,
        mask=mask,
    )


def make_batch(lengths: list[int], seed: int = 0) -> Batch:
    count = len(lengths)
    numbers = torch.arange(count)
    query = torch.nn.functional.normalize(
        torch.randn(count, SIZE, generator=torch.Generator().manual_seed(seed)), dim=-1
    )
    return Batch(
        rows=numbers,
        querier=numbers,
        scene=numbers,
        cluster=numbers % CLUSTERS,
        query=query,
        history=make_items(count, lengths, seed + 1),
        neighbours=make_items(count, [4] * count, seed + 2),
        tokens=Tokens(numbers[:, None], numbers[:, None], numbers[:, None]),
    )


def part_of(batch: Batch, index: list[int]) -> Batch:
    """Some rows, as if they were asked for alone."""
    history = select(batch.history, index)
    longest = max(1, int(history.mask.sum(1).max()))
    return replace(
        batch,
        rows=batch.rows[index],
        querier=batch.querier[index],
        scene=batch.scene[index],
        cluster=batch.cluster[index],
        query=batch.query[index],
        history=Items(**{name: value[:, :longest] for name, value in vars(history).items()}),
        neighbours=select(batch.neighbours, index),
    )


def spoken(conditioning: Conditioning) -> Tensor:
    """All that the decoder gets, (B, ...)."""
    if conditioning.soft_prompt is not None:
        return conditioning.soft_prompt.flatten(1)
    if conditioning.prefix is not None:
        return torch.cat([each.flatten(1) for pair in conditioning.prefix for each in pair], 1)
    assert conditioning.residual is not None
    return torch.cat([each.flatten(1) for each in conditioning.residual], 1)


@torch.no_grad()
def condition(model: QuerierModel, batch: Batch, strength: float = 1.0) -> Tensor:
    return spoken(model.condition(batch, strength))


KINDS = [Kind.soft_prompt, Kind.prefix, Kind.residual]


def speaking(kind: Kind, **changes: Any) -> QuerierModel:
    """A model whose residual head, zero at the start, says something, about as loudly as a trained one."""
    model = make_model(conditioning={"kind": kind.name}, **changes)
    if kind is Kind.residual:
        torch.nn.init.normal_(model.head.up, std=0.05, generator=torch.Generator().manual_seed(5))  # type: ignore[arg-type]
    return model


@pytest.mark.parametrize("general", [True, False])
def test_without_history_the_prior_speaks_exactly(general: bool) -> None:
    model = make_model(towers={"general": general})
    batch = make_batch([0, 0])
    prior = model.shrinkage.prior.expand(2, -1, -1)
    with torch.no_grad():
        if general:
            pool = model._read_pool(batch)
            assert pool is not None
            prior, _ = model.fusion(prior, pool[:, 0])
        expected = spoken(model.head(prior))
    assert torch.equal(condition(model, batch), expected)
    assert torch.equal(model.embed(batch.history), model.shrinkage.prior.mean(0).expand(2, -1))


def test_without_history_nothing_is_undefined_and_gradients_are_finite() -> None:
    model = make_model().train()
    batch = make_batch([0, 0])
    (spoken(model.condition(batch)).square().sum() + model.embed(batch.history).sum()).backward()
    for name, value in model.named_parameters():
        assert value.grad is None or torch.isfinite(value.grad).all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_another_history_of_one_querier_leaves_the_others_alone(kind: Kind) -> None:
    model = speaking(kind)
    batch = make_batch([3, 5, 0])
    other = replace(batch, history=make_items(3, [3, 5, 0], seed=50))
    changed = replace(batch, history=mixed(batch.history, other.history, [0]))
    before, after = condition(model, batch), condition(model, changed)
    assert not torch.allclose(before[0], after[0], atol=1e-3)
    assert torch.allclose(before[1:], after[1:], atol=1e-5)
    alone = condition(model, part_of(batch, [1]))
    assert torch.equal(alone, condition(model, part_of(changed, [1])))
    assert torch.allclose(alone[0], after[1], atol=1e-5)


def mixed(base: Items, other: Items, rows: list[int]) -> Items:
    """`base` with some rows of `other`."""
    made = {name: value.clone() for name, value in vars(base).items()}
    for name, value in vars(other).items():
        made[name][rows] = value[rows]
    return Items(**made)


@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_is_having_no_history(kind: Kind) -> None:
    model = speaking(kind)
    batch = make_batch([4, 2])
    empty = replace(batch, history=make_items(2, [0, 0], seed=9))
    assert torch.equal(condition(model, batch, strength=0.0), condition(model, empty))
    assert not torch.allclose(condition(model, batch), condition(model, empty), atol=1e-3)


def test_strength_is_a_scale_of_what_differs_from_the_prior() -> None:
    model = make_model()
    vectors, seen = torch.randn(2, 2, 16), torch.tensor([3, 1])
    prior = model.shrinkage.prior
    with torch.no_grad():
        one, two, half = (model.shrinkage(vectors, seen, strength) - prior for strength in (1.0, 2.0, 0.5))
    assert torch.allclose(two, 2 * one, atol=1e-6)
    assert torch.allclose(half, one / 2, atol=1e-6)
    weight = seen / (seen + model.shrinkage.log_kappa.exp())
    assert torch.allclose(one, weight[:, None, None] * (vectors - prior), atol=1e-6)


def test_what_stands_in_empty_slots_and_how_many_there_are_is_nothing() -> None:
    model = make_model()
    batch = make_batch([2, 3])
    wide = make_items(2, [2, 3], seed=1, width=6)
    for name, value in vars(batch.history).items():
        getattr(wide, name)[:, :3] = value if name != "rank" else getattr(wide, name)[:, :3]
    wide.inputs[:, 3:], wide.outputs[0, 2:] = 1e4, -1e4
    padded = replace(batch, history=wide)
    assert torch.allclose(condition(model, batch), condition(model, padded), atol=1e-5)
    assert torch.allclose(model.embed(batch.history), model.embed(wide), atol=1e-5)
    spare = replace(batch.neighbours, mask=batch.neighbours.mask.clone(), inputs=batch.neighbours.inputs.clone())
    spare.mask[:, 2:] = False
    fewer = select(spare, (slice(None), slice(2)))
    spare.inputs[:, 2:] = 1e4
    one, other = (condition(model, replace(batch, neighbours=items)) for items in (spare, fewer))
    assert torch.allclose(one, other, atol=1e-5)


def test_queriers_are_told_apart_by_their_histories() -> None:
    model = make_model()
    batch = make_batch([4, 4])
    same_query = replace(batch, query=batch.query[:1].expand(2, -1), neighbours=select(batch.neighbours, [0, 0]))
    said = condition(model, same_query)
    assert not torch.allclose(said[0], said[1], atol=1e-3)


@pytest.mark.parametrize("fusion", list(Fusion))
def test_every_fusion_reads_both_towers(fusion: Fusion) -> None:
    model = make_model(towers={"fusion": fusion.name})
    batch = make_batch([4, 4])
    said = condition(model, batch)
    assert not torch.allclose(said, condition(model, replace(batch, history=make_items(2, [4, 4], seed=50))), atol=1e-4)
    assert not torch.allclose(
        said, condition(model, replace(batch, neighbours=make_items(2, [4, 4], seed=51))), atol=1e-4
    )


def test_without_the_general_tower_neighbours_are_not_read() -> None:
    model = make_model(towers={"general": False})
    assert not [name for name, _ in model.named_parameters() if "general" in name or "pool" in name]
    batch = make_batch([4, 2])
    other = replace(batch, neighbours=make_items(2, [4, 4], seed=51))
    assert torch.equal(condition(model, batch), condition(model, other))
    assert set(model.condition(batch).explain) == {"attention"}


def test_no_parameter_belongs_to_a_querier() -> None:
    few, many = make_batch([3]), make_batch([3] * 40)
    model = make_model()
    condition(model, many)
    assert condition(model, few).shape[0] == 1  # the model was never told how many there are


def test_a_training_step_conditions_as_reading_does() -> None:
    """Without dropout the shared computation of a step gives what `condition` gives."""
    model = make_model(towers={"feature_dropout": 0.0, "shift_dropout": 0.0}).train()
    batch = make_batch([3, 1, 0])
    step = model.training_step(batch)
    assert step.swapped is None
    assert model.auxiliary_losses(batch, Outputs(torch.zeros(3, 1), step.kept)) == {}
    assert step.conditioning is not None
    assert torch.allclose(spoken(step.conditioning), spoken(model.condition(batch)), atol=1e-6)


def test_explanations_say_where_it_looked() -> None:
    model = make_model()
    batch = make_batch([3, 0])
    explained = model.condition(batch).explain
    attention, gate = explained["attention"], explained["gate"]
    assert attention.shape == (2, 2, 1 + 3)
    assert torch.allclose(attention.sum(-1), torch.ones(2, 2))
    assert torch.equal(attention[1, :, 0], torch.ones(2))  # only the null item is there
    assert ((gate > 0) & (gate < 1)).all()


def test_an_expected_style_is_nobody_elses_and_nothing_without_a_history() -> None:
    """With the expectation on: others' rows stay, no history and strength 0 say what the towers' prior alone says."""
    model = make_model(conditioning={"kind": "residual", "expectation": True})
    assert model.expectation is not None
    torch.nn.init.normal_(model.expectation.up, std=0.05, generator=torch.Generator().manual_seed(5))
    model.expectation.between.fill_(0.3)
    batch = make_batch([3, 5, 0])
    changed = replace(batch, history=mixed(batch.history, make_items(3, [3, 5, 0], seed=50), [0]))
    before, after = condition(model, batch), condition(model, changed)
    assert not torch.allclose(before[0], after[0], atol=1e-3)
    assert torch.allclose(before[1:], after[1:], atol=1e-5)
    assert torch.equal(condition(model, part_of(batch, [1])), condition(model, part_of(changed, [1])))
    assert not before[2].any()
    assert not condition(model, batch, strength=0.0).any()
