"""Histories hold what is strictly earlier and of other scenes, and every planted leak is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from querier.choices import SplitBy
from querier.config import DataConfig
from querier.data.history import Histories, check_no_leak
from querier.data.records import Corpus
from querier.data.splits import split
from querier.errors import InputError
from querier.types import Dialogue, Split, Turn


def corpus(seed: int = 0, count: int = 300, queriers: int = 5, **config: Any) -> Corpus:
    """Random dialogues with many ties, shared scenes, several responders, and rows of every split."""
    generator = np.random.default_rng(seed)
    dialogues = []
    for number in range(count):
        querier, responder = f"q{generator.integers(queriers)}", f"r{generator.integers(3)}"
        turns = (Turn(querier, "q"), Turn(responder, "r"))
        time = int(generator.integers(60))
        dialogues.append(Dialogue(f"d{number}", querier, responder, turns, time, f"s{generator.integers(60)}"))
    done, _ = split(Corpus.build(dialogues), DataConfig(**({"split": SplitBy.scene} | config)))
    return done


def slow(data: Corpus, querier: int, before: int, scene: int, responder: int, allowed: set[Split]) -> list[int]:
    """The same by going through all rows."""
    found = [
        row
        for row in range(len(data))
        if data.querier[row] == querier
        and data.time[row] < before
        and data.scene[row] != scene
        and Split(int(data.split[row])) in allowed
    ]
    return sorted(found, key=lambda row: (data.responder[row] != responder, -data.time[row], -row))


TRAINING = {Split.TRAIN, Split.HISTORY}
ANY = TRAINING | {Split.VALIDATION, Split.TEST}


@pytest.fixture(params=[{}, {"responders": ["r0"]}, {"unseen": ["q1"], "limit": 40}], ids=str)
def data(request: pytest.FixtureRequest) -> Corpus:
    return corpus(**request.param)


@pytest.mark.parametrize("limit", [None, 0, 1, 7, 1000])
def test_equals_going_through_all_rows(data: Corpus, limit: int | None) -> None:
    histories = Histories(data)
    for row in range(len(data)):
        scored = Split(int(data.split[row])) in (Split.VALIDATION, Split.TEST)
        around = (int(data.querier[row]), int(data.time[row]), int(data.scene[row]), int(data.responder[row]))
        got = histories.of(row, limit)
        assert got.dtype == np.int64
        assert got.tolist() == slow(data, *around, ANY if scored else TRAINING)[:limit]


def test_a_long_history_is_taken_block_by_block() -> None:
    data = corpus(count=3000, queriers=1)
    histories = Histories(data)
    for row in range(0, 3000, 97):
        around = (0, int(data.time[row]), int(data.scene[row]), int(data.responder[row]))
        scored = Split(int(data.split[row])) in (Split.VALIDATION, Split.TEST)
        assert histories.of(row, 40).tolist() == slow(data, *around, ANY if scored else TRAINING)[:40]


def test_of_another_querier_cut_to_before_the_query(data: Corpus) -> None:
    histories = Histories(data)
    for querier in range(len(data.queriers)):
        for training in (True, False):
            allowed = TRAINING if training and not data.unseen[querier] else ANY
            got = histories.of_querier(querier, 30, 7, 1, 9, training=training).tolist()
            assert got == slow(data, querier, 30, 7, 1, allowed)[:9]


def test_every_history_passes_the_check_alone_and_in_a_padded_block(data: Corpus) -> None:
    histories = Histories(data)
    rows = data.rows_in(Split.TRAIN, Split.VALIDATION, Split.TEST)
    block = np.full((len(rows), 12), -1)
    for place, row in enumerate(rows):
        history = histories.of(int(row), 12)
        check_no_leak(data, int(row), history)
        block[place, : len(history)] = history
    check_no_leak(data, rows, block)


def test_a_first_dialogue_has_no_history(data: Corpus) -> None:
    histories = Histories(data)
    for querier in range(len(data.queriers)):
        assert len(histories.of(int(data.rows_of(querier)[0]))) == 0


# ---- the permuted control


def test_permuted_history_is_anothers_as_long_and_free_of_leaks(data: Corpus, generator: np.random.Generator) -> None:
    histories = Histories(data)
    shorter = 0
    for row in data.rows_in(Split.TRAIN, Split.VALIDATION, Split.TEST):
        own, other = histories.of(int(row), 8), histories.of(int(row), 8, permuted=generator)
        check_no_leak(data, int(row), other, own=False)
        assert len(other) <= len(own)
        shorter += len(other) < len(own)
        assert data.querier[row] not in data.querier[other]
        assert len(np.unique(data.querier[other])) <= 1
    assert shorter < 0.2 * len(data)


def test_permuted_history_is_drawn_anew_and_depends_on_the_generator_alone() -> None:
    data = corpus(queriers=12, count=1200)
    histories = Histories(data)
    row = int(data.rows_in(Split.TRAIN)[-1])
    draws = [histories.of(row, 4, permuted=np.random.default_rng(seed)).tolist() for seed in range(20)]
    assert len({int(data.querier[draw[0]]) for draw in draws if draw}) > 1
    assert draws[3] == histories.of(row, 4, permuted=np.random.default_rng(3)).tolist()


def test_permuted_history_needs_others(generator: np.random.Generator) -> None:
    data = corpus(queriers=1)
    row = next(row for row in range(len(data)) if len(Histories(data).of(row)))
    with pytest.raises(InputError, match=r"data\.history=permuted needs other queriers"):
        Histories(data).of(row, permuted=generator)


# ---- planted leaks


def plain() -> Corpus:
    """One querier's four dialogues in training (0, 1, 2) and test (3), another's 4, and an excluded one, 5."""
    made = [("A", 0, "s0"), ("A", 1, "s1"), ("A", 1, "s2"), ("A", 3, "s0"), ("B", 0, "s4"), ("A", 0, "s5")]
    dialogues = [
        Dialogue(f"d{number}", querier, "r", (Turn(querier, "q"), Turn("r", "r")), time, scene)
        for number, (querier, time, scene) in enumerate(made)
    ]
    parts = np.array([Split.TRAIN, Split.TRAIN, Split.TRAIN, Split.TEST, Split.TRAIN, Split.EXCLUDED])
    return Corpus.build(dialogues).with_split(np.array([part.value for part in parts]), np.zeros(2, dtype=bool))


@pytest.mark.parametrize(
    ("row", "rows", "own", "leak"),
    [
        (1, [0, 3], True, r"'d3', read for 'd1', is not earlier than its query"),
        (1, [2], True, r"'d2', read for 'd1', is not earlier"),  # a tie is not history
        (1, [1], True, r"'d1', read for 'd1', is not earlier"),
        (3, [1, 0], True, r"'d0', read for 'd3', is of the same scene as its query"),
        (1, [0, 4], True, r"'d4', read for 'd1', is another querier's"),
        (3, [5], True, r"'d5', read for 'd3', was left out of the experiment"),
    ],
)
def test_finds_a_planted_leak(row: int, rows: list[int], own: bool, leak: str) -> None:
    data = plain()
    with pytest.raises(InputError, match=f"leak: {leak}.*; build histories with"):
        check_no_leak(data, row, np.array(rows), own)
    block = np.full((2, 4), -1)
    block[1, : len(rows)] = rows
    with pytest.raises(InputError, match=leak):
        check_no_leak(data, np.array([0, row]), block, own)


def test_finds_a_test_dialogue_in_a_training_history() -> None:
    data = plain()
    later = data.with_split(np.array([2, 0, 0, 2, 0, 4]), data.unseen)
    with pytest.raises(InputError, match="'d0', read for 'd1', is a validation or test dialogue, read for a training"):
        check_no_leak(later, 1, np.array([0]))
    assert Histories(later).of(1).tolist() == []
    assert Histories(later).of(3).tolist() == [2, 1]


def test_takes_what_is_no_leak() -> None:
    data = plain()
    check_no_leak(data, 1, np.array([0]))
    check_no_leak(data, 3, np.array([2, 1, -1]))
    check_no_leak(data, 1, np.array([4]), own=False)
    check_no_leak(data, 1, np.zeros(0, dtype=np.int64))
    check_no_leak(data, np.array([0, 1]), np.full((2, 3), -1))
