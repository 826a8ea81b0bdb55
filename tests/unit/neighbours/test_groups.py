from __future__ import annotations

import numpy as np

from querier.neighbours.clusters import unit
from querier.neighbours.groups import make_groups, split


def test_parts_have_32_to_256_entries_and_cover_all() -> None:
    rng = np.random.default_rng(0)
    for n in (257, 300, 2000, 5000):
        parts = split(unit(rng.normal(size=(n, 8)) + 3 * rng.normal(size=(5, 8))[rng.integers(0, 5, n)]))
        assert sorted(np.concatenate(parts).tolist()) == list(range(n))
        assert min(map(len, parts)) >= 32
        assert max(map(len, parts)) <= 256


def test_identical_queries_are_split_too() -> None:
    parts = split(np.ones((1000, 4), dtype=np.float32))
    assert all(32 <= len(part) <= 256 for part in parts)


def test_a_split_keeps_like_queries_together() -> None:
    kind = np.repeat([0, 1], 150)
    vectors = unit(np.eye(2, 8)[kind] + 0.05 * np.random.default_rng(0).normal(size=(300, 8)))
    parts = split(vectors)
    assert sorted(len(part) for part in parts) == [150, 150]
    assert all(len(np.unique(kind[part])) == 1 for part in parts)


def test_group_is_the_item_or_else_the_cluster() -> None:
    item = np.array([0, 0, 1, -1, -1, -1, 2])
    cluster = np.array([0, 1, 0, 0, 0, 1, 0])
    in_pool = np.array([True, True, True, True, False, True, False])
    group = make_groups(item, cluster, in_pool, lambda rows: np.ones((len(rows), 2)))
    assert group[0] == group[1]
    assert group[3] == group[4]
    assert len({group[0], group[2], group[3], group[5]}) == 4
    assert group[6] == -1  # nobody of the pool spoke of this item


def test_dialogue_outside_the_pool_joins_the_nearest_part() -> None:
    kind = np.r_[np.repeat([0, 1], 150), 0, 1]
    vectors = unit(np.eye(2, 8)[kind] + 0.05 * np.random.default_rng(0).normal(size=(302, 8)))
    in_pool = np.arange(302) < 300
    group = make_groups(np.full(302, -1), np.zeros(302, dtype=int), in_pool, lambda rows: vectors[rows])
    assert group[300] == group[0]
    assert group[301] == group[299]
    assert group[300] != group[301]


def test_nobody_outside_the_pool() -> None:
    group = make_groups(np.full(3, -1), np.array([0, 1, 0]), np.ones(3, dtype=bool), lambda rows: np.ones((3, 2)))
    assert group.tolist() == [0, 1, 0]
