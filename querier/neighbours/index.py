"""Nearest pool dialogues: of another querier, strictly earlier, of another scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from querier.neighbours.clusters import unit

EXACT_BELOW = 200_000  # rows up to which the index compares with all of them
PROBED = 16  # cells of the inverted file that are searched
OVERFETCH = (4, 32)  # how many times k is fetched, first and then for rows that are not full
STEP = 4096  # queries per search
COMPARED = 2**25  # cosines that an exact search among the earlier rows holds at a time
BLOCK = 2**16  # earlier rows whose vectors it holds at a time

Progress = Callable[[str, int, int], None]


class PoolIndex:
    """An index of the pool's queries.

    Args:
        vectors: Queries of the pool, (M, E), any float type.
        querier: Who asked, (M,).
        time: When, (M,).
        scene: Scene of each, (M,).
        exact_below: Rows up to which a search compares with all of them, by default `EXACT_BELOW`; beyond, an inverted
            file is searched, which may miss some.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        querier: np.ndarray,
        time: np.ndarray,
        scene: np.ndarray,
        exact_below: int | None = None,
    ) -> None:
        self.vectors = vectors
        self.exact_below = EXACT_BELOW if exact_below is None else exact_below
        self.querier, self.time, self.scene = querier, time, scene
        self._by_time = np.argsort(time, kind="stable")
        self._times = time[self._by_time]
        self._index: Any = None

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest(
        self,
        queries: np.ndarray,
        k: int,
        querier: np.ndarray,
        before: np.ndarray | None = None,
        scene: np.ndarray | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Places in the pool of the `k` nearest admissible queries, nearest first, −1 where there are no more, (n, k).

        Args:
            queries: (n, E).
            k: How many.
            querier: Whose own rows are left out, (n,); −1 leaves none out.
            before: Only what is strictly earlier, (n,); None for any time.
            scene: The scene that is left out, (n,); None for none.
            progress: Called with what was done.
        """
        found = np.full((len(queries), k), -1, dtype=np.int64)
        if k == 0 or len(self) == 0:
            return found
        limits = self._limits(len(queries), before)
        for start in range(0, len(queries), STEP):
            rows = np.arange(start, min(start + STEP, len(queries)))
            left = rows[limits[rows] > 0]
            for factor in OVERFETCH:
                fetch = min(k * factor, len(self))
                # A search among few earlier rows is cheaper done exactly, below.
                searched = left[limits[left] > fetch] if fetch < len(self) else left
                if len(searched):
                    places = self._search(queries[searched], fetch)
                    kept = self._first(places, k, searched, querier, before, scene)
                    found[searched] = kept
                    full = (kept >= 0).all(1) if fetch < len(self) else np.ones(len(searched), dtype=bool)
                    left = np.setdiff1d(left, searched[full])
            self._exact(left, found, limits, queries, querier, before, scene)
            if progress is not None:
                progress("neighbours", int(rows[-1]) + 1, len(queries))
        return found

    def _limits(self, n: int, before: np.ndarray | None) -> np.ndarray:
        """How many pool rows are early enough, (n,)."""
        if before is None:
            return np.full(n, len(self))
        return np.searchsorted(self._times, before, side="left")

    def _search(self, queries: np.ndarray, fetch: int) -> np.ndarray:
        if self._index is None:
            self._index = self._build()
        places: np.ndarray = self._index.search(unit(queries), fetch)[1]
        return places

    def _build(self) -> Any:
        size = self.vectors.shape[1]
        if len(self) <= self.exact_below:
            index: Any = faiss.IndexFlatIP(size)
        else:
            cells = round(np.sqrt(len(self)))
            quantizer = faiss.IndexFlatIP(size)
            index = faiss.IndexIVFScalarQuantizer(
                quantizer, size, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
            )
            step = max(1, len(self) // (64 * cells))
            index.train(unit(self.vectors[::step]))
            index.nprobe = min(PROBED, cells)
        for start in range(0, len(self), 65_536):
            index.add(unit(self.vectors[start : start + 65_536]))
        return index

    def _first(
        self,
        places: np.ndarray,
        k: int,
        rows: np.ndarray,
        querier: np.ndarray,
        before: np.ndarray | None,
        scene: np.ndarray | None,
    ) -> np.ndarray:
        """The first k admissible of the places (n, m) that were found for `rows`, (n, k)."""
        allowed = (places >= 0) & (self.querier[places] != querier[rows][:, None])
        if before is not None:
            allowed &= self.time[places] < before[rows][:, None]
        if scene is not None:
            allowed &= self.scene[places] != scene[rows][:, None]
        return first_true(allowed, k, places)

    def _exact(
        self,
        rows: np.ndarray,
        found: np.ndarray,
        limits: np.ndarray,
        queries: np.ndarray,
        querier: np.ndarray,
        before: np.ndarray | None,
        scene: np.ndarray | None,
    ) -> None:
        """Fill `found` for `rows` by comparing them with every earlier row; those with few of them come first."""
        rows = rows[np.argsort(limits[rows], kind="stable")]
        while len(rows):
            limit = min(BLOCK, int(limits[rows[min(255, len(rows) - 1)]]))
            part = rows[: max(1, COMPARED // limit)][:256]
            rows = rows[len(part) :]
            earlier = self._by_time[: limits[part].max()]
            asked = unit(queries[part])
            best, chosen = np.zeros((len(part), 0), dtype=np.float32), np.zeros((len(part), 0), dtype=np.int64)
            for start in range(0, len(earlier), BLOCK):
                block = earlier[start : start + BLOCK]
                cosine = asked @ unit(self.vectors[block]).T
                blocked = self.querier[block][None] == querier[part][:, None]
                if before is not None:
                    blocked |= self.time[block][None] >= before[part][:, None]
                if scene is not None:
                    blocked |= self.scene[block][None] == scene[part][:, None]
                cosine[blocked] = -np.inf
                top, places = _best(cosine, found.shape[1])
                best, order = _best(np.concatenate([best, top], axis=1), found.shape[1])
                chosen = np.take_along_axis(np.concatenate([chosen, block[places]], axis=1), order, axis=1)
            chosen[np.isinf(best)] = -1
            found[part, : chosen.shape[1]] = chosen


def _best(cosine: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k highest of each row (n, m), highest first, ties by place, and their places; fewer where m is less."""
    k = min(k, cosine.shape[1])
    order = np.sort(np.argpartition(-cosine, k - 1, axis=1)[:, :k], axis=1)
    best = np.take_along_axis(cosine, order, axis=1)
    inner = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(best, inner, axis=1), np.take_along_axis(order, inner, axis=1)


def first_true(allowed: np.ndarray, k: int, values: np.ndarray) -> np.ndarray:
    """In each row the values at the first `k` true places, −1 where there are fewer.

    Args:
        allowed: (n, m) bool.
        k: How many.
        values: (n, m) or (m,).
    """
    rank = np.cumsum(allowed, axis=1)
    row, column = np.nonzero(allowed & (rank <= k))
    out = np.full((len(allowed), k), -1, dtype=np.int64)
    out[row, rank[row, column] - 1] = values[column] if values.ndim == 1 else values[row, column]
    return out
