"""Which dialogues are trained on, validated on, tested on, read as history only, or left out.

A scene is never cut. Draws are made over sorted names, so that the order of the records does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from querier.choices import SplitBy
from querier.data.parsing import counted, nearest_first
from querier.data.records import UNSPLIT, Corpus
from querier.data_config import DataConfig
from querier.errors import InputError
from querier.types import Split

TRAINED, VALIDATED = 0.8, 0.9  # shares of the dialogues at which training ends and validation ends
FEW_QUERIERS = 30  # below, holding whole scenes out would leave too little: only the unseen's own rows leave training
SHOWN = 8  # names that a note lists at most

_TRAIN, _VALIDATION, _TEST = Split.TRAIN.value, Split.VALIDATION.value, Split.TEST.value
_HISTORY, _EXCLUDED = Split.HISTORY.value, Split.EXCLUDED.value


def split(corpus: Corpus, config: DataConfig) -> tuple[Corpus, list[str]]:
    """Split a corpus as `data.split`, `data.unseen`, `data.responders` and `data.limit` say.

    * Queriers of `data.unseen` are held out: half of them for validation, half for test. Their dialogues are rows
      of that split. With 30 queriers or more their scenes leave training as a whole: what others would have there as
      training rows is `EXCLUDED`, and so are validation rows in a scene that also holds test rows.
    * Dialogues of responders that `data.responders` leaves out are `HISTORY`: read as history, never trained on or
      scored; in a scene that holds validation or test rows they are `EXCLUDED`, but for an unseen querier's own, which
      no training row can read.
    * `data.limit` keeps a seeded sample of the training rows; the others are `HISTORY`.

    Returns:
        The corpus with `split` and `unseen`, and notes for the user.

    Raises:
        InputError: On unknown names, on a scene across given splits, and where a split would be empty.
    """
    example = _examples(corpus, config.responders)
    notes: list[str] = []
    if config.split is SplitBy.given:
        rows, unseen = _given(corpus, config, example)
        own = unseen[corpus.querier]
    else:
        unseen, held_out = _unseen(corpus, config, example)
        own = unseen[corpus.querier]
        rows = _by_scene(corpus, config, example & ~own)
        rows[own] = held_out[corpus.querier[own]]
        _leave_training(corpus, rows, own, example, notes)
        _leave_validation(corpus, rows, example, notes)
    few = config.split is not SplitBy.given and len(corpus.queriers) < FEW_QUERIERS
    _read_only_as_history(corpus, rows, own, example, own_scenes=not few)
    _limit(corpus, rows, config)
    _check_filled(rows, config)
    done = corpus.with_split(rows, unseen)
    return done, [*notes, *_report(done, example)]


def _examples(corpus: Corpus, responders: Sequence[str] | None) -> np.ndarray:
    """Whether a row is answered by one of `data.responders`, (N,) bool."""
    if responders is None:
        return np.ones(len(corpus), dtype=bool)
    unknown = [name for name in responders if name not in corpus.responders]
    if unknown:
        near = nearest_first(unknown[0], corpus.responders)[:SHOWN]
        raise InputError(f"data.responders: nobody named {unknown[0]!r} answers in this data; nearest: {near}")
    return np.isin(corpus.responder, [corpus.responders.index(name) for name in responders])


def _given(corpus: Corpus, config: DataConfig, example: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits by the records' own field, (N,) int8; unseen, (Q,), are queriers without a training row (`example`).

    A querier with `history` rows may be unseen all the same, as LaMP's new users are: no weight was trained on them.
    """
    if config.unseen:
        raise InputError(
            f"data.unseen={config.unseen!r} cannot go with data.split=given: there, queriers without a training "
            "dialogue are the unseen ones; leave data.unseen out"
        )
    given = np.array(corpus.given, dtype=np.int8)
    missing = np.flatnonzero(given == UNSPLIT)
    if len(missing):
        raise InputError(
            f"data.split=given: field `split` is missing in {len(missing)} of {len(corpus)} dialogues, first in "
            f"{corpus.ids[int(missing[0])]!r}; write train, validation, test or history, or choose data.split=time"
        )
    order = np.lexsort((given, corpus.scene))
    scene, part = corpus.scene[order], given[order]
    across = np.flatnonzero((scene[1:] == scene[:-1]) & (part[1:] != part[:-1]))
    if len(across):
        first, second = (int(order[across[0] + step]) for step in (0, 1))
        names = [Split(int(given[row])).name.lower() for row in (first, second)]
        raise InputError(
            f"field `split`: the scene {corpus.scenes[int(corpus.scene[first])]!r} lies across splits: "
            f"{corpus.ids[first]!r} is {names[0]}, {corpus.ids[second]!r} is {names[1]}; give a scene one split"
        )
    learnt = example & (given == _TRAIN)
    unseen = np.bincount(corpus.querier[learnt], minlength=len(corpus.queriers)) == 0
    return given, unseen


