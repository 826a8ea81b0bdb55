"""Contrast users: other queriers of the pool who stand for the different ways of acting in the same situation.

One k-means for each comparison group gives cells of replies; every anchor then drops their own cell and takes, from
each other cell, the admissible entry nearest its centre. The reply of a dialogue outside the pool is never read: only
replies of pool rows are asked for.

References:
    Measuring What Makes You Unique: Difference-Aware User Modeling for Enhancing LLM Personalization (DPL).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no type hints

from querier.choices import Contrast
from querier.config import ContrastConfig
from querier.neighbours.cells import Cells, batches, distance_to_centre, fit_cells
from querier.neighbours.groups import make_groups
from querier.neighbours.index import first_true
from querier.neighbours.random_users import random_users
from querier.neighbours.style import Styles, fit_styles

PAIRS = 2**20  # anchor × entry pairs that are looked at together

Gather = Callable[[np.ndarray], np.ndarray]  # rows -> vectors (n, E)
Progress = Callable[[str, int, int], None]


@dataclass
class Rows:
    """Columns of all dialogues, each (N,).

    Args:
        querier: Who asks.
        time: When.
        scene: Indivisible group.
        item: What it is about, −1 for nothing.
        cluster: Of the query.
        in_pool: Whether it belongs to the training split.
        reply: Equal for equal replies.
    """

    querier: np.ndarray
    time: np.ndarray
    scene: np.ndarray
    item: np.ndarray
    cluster: np.ndarray
    in_pool: np.ndarray
    reply: np.ndarray


@dataclass
class ContrastUsers:
    """The choice, and the cells that it was taken from.

    Args:
        rows: Pool rows by slot, nearest the centre of the cell first, −1 pads, (N, K, nearest) int64. For dialogues
            outside the pool only [..., 0] is set. Slot k is cell k, or k + 1 from the anchor's own cell on.
        group: Comparison group, −1 for none, (N,) int64.
        cell: Cell of a pool row's reply in its group, the largest is 0, −1 outside the pool, (N,) int64.
        own_cell: The cell that was left out, −1 where none was known, (N,) int64.
        distance: From a pool row's reply to the centre of its cell, (N,) float32.
        notes: What was counted, for the user.
    """

    rows: np.ndarray
    group: np.ndarray
    cell: np.ndarray
    own_cell: np.ndarray
    distance: np.ndarray
    notes: list[str] = field(default_factory=list)


@dataclass
class _Batch:
    """Groups that are worked on together, padded.

    Args:
        numbers: Of the groups, (G,).
        entries: Their pool rows in ascending order of querier, time and row; 0 for padding, (G, n).
        mask: (G, n) bool.
        replies: (G, n, E) float32.
        cells: Fitted on the replies.
        by_distance: Places of the entries, the nearest to the centre of their cells first, (G, n).
    """

    numbers: np.ndarray
    entries: np.ndarray
    mask: np.ndarray
    replies: np.ndarray
    cells: Cells
    by_distance: np.ndarray


def no_contrast_users(n: int, config: ContrastConfig) -> ContrastUsers:
    """Nobody for n dialogues, as with `contrast.source=none`."""
    nobody = np.full((n, config.k, config.nearest), -1, dtype=np.int64)
    none = np.full(n, -1, dtype=np.int64)
    return ContrastUsers(nobody, none, none.copy(), none.copy(), np.zeros(n, dtype=np.float32))


def find_contrast_users(
    rows: Rows,
    queries: Gather,
    replies: Gather,
    config: ContrastConfig,
    rng: np.random.Generator,
    progress: Progress | None = None,
) -> ContrastUsers:
    """Choose the contrast users of every dialogue.

    Args:
        rows: The dialogues' columns.
        queries: Gives the query vectors of rows.
        replies: Gives the reply vectors of rows; asked for rows of the pool alone.
        config: Source, K, entries kept of each cell, limit of false negatives.
        rng: Draws the first centres of the k-means and the halves of histories.
        progress: Called with what was done.
    """
    users = no_contrast_users(len(rows.querier), config)
    pool = np.flatnonzero(rows.in_pool)
    if config.source is Contrast.none or len(pool) == 0:
        return users
    if config.source is Contrast.random:
        users.rows = random_users(rows.querier, rows.time, rows.scene, rows.in_pool, config, rng)
        return users
    users.group = make_groups(rows.item, rows.cluster, rows.in_pool, queries)
    styles = fit_styles(rows.querier, rows.cluster, pool, replies, rng)
    search = _Search(rows, users, styles, config)
    # The products are small: several threads would wait for one another longer than they compute.
    with threadpool_limits(limits=1, user_api="blas"):
        search.run(replies, rng, progress)
    users.notes = search.notes()
    return users


class _Search:
    """The choice group by group."""

    def __init__(self, rows: Rows, users: ContrastUsers, styles: Styles, config: ContrastConfig) -> None:
        self.rows, self.users, self.styles, self.config = rows, users, styles, config
        self.limit = styles.limit(config.false_negative)
        self.admissible = self.dropped = 0

    def run(self, replies: Gather, rng: np.random.Generator, progress: Progress | None) -> None:
        rows, group = self.rows, self.users.group
        count = int(group.max(initial=-1)) + 1
        order = np.lexsort((np.arange(len(group)), rows.time, rows.querier, group))
        entries = order[rows.in_pool[order]]
        anchors = np.argsort(group, kind="stable")
        every = np.arange(count + 1)
        entry_start = np.searchsorted(group[entries], every)
        anchor_start = np.searchsorted(group[anchors], every)
        draws = rng.random((count, self.config.k + 1))
        done = 0
        for numbers in batches(np.diff(entry_start)):
            batch = self._cells(numbers, entries, entry_start, replies, draws)
            for chunk, place in _anchor_chunks(batch, anchors, anchor_start):
                self._choose(batch, chunk, place)
            done += int(np.diff(entry_start)[numbers].sum())
            if progress is not None:
                progress("contrast users", done, len(entries))

    def notes(self) -> list[str]:
        """The share of false negatives, and for how many dialogues somebody was found."""
        share = self.dropped / self.admissible if self.admissible else 0.0
        found = (self.users.rows[self.rows.in_pool, :, 0] >= 0).any(axis=1)
        groups = int(self.users.group.max(initial=-1)) + 1
        return [
            f"{found.mean():.0%} of the training dialogues have a contrast user, in {groups} comparison groups",
            f"{share:.1%} of the admissible contrast users were dropped as false negatives "
            f"(answered in the style of the anchor)",
        ]

    def _cells(
        self, numbers: np.ndarray, entries: np.ndarray, start: np.ndarray, replies: Gather, draws: np.ndarray
    ) -> _Batch:
        sizes = start[numbers + 1] - start[numbers]
        column = np.arange(sizes.max())
        mask = column < sizes[:, None]
        padded = np.where(mask, entries[np.minimum(start[numbers][:, None] + column, len(entries) - 1)], 0)
        present = replies(padded[mask]).astype(np.float32)
        vectors = np.zeros((*mask.shape, present.shape[1]), dtype=np.float32)
        vectors[mask] = present
        cells = fit_cells(vectors, mask, self.config.k + 1, draws[numbers])
        distance = distance_to_centre(vectors, cells)
        self.users.cell[padded[mask]] = cells.labels[mask]
        self.users.distance[padded[mask]] = distance[mask]
        by_distance = np.argsort(np.where(mask, distance, np.inf), axis=1, kind="stable")
        return _Batch(numbers, padded, mask, vectors, cells, by_distance)

    def _choose(self, batch: _Batch, anchors: np.ndarray, place: np.ndarray) -> None:
        """Choose for anchors (m,) that belong to the groups at `place` (m,) of the batch."""
        rows, config = self.rows, self.config
        entries = batch.entries[place]  # (m, n)
        same = rows.querier[entries] == rows.querier[anchors][:, None]
        earlier = (
            batch.mask[place]
            & (rows.time[entries] < rows.time[anchors][:, None])
            & (rows.scene[entries] != rows.scene[anchors][:, None])
        )
        own = self._own_cells(batch, anchors, place, earlier & same)
        self.users.own_cell[anchors] = own
        allowed = _latest(earlier & ~same, rows.querier[batch.entries], place)
        alike = allowed & self._alike(batch, anchors, place)
        in_pool = rows.in_pool[anchors]
        self.admissible += int(allowed[in_pool].sum())
        self.dropped += int(alike[in_pool].sum())
        order = batch.by_distance[place]
        kept = np.take_along_axis(allowed & ~alike, order, axis=1)
        sorted_entries = np.take_along_axis(entries, order, axis=1)
        labels = np.take_along_axis(batch.cells.labels[place], order, axis=1)
        left_out = np.where(own < 0, config.k, own)  # with no known cell the smallest of K + 1 is left out
        for slot in range(config.k):
            cell = slot + (slot >= left_out)
            chosen = first_true(kept & (labels == cell[:, None]), config.nearest, sorted_entries)
            chosen[~in_pool, 1:] = -1
            self.users.rows[anchors, slot] = chosen

    def _own_cells(self, batch: _Batch, anchors: np.ndarray, place: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The anchors' own cells, −1 where none is known, (m,).

        In the pool it is the cell of the reply itself, elsewhere that of the mean of the earlier own replies in the
        group.
        """
        cells = np.where(self.rows.in_pool[anchors], self.users.cell[anchors], -1)
        asking = np.flatnonzero(~self.rows.in_pool[anchors] & own.any(1))
        for part, group in _by_group(place[asking]):
            chosen = asking[part]
            weights = own[chosen].astype(np.float32)
            mean = weights @ batch.replies[group] / weights.sum(1, keepdims=True)
            centres = batch.cells.centres[group]
            away = (centres**2).sum(1) - 2 * mean @ centres.T
            cells[chosen] = np.where(batch.cells.sizes[group] > 0, away, np.inf).argmin(1)
        return cells

    def _alike(self, batch: _Batch, anchors: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Entries whose querier is answered like the anchor's, (m, n) bool."""
        querier = self.rows.querier
        limit = self.limit[querier[anchors]]
        alike = np.zeros((len(anchors), batch.entries.shape[1]), dtype=bool)
        known = np.flatnonzero(np.isfinite(limit))
        for part, group in _by_group(place[known]):
            chosen = known[part]
            theirs = self.styles.vectors[querier[batch.entries[group]]]
            alike[chosen] = self.styles.vectors[querier[anchors[chosen]]] @ theirs.T > limit[chosen][:, None]
        unknown = np.flatnonzero(~np.isfinite(limit) & self.rows.in_pool[anchors])
        reply = self.rows.reply
        alike[unknown] = reply[batch.entries[place[unknown]]] == reply[anchors[unknown]][:, None]
        return alike


def _latest(allowed: np.ndarray, querier: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Of each querier's allowed entries the latest alone.

    Args:
        allowed: (m, n) bool.
        querier: Of the entries, which lie in ascending order of querier and time, (G, n).
        place: Group of each row of `allowed`, (m,).
    """
    n = querier.shape[1]
    # Past the last entry of each entry's querier.
    change = np.concatenate([querier[:, 1:] != querier[:, :-1], np.ones((len(querier), 1), dtype=bool)], axis=1)
    ends = np.where(change, np.arange(1, n + 1), n)
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    before = np.zeros((len(allowed), n + 1), dtype=np.int32)
    np.cumsum(allowed, axis=1, out=before[:, 1:])
    return np.asarray(allowed & (np.take_along_axis(before, ends[place], axis=1) == before[:, 1:]))


def _anchor_chunks(batch: _Batch, anchors: np.ndarray, start: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Anchors (m,) of the batch's groups with the place of their group, so many that pairs fit."""
    counts = start[batch.numbers + 1] - start[batch.numbers]
    place = np.repeat(np.arange(len(counts)), counts)
    offset = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = anchors[np.repeat(start[batch.numbers], counts) + offset]
    step = max(1, PAIRS // batch.entries.shape[1])
    for first in range(0, len(rows), step):
        yield rows[first : first + step], place[first : first + step]


def _by_group(place: np.ndarray) -> Iterator[tuple[slice, int]]:
    """Runs of equal values of `place`, which is in ascending order."""
    if len(place) == 0:
        return
    starts = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
    for first, last in zip(starts, np.r_[starts[1:], len(place)], strict=True):
        yield slice(int(first), int(last)), int(place[first])
