"""What a querier asked and was answered before: the history of every row, and the check that nothing leaks.

A history holds nothing at or after its query's time (a tie is not history) and nothing of its scene. What a training
row reads is limited to training and history rows, so that no validation or test reply enters the weights; a validation
or test row reads the querier's earlier dialogues of any split. `EXCLUDED` rows are never read.

Under `data.pool=none` nothing is shared between queriers: histories, which are a querier's own, stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from querier.data.records import Corpus
from querier.errors import InputError
from querier.types import Split

TRAINING = (Split.TRAIN, Split.HISTORY)
READABLE = (Split.TRAIN, Split.VALIDATION, Split.TEST, Split.HISTORY)
CANDIDATES = 16  # queriers that the permuted control draws, to keep the one with the nearest number of items


class _Index:
    """Rows grouped by a key and sorted by time inside each group.

    Args:
        rows: The rows, (n,).
        key: Group of each, from 0, (n,).
        time: Of each, (n,).
        groups: Number of groups.
    """

    def __init__(self, rows: np.ndarray, key: np.ndarray, time: np.ndarray, groups: int) -> None:
        order = np.lexsort((rows, time, key))
        self.rows, self.time = rows[order], time[order]
        self.start = np.concatenate([[0], np.cumsum(np.bincount(key, minlength=groups))])

    def earlier(self, group: int, before: int) -> tuple[int, int]:
        """Bounds of the group's rows that are strictly earlier."""
        start, end = int(self.start[group]), int(self.start[group + 1])
        return start, start + int(np.searchsorted(self.time[start:end], before, side="left"))