def _unseen(corpus: Corpus, config: DataConfig, example: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Who is held out, (Q,) bool, and in which split, (Q,) int8."""
    unseen = np.zeros(len(corpus.queriers), dtype=bool)
    held_out = np.full(len(corpus.queriers), UNSPLIT, dtype=np.int8)
    generator = np.random.default_rng([config.split_seed, 1])
    eligible = np.unique(corpus.querier[example])  # ascending numbers are names in alphabetical order
    if isinstance(config.unseen, (int, float)):
        if not config.unseen:
            return unseen, held_out
        count = max(1, round(float(config.unseen) * len(eligible)))
        chosen = generator.permutation(eligible)[:count]
    else:
        chosen = generator.permutation(_numbers(corpus, config.unseen, set(eligible.tolist())))
    if len(chosen) >= len(eligible):
        all_of_them = "the only querier" if len(eligible) == 1 else f"all {len(eligible)} queriers"
        raise InputError(f"data.unseen={config.unseen!r} would hold out {all_of_them}; leave some to train on")
    unseen[chosen] = True
    half = len(chosen) // 2  # the odd one is for the test: that is what unseen queriers are for
    held_out[chosen[:half]], held_out[chosen[half:]] = _VALIDATION, _TEST
    return unseen, held_out


def _numbers(corpus: Corpus, names: object, eligible: set[int]) -> np.ndarray:
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"data.unseen must be a share of the queriers or a list of their names, got {names!r}")
    number = {name: place for place, name in enumerate(corpus.queriers)}
    for name in names:
        if name not in number:
            near = ", ".join(repr(other) for other in nearest_first(name, corpus.queriers)[:SHOWN])
            raise InputError(f"data.unseen: nobody named {name!r} asks in this data; nearest: {near}")
        if number[name] not in eligible:
            raise InputError(f"data.unseen: {name!r} asks none of data.responders; choose somebody who does")
    return np.array(sorted({number[name] for name in names}), dtype=np.int64)


def _by_scene(corpus: Corpus, config: DataConfig, counted: np.ndarray) -> np.ndarray:
    """The split of every row, whole scenes together; only `counted` rows count towards the shares, (N,) int8."""
    weight = np.bincount(corpus.scene[counted], minlength=len(corpus.scenes))
    start = np.full(len(corpus.scenes), np.iinfo(np.int64).max)
    np.minimum.at(start, corpus.scene, corpus.time)
    by_time = np.lexsort((np.arange(len(start)), start))
    if np.count_nonzero(weight) < 3:
        raise InputError(
            f"data.split={config.split} needs 3 scenes at least, got {np.count_nonzero(weight)}; read more dialogues, "
            "or give the splits yourself: the field `split` and data.split=given"
        )
    if config.split is SplitBy.within_querier:
        part = _within_querier(corpus, counted, by_time)
    elif config.split is SplitBy.scene:
        part = _shares(np.random.default_rng([config.split_seed, 0]).permutation(len(weight)), weight)
    else:
        part = _shares(by_time, weight)
    rows: np.ndarray = part[corpus.scene]
    return rows


def _shares(order: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """80 / 10 / 10 of the weight in this order; a scene goes where its middle lies, and no split stays empty.

    Args:
        order: Scenes, (S,).
        weight: Of each scene, (S,).
    """
    part = np.zeros(len(weight), dtype=np.int8)
    total = weight.sum()
    middle = np.cumsum(weight[order]) - weight[order] / 2
    part[order] = np.where(middle < TRAINED * total, _TRAIN, np.where(middle < VALIDATED * total, _VALIDATION, _TEST))
    counted = order[weight[order] > 0]
    if len(counted) >= 2:
        part[counted[-1]] = _TEST
    if len(counted) >= 3 and not (part[counted] == _VALIDATION).any():
        part[counted[-2]] = _VALIDATION
    if len(counted) >= 2 and not (part[counted] == _TRAIN).any():
        part[counted[0]] = _TRAIN
    return part


def _within_querier(corpus: Corpus, counted: np.ndarray, by_time: np.ndarray) -> np.ndarray:
    """Each querier asks for 80 / 10 / 10 of the own scenes; a scene goes to the latest split asked for."""
    part = np.zeros(len(corpus.scenes), dtype=np.int8)
    place = np.empty(len(by_time), dtype=np.int64)
    place[by_time] = np.arange(len(by_time))
    for querier in np.unique(corpus.querier[counted]):
        rows = corpus.rows_of(int(querier))
        scenes, weight = np.unique(corpus.scene[rows[counted[rows]]], return_counts=True)
        part[scenes] = np.maximum(part[scenes], _shares(np.argsort(place[scenes]), weight))
    return part


def _leave_training(corpus: Corpus, rows: np.ndarray, own: np.ndarray, example: np.ndarray, notes: list[str]) -> None:
    """Take the scenes of the unseen queriers' rows (`own`) out of training."""
    if not own.any():
        return
    if len(corpus.queriers) < FEW_QUERIERS:
        notes.append(
            f"fewer than {FEW_QUERIERS} queriers: only the unseen queriers' own dialogues leave training, "
            "their scenes stay"
        )
        return
    scenes = _marked(corpus, own & example)
    leaving = scenes[corpus.scene] & ~own & example & (rows == _TRAIN)
    rows[leaving] = _EXCLUDED
    if leaving.any():
        leave = "leaves" if leaving.sum() == 1 else "leave"
        of_others = counted(int(leaving.sum()), "dialogue")
        notes.append(f"{of_others} of others in the scenes of unseen queriers {leave} training")


def _leave_validation(corpus: Corpus, rows: np.ndarray, example: np.ndarray, notes: list[str]) -> None:
    """Take scenes with test rows out of validation, which chooses the weights that are tested."""
    if len(corpus.queriers) < FEW_QUERIERS:
        return
    tested = _marked(corpus, example & (rows == _TEST))
    leaving = tested[corpus.scene] & example & (rows == _VALIDATION)
    rows[leaving] = _EXCLUDED
    if leaving.any():
        leave = "leaves" if leaving.sum() == 1 else "leave"
        notes.append(f"{counted(int(leaving.sum()), 'dialogue')} in scenes with test dialogues {leave} validation")


def _read_only_as_history(
    corpus: Corpus, rows: np.ndarray, own: np.ndarray, example: np.ndarray, own_scenes: bool
) -> None:
    """What other responders answered is history, but for what stands in the scenes of scored rows.

    The scenes of the unseen queriers' rows (`own`) count only with `own_scenes`: else they stay in training.
    """
    rows[~example] = _HISTORY
    scored = example & np.isin(rows, (_VALIDATION, _TEST))
    if not own_scenes:
        scored &= ~own
    rows[~example & ~own & _marked(corpus, scored)[corpus.scene]] = _EXCLUDED


def _marked(corpus: Corpus, rows: np.ndarray) -> np.ndarray:
    """Whether a scene holds one of the rows, (S,) bool."""
    scenes = np.zeros(len(corpus.scenes), dtype=bool)
    scenes[corpus.scene[rows]] = True
    return scenes


def _limit(corpus: Corpus, rows: np.ndarray, config: DataConfig) -> None:
    training = np.flatnonzero(rows == _TRAIN)
    if config.limit is None or len(training) <= config.limit:
        return
    by_id = sorted(training.tolist(), key=lambda row: corpus.ids[row])
    dropped = np.random.default_rng([config.split_seed, 2]).permutation(by_id)[config.limit :]
    rows[dropped] = _HISTORY


def _check_filled(rows: np.ndarray, config: DataConfig) -> None:
    for part in (Split.TRAIN, Split.TEST):
        if not (rows == part.value).any():
            raise InputError(
                f"data.split={config.split} leaves no {part.name.lower()} dialogue among {len(rows)}; read more "
                "dialogues, or another of data.split, data.unseen and data.responders"
            )


def _report(corpus: Corpus, example: np.ndarray) -> list[str]:
    count = {part: int((corpus.split == part.value).sum()) for part in Split}
    notes = ["split: " + ", ".join(f"{number} {part.name.lower()}" for part, number in count.items() if number)]
    if not count[Split.VALIDATION]:
        notes.append("no validation dialogue: nothing can be selected or stopped early")
    if corpus.unseen.any():
        parts = [
            f"{len(np.unique(corpus.querier[(corpus.split == part.value) & corpus.unseen[corpus.querier]]))} for "
            f"{part.name.lower()}"
            for part in (Split.VALIDATION, Split.TEST)
        ]
        notes.append(f"{counted(int(corpus.unseen.sum()), 'unseen querier')}: {', '.join(parts)}")
    asked = np.bincount(corpus.querier[example], minlength=len(corpus.queriers)) > 0
    tested = np.bincount(corpus.querier[corpus.split == _TEST], minlength=len(corpus.queriers)) > 0
    for missing, what in ((asked & ~tested, "no test dialogue"), (~asked, "no dialogue with data.responders")):
        if missing.any():
            names = [corpus.queriers[number] for number in np.flatnonzero(missing)[:SHOWN]]
            more = int(missing.sum()) - len(names)
            have = "has" if missing.sum() == 1 else "have"
            notes.append(
                f"{counted(int(missing.sum()), 'querier')} {have} {what}: {', '.join(names)}"
                + (f" and {more} more" if more else "")
            )
    return notes + _without_history(corpus)


def _without_history(corpus: Corpus) -> list[str]:
    """How many test dialogues have no earlier one of their querier, where a tie in time is among the reasons."""
    read = corpus.split != Split.EXCLUDED.value
    first = np.full(len(corpus.queriers), np.iinfo(np.int64).max)
    np.minimum.at(first, corpus.querier[read], corpus.time[read])
    at_first = np.bincount(
        corpus.querier[read], weights=corpus.time[read] == first[corpus.querier[read]], minlength=len(first)
    )
    tested = corpus.split == _TEST
    bare = tested & (corpus.time <= first[corpus.querier])
    tied = int((bare & (at_first[corpus.querier] > 1)).sum())
    if not tied:
        return []
    return [
        f"{int(bare.sum())} of {int(tested.sum())} test dialogues have no earlier one of their querier, {tied} of them "
        "because others have the same time (a tie is not history): give finer times, or none where their order is it"
    ]
