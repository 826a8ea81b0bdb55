from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_court import make_prepared, make_requests, style_of

from querier.data.records import Corpus
from querier.evaluation.swap import SwapKind, SwapPair, Swaps, matched, names_querier, outcomes, swap_ceiling
from querier.types import Dialogue, Split, Turn


@pytest.fixture(scope="module")
def prepared() -> Any:
    return make_prepared()


def make_swaps(prepared: Any, seed: int = 0) -> Swaps:
    return Swaps(make_requests(prepared), prepared, seed)


def held_out(prepared: Any) -> np.ndarray:
    return prepared.corpus.rows_in(Split.TEST)


@pytest.mark.parametrize("kind", SwapKind)
def test_both_sides_are_earlier_equally_long_and_without_the_scored_query(prepared: Any, kind: SwapKind) -> None:
    corpus, queries = prepared.corpus, prepared.corpus.queries()
    found = make_swaps(prepared).pairs(kind, held_out(prepared), 4)
    assert len(found.pairs) > 20
    for pair in found.pairs:
        assert 0 < len(pair.own) == len(pair.other) <= 4  # towers.history
        for side, querier in ((pair.own, corpus.querier[pair.row]), (pair.other, pair.querier)):
            assert (corpus.querier[side] == querier).all()
            assert (corpus.time[side] < corpus.time[pair.row]).all()
            assert (np.diff(corpus.time[side]) < 0).all()
            assert all(queries[row] != queries[pair.row] for row in side)
        assert pair.querier != corpus.querier[pair.row]
        assert corpus.unseen[pair.querier] == corpus.unseen[corpus.querier[pair.row]]


@pytest.mark.parametrize("kind", [SwapKind.RANDOM, SwapKind.CLUSTER, SwapKind.CONTRAST])
def test_the_newest_items_are_kept(prepared: Any, kind: SwapKind) -> None:
    corpus, queries = prepared.corpus, prepared.corpus.queries()
    for pair in make_swaps(prepared).pairs(kind, held_out(prepared), 2).pairs:
        mine = corpus.rows_of(int(corpus.querier[pair.row]))
        earlier = [
            row for row in mine if corpus.time[row] < corpus.time[pair.row] and queries[row] != queries[pair.row]
        ]
        assert pair.own.tolist() == earlier[::-1][: len(pair.own)]


def test_each_dialogue_is_paired_or_excluded_with_a_reason(prepared: Any) -> None:
    rows = held_out(prepared)
    for kind in SwapKind:
        found = make_swaps(prepared).pairs(kind, rows, 4)
        assert len({pair.row for pair in found.pairs}) + sum(found.excluded.values()) == len(rows)
        for row in rows:
            drawn = [pair for pair in found.pairs if pair.row == row]
            assert [pair.draw for pair in drawn] == list(range(len(drawn)))
            assert len({pair.querier for pair in drawn}) == len(drawn) <= 4


def test_contrast_users_are_for_seen_queriers_and_come_from_the_preparation(prepared: Any) -> None:
    corpus = prepared.corpus
    rows = held_out(prepared)
    found = make_swaps(prepared).pairs(SwapKind.CONTRAST, rows, 4)
    assert found.excluded["unseen querier"] == int(corpus.unseen[corpus.querier[rows]].sum()) > 0
    for pair in found.pairs:
        users = prepared.contrast[pair.row, :, 0]
        assert pair.querier in corpus.querier[users[users >= 0]]
        assert style_of(corpus.queriers[pair.querier]) != style_of(corpus.queriers[corpus.querier[pair.row]])


def test_cluster_swaps_come_from_those_who_asked_there_before(prepared: Any) -> None:
    corpus = prepared.corpus
    for pair in make_swaps(prepared).pairs(SwapKind.CLUSTER, held_out(prepared), 4).pairs:
        theirs = corpus.rows_of(pair.querier)
        theirs = theirs[corpus.time[theirs] < corpus.time[pair.row]]
        assert prepared.cluster[pair.row] in prepared.cluster[theirs]


def test_pairs_depend_on_seed_and_dialogue_alone(prepared: Any) -> None:
    rows = held_out(prepared)
    both = [
        make_swaps(prepared, seed).pairs(SwapKind.RANDOM, chosen, 2).pairs
        for seed, chosen in ((0, rows), (0, rows[::-1][:10]), (1, rows))
    ]
    whole = {(pair.row, pair.draw): pair.querier for pair in both[0]}
    assert all(whole[pair.row, pair.draw] == pair.querier for pair in both[1])
    assert any(whole[pair.row, pair.draw] != pair.querier for pair in both[2])


def test_a_limit_leaves_shorter_pairs_out(prepared: Any) -> None:
    found = make_swaps(prepared).pairs(SwapKind.RANDOM, held_out(prepared), 1, limit=3)
    assert found.pairs
    assert {len(pair.own) for pair in found.pairs} == {3}
    assert found.excluded["own history too short"] > 0


