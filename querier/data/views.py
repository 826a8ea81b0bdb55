"""Views of a history: two halves that share nothing, so that only what is true of the querier can match them.

With overlapping views the shared items solve the contrastive task: histories of pure noise then tell queriers apart
perfectly. In each batch every querier's scenes are therefore split in two by a seeded draw. View 1 of all his dialogues
draws from the first half, view 2 from the second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from querier.data.records import Corpus


def scene_places(corpus: Corpus) -> np.ndarray:
    """For each dialogue the place of its scene among its querier's scenes in time order, (N,) int64."""
    order = np.lexsort((np.arange(len(corpus)), corpus.time, corpus.querier))
    querier = np.asarray(corpus.querier, dtype=np.int64)[order]
    pair = querier * (int(np.max(corpus.scene, initial=0)) + 1) + np.asarray(corpus.scene, dtype=np.int64)[order]
    _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
    by_first = np.argsort(first)  # scenes, querier by querier, in order of their first dialogue
    owner = querier[first[by_first]]
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    place_of = np.empty(len(first), dtype=np.int64)
    place_of[by_first] = np.arange(len(owner)) - np.repeat(starts, np.diff(starts, append=len(owner)))
    places = np.empty(len(corpus), dtype=np.int64)
    places[order] = place_of[inverse]
    return places


def history_halves(key: tuple[int, ...], querier: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Which half each item falls to: all items of a scene to the same one.

    Scenes that follow each other in time are drawn in pairs, one to each half, so that the halves of any stretch of a
    history differ by at most one scene at each end.

    Args:
        key: Seed, epoch and index of the batch.
        querier: Querier of each item, any shape.
        place: Place of its scene among the querier's scenes, the same shape.

    Returns:
        0 or 1, the same shape.
    """
    half: np.ndarray = (coins(key, querier, place // 2) + place) % 2
    return half


def neighbour_halves(key: tuple[int, ...], scene: np.ndarray) -> np.ndarray:
    """Which half of the pool each item falls to, by its scene; 0 or 1 in the same shape."""
    return coins((*key, 1), scene, np.zeros_like(scene))


def coins(key: tuple[int, ...], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A fair coin for each pair of numbers, the same for the same key and pair, 0 or 1 in their shape."""
    state = np.zeros(np.shape(first), dtype=np.uint64)
    for part in (*key, first, second):
        state = _mix(state ^ np.asarray(part, dtype=np.int64).astype(np.uint64))
    return (state >> np.uint64(63)).astype(np.int64)


def _mix(state: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: every bit of the input changes half of the output's bits."""
    with np.errstate(over="ignore"):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: np.ndarray = state ^ (state >> np.uint64(31))
        return mixed


def draw_views(usable: np.ndarray, half: np.ndarray, draws: np.ndarray, second_view: bool = True) -> np.ndarray:
    """Two drawn subsets of each row's items.

    Args:
        usable: True where an item may be read by a view, (B, H) bool.
        half: Half of each item, 0 or 1, (B, H).
        draws: Uniform in [0, 1), (2, B, 1 + H).
        second_view: False gives both views the same subset of all items (the ablation).

    Returns:
        Masks, (2, B, H) bool; a view is empty only if its half is.
    """
    if not second_view:
        return np.stack([draw_subset(usable, draws[0])] * 2)
    return np.stack([draw_subset(usable & (half == view), draws[view]) for view in (0, 1)])


def draw_subset(usable: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """At least half of the usable items, how many and which by chance.

    Args:
        usable: (..., H) bool.
        draws: Uniform in [0, 1), (..., 1 + H).
    """
    count = usable.sum(-1)
    least = (count + 1) // 2
    return choose(usable, least + (draws[..., 0] * (count - least + 1)).astype(np.int64), draws[..., 1:])


def choose(usable: np.ndarray, count: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """A random subset of `count` usable items, all of them where there are fewer.

    Args:
        usable: (..., H) bool.
        count: (...) int64.
        draws: Uniform in [0, 1), (..., H).
    """
    order = np.argsort(np.argsort(np.where(usable, draws, 2.0), axis=-1), axis=-1)
    return usable & (order < count[..., None])


def drop_history(rows: np.ndarray, share: float, draws: np.ndarray) -> np.ndarray:
    """History dropout: on a share of the rows only n items by chance, n uniform in {0 … all}, order kept.

    Args:
        rows: Histories, −1 pads, (B, H).
        share: Share of the rows that drop anything.
        draws: Uniform in [0, 1), (B, 2 + H).
    """
    stands = rows >= 0
    some = (draws[:, 1] * (stands.sum(1) + 1)).astype(np.int64)
    count = np.where(draws[:, 0] < share, some, rows.shape[1])
    return compact(np.where(choose(stands, count, draws[:, 2:]), rows, -1))


def compact(rows: np.ndarray) -> np.ndarray:
    """The same rows with every −1 behind the others, whose order stays, (..., H)."""
    return np.take_along_axis(rows, np.argsort(rows < 0, axis=-1, kind="stable"), axis=-1)


def pad_rows(lists: Sequence[np.ndarray], width: int | None = None) -> np.ndarray:
    """Lists of rows side by side with −1 pads, (B, longest, at least 1) int64, or (B, width)."""
    longest = max([1, *(len(rows) for rows in lists)]) if width is None else width
    padded = np.full((len(lists), longest), -1, dtype=np.int64)
    for place, rows in enumerate(lists):
        padded[place, : len(rows)] = rows[:longest]
    return padded
