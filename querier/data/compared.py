"""What contrast users were answered where a history item stands, for methods that read differences (`dep`, `dpl`).

A history item brings the contrast users that the preparation chose for its own dialogue: pool dialogues of other
queriers, strictly earlier than the item and of other scenes. Beside each stands how far the means of what both queriers
were answered lie apart; both means hold no more items than a history does, and the contrast user's is of pool dialogues
that are strictly earlier than the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from querier.choices import Kind, Model
from querier.config import Config
from querier.data.history import check_no_leak
from querier.errors import InputError
from querier.types import ComparedItems, Items, Split

if TYPE_CHECKING:
    from querier.data.preparation import Prepared


@dataclass(frozen=True)
class Beside:
    """Contrast users of n history items.

    Args:
        others: Embeddings of what they were answered, (n, K, E) float32.
        distance: From the mean of the items' outputs to the mean of each contrast user's, (n, K) float32.
        stands: True where one stands, (n, K) bool.
    """

    others: np.ndarray
    distance: np.ndarray
    stands: np.ndarray


def compares(config: Config) -> bool:
    """Whether the method reads what contrast users of history items were answered."""
    return config.conditioning.kind is not Kind.none and config.conditioning.model is Model.dep


def nobody(outputs: np.ndarray) -> Beside:
    """No contrast user beside items whose outputs (n, E) are given."""
    count, size = outputs.shape
    return Beside(
        np.zeros((count, 1, size), dtype=np.float32),
        np.zeros((count, 1), dtype=np.float32),
        np.zeros((count, 1), dtype=bool),
    )


def marks_of(stands: np.ndarray, config: Config) -> Sequence[tuple[int, ...]]:
    """Numbers of the vectors that stand before each item: 2j of item j itself, 2j + 1 of its difference.

    An item without contrast users has no difference; as published both places are there in any case.

    Args:
        stands: Whether each of its contrast users is there, (n, K) bool.
        config: Reads `conditioning.faithful`.
    """
    both = np.logical_or(stands.any(axis=1), config.conditioning.faithful)
    return [(2 * item, 2 * item + 1)[: 1 + has] for item, has in enumerate(both.tolist())]


def with_others(items: Items, besides: Sequence[Beside | None]) -> Items:
    """Items (B, H) with what contrast users were answered; as they are where the method does not compare.

    Args:
        items: As they are read.
        besides: Of the first items of each row, B of them, or None throughout.
    """
    found = [beside for beside in besides if beside is not None]
    if not found:
        return items
    rows, width, size = items.outputs.shape
    users = max(beside.stands.shape[1] for beside in found)
    others = np.zeros((rows, width, users, size), dtype=np.float32)
    distance = np.zeros((rows, width, users), dtype=np.float32)
    stands = np.zeros((rows, width, users), dtype=bool)
    for row, beside in enumerate(found):
        count, known = (min(width, len(beside.stands)), beside.stands.shape[1])
        others[row, :count, :known] = beside.others[:count]
        distance[row, :count, :known] = beside.distance[:count]
        stands[row, :count, :known] = beside.stands[:count]
    more = (torch.from_numpy(array) for array in (others, distance, stands))
    return ComparedItems(*vars(items).values(), *more)


def users_of(prepared: Prepared, items: np.ndarray, asker: int, scene: int) -> np.ndarray:
    """Pool rows of the contrast users of history items, −1 where there are no more, (n, K) int64.

    Of each cell of an item's comparison group it is the entry nearest the centre that a query may know: the asker's own
    entries, which beside a swapped history would tell of the asker, and those of the query's scene are passed over.

    Args:
        prepared: Reads `contrast`.
        items: Rows, −1 for texts that are in no corpus, (n,).
        asker: Number of who asks; −1 for one who is in no corpus.
        scene: Of the query; −1 for none.
    """
    corpus, cells = prepared.corpus, np.asarray(prepared.contrast[np.maximum(items, 0)], dtype=np.int64)
    allowed = (cells >= 0) & (corpus.querier[cells] != asker) & (corpus.scene[cells] != scene)
    first = (allowed & (items >= 0)[:, None, None]).argmax(-1)[..., None]
    found = allowed.any(-1) & (items >= 0)[:, None]
    return np.where(found, np.take_along_axis(cells, first, axis=-1)[..., 0], -1)


class ItemContrast:
    """Finds the contrast users of history items.

    Args:
        prepared: Reads the pool, its vectors and `contrast`.
        config: Reads `towers.history` and `conditioning.faithful`.
    """

    def __init__(self, prepared: Prepared, config: Config) -> None:
        self.prepared, self.corpus, self.config = prepared, prepared.corpus, config
        pool = self.corpus.rows_in(Split.TRAIN)
        querier, time = np.asarray(self.corpus.querier)[pool], np.asarray(self.corpus.time)[pool]
        self._rows = pool[np.lexsort((pool, time, querier))]
        self._time, self._scene = (np.asarray(column)[self._rows] for column in (self.corpus.time, self.corpus.scene))
        self._start = np.searchsorted(np.sort(querier), np.arange(len(self.corpus.queriers) + 1))

    def of(self, row: int, items: np.ndarray) -> Beside:
        """Beside the history (n,) of a dialogue.

        Raises:
            InputError: One is not strictly earlier than the item or the query, of their scenes, or of their queriers.
        """
        users, corpus = self.users(row, items), self.corpus
        self._check(users, items, row)
        outputs = self.prepared.replies(items)
        return self._beside(users, outputs, int(corpus.time[row]), int(corpus.scene[row]))

    def outside(self, querier: int, items: np.ndarray, outputs: np.ndarray) -> Beside:
        """Beside the history of somebody who asks now.

        Args:
            querier: Number of who asks; −1 for one who is in no corpus.
            items: Rows, −1 for texts that are in no corpus, (n,).
            outputs: Embeddings of what was answered, (n, E).

        Raises:
            InputError: As in `of`.
        """
        users = users_of(self.prepared, items, querier, -1)
        self._check(users, items)
        return self._beside(users, outputs, None, -1)

    def marks(self, row: int, items: np.ndarray) -> Sequence[tuple[int, ...]]:
        """Numbers of the vectors that stand before each item (n,) of a dialogue's history."""
        return marks_of(self.users(row, items) >= 0, self.config)

    def users(self, row: int, items: np.ndarray) -> np.ndarray:
        """Pool rows of the contrast users of a dialogue's history items (n,), −1 where none is, (n, K) int64."""
        return users_of(self.prepared, items, int(self.corpus.querier[row]), int(self.corpus.scene[row]))

    def _check(self, users: np.ndarray, items: np.ndarray, row: int | None = None) -> None:
        corpus, known = self.corpus, items >= 0
        if row is not None:
            check_no_leak(corpus, row, users.ravel(), own=False)
        check_no_leak(corpus, items[known], users[known], own=False)
        owner = corpus.querier[np.maximum(items, 0)][:, None]
        own = users[(users >= 0) & (corpus.querier[users] == owner)]
        if len(own):
            raise InputError(
                f"leak: {corpus.ids[int(own[0])]!r}, read as a contrast user's, is of the querier whose history it "
                "stands beside; prepare again"
            )

    def _beside(self, users: np.ndarray, outputs: np.ndarray, before: int | None, scene: int) -> Beside:
        stands, known = users >= 0, np.maximum(users, 0)
        others = np.where(stands[..., None], self.prepared.replies(known), np.float32(0))
        distance = np.zeros(users.shape, dtype=np.float32)
        querier = np.asarray(self.corpus.querier)[known]
        for other in np.unique(querier[stands]).tolist():
            gap = outputs.mean(0) - self._mean(other, before, scene)
            distance[stands & (querier == other)] = np.linalg.norm(gap)
        return Beside(others, distance, stands)

    def _mean(self, querier: int, before: int | None, scene: int) -> np.ndarray:
        """Mean of what a querier was answered in the pool before a time and outside a scene, (E,)."""
        first, end = int(self._start[querier]), int(self._start[querier + 1])
        if before is not None:
            end = first + int(np.searchsorted(self._time[first:end], before, side="left"))
        rows = self._rows[first:end][self._scene[first:end] != scene]
        mean: np.ndarray = self.prepared.replies(rows[-self.config.towers.history :]).mean(0)
        return mean
