"""The order of training: clusters × queriers × dialogues, each dialogue exactly once an epoch.

The order depends on the preparation (its clusters, contrast users and neighbours), the seed and the epoch, never on the
method otherwise: methods that share a preparation see the same batches. `qar` has clusters of its own, and so has an
ablation of clusters or contrast users, so that what it differs by is in part the order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from querier.choices import Order
from querier.config import Config
from querier.data.preparation import Prepared
from querier.types import Split

ORDER = 101  # marks the draws of the order
LOOKED_AT = 256  # batches without that query that are looked at besides
TRIES = 32  # other batches looked at to part two equal queries of one querier


class BatchOrder:
    """Orders the training rows of an epoch into batches.

    Args:
        prepared: Clusters, contrast users and nearest queries of the pool.
        config: Reads `loader` and `seed`.
    """

    def __init__(self, prepared: Prepared, config: Config) -> None:
        self.loader = config.loader
        self.seed = config.seed
        corpus = prepared.corpus
        self.rows = np.asarray(corpus.rows_in(Split.TRAIN), dtype=np.int64)
        self.querier = np.asarray(corpus.querier, dtype=np.int64)
        self.scene = np.asarray(corpus.scene, dtype=np.int64)
        self.text = np.asarray(prepared.query_row, dtype=np.int64)
        self.cluster = np.asarray(prepared.cluster, dtype=np.int64)
        self.contrast = prepared.contrast
        self.near = prepared.near

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.rows) // self.loader.batch_size)

    def sizes(self) -> list[int]:
        """Rows of each batch of an epoch."""
        whole, rest = divmod(len(self.rows), self.loader.batch_size)
        return [self.loader.batch_size] * whole + [rest] * (rest > 0)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The rows of each batch of the epoch, the last one perhaps short; the same for the same seed and epoch."""
        generator = np.random.default_rng([self.seed, epoch, ORDER])
        if self.loader.order is Order.random:
            ordered = generator.permutation(self.rows)
        else:
            ordered = self._clustered(generator)
        size = self.loader.batch_size
        batches = [ordered[start : start + size].copy() for start in range(0, len(ordered), size)]
        self._part_equal_queries(batches, generator)
        return batches

    def _clustered(self, generator: np.random.Generator) -> np.ndarray:
        """All rows, `per_cluster` of one cluster after the other, the clusters in random order."""
        size = self.loader.per_cluster
        blocks: list[np.ndarray] = []
        rests: list[np.ndarray] = []
        for rows in self._by_cluster(generator):
            whole = len(rows) // size * size
            blocks.extend(rows[:whole].reshape(-1, size))
            rests.append(rows[whole:])
        rest = np.concatenate([rests[place] for place in generator.permutation(len(rests))] or [self.rows[:0]])
        whole = len(rest) // size * size
        blocks.extend(rest[:whole].reshape(-1, size))
        order = generator.permutation(len(blocks))
        return np.concatenate([*(blocks[place] for place in order), rest[whole:]])

    def _by_cluster(self, generator: np.random.Generator) -> list[np.ndarray]:
        """The rows of each cluster; pairs of one querier together, contrast users' and nearest dialogues near."""
        rows, unit = self._units(generator)
        starts = np.flatnonzero(np.diff(unit, prepend=-1))
        members = [part.tolist() for part in np.split(rows, starts[1:])] if len(rows) else []
        unit_of = np.full(len(self.querier), -1, dtype=np.int64)
        unit_of[rows] = unit
        linked = self._links(rows[starts], unit_of, generator)
        cluster = self.cluster[rows[starts]] if len(rows) else rows
        sequences: dict[int, list[int]] = {}
        used = np.zeros(len(members), dtype=bool).tolist()
        clusters = cluster.tolist()
        for first in generator.permutation(len(members)).tolist():
            if used[first]:
                continue
            for number in (first, *linked[first]):
                if number >= 0 and not used[number] and clusters[number] == clusters[first]:
                    used[number] = True
                    sequences.setdefault(clusters[first], []).extend(members[number])
        return [np.array(sequences[name], dtype=np.int64) for name in sorted(sequences)]

    def _units(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows sorted by unit, and their units: two dialogues of one querier in one cluster, of two scenes if he has.

        Returns:
            Rows and unit numbers from 0, each (n,), units ascending.
        """
        rows = generator.permutation(self.rows)
        mixed = generator.permutation(int(self.scene.max(initial=0)) + 1)
        order = np.lexsort((mixed[self.scene[rows]], self.querier[rows], self.cluster[rows]))
        rows = rows[order]
        group = self.cluster[rows] * (int(self.querier.max(initial=0)) + 1) + self.querier[rows]
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        sizes = np.diff(starts, append=len(rows))
        place = np.arange(len(rows)) - np.repeat(starts, sizes)
        pair = place % np.repeat((sizes + 1) // 2, sizes)  # far apart in scene order: different scenes
        order = np.lexsort((pair, np.repeat(np.arange(len(starts)), sizes)))
        key = np.repeat(starts, sizes)[order] + pair[order]
        return rows[order], np.cumsum(np.diff(key, prepend=-1) != 0) - 1

    def _links(self, anchors: np.ndarray, unit_of: np.ndarray, generator: np.random.Generator) -> list[list[int]]:
        """For each unit up to three units to stand beside it: two of contrast users, one of a nearest query."""
        if not len(anchors):
            return []
        entries = np.asarray(self.contrast[anchors], dtype=np.int64)
        entries = entries.reshape(len(anchors), -1)
        contrast = _drawn(entries, 2, generator)
        nearest = _drawn(np.asarray(self.near[anchors], dtype=np.int64), 1, generator)
        rows = np.concatenate([contrast, nearest], axis=1)
        linked: list[list[int]] = np.where(rows >= 0, unit_of[rows], -1).tolist()
        return linked

    def _part_equal_queries(self, batches: list[np.ndarray], generator: np.random.Generator) -> None:
        """Exchange rows between batches, in place, until no batch holds one querier's query text twice.

        A text that a querier said more often than there are batches stays where it is, and so may others where a
        handful of texts fill all batches.
        """
        if not batches:
            return
        rows = np.concatenate(batches)
        texts = int(self.text.max()) + 1
        keys = self.querier[rows] * texts + self.text[rows]
        number = np.repeat(np.arange(len(batches)), [len(batch) for batch in batches])
        order = np.lexsort((keys, number))
        twice = (np.diff(keys[order], prepend=-1) == 0) & (np.diff(number[order], prepend=-1) == 0)
        if not twice.any():
            return
        exchange = _Exchange(keys, self.loader.batch_size, generator)
        for place in np.sort(order[twice]).tolist():
            other = exchange(place)
            if other is not None:
                rows[[place, other]] = rows[[other, place]]
        for index, start in enumerate(range(0, len(rows), self.loader.batch_size)):
            batches[index] = rows[start : start + self.loader.batch_size]


class _Exchange:
    """Finds rows that can change places so that equal keys stand in different batches.

    Args:
        keys: Of each row in the order of the batches, (n,) int64; changes with each exchange.
        size: Rows of a batch.
        generator: Draws the batches that are looked at.
    """

    def __init__(self, keys: np.ndarray, size: int, generator: np.random.Generator) -> None:
        self.keys, self.size, self.generator = keys, size, generator
        self.held = [Counter(keys[start : start + size].tolist()) for start in range(0, len(keys), size)]
        self.lacking: dict[int, np.ndarray] = {}  # by key: which batches have none of it, kept up to date

    def __call__(self, place: int) -> int | None:
        """The row that the row `place` changes places with; None where none is needed or can be."""
        key, here = int(self.keys[place]), place // self.size
        if self.held[here][key] < 2:
            return None
        for there in self._others(key):
            if there == here or self.held[there][key]:
                continue
            start = there * self.size
            for other in range(start, min(start + self.size, len(self.keys))):
                if not self.held[here][int(self.keys[other])]:
                    self._swap(place, here, other, there)
                    return other
        return None

    def _others(self, key: int) -> Iterator[int]:
        """Batches to look at: some by chance, then some that lack the key."""
        count = len(self.held)
        some = self.generator.choice(count, min(TRIES, count), replace=False)
        every = self.generator.permutation(count) if count > TRIES else some
        yield from some.tolist()
        if key not in self.lacking:
            self.lacking[key] = np.array([not batch[key] for batch in self.held])
        yield from every[self.lacking[key][every]][:LOOKED_AT].tolist()

    def _swap(self, place: int, here: int, other: int, there: int) -> None:
        for key, left, entered in ((int(self.keys[place]), here, there), (int(self.keys[other]), there, here)):
            self.held[left].subtract([key])
            self.held[entered][key] += 1
            if key in self.lacking:
                self.lacking[key][left] = not self.held[left][key]
                self.lacking[key][entered] = False
        self.keys[[place, other]] = self.keys[[other, place]]


def _drawn(entries: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` of the known entries of each row by chance, −1 where there are fewer, (n, count)."""
    if not entries.shape[1]:
        return np.full((len(entries), count), -1, dtype=np.int64)
    key = np.where(entries >= 0, generator.random(entries.shape), -1.0)
    best = np.argsort(-key, axis=1)[:, :count]
    found = np.take_along_axis(entries, best, axis=1)
    return np.pad(found, ((0, 0), (0, count - found.shape[1])), constant_values=-1)
