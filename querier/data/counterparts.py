"""Who stands against an anchor in training: contrast users with their histories, and the anchor's own other queries.

Contrast users enter the losses only; nothing of them is read to answer the true querier.
"""

from __future__ import annotations

import numpy as np

from querier.choices import Contrast
from querier.config import Config
from querier.data.history import Histories
from querier.data.preparation import Prepared
from querier.types import Split

TRIES = 8  # draws of a random contrast user before it counts as not found


class Counterparts:
    """Draws contrast users and own other queries for training rows.

    Args:
        prepared: Reads `contrast`.
        histories: Finds the contrast users' earlier dialogues.
        config: Reads `contrast` and `towers.history`.
    """

    def __init__(self, prepared: Prepared, histories: Histories, config: Config) -> None:
        self.prepared = prepared
        self.corpus = prepared.corpus
        self.histories = histories
        self.config = config.contrast
        pool = self.corpus.rows_in(Split.TRAIN)
        self._by_time = pool[np.argsort(self.corpus.time[pool], kind="stable")]
        self._times = np.asarray(self.corpus.time)[self._by_time]
        self._by_querier = pool[np.argsort(self.corpus.querier[pool], kind="stable")]
        self._queriers = np.asarray(self.corpus.querier)[self._by_querier]

    def users(self, row: int, generator: np.random.Generator) -> np.ndarray:
        """Pool rows of the anchor's contrast users, one for each of K cells and querier, −1 where none, (K,) int64.

        Entries are drawn among the nearest of a cell.
        """
        if self.config.source is Contrast.none:
            return np.full(self.config.k, -1, dtype=np.int64)
        if self.config.source is Contrast.random:
            return self.random_users(row, generator)
        cells = np.asarray(self.prepared.contrast[row][: self.config.k, : self.config.nearest], dtype=np.int64)
        chosen = np.full(self.config.k, -1, dtype=np.int64)
        for cell, entries in enumerate(cells):
            known = entries[entries >= 0]
            if len(known):
                chosen[cell] = known[generator.integers(len(known))]
        return self._once(chosen)

    def random_users(self, row: int, generator: np.random.Generator) -> np.ndarray:
        """The same with queriers drawn at random from what is strictly earlier in the pool, (K,) int64."""
        corpus, count = self.corpus, self.config.k
        earlier = int(np.searchsorted(self._times, corpus.time[row], side="left"))
        if earlier == 0 or not self.prepared.shared:
            return np.full(count, -1, dtype=np.int64)
        drawn = self._by_time[generator.integers(earlier, size=count * TRIES)]
        allowed = (corpus.querier[drawn] != corpus.querier[row]) & (corpus.scene[drawn] != corpus.scene[row])
        drawn = drawn[allowed][:count]
        return self._once(np.concatenate([drawn, np.full(count - len(drawn), -1, dtype=np.int64)]))

    def history(self, row: int, user_row: int, limit: int) -> np.ndarray:
        """What the contrast user of `user_row` had been answered before the anchor's query, newest first."""
        corpus = self.corpus
        return self.histories.of_querier(
            int(corpus.querier[user_row]),
            int(corpus.time[row]),
            int(corpus.scene[row]),
            int(corpus.responder[row]),
            limit,
        )

    def own_queries(self, row: int, generator: np.random.Generator) -> np.ndarray:
        """K other dialogues of the anchor's querier in the pool, of other scenes, −1 where there are fewer, (K,)."""
        querier = self.corpus.querier[row]
        start, end = np.searchsorted(self._queriers, [querier, querier + 1])
        rows = self._by_querier[start:end]
        rows = rows[self.corpus.scene[rows] != self.corpus.scene[row]]
        count = min(self.config.k, len(rows))
        chosen = np.full(self.config.k, -1, dtype=np.int64)
        chosen[:count] = generator.choice(rows, count, replace=False) if count else rows[:0]
        return chosen

    def _once(self, rows: np.ndarray) -> np.ndarray:
        """The rows with every querier's second entry replaced by −1."""
        seen: set[int] = set()
        kept = rows.copy()
        for place, row in enumerate(rows):
            querier = int(self.corpus.querier[row]) if row >= 0 else -1
            if querier in seen:
                kept[place] = -1
            seen.add(querier)
        return kept
