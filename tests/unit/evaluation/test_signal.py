"""A history's signal is found where it is planted, in the channel that holds it, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from planted import dialogues, prepared_corpus, requests_of, small_config

from querier.config import EvaluationConfig
from querier.evaluation.signal import Signal, history_signal
from querier.evaluation.statistics import Value
from querier.evaluation.swap import SwapKind, Swaps
from querier.types import Dialogue, Split, Turn

JUDGED = EvaluationConfig(draws=1, bootstrap=500)


def signal_of(made: list[Dialogue], folder: Path) -> Signal:
    config = small_config(folder, clusters={"n_clusters": "2"})
    prepared = prepared_corpus(made, config, folder)
    return history_signal(requests_of(prepared, config), prepared, JUDGED)


def answered(made: list[Dialogue], reply: Callable[[Dialogue], str]) -> list[Dialogue]:
    return [replace(one, turns=(*one.turns[:-1], Turn("tutor", reply(one)))) for one in made]


def asked(one: Dialogue, query: str) -> Dialogue:
    return replace(one, turns=(Turn(one.querier, query), one.turns[-1]))


def holds(value: Value, number: float) -> bool:
    return value.low is not None and value.high is not None and value.low <= number <= value.high


def test_words_show_in_the_vectors(tmp_path: Path) -> None:
    """What is asked tells nothing of who asks; what is answered does."""
    found = signal_of([asked(one, " ".join(one.query.split()[:4])) for one in dialogues(12, 40)], tmp_path)
    assert set(found.accuracy) == {"query", "vectors", "stylometry", "both"}
    assert (found.accuracy["vectors"].value or 0) > 0.8
    assert (found.accuracy["both"].value or 0) > 0.8
    assert (found.gain["vectors"].low or 0) > 0.2
    assert found.accuracy["vectors"].n == found.gain["stylometry"].n > 30
    assert found.accuracy["vectors"].queriers == 12


def test_manner_shows_in_stylometry_alone(tmp_path: Path) -> None:
    """Half of the queriers are answered with exclamation marks, which are part of a word that no other dialogue has."""
    made = dialogues(24, 60, personal=False)
    found = signal_of(answered(made, lambda one: one.reply + "!!!" * (int(one.querier[1:]) % 2)), tmp_path)
    assert (found.accuracy["stylometry"].low or 0) > 0.6  # of the pairs half are between queriers of one kind
    assert (found.gain["stylometry"].low or 0) > 0.05
    assert holds(found.gain["vectors"], 0)


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    found = signal_of(dialogues(24, 60, personal=False, seed=1), tmp_path)  # of many seeds some exclude chance
    assert all(holds(value, 0.5) for value in found.accuracy.values())
    assert all(holds(value, 0) for value in found.gain.values())


def test_what_is_asked_does_not_count(tmp_path: Path) -> None:
    """Each querier asks of one subject alone, and all are answered in the same words: the reply tells nothing."""
    made = [asked(one, f"about {one.querier} {one.query}") for one in dialogues(12, 40, personal=False)]
    made = answered(made, lambda one: f"yes {one.id}")
    found = signal_of(made, tmp_path)
    assert all(holds(value, 0) for value in found.gain.values())


def test_a_reply_that_repeats_what_was_asked_adds_nothing(tmp_path: Path) -> None:
    """Each querier has a subject of their own, in query and reply; given the query the reply is nobody's."""
    made = [asked(one, f"subject{one.querier} {one.query}") for one in dialogues(12, 40, personal=False)]
    made = answered(made, lambda one: f"subject{one.querier} word{one.id} again{one.id}")
    found = signal_of(made, tmp_path)
    assert (found.accuracy["query"].value or 0) > 0.8
    assert (found.accuracy["both"].value or 0) > 0.8
    # Two looks at a subject are better than one; by itself, such a reply would find the querier nearly always.
    assert all((value.value or 0) < 0.12 for value in found.gain.values())


def test_pairs_of_training_rows_read_nothing_held_out(tmp_path: Path) -> None:
    config = small_config(tmp_path, clusters={"n_clusters": "2"})
    prepared = prepared_corpus(dialogues(12, 40), config, tmp_path)
    corpus, held_out = prepared.corpus, (Split.VALIDATION.value, Split.TEST.value)
    pairs = (
        Swaps(requests_of(prepared, config), prepared, 0).pairs(SwapKind.CLUSTER, corpus.rows_in(Split.TRAIN), 1).pairs
    )
    assert pairs
    for pair in pairs:
        for side in (pair.own, pair.other):
            assert not np.isin(corpus.split[side], held_out).any()


def test_it_depends_on_the_seed_alone(tmp_path: Path) -> None:
    made = dialogues(6, 20)
    first, second = signal_of(made, tmp_path / "a"), signal_of(made, tmp_path / "b")
    assert first == second
    config = small_config(tmp_path, clusters={"n_clusters": "2"})
    prepared = prepared_corpus(made, config, tmp_path / "c")
    assert history_signal(requests_of(prepared, config), prepared, replace(JUDGED, seed=1)) != first


def test_one_querier_alone_has_no_signal(tmp_path: Path) -> None:
    assert signal_of(dialogues(1, 30), tmp_path) == Signal()
