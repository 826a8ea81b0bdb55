"""Batches: padding, views that share nothing, counterparts, swaps; each from (seed, epoch, index) alone."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from tiny_prepared import make_config, make_prepared, make_requests, score

from querier.data.collate import TrainingBatches, collate
from querier.data.echoes import CLEAREST
from querier.data.requests import Requests
from querier.data.sampler import BatchOrder
from querier.errors import InputError
from querier.types import Batch, Split


def builder(prepared: Any, parts: bool = True, **changes: Any) -> TrainingBatches:
    changes.setdefault("loss", {"swap_fraction": 0.5})
    changes.setdefault("conditioning", {"expectation": True})
    config = make_config(**changes)
    return TrainingBatches(make_requests(prepared, config), config, score, parts)


def flat(value: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a nested batch by path."""
    if isinstance(value, torch.Tensor):
        return {prefix: value}
    if value is None or isinstance(value, tuple):  # texts are no tensors
        return {}
    found: dict[str, torch.Tensor] = {}
    for each in fields(value):
        found.update(flat(getattr(value, each.name), f"{prefix}.{each.name}"))
    return found


def late_rows(prepared: Any, count: int) -> np.ndarray:
    return prepared.corpus.rows_in(Split.TRAIN)[-count:]


def find(prepared: Any, inputs: torch.Tensor, outputs: torch.Tensor) -> set[int]:
    """Rows of the corpus whose pair of vectors is the given one."""
    rows = np.arange(len(prepared.corpus))
    same = (prepared.queries(rows) == inputs.numpy()).all(1) & (prepared.replies(rows) == outputs.numpy()).all(1)
    return set(np.flatnonzero(same).tolist())


def test_collate_pads_with_a_mask_and_zeros() -> None:
    prepared = make_prepared()
    requests = make_requests(prepared, make_config())
    row = int(late_rows(prepared, 1)[0])
    chosen = [requests.matched(row), requests.of(row, np.zeros(0, dtype=np.int64))]
    batch = collate(chosen, score([one.rendered for one in chosen]), 6)
    assert batch.history.mask.sum(1).tolist() == [6, 0]
    assert not batch.history.inputs[1].any()
    assert batch.history.rank[0].tolist() == list(range(6))
    items = requests.history_rows(row)
    np.testing.assert_array_equal(batch.history.inputs[0].numpy(), prepared.queries(items))
    np.testing.assert_array_equal(batch.history.outputs[0].numpy(), prepared.replies(items))


def test_a_batch_without_any_history_has_one_empty_slot() -> None:
    prepared = make_prepared()
    requests = make_requests(prepared, make_config())
    chosen = [requests.of(0, np.zeros(0, dtype=np.int64))]
    batch = collate(chosen, score([one.rendered for one in chosen]), 6)
    assert batch.history.inputs.shape[:2] == (1, 1)
    assert not batch.history.mask.any()
    assert batch.neighbours.mask.shape == (1, 1)


@pytest.mark.parametrize("leak", ["later", "scene", "split"])
def test_a_planted_leak_is_refused(leak: str) -> None:
    prepared = make_prepared()
    corpus = prepared.corpus
    requests = make_requests(prepared, make_config())
    row = int(corpus.rows_in(Split.TRAIN)[-1])
    same_scene = np.flatnonzero((corpus.scene == corpus.scene[row]) & (corpus.time < corpus.time[row]))
    planted = {"later": row, "scene": int(same_scene[0]), "split": int(corpus.rows_in(Split.TEST)[0])}[leak]
    with pytest.raises(InputError, match="leak"):
        requests.of(row, np.array([planted]))


def test_a_neighbour_that_is_too_late_is_refused() -> None:
    prepared = make_prepared()
    requests = make_requests(prepared, make_config())
    row = int(late_rows(prepared, 9)[0])
    prepared.neighbours[row, 0] = late_rows(prepared, 1)[0]
    with pytest.raises(InputError, match="leak"):
        requests.matched(row)


def test_a_neighbour_of_the_asker_or_outside_the_pool_is_refused() -> None:
    for fault in ("is the asker's own", "is not of the pool"):
        prepared = make_prepared()
        corpus = prepared.corpus
        asked = Split.TRAIN if "own" in fault else Split.TEST
        row = int(corpus.rows_in(asked)[-1])
        earlier = (corpus.time < corpus.time[row]) & (corpus.scene != corpus.scene[row])
        own = corpus.querier == corpus.querier[row]
        held_out = corpus.split == Split.VALIDATION.value
        prepared.neighbours[row, 0] = np.flatnonzero(earlier & (own if "own" in fault else held_out & ~own))[0]
        with pytest.raises(InputError, match=f"leak: .*{fault}; prepare again"):
            make_requests(prepared, make_config()).matched(row)
        if asked is Split.TRAIN:
            with pytest.raises(InputError, match=f"leak: .*{fault}; prepare again"):
                builder(prepared).build(np.array([row]), 0, 0)


