"""A history's signal is found where it is planted, in the channel that holds it, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from planted import dialogues, prepared_corpus, requests_of, small_config

from querier.config import EvaluationConfig
from querier.evaluation.signal import history_signal
from querier.evaluation.statistics import Value
from querier.types import Dialogue, Turn

JUDGED = EvaluationConfig(draws=1, bootstrap=500)


def signal_of(made: list[Dialogue], folder: Path) -> dict[str, Value]:
    config = small_config(folder, clusters={"n_clusters": "2"})
    prepared = prepared_corpus(made, config, folder)
    return history_signal(requests_of(prepared, config), prepared, JUDGED)


def answered(made: list[Dialogue], reply: Callable[[Dialogue], str]) -> list[Dialogue]:
    return [replace(one, turns=(*one.turns[:-1], Turn("tutor", reply(one)))) for one in made]


def finds_chance(value: Value) -> bool:
    return value.low is not None and value.high is not None and value.low <= 0.5 <= value.high


def test_words_show_in_the_vectors(tmp_path: Path) -> None:
    found = signal_of(dialogues(12, 40), tmp_path)
    assert set(found) == {"vectors", "stylometry", "both"}
    assert (found["vectors"].value or 0) > 0.8
    assert (found["both"].value or 0) > 0.8
    assert found["vectors"].n == found["stylometry"].n > 30
    assert found["vectors"].queriers == 12


def test_manner_shows_in_stylometry_alone(tmp_path: Path) -> None:
    """Half of the queriers are answered with an exclamation mark; words are drawn anew for each dialogue."""
    made = dialogues(12, 40, personal=False)

    loud = [one for one in made if int(one.querier[1:]) % 2]
    found = signal_of(answered(made, lambda one: one.reply + (" !!!" if one in loud else "")), tmp_path)
    assert (found["stylometry"].low or 0) > 0.6  # of the pairs half are between queriers of one kind
    assert (found["stylometry"].value or 0) > (found["vectors"].value or 0) - 0.05


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    found = signal_of(dialogues(12, 40, personal=False), tmp_path)
    assert all(finds_chance(value) for value in found.values())


def test_what_is_asked_does_not_count(tmp_path: Path) -> None:
    """Each querier asks of one subject alone, and all are answered in the same words: the reply tells nothing."""
    made = [
        replace(one, turns=(Turn(one.querier, f"about {one.querier} {one.query}"), Turn("tutor", f"yes {place}")))
        for place, one in enumerate(dialogues(12, 40, personal=False))
    ]
    found = signal_of(made, tmp_path)
    assert all(finds_chance(value) for value in found.values())


def test_it_depends_on_the_seed_alone(tmp_path: Path) -> None:
    made = dialogues(6, 20)
    first, second = signal_of(made, tmp_path / "a"), signal_of(made, tmp_path / "b")
    assert first == second


def test_one_querier_alone_has_no_signal(tmp_path: Path) -> None:
    assert signal_of(dialogues(1, 30), tmp_path) == {}
