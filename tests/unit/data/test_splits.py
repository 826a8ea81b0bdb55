"""No split cuts a scene, none depends on the order of the records, and unseen queriers are never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from querier.choices import SplitBy
from querier.config import DataConfig
from querier.data.records import Corpus
from querier.data.splits import split
from querier.errors import InputError
from querier.types import Dialogue, Split, Turn

SPLITS = [SplitBy.time, SplitBy.within_querier, SplitBy.scene]


def dialogue(number: int, querier: str, scene: str, responder: str = "R0", **more: Any) -> Dialogue:
    turns = (Turn(querier, "q"), Turn(responder, "r"))
    return Dialogue(f"d{number}", querier, responder, turns, more.pop("time", number), scene, **more)


def made(queriers: int = 40, count: int = 800, scenes: int = 200, responders: int = 1, seed: int = 1) -> list[Dialogue]:
    """Dialogues in scenes of two queriers each, scenes in time order."""
    generator = np.random.default_rng(seed)
    cast = [generator.choice(queriers, size=2, replace=False) for _ in range(scenes)]
    places = np.sort(generator.integers(scenes, size=count))
    return [
        dialogue(number, f"q{cast[place][generator.integers(2)]}", f"s{place}", f"R{generator.integers(responders)}")
        for number, place in enumerate(places)
    ]


def by_id(dialogues: Sequence[Dialogue], **config: Any) -> dict[str, Split]:
    corpus, _ = split(Corpus.build(dialogues), DataConfig(**config))
    return {corpus.ids[row]: Split(int(part)) for row, part in enumerate(corpus.split)}


def rows(dialogues: Sequence[Dialogue], parts: dict[str, Split], part: Split) -> list[Dialogue]:
    return [d for d in dialogues if parts[d.id] is part]


@pytest.mark.parametrize("by", SPLITS)
def test_no_scene_is_cut_and_nothing_is_empty(by: SplitBy) -> None:
    dialogues = made()
    parts = by_id(dialogues, split=by)
    for scene in {d.scene for d in dialogues}:
        assert len({parts[d.id] for d in dialogues if d.scene == scene}) == 1
    assert {Split.TRAIN, Split.VALIDATION, Split.TEST} == set(parts.values())


@pytest.mark.parametrize("unseen", [0.0, 0.2])
@pytest.mark.parametrize("by", SPLITS)
def test_shuffled_input_gives_the_same_split(by: SplitBy, unseen: float, generator: np.random.Generator) -> None:
    dialogues = made(responders=2)
    config: dict[str, Any] = {"split": by, "unseen": unseen, "responders": ["R0"], "limit": 100}
    parts = by_id(dialogues, **config)
    assert by_id([dialogues[place] for place in generator.permutation(len(dialogues))], **config) == parts


@pytest.mark.parametrize("by", [SplitBy.time, SplitBy.scene])
def test_shares_are_80_10_10_of_the_dialogues(by: SplitBy) -> None:
    dialogues = made()
    parts = by_id(dialogues, split=by)
    shares = [
        len(rows(dialogues, parts, part)) / len(dialogues) for part in (Split.TRAIN, Split.VALIDATION, Split.TEST)
    ]
    assert np.allclose(shares, [0.8, 0.1, 0.1], atol=0.02)


def test_time_split_is_in_the_order_of_the_scenes() -> None:
    dialogues = made()
    parts = by_id(dialogues, split=SplitBy.time)
    start = {scene: min(d.time for d in dialogues if d.scene == scene) for scene in {d.scene for d in dialogues}}
    bounds = [
        [start[d.scene] for d in rows(dialogues, parts, part)] for part in (Split.TRAIN, Split.VALIDATION, Split.TEST)
    ]
    assert max(bounds[0]) < min(bounds[1])
    assert max(bounds[1]) < min(bounds[2])


def test_scene_split_depends_on_its_seed_alone() -> None:
    dialogues = made()
    first, second = (by_id(dialogues, split=SplitBy.scene, split_seed=seed) for seed in (0, 1))
    assert first != second
    assert by_id(dialogues, split=SplitBy.scene, split_seed=1) == second


def test_within_querier_gives_everybody_with_two_scenes_a_test_row() -> None:
    dialogues = made()
    parts = by_id(dialogues, split=SplitBy.within_querier)
    for querier in {d.querier for d in dialogues}:
        own = [d for d in dialogues if d.querier == querier]
        if len({d.scene for d in own}) > 1:
            assert Split.TEST in {parts[d.id] for d in own}


def test_within_querier_a_scene_goes_to_the_latest_split_asked_for() -> None:
    # A has scenes a0 … a9 alone and shares a9 with nobody; B meets A in A's first scene, which is B's last one.
    dialogues = [dialogue(number, "A", f"a{number}", time=100 + number) for number in range(10)]
    dialogues += [dialogue(20 + number, "B", f"b{number}", time=number) for number in range(9)]
    dialogues.append(dialogue(40, "B", "a0", time=101))
    parts = by_id(dialogues, split=SplitBy.within_querier)
    assert parts["d40"] is parts["d0"] is Split.TEST
    assert [parts[f"d{number}"] for number in range(1, 10)] == [Split.TRAIN] * 7 + [Split.VALIDATION, Split.TEST]


# ---- unseen queriers


@pytest.mark.parametrize("by", SPLITS)
def test_unseen_queriers_and_their_scenes_leave_training(by: SplitBy) -> None:
    dialogues = made()
    corpus, notes = split(Corpus.build(dialogues), DataConfig(split=by, unseen=0.2))
    unseen = {corpus.queriers[number] for number in np.flatnonzero(corpus.unseen)}
    parts = {corpus.ids[row]: Split(int(part)) for row, part in enumerate(corpus.split)}
    assert len(unseen) == 8
    held: dict[Split, set[str]] = {Split.VALIDATION: set(), Split.TEST: set()}
    for querier in unseen:
        (part,) = {parts[d.id] for d in dialogues if d.querier == querier} - {Split.EXCLUDED}
        held[part].add(querier)
    assert [len(queriers) for queriers in held.values()] == [4, 4]
    scenes = {d.scene for d in dialogues if d.querier in unseen}
    assert not [d for d in rows(dialogues, parts, Split.TRAIN) if d.scene in scenes]
    tested = {d.scene for d in rows(dialogues, parts, Split.TEST)}
    assert not [d for d in rows(dialogues, parts, Split.VALIDATION) if d.scene in tested]
    excluded = rows(dialogues, parts, Split.EXCLUDED)
    assert all(d.scene in scenes for d in excluded)
    assert all(d.scene in tested for d in excluded if d.querier in unseen)
    said = {note.split(" ", 1)[1]: int(note.split(" ", 1)[0]) for note in notes if " leave " in note}
    assert list(said) == [
        "dialogues of others in the scenes of unseen queriers leave training",
        "dialogues in scenes with test dialogues leave validation",
    ]
    assert sum(said.values()) == len(excluded)
    assert min(said.values()) > 0
    assert "8 unseen queriers: 4 for validation, 4 for test" in notes


def test_unseen_by_name() -> None:
    dialogues = made()
    corpus, _ = split(Corpus.build(dialogues), DataConfig(unseen=["q3", "q1", "q2"]))
    assert [corpus.queriers[number] for number in np.flatnonzero(corpus.unseen)] == ["q1", "q2", "q3"]
    kept = corpus.split != Split.EXCLUDED.value
    parts = {corpus.queriers[q]: int(part) for q, part in zip(corpus.querier[kept], corpus.split[kept], strict=True)}
    assert sorted(parts[name] for name in ("q1", "q2", "q3")) == [1, 2, 2]


def test_of_few_queriers_only_the_unseen_ones_own_rows_leave_training() -> None:
    dialogues = made(queriers=6, responders=2)
    config: dict[str, Any] = {"unseen": ["q1"], "split": SplitBy.scene}
    without = by_id(dialogues, split=SplitBy.scene)
    parts = by_id(dialogues, **config)
    assert {parts[d.id] for d in dialogues if d.querier == "q1"} == {Split.TEST}
    assert Split.EXCLUDED not in parts.values()
    assert Split.TRAIN in {
        parts[d.id] for d in dialogues if d.scene in {o.scene for o in dialogues if o.querier == "q1"}
    }
    assert Split.TRAIN in {without[d.id] for d in dialogues if d.querier == "q1"}


@pytest.mark.parametrize(
    ("unseen", "message"),
    [
        (["q1", "nobody"], r"data\.unseen: nobody named 'nobody' asks in this data; nearest: "),
        ("q1", r"data\.unseen must be a share of the queriers or a list of their names, got 'q1'"),
        ([1], r"data\.unseen must be a share"),
        ([f"q{number}" for number in range(40)], r"would hold out all 40 queriers"),
    ],
)
def test_refuses_wrong_unseen_queriers(unseen: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        by_id(made(), unseen=unseen)


def test_refuses_an_unseen_querier_who_asks_none_of_the_responders() -> None:
    dialogues = [*made(), dialogue(9000, "stranger", "s0", "R7")]
    with pytest.raises(InputError, match="'stranger' asks none of data.responders"):
        by_id(dialogues, unseen=["stranger"], responders=["R0"])


# ---- responders


@pytest.mark.parametrize("by", SPLITS)
def test_other_responders_are_history_and_excluded_beside_scored_rows(by: SplitBy) -> None:
    dialogues = made(responders=3)
    parts = by_id(dialogues, split=by, responders=["R1"])
    scored = {d.scene for d in dialogues if parts[d.id] in (Split.VALIDATION, Split.TEST)}
    for d in dialogues:
        if d.responder != "R1":
            assert parts[d.id] is (Split.EXCLUDED if d.scene in scored else Split.HISTORY)
        else:
            assert parts[d.id] in (Split.TRAIN, Split.VALIDATION, Split.TEST)


def test_an_unseen_queriers_dialogues_with_other_responders_are_history() -> None:
    dialogues = made(responders=3)
    parts = by_id(dialogues, unseen=["q1"], responders=["R1"])
    for d in dialogues:
        if d.querier == "q1":
            assert parts[d.id] is (Split.TEST if d.responder == "R1" else Split.HISTORY)


def test_responders_are_checked_and_those_without_a_dialogue_reported() -> None:
    dialogues = [*made(), dialogue(9000, "stranger", "x", "R7")]
    with pytest.raises(InputError, match=r"data\.responders: nobody named 'R8' answers in this data"):
        by_id(dialogues, responders=["R0", "R8"])
    _, notes = split(Corpus.build(dialogues), DataConfig(responders=["R0"]))
    assert "1 querier has no dialogue with data.responders: stranger" in notes


# ---- limit


def test_limit_keeps_a_seeded_sample_of_training_and_leaves_the_rest_as_history() -> None:
    dialogues = made()
    full, limited = by_id(dialogues), by_id(dialogues, limit=50)
    assert list(limited.values()).count(Split.TRAIN) == 50
    for identity, part in full.items():
        assert limited[identity] is part or (part is Split.TRAIN and limited[identity] is Split.HISTORY)
    assert by_id(dialogues, limit=50, split_seed=1) != limited
    assert by_id(dialogues, limit=10_000) == full


# ---- given


def given(parts: Sequence[str | None]) -> list[Dialogue]:
    return [dialogue(n, f"q{n % 4}", f"s{n}", split=part) for n, part in enumerate(parts)]


def test_given_splits_are_taken_and_tell_who_is_unseen() -> None:
    dialogues = given(["train", "history", "test", "validation", "test", "test", "test", "validation"])
    corpus, notes = split(Corpus.build(dialogues), DataConfig(split=SplitBy.given))
    assert [Split(int(part)).name.lower() for part in corpus.split] == [d.split for d in dialogues]
    assert corpus.unseen.tolist() == [False, True, True, True]  # a history alone trains nothing
    assert "3 unseen queriers: 1 for validation, 2 for test" in notes


def test_one_unseen_querier_is_counted_as_one() -> None:
    _, notes = split(Corpus.build(given(["train", "train", "test"])), DataConfig(split=SplitBy.given))
    assert "1 unseen querier: 0 for validation, 1 for test" in notes
    assert "2 queriers have no test dialogue: q0, q1" in notes
    with pytest.raises(InputError, match=r"data\.unseen=0\.5 would hold out the only querier; leave some to train on"):
        by_id([dialogue(n, "A", f"s{n}") for n in range(5)], unseen=0.5)


def test_given_splits_with_other_responders() -> None:
    dialogues = given(["train", "train", "test", "validation"] * 3)
    dialogues += [dialogue(50, "q0", "s0", "R9", split="train"), dialogue(51, "q0", "s2", "R9", split="test")]
    parts = by_id(dialogues, split=SplitBy.given, responders=["R0"])
    assert (parts["d50"], parts["d51"]) == (Split.HISTORY, Split.EXCLUDED)
    one = [*given(["test", "train", "test"]), dialogue(60, "q0", "s9", "R9", split="train")]
    corpus, _ = split(Corpus.build(one), DataConfig(split=SplitBy.given, responders=["R0"]))
    assert corpus.unseen.tolist() == [True, False, True]  # nothing that q0 asked R0 is trained on


def test_refuses_faults_of_given_splits() -> None:
    with pytest.raises(InputError, match=r"`split` is missing in 2 of 3 dialogues, first in 'd1'; write train"):
        by_id(given(["train", None, None]), split=SplitBy.given)
    dialogues = given(["train", "test", "train"])
    dialogues[2] = replace(dialogues[2], scene="s1")
    with pytest.raises(InputError, match=r"the scene 's1' lies across splits: 'd2' is train, 'd1' is test; give a sc"):
        by_id(dialogues, split=SplitBy.given)
    with pytest.raises(InputError, match=r"data\.unseen=0\.1 cannot go with data\.split=given"):
        by_id(dialogues, split=SplitBy.given, unseen=0.1)
    with pytest.raises(InputError, match=r"data\.split=given leaves no test dialogue among 3"):
        by_id(given(["train", "train", "history"]), split=SplitBy.given)
    with pytest.raises(InputError, match=r"leaves no train dialogue"):
        by_id(given(["test", "history"]), split=SplitBy.given)


# ---- degenerate inputs


@pytest.mark.parametrize("by", SPLITS)
def test_three_scenes_suffice_and_two_are_refused(by: SplitBy) -> None:
    parts = by_id([dialogue(n, "A", f"s{n}") for n in range(3)], split=by)
    assert sorted(part.value for part in parts.values()) == [0, 1, 2]
    with pytest.raises(InputError, match=rf"data\.split={by} needs 3 scenes at least, got 2; read more dialogues"):
        by_id([dialogue(n, "A", f"s{n % 2}") for n in range(9)], split=by)


@pytest.mark.parametrize("by", [SplitBy.time, SplitBy.scene])
def test_one_huge_scene_leaves_no_split_empty(by: SplitBy) -> None:
    dialogues = [dialogue(n, "A", "huge") for n in range(100)] + [dialogue(100 + n, "A", f"s{n}") for n in range(3)]
    parts = set(by_id(dialogues, split=by).values())
    assert {Split.TRAIN, Split.VALIDATION, Split.TEST} == parts


def test_queriers_without_test_rows_are_reported_not_dropped() -> None:
    dialogues = [dialogue(n, "early" if n < 5 else "late", f"s{n}") for n in range(50)]
    corpus, notes = split(Corpus.build(dialogues), DataConfig())
    assert len(corpus) == 50
    assert "1 querier has no test dialogue: early" in notes


def test_histories_that_ties_leave_empty_are_reported() -> None:
    dialogues = [dialogue(number, f"q{number % 4}", f"s{number}") for number in range(40)]
    _, quiet = split(Corpus.build(dialogues), DataConfig())
    assert not any("a tie is not history" in note for note in quiet)
    days = [dialogue(number, f"q{number % 4}", f"s{number}", time=20240101) for number in range(40)]
    corpus, notes = split(Corpus.build(days), DataConfig())
    count = int((corpus.split == Split.TEST.value).sum())
    told = f"{count} of {count} test dialogues have no earlier one of their querier, {count} of them because others"
    assert any(note.startswith(told) for note in notes)
    last = [dialogue(40 + number, f"q{number % 4}", f"t{number}", time=20240102) for number in range(4)]
    _, notes = split(Corpus.build([*days, *last]), DataConfig(split=SplitBy.within_querier))
    assert not any("a tie is not history" in note for note in notes)  # the last of each has earlier ones
