"""How somebody is answered, whatever they ask: style vectors, and contrast users who are answered alike.

A contrast user whose style is as near to the anchor's as one half of the anchor's own history is to the other is no
contrast, but a false negative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]  # it has no type hints

FEWEST = 4  # pool replies of a querier below which their style is not known
DRAWS = 8  # random halves whose median cosine is taken
CHUNK = 65_536  # replies that are held in float32 at a time

Gather = Callable[[np.ndarray], np.ndarray]  # rows -> vectors (n, E)


@dataclass
class Styles:
    """Styles of Q queriers.

    Args:
        vectors: Unit vectors, 0 where a querier has no pool reply, (Q, E) float32.
        agreement: Median cosine between the styles of two random halves of a querier's pool replies, NaN for queriers
            with fewer than 4, (Q,) float32.
    """

    vectors: np.ndarray
    agreement: np.ndarray

    def limit(self, factor: float) -> np.ndarray:
        """Cosine above which another querier's style is the same as one's own; ∞ where it cannot be told, (Q,)."""
        known = np.nan_to_num(self.agreement, nan=0.0) > 0
        return np.where(known, factor * np.nan_to_num(self.agreement), np.inf)


def fit_styles(
    querier: np.ndarray, cluster: np.ndarray, rows: np.ndarray, replies: Gather, rng: np.random.Generator
) -> Styles:
    """Mean of a querier's pool replies less the mean reply of each query's cluster.

    Args:
        querier: Of every dialogue, (N,).
        cluster: Of every dialogue, (N,).
        rows: The pool.
        replies: Gives the reply vectors of rows; asked for rows of the pool alone.
        rng: Draws the halves.
    """
    count = int(querier.max(initial=-1)) + 1
    rows = rows[np.argsort(querier[rows], kind="stable")]
    means = _cluster_means(cluster, rows, replies)
    starts = np.searchsorted(querier[rows], np.arange(count + 1))
    vectors = np.zeros((count, means.shape[1]), dtype=np.float32)
    agreement = np.full(count, np.nan, dtype=np.float32)
    first = 0
    while first < count:
        # As many whole queriers as a chunk holds, at least one.
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + CHUNK, side="right")) - 1)
        part = rows[starts[first] : starts[last]]
        if len(part):
            residual = replies(part).astype(np.float32) - means[cluster[part]]
            owner = querier[part] - first
            vectors[first:last] = _sums(residual, owner, last - first)
            agreement[first:last] = _agreement(residual, owner, vectors[first:last], rng)
        first = last
    return Styles(_unit(vectors), agreement)


def _cluster_means(cluster: np.ndarray, rows: np.ndarray, replies: Gather) -> np.ndarray:
    count = int(cluster.max(initial=-1)) + 1
    sums: np.ndarray | None = None
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        added = _sums(replies(part).astype(np.float32), cluster[part], count)
        sums = added if sums is None else sums + added
    if sums is None:
        return np.zeros((count, 0), dtype=np.float32)
    return np.asarray(sums / np.maximum(np.bincount(cluster[rows], minlength=count), 1)[:, None], dtype=np.float32)


def _sums(vectors: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """Sums of vectors (n, E) by their owner (n,), (count, E)."""
    one = np.ones(len(owner), dtype=np.float32)
    return np.asarray(csr_matrix((one, (owner, np.arange(len(owner)))), shape=(count, len(owner))) @ vectors)


def _agreement(residual: np.ndarray, owner: np.ndarray, sums: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    count = len(sums)
    items = np.bincount(owner, minlength=count)
    starts = np.r_[0, np.cumsum(items)[:-1]]
    drawn = np.zeros((DRAWS, count), dtype=np.float32)
    for draw in range(DRAWS):
        order = np.lexsort((rng.random(len(owner)), owner))
        rank = np.empty(len(owner), dtype=np.int64)
        rank[order] = np.arange(len(owner)) - starts[owner]
        chosen = np.flatnonzero(rank < items[owner] // 2)
        half = _sums(residual[chosen], owner[chosen], count)
        drawn[draw] = (_unit(half) * _unit(sums - half)).sum(1)
    return np.where(items >= FEWEST, np.median(drawn, axis=0), np.nan).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0), dtype=np.float32)
