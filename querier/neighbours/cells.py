"""k-means of many small groups at once: the cells of replies that contrast users are taken from.

Groups of similar size are padded to one array, so that a million replies in ten thousand groups need some hundred
matrix products for each round instead of ten thousand calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ROUNDS = 100  # far more than groups of 256 need; all of them stop when no label changes
BATCH = 8192  # entries of the groups that are worked on together


@dataclass
class Cells:
    """Cells of the groups of one batch, the largest first.

    Args:
        labels: Cell of each entry, (G, n) int64, −1 for padding.
        centres: (G, C, E) float32; those of empty cells are of no meaning.
        sizes: Entries of each cell, (G, C) int64, falling.
    """

    labels: np.ndarray
    centres: np.ndarray
    sizes: np.ndarray


def batches(sizes: np.ndarray) -> Iterator[np.ndarray]:
    """Groups that are worked on together: of similar size, about 8192 entries with the padding."""
    order = np.argsort(sizes, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * sizes[order[stop]] <= BATCH:
            stop += 1
        yield order[start:stop]
        start = stop


def fit_cells(vectors: np.ndarray, mask: np.ndarray, count: int, draws: np.ndarray) -> Cells:
    """Lloyd's k-means in each group, until no label changes.

    Args:
        vectors: Replies, (G, n, E) float32, 0 at padding.
        mask: True where an entry stands, (G, n) bool.
        count: Cells of a group; a group with fewer distinct entries gets fewer that are not empty.
        draws: Uniform numbers that the first centres are drawn with (k-means++), (G, count) float64.
    """
    norms = np.einsum("gne,gne->gn", vectors, vectors)
    centres, used = _first_centres(vectors, norms, mask, draws)
    labels = np.full(mask.shape, -1, dtype=np.int64)
    for _ in range(ROUNDS):
        found = _distances(vectors, norms, centres, used).argmin(-1)
        found[~mask] = -1
        if np.array_equal(found, labels):
            break
        labels = found
        members = (labels[:, :, None] == np.arange(count)).astype(np.float32)  # (G, n, C)
        sizes = members.sum(1)
        sums = members.transpose(0, 2, 1) @ vectors
        filled = sizes > 0
        centres = np.where(filled[..., None], sums / np.maximum(sizes, 1)[..., None], centres)
    return _largest_first(labels, centres, count)


def distance_to_centre(vectors: np.ndarray, cells: Cells) -> np.ndarray:
    """Euclidean distance of each entry to the centre of its cell, (G, n) float32, 0 for padding."""
    own = np.take_along_axis(cells.centres, np.maximum(cells.labels, 0)[..., None], axis=1)
    away = np.linalg.norm(vectors - own, axis=-1)
    return np.where(cells.labels >= 0, away, 0.0).astype(np.float32)


def _first_centres(
    vectors: np.ndarray, norms: np.ndarray, mask: np.ndarray, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Centres (G, C, E) drawn in proportion to the squared distance from those before, and which of them are used."""
    groups, count = draws.shape
    centres = np.zeros((groups, count, vectors.shape[-1]), dtype=np.float32)
    used = np.zeros((groups, count), dtype=bool)
    weight = mask.astype(np.float64)
    every = np.arange(groups)
    for c in range(count):
        total = weight.cumsum(1)
        place = (total <= draws[:, c : c + 1] * total[:, -1:]).sum(1)
        place = np.minimum(place, mask.shape[1] - 1)
        # Entries that equal a centre have weight 0 but for rounding; a group of none but such has no more cells.
        used[:, c] = weight[every, place] > 1e-6
        centres[:, c] = vectors[every, place]
        away = norms - 2 * np.einsum("gne,ge->gn", vectors, centres[:, c]) + norms[every, place][:, None]
        away = np.where(away > 1e-5, away, 0.0) * mask
        weight = np.where(used[:, c : c + 1], away if c == 0 else np.minimum(weight, away), weight)
    return centres, used


def _distances(vectors: np.ndarray, norms: np.ndarray, centres: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Squared distances (G, n, C), infinite for centres that are not used."""
    square = np.einsum("gce,gce->gc", centres, centres)
    away = norms[..., None] - 2 * (vectors @ centres.transpose(0, 2, 1)) + square[:, None]
    return np.where(used[:, None], away, np.inf)


def _largest_first(labels: np.ndarray, centres: np.ndarray, count: int) -> Cells:
    sizes = (labels[:, :, None] == np.arange(count)).sum(1)
    order = np.argsort(-sizes, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable")
    renamed = np.where(labels >= 0, np.take_along_axis(place, np.maximum(labels, 0), axis=1), -1)
    return Cells(
        renamed,
        np.take_along_axis(centres, order[..., None], axis=1),
        np.take_along_axis(sizes, order, axis=1),
    )
