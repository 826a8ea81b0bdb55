"""Comparison groups: dialogues about the same thing, small enough that everybody in one was in the same situation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from querier.neighbours.clusters import unit

LARGEST = 256  # entries of a group; a larger one is split
SMALLEST = 32  # entries of a part of a split group
SAMPLED = 4096  # entries of a very large group that the direction of a cut is found on
ROUNDS = 10  # of the two-means that finds it

Gather = Callable[[np.ndarray], np.ndarray]  # rows -> vectors (n, E)


def make_groups(item: np.ndarray, cluster: np.ndarray, in_pool: np.ndarray, queries: Gather) -> np.ndarray:
    """Group of each dialogue, (N,) int64, −1 where no pool dialogue is about the same.

    A group is an item where one is given, else a cluster. Groups with more than 256 pool entries are split by query
    vector into parts of 32 to 256; a dialogue outside the pool joins the part whose mean query is nearest to its own.

    Args:
        item: −1 where there is none, (N,).
        cluster: (N,).
        in_pool: (N,) bool.
        queries: Gives the query vectors of rows.
    """
    base = np.where(item >= 0, item.astype(np.int64) + int(cluster.max(initial=0)) + 1, cluster)
    _, base = np.unique(base, return_inverse=True)
    group = np.full(len(base), -1, dtype=np.int64)
    inside = _parts(base, np.flatnonzero(in_pool))
    outside = _parts(base, np.flatnonzero(~in_pool))
    number = 0
    for key, rows in inside.items():
        others = outside.get(key)
        if len(rows) <= LARGEST:
            group[rows] = number
            if others is not None:
                group[others] = number
            number += 1
            continue
        vectors = unit(queries(rows))
        parts = split(vectors)
        means = np.stack([vectors[part].mean(0) for part in parts])
        for offset, part in enumerate(parts):
            group[rows[part]] = number + offset
        if others is not None:
            group[others] = number + nearest_part(unit(queries(others)), means)
        number += len(parts)
    return group


def split(vectors: np.ndarray) -> list[np.ndarray]:
    """Cut rows in two along the line between two means, again and again, until no part has more than 256.

    Args:
        vectors: (n, E) float32.

    Returns:
        Places of each part, which has 32 to 256 of them if n > 256.
    """
    done, open_ = [], [np.arange(len(vectors))]
    while open_:
        part = open_.pop()
        if len(part) <= LARGEST:
            done.append(part)
            continue
        own = vectors[part]
        direction, middle = _line(own)
        along = own @ direction
        order = np.argsort(along, kind="stable")
        # Where the two means meet, but no further out than a quarter: every part stays above the smallest size.
        quarter = max(SMALLEST, len(part) // 4)
        cut = int(np.clip(np.searchsorted(along[order], middle), quarter, len(part) - quarter))
        open_ += [np.sort(part[order[cut:]]), np.sort(part[order[:cut]])]
    return done


def nearest_part(vectors: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Place of the mean (m, E) nearest to each vector (n, E), (n,)."""
    scores = vectors @ means.T - 0.5 * (means**2).sum(1)
    return np.asarray(scores.argmax(1))


def _line(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """The line through the two means of `vectors` (n, E), and where on it their border lies."""
    sample = vectors[:: max(1, len(vectors) // SAMPLED)]
    far = ((sample - sample.mean(0)) ** 2).sum(1).argmax()
    other = ((sample - sample[far]) ** 2).sum(1).argmax()
    one, two = sample[far], sample[other]
    for _ in range(ROUNDS):
        side = sample @ (two - one) > _border(one, two)
        if side.all() or not side.any():
            break
        one, two = sample[~side].mean(0), sample[side].mean(0)
    return two - one, _border(one, two)


def _border(one: np.ndarray, two: np.ndarray) -> float:
    return 0.5 * float((two**2).sum() - (one**2).sum())


def _parts(base: np.ndarray, rows: np.ndarray) -> dict[int, np.ndarray]:
    """Rows by their base, each in ascending order."""
    if len(rows) == 0:
        return {}
    order = rows[np.argsort(base[rows], kind="stable")]
    keys, starts = np.unique(base[order], return_index=True)
    return dict(zip(keys.tolist(), np.split(order, starts[1:]), strict=True))