def test_the_same_query_in_other_letters_is_left_out() -> None:
    """Own: `Why?` asked before as `why ?!`; what remains is nothing, so the dialogue is excluded."""
    told = [("q0", "why ?!"), ("q1", "Who?"), ("q0", "Why?")]
    dialogues = [
        Dialogue(f"d{place}", name, "court", (Turn(name, text), Turn("court", "x")), place, f"s{place}")
        for place, (name, text) in enumerate(told)
    ]
    prepared = make_prepared()
    split = np.array([Split.TRAIN.value, Split.TRAIN.value, Split.TEST.value])
    prepared.corpus = Corpus.build(dialogues).with_split(split, np.zeros(2, bool))
    found = make_swaps(prepared).pairs(SwapKind.RANDOM, [2], 4)
    assert not found.pairs
    assert found.excluded == {"own history empty": 1}


@pytest.mark.parametrize("kind", SwapKind)
def test_the_control_is_judged_on_the_pairs_of_every_other_run(prepared: Any, kind: SwapKind) -> None:
    """What it wins by on true histories, having learned nothing of anybody, is what is not personal."""
    plain, control = (Swaps(make_requests(prepared, data={"history": one}), prepared, 0) for one in ("own", "permuted"))
    sides = [
        [(pair.row, pair.querier, pair.own.tolist(), pair.other.tolist()) for pair in swaps.pairs(kind, rows, 2).pairs]
        for swaps, rows in ((plain, held_out(prepared)), (control, held_out(prepared)))
    ]
    assert sides[0] == sides[1]
    assert all(set(prepared.corpus.querier[own]) == {prepared.corpus.querier[row]} for row, _, own, _ in sides[1])


def pair(row: int, querier: int, draw: int = 0) -> SwapPair:
    return SwapPair(row, np.zeros(1, int), np.zeros(1, int), querier, draw)


def test_outcomes_are_averaged_over_draws_and_one_failure_fails_the_dialogue() -> None:
    values = {(0, 1): 1.0, (0, 2): 0.5, (1, 1): None, (1, 2): 1.0}
    found = outcomes([pair(*key) for key in values], lambda one: values[one.row, one.querier])
    assert found == {0: 0.75, 1: None}


def test_the_ceiling_is_half_where_both_could_have_got_the_reply() -> None:
    """Row 0: 1 and ½; row 1: 1; the mean over rows of 0.75 and 1."""
    pairs = [pair(0, 1), pair(0, 2), pair(1, 3)]
    assert swap_ceiling(pairs, lambda row, querier: (row, querier) == (0, 2)) == pytest.approx(0.875)
    assert swap_ceiling([], lambda row, querier: True) is None


@pytest.mark.parametrize(
    ("text", "querier", "called"),
    [
        ("No, Justice Scalia.", "Antonin Scalia", True),
        ("Antonin, no.", "Antonin Scalia", True),
        ("I think so, Mr. Roberts--", "John G. Roberts, Jr.", True),
        ("Scalians say no.", "Antonin Scalia", False),
        ("J. said so.", "J. Smith", False),
        ("That will do.", "Will", False),
        ("Another user said so.", "user_17", False),
        ("Qui, \u00c9mile?", "\u00c9mile Zola", True),
        ("\u8001\u767d\uff0c\u4f60\u597d", "\u8001\u767d", True),
        ("\u4f60\u597d", "\u8001\u767d", False),
        ("Yes.", "", False),
    ],
)
def test_who_is_called_by_name(text: str, querier: str, called: bool) -> None:
    assert names_querier(text, querier) is called


def test_matched_histories_tell_neither_responder_nor_time(prepared: Any) -> None:
    """q0 has newer items, and each has one of another responder's; what is left is nearly as old, of one responder."""
    told = [("q1", "court", 0), ("q0", "clerk", 1), ("q1", "clerk", 2), ("q1", "court", 3), ("q0", "court", 4)]
    told += [("q1", "court", 5), ("q0", "court", 9), ("q0", "court", 10), ("q0", "court", 20)]
    dialogues = [
        Dialogue(f"d{place}", name, by, (Turn(name, f"Ask {place}?"), Turn(by, "x")), time, f"s{place}")
        for place, (name, by, time) in enumerate(told)
    ]
    corpus = Corpus.build(dialogues)
    own, other = np.array([7, 6, 4, 1]), np.array([5, 3, 2, 0])
    mine, theirs = matched(corpus, 8, own, other, 32)
    assert [int(corpus.time[row]) for row in theirs] == [5, 3, 0]
    assert [int(corpus.time[row]) for row in mine] == [10, 9, 4]  # 4 beside 5, then 9 beside 3 and 10 beside 0
    mine, theirs = matched(corpus, 8, own, other, 1)
    assert [int(corpus.time[row]) for row in (*mine, *theirs)] == [4, 5]
    swapped = matched(corpus, 8, other, own, 32)
    assert [side.tolist() for side in swapped] == [side.tolist() for side in matched(corpus, 8, own, other, 32)[::-1]]
    assert [len(side) for side in matched(corpus, 8, own[3:], other, 32)] == [0, 0]


def test_matched_pairs_are_of_one_length_and_newest_first(prepared: Any) -> None:
    corpus = prepared.corpus
    found = make_swaps(prepared).pairs(SwapKind.MATCHED, held_out(prepared), 2)
    assert len(found.pairs) > 20
    for pair in found.pairs:
        assert 0 < len(pair.own) == len(pair.other) <= 4
        for side in (pair.own, pair.other):
            assert (np.diff(corpus.time[side]) < 0).all()
            assert (corpus.responder[side] == corpus.responder[pair.row]).all()