def test_another_queriers_history_is_refused_but_in_the_permuted_control(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = make_prepared()
    corpus = prepared.corpus
    row = int(corpus.rows_in(Split.TRAIN)[-1])
    others = np.flatnonzero((corpus.time < corpus.time[row]) & (corpus.querier != corpus.querier[row]))[:2]
    monkeypatch.setattr(Requests, "history_rows", lambda self, row, epoch=0: others)
    rows = np.array([row])
    with pytest.raises(InputError, match="is another querier's"):
        make_requests(prepared, make_config()).matched(row)
    with pytest.raises(InputError, match="is another querier's"):
        builder(prepared).build(rows, 0, 0)
    permuted = {"data": {"history": "permuted"}}
    assert make_requests(prepared, make_config(**permuted)).matched(row).history.inputs.shape[0] == 2
    assert builder(prepared, **permuted).build(rows, 0, 0).history.mask.shape[0] == 1


def test_same_key_same_batch_and_other_keys_other_draws() -> None:
    prepared = make_prepared()
    rows = late_rows(prepared, 8)
    one, again = builder(prepared).build(rows, 1, 2), builder(prepared).build(rows, 1, 2)
    other = builder(prepared).build(rows, 2, 2)
    first, second, third = flat(one), flat(again), flat(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first[".contrastive.views"], third[".contrastive.views"])


def test_a_training_batch_without_chance_is_the_collated_requests() -> None:
    prepared = make_prepared()
    made = builder(prepared, False, towers={"history_dropout": 0.0})
    rows = prepared.corpus.rows_in(Split.TRAIN)[[0, 20, 60, 61]]
    requests = [made.requests.matched(int(row)) for row in rows]
    expected = flat(collate(requests, score([one.rendered for one in requests]), 6))
    found = flat(made.build(rows, 0, 0))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert found[name].dtype == value.dtype


def test_views_share_no_scene_nor_any_row_of_the_batch() -> None:
    prepared = make_prepared(queriers=6, each=14)
    corpus = prepared.corpus
    made = builder(prepared, towers={"history_dropout": 0.0, "history": 12})
    order = BatchOrder(prepared, made.config)
    seen = 0
    for index, rows in enumerate(order.batches(0)):
        batch = made.build(rows, 0, index)
        assert batch.contrastive is not None
        halves: dict[tuple[int, int], set[int]] = {}
        for place, row in enumerate(rows.tolist()):
            items = made.requests.history_rows(row)
            for view in (0, 1):
                chosen = items[batch.contrastive.views[view, place, : len(items)].numpy()]
                assert not set(chosen.tolist()) & set(rows.tolist())
                for item in chosen:
                    halves.setdefault((int(corpus.querier[item]), int(corpus.scene[item])), set()).add(view)
                    seen += 1
        assert all(len(views) == 1 for views in halves.values())
    assert seen > 100


def test_neighbour_views_share_no_scene() -> None:
    prepared = make_prepared()
    made = builder(prepared)
    rows = late_rows(prepared, 10)
    pairs = made.build(rows, 0, 0).contrastive
    assert pairs is not None
    scenes: list[set[int]] = [set(), set()]
    for place, row in enumerate(rows.tolist()):
        items = made.requests.neighbour_rows(row)
        for view in (0, 1):
            chosen = items[pairs.neighbour_views[view, place, : len(items)].numpy()]
            assert not set(chosen.tolist()) & set(rows.tolist())
            scenes[view].update(prepared.corpus.scene[chosen].tolist())
    assert scenes[0]
    assert scenes[1]
    assert not scenes[0] & scenes[1]


def test_without_a_second_view_both_are_one() -> None:
    prepared = make_prepared()
    pairs = builder(prepared, loss={"second_view": False}).build(late_rows(prepared, 8), 0, 0).contrastive
    assert pairs is not None
    assert torch.equal(pairs.views[0], pairs.views[1])
    assert pairs.views.any()


def test_hard_negatives_are_earlier_and_no_longer_than_the_views() -> None:
    prepared = make_prepared(queriers=6, each=14)
    made = builder(prepared)
    corpus = prepared.corpus
    rows = late_rows(prepared, 8)
    pairs = made.build(rows, 0, 0).contrastive
    assert pairs is not None
    assert pairs.hard_mask.any()
    longest = pairs.views.sum(-1).max(0).values
    assert (pairs.hard.mask.sum(-1) <= longest[:, None]).all()
    assert (pairs.hard.mask.any(-1) == pairs.hard_mask).all()
    for place, user, item in pairs.hard.mask.nonzero().tolist():
        found = find(prepared, pairs.hard.inputs[place, user, item], pairs.hard.outputs[place, user, item])
        row = int(rows[place])
        assert any(corpus.time[one] < corpus.time[row] and corpus.querier[one] != corpus.querier[row] for one in found)


def test_own_other_queries_are_of_the_same_querier_and_not_nearly_the_same() -> None:
    prepared = make_prepared()
    rows = late_rows(prepared, 8)
    batch = builder(prepared).build(rows, 0, 0)
    pairs = batch.contrastive
    assert pairs is not None
    assert pairs.own_mask.any()
    cosine = torch.einsum("be,bke->bk", batch.query, pairs.own_query)
    assert (cosine[pairs.own_mask] < 0.95).all()


def test_pair_masks_against_a_loop() -> None:
    prepared = make_prepared(queriers=12, each=8, texts=40)
    rows = late_rows(prepared, 24)
    pairs = builder(prepared).build(rows, 0, 0).contrastive
    assert pairs is not None
    vectors, querier = prepared.queries(rows), prepared.corpus.querier[rows]
    for i, row in enumerate(rows):
        for j, other in enumerate(rows):
            cosine = float(vectors[i] @ vectors[j])
            assert bool(pairs.near[i, j]) == (i == j or cosine >= 0.949)
            ties = [
                cosine >= min(float(prepared.queries([one])[0] @ vectors[at]) for one in prepared.near[which]) - 1e-3
                for at, which in ((i, row), (j, other))
            ]
            assert bool(pairs.mutual[i, j]) == (all(ties) and querier[i] != querier[j])
            if other in prepared.near[row] and row in prepared.near[other]:
                assert pairs.mutual[i, j]
    assert pairs.mutual.any()


def test_swapped_histories_have_the_same_length_and_another_reply() -> None:
    prepared = make_prepared(queriers=6, each=14)
    batch = builder(prepared, towers={"history_dropout": 0.0}).build(late_rows(prepared, 8), 0, 0)
    assert batch.swap is not None
    assert len(batch.swap.index) == 4
    assert torch.equal(batch.swap.history.mask.sum(1), batch.history.mask[batch.swap.index].sum(1))


def test_rows_that_cannot_be_swapped_are_counted() -> None:
    prepared = make_prepared()
    made = builder(prepared, loss={"swap_fraction": 0.5, "echo": 0.0})
    first = prepared.corpus.rows_in(Split.TRAIN)[:4]  # nobody has a history yet
    assert made.build(first, 0, 0).swap is None
    assert made.skipped == 4
    prepared.reply_row[:] = prepared.reply_row[0]  # everybody got the same reply
    assert builder(prepared).build(late_rows(prepared, 4), 0, 0).swap is None


def test_history_dropout_keeps_the_order_and_reaches_nothing_and_everything() -> None:
    prepared = make_prepared(queriers=4, each=14)
    made = builder(prepared, towers={"history_dropout": 1.0})
    row = late_rows(prepared, 1)
    full = prepared.queries(made.requests.history_rows(int(row[0])))
    lengths = set()
    for index in range(60):
        history = made.build(row, 0, index).history
        length = int(history.mask.sum())
        lengths.add(length)
        read = history.inputs[0, :length].numpy()
        place = 0
        for vector in full:
            place += int(place < length and np.array_equal(read[place], vector))
        assert place == length
    assert lengths == set(range(7))


def test_name_noise_shows_other_names() -> None:
    prepared = make_prepared()
    names: list[str] = []
    config = make_config(prompt={"name_noise": 1.0})

    def spy(rendered: Any) -> Any:
        names.extend(one.names[0] for one in rendered)
        return score(rendered)

    made = TrainingBatches(make_requests(prepared, config), config, spy)
    rows = late_rows(prepared, 8)
    made.build(rows, 0, 0)
    true = [prepared.corpus.queriers[number] for number in prepared.corpus.querier[rows]]
    assert names != true
    assert set(names) <= set(prepared.corpus.queriers)


@pytest.mark.parametrize(
    ("parts", "loss", "contrastive", "swap", "echo"),
    [
        (False, {}, False, False, False),
        (True, {"specific": 0.0, "general": 0.0}, False, True, True),
        (True, {"swap": 0.0}, True, False, True),
        (True, {"specific": 0.0, "echo": 0.0}, True, True, False),
        (True, {"echo_fraction": 0.0}, True, True, False),
    ],
)
def test_only_what_a_loss_reads_is_built(
    parts: bool, loss: dict[str, float], contrastive: bool, swap: bool, echo: bool
) -> None:
    prepared = make_prepared()
    loss = {"echo_fraction": 0.5, **loss}
    batch = builder(prepared, parts, loss=loss).build(late_rows(prepared, 8), 0, 0)
    assert (batch.contrastive is not None) == contrastive
    assert (batch.swap is not None) == swap
    assert (batch.echo is not None) == echo


def test_echoes_are_of_the_own_reply_on_a_share_of_the_rows_and_of_no_swapped_row() -> None:
    prepared = make_prepared(queriers=6, each=14)
    made = builder(prepared, loss={"swap_fraction": 1.0, "echo_fraction": 0.25}, towers={"history_dropout": 0.0})
    rows = late_rows(prepared, 16)
    count = 0
    for index in range(40):
        batch = made.build(rows, 0, index)
        assert batch.swap is not None
        if batch.echo is None:
            continue
        places = batch.echo.index
        count += len(places)
        assert set(places.tolist()) | set(batch.swap.index.tolist()) == set(range(16))
        assert not set(places.tolist()) & set(batch.swap.index.tolist())
        np.testing.assert_array_equal(batch.echo.style.numpy(), prepared.styles(rows[places.numpy()]))
        assert 0 <= batch.echo.reliability.min() <= batch.echo.reliability.max() <= CLEAREST
    assert count / (40 * 16) == pytest.approx(0.25, abs=0.06)
    assert made.skipped == 0


def test_nothing_that_is_judged_reads_an_echo() -> None:
    prepared = make_prepared()
    requests = make_requests(prepared, make_config())
    chosen = [requests.matched(int(row)) for row in prepared.corpus.rows_in(Split.VALIDATION, Split.TEST)]
    assert collate(chosen, score([one.rendered for one in chosen]), 6).echo is None


def test_parts_of_two_processes_are_the_batch_of_one() -> None:
    prepared = make_prepared()
    made = builder(prepared)
    rows = late_rows(prepared, 9)
    whole = made.build(rows, 3, 4)
    parts = [made.build(rows, 3, 4, part) for part in (slice(0, 5), slice(5, 9))]
    assert torch.cat([part.rows for part in parts]).tolist() == rows.tolist()
    assert torch.equal(sums(parts, "history"), sums([whole], "history"))
    for name in ("mutual", "near", "hard_mask", "own_query", "own_mask"):
        joined = torch.cat([getattr(part.contrastive, name) for part in parts])
        assert torch.equal(joined, getattr(whole.contrastive, name))
    views = torch.cat([part.contrastive.views.sum(-1).T for part in parts if part.contrastive])
    assert whole.contrastive is not None
    assert torch.equal(views, whole.contrastive.views.sum(-1).T)
    places = [part.swap.index + start for part, start in zip(parts, (0, 5), strict=True) if part.swap]
    assert whole.swap is not None
    assert torch.equal(torch.cat(places), whole.swap.index)
    assert whole.echo is not None
    heard = [(part.echo, start) for part, start in zip(parts, (0, 5), strict=True) if part.echo is not None]
    assert torch.equal(torch.cat([echo.index + start for echo, start in heard]), whole.echo.index)
    for name in ("style", "reliability", "noise"):
        assert torch.equal(torch.cat([getattr(echo, name) for echo, _ in heard]), getattr(whole.echo, name))


def sums(batches: list[Batch], name: str) -> torch.Tensor:
    """Sum of each row's items, whatever the padding."""
    return torch.cat([getattr(batch, name).inputs.sum(1) for batch in batches])


def test_permuted_histories_are_of_others_and_change_with_the_epoch() -> None:
    prepared = make_prepared()
    requests = make_requests(prepared, make_config(data={"history": "permuted"}))
    corpus = prepared.corpus
    rows = late_rows(prepared, 8)
    for row in rows:
        items = requests.history_rows(int(row))
        assert (corpus.querier[items] != corpus.querier[row]).all()
        assert (corpus.time[items] < corpus.time[row]).all()
    drawn = [[requests.history_rows(int(row), epoch).tolist() for row in rows] for epoch in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert isinstance(requests, Requests)
