"""Who stands against an anchor in training: contrast users with their histories, and the anchor's own other queries.

Contrast users enter the losses only; nothing of them is read to answer the true querier.
"""

from __future__ import annotations

import numpy as np

from querier.config import Config
from querier.data.history import Histories
from querier.data.preparation import Prepared
from querier.types import Split


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
        counts = np.bincount(self.corpus.querier[pool], minlength=len(self.corpus.queriers))
        self._start = np.concatenate([[0], np.cumsum(counts)])

    def users(self, rows: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Pool rows of the anchors' contrast users, one for each of K cells and querier, −1 where none.

        Args:
            rows: The anchors, (B,).
            draws: Which of the nearest entries of a cell, uniform in [0, 1), (B, K).

        Returns:
            (B, K) int64.
        """
        cells = np.asarray(self.prepared.contrast[rows], dtype=np.int64)[:, : self.config.k, : self.config.nearest]
        cells = np.take_along_axis(cells, np.argsort(cells < 0, axis=-1, kind="stable"), axis=-1)
        place = (draws * (cells >= 0).sum(-1)).astype(np.int64)
        return self._once(np.take_along_axis(cells, place[..., None], axis=-1)[..., 0])

    def random_users(self, rows: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """The same with queriers drawn at random from what is strictly earlier in the pool, (B, K) int64.

        For the swap loss of a run without contrast users.

        Args:
            rows: The anchors, (B,).
            draws: Uniform in [0, 1), (B, K).
        """
        earlier = np.searchsorted(self._times, self.corpus.time[rows], side="left")
        if not len(self._by_time) or not self.prepared.shared:
            return np.full(draws.shape, -1, dtype=np.int64)
        drawn = self._by_time[(draws * earlier[:, None]).astype(np.int64)]
        same = (self.corpus.querier[drawn] == self.corpus.querier[rows][:, None]) | (
            self.corpus.scene[drawn] == self.corpus.scene[rows][:, None]
        )
        return self._once(np.where(same | (earlier == 0)[:, None], -1, drawn))

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

    def own_queries(self, rows: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """K other dialogues of each anchor's querier in the pool, of other scenes, −1 where there are fewer.

        Args:
            rows: The anchors, (B,).
            draws: Uniform in [0, 1), several for each of K, (B, several K).

        Returns:
            (B, K) int64.
        """
        start, end = self._start[self.corpus.querier[rows]], self._start[self.corpus.querier[rows] + 1]
        places = start[:, None] + (draws * (end - start)[:, None]).astype(np.int64)
        drawn = self._by_querier[np.minimum(places, len(self._by_querier) - 1)]
        allowed = (end > start)[:, None] & (self.corpus.scene[drawn] != self.corpus.scene[rows][:, None])
        chosen = np.full((len(rows), self.config.k), -1, dtype=np.int64)
        for place, (candidates, fit) in enumerate(zip(drawn, allowed, strict=True)):
            found = list(dict.fromkeys(candidates[fit].tolist()))[: self.config.k]
            chosen[place, : len(found)] = found
        return chosen

    def _once(self, rows: np.ndarray) -> np.ndarray:
        """The rows (B, K) with every querier's second entry replaced by −1."""
        querier = np.where(rows >= 0, self.corpus.querier[rows], -1)
        equal = (
            (querier[:, :, None] == querier[:, None, :])
            & np.tri(rows.shape[1], k=-1, dtype=bool)
            & (querier >= 0)[:, :, None]
        )
        return np.where(equal.any(-1), -1, rows)