class Histories:
    """Finds histories by bisection: a row costs O(log n + items).

    Args:
        corpus: After `split`.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def of(self, row: int, limit: int | None = None, permuted: np.random.Generator | None = None) -> np.ndarray:
        """The history of a row: this responder's dialogues newest first, then others' newest first, (n,) int64.

        Args:
            row: In the corpus.
            limit: Items at most; None for all.
            permuted: For the control: draws another querier with nearly as many earlier dialogues, whose history,
                cut to before the query and to the own number of items, stands in place of the own one.

        Raises:
            InputError: `permuted` is asked for of the only querier.
        """
        corpus = self.corpus
        training = corpus.split[row] not in (Split.VALIDATION.value, Split.TEST.value)
        querier, before = int(corpus.querier[row]), int(corpus.time[row])
        scene, responder = int(corpus.scene[row]), int(corpus.responder[row])
        own = self._select(querier, before, scene, responder, limit, training)
        if permuted is None or not len(own):
            return own
        other = self._draw(querier, before, len(own), training, permuted)
        if other is None:
            raise InputError(
                "data.history=permuted needs other queriers with earlier dialogues, but there is one querier only; "
                "use data.history=own"
            )
        return self._select(other, before, scene, responder, len(own), training)

    def of_querier(
        self, querier: int, before: int, not_scene: int, responder: int, limit: int | None = None, training: bool = True
    ) -> np.ndarray:
        """The history of any querier, cut to before a time, as if they had asked then, (n,) int64.

        Args:
            querier: Its number.
            before: Only what is strictly earlier.
            not_scene: Nothing of this scene.
            responder: Whose answers stand first.
            limit: Items at most; None for all.
            training: Whether a training row is to read it: then validation and test rows of seen queriers are left
                out. Evaluation says False.
        """
        training = training and not bool(self.corpus.unseen[querier])
        return self._select(querier, before, not_scene, responder, limit, training)

    def count(self, querier: int, before: int, training: bool) -> int:
        """How many earlier dialogues of a querier may be read, those of one scene included."""
        start, end = self._index(training)[0].earlier(querier, before)
        return end - start

    def _select(
        self, querier: int, before: int, not_scene: int, responder: int, limit: int | None, training: bool
    ) -> np.ndarray:
        limit = len(self.corpus) if limit is None else limit
        by_querier, by_pair = self._index(training)
        pair = querier * len(self.corpus.responders) + responder
        same = self._newest(by_pair, self._pair(pair, training), before, not_scene, limit)
        if len(same) >= limit:
            return same
        return np.concatenate(
            [same, self._newest(by_querier, querier, before, not_scene, limit - len(same), responder)]
        )

    def _newest(
        self, index: _Index, group: int, before: int, not_scene: int, limit: int, not_responder: int = -1
    ) -> np.ndarray:
        """The newest rows of a group but for one scene and one responder, taken block by block from the end."""
        if group < 0 or limit <= 0:
            return np.zeros(0, dtype=np.int64)
        start, end = index.earlier(group, before)
        found: list[np.ndarray] = []
        missing, block = limit, max(2 * limit, 32)
        while end > start and missing > 0:
            first = max(start, end - block)
            rows = index.rows[first:end][::-1]
            keep = (self.corpus.scene[rows] != not_scene) & (self.corpus.responder[rows] != not_responder)
            found.append(rows[keep][:missing])
            missing -= len(found[-1])
            end, block = first, block * 2
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def _draw(
        self, querier: int, before: int, length: int, training: bool, generator: np.random.Generator
    ) -> int | None:
        """Of some queriers drawn at random the first with `length` earlier dialogues or more, else who has most."""
        others = ~self.corpus.unseen if training else np.ones(len(self.corpus.queriers), dtype=bool)
        others[querier] = False
        candidates = np.flatnonzero(others)
        if not len(candidates):
            return None
        drawn = candidates[generator.choice(len(candidates), size=min(CANDIDATES, len(candidates)), replace=False)]
        gaps = [max(0, length - self.count(int(other), before, training)) for other in drawn]
        return int(drawn[int(np.argmin(gaps))])

    def _pair(self, pair: int, training: bool) -> int:
        keys = self._pairs[training]
        place = int(np.searchsorted(keys, pair))
        return place if place < len(keys) and keys[place] == pair else -1

    def _index(self, training: bool) -> tuple[_Index, _Index]:
        return self._indices[training]

    @cached_property
    def _pairs(self) -> dict[bool, np.ndarray]:
        return {training: np.unique(self._keys(rows)) for training, rows in self._rows().items()}

    @cached_property
    def _indices(self) -> dict[bool, tuple[_Index, _Index]]:
        corpus = self.corpus
        indices = {}
        for training, rows in self._rows().items():
            time, keys = corpus.time[rows], self._pairs[training]
            by_querier = _Index(rows, corpus.querier[rows], time, len(corpus.queriers))
            by_pair = _Index(rows, np.searchsorted(keys, self._keys(rows)), time, len(keys))
            indices[training] = (by_querier, by_pair)
        return indices

    def _rows(self) -> dict[bool, np.ndarray]:
        return {True: self.corpus.rows_in(*TRAINING), False: self.corpus.rows_in(*READABLE)}

    def _keys(self, rows: np.ndarray) -> np.ndarray:
        querier, responder = (column[rows].astype(np.int64) for column in (self.corpus.querier, self.corpus.responder))
        keys: np.ndarray = querier * len(self.corpus.responders) + responder
        return keys


def check_no_leak(corpus: Corpus, row: int | np.ndarray, rows: np.ndarray, own: bool = True) -> None:
    """Refuse a history that holds what its query may not know.

    Args:
        corpus: After `split`.
        row: One row, or several, (B,).
        rows: What is read for it, (n,), or for each of several, (B, H), −1 where nothing stands.
        own: Whether the items must be the querier's own. Swapped histories and neighbours say False.

    Raises:
        InputError: Naming the first item at or after its query's time, of its scene, of another querier, of a split
            that a training row may not read, or left out of the experiment.
    """
    asked, items = _pairs(row, rows)
    if not items.size:
        return
    training = corpus.split[asked] == Split.TRAIN.value
    learnt = np.isin(corpus.split[items], [part.value for part in TRAINING])
    faults = {
        "is not earlier than its query": corpus.time[items] >= corpus.time[asked],
        "is of the same scene as its query": corpus.scene[items] == corpus.scene[asked],
        "was left out of the experiment": corpus.split[items] == Split.EXCLUDED.value,
        "is a validation or test dialogue, read for a training one": training & ~learnt,
    }
    if own:
        faults["is another querier's"] = corpus.querier[items] != corpus.querier[asked]
    _refuse(corpus, asked, items, faults, "build histories with Histories.of or Histories.of_querier")


def check_neighbours(corpus: Corpus, row: int | np.ndarray, rows: np.ndarray) -> None:
    """Refuse a pool neighbour that its query may not know.

    Args:
        corpus: After `split`.
        row: One row, or several, (B,).
        rows: Its neighbours, (n,), or those of several, (B, N), −1 where there is none.

    Raises:
        InputError: As `check_no_leak`, and where a neighbour is the asker's own or no training dialogue.
    """
    check_no_leak(corpus, row, rows, own=False)
    asked, items = _pairs(row, rows)
    faults = {
        "is the asker's own": corpus.querier[items] == corpus.querier[asked],
        "is not of the pool": corpus.split[items] != Split.TRAIN.value,
    }
    _refuse(corpus, asked, items, faults, "prepare again")


def _pairs(row: int | np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Who reads and what is read, each (n,), without what stands for nothing."""
    items = np.atleast_1d(np.asarray(rows, dtype=np.int64))
    asked = np.asarray(row, dtype=np.int64)
    asked = np.broadcast_to(asked[:, None] if asked.ndim else asked, items.shape)
    stands = items >= 0
    return asked[stands], items[stands]


def _refuse(corpus: Corpus, asked: np.ndarray, items: np.ndarray, faults: Mapping[str, np.ndarray], do: str) -> None:
    for fault, where in faults.items():
        if where.any():
            first = int(np.argmax(where))
            raise InputError(
                f"leak: {corpus.ids[int(items[first])]!r}, read for {corpus.ids[int(asked[first])]!r}, {fault}; {do}"
            )
