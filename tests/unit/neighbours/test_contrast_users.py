from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from sklearn.cluster import KMeans

from querier.choices import Contrast
from querier.config import ContrastConfig
from querier.neighbours.clusters import unit
from querier.neighbours.contrast_users import ContrastUsers, Rows, find_contrast_users
from querier.neighbours.style import fit_styles

CONFIG = ContrastConfig(k=3, nearest=2)


@dataclass
class World:
    rows: Rows
    queries: np.ndarray
    replies: np.ndarray

    def find(self, config: ContrastConfig = CONFIG, seed: int = 0) -> ContrastUsers:
        def replies(chosen: np.ndarray) -> np.ndarray:
            assert self.rows.in_pool[chosen].all()
            return self.replies[chosen]

        return find_contrast_users(
            self.rows, lambda chosen: self.queries[chosen], replies, config, np.random.default_rng(seed)
        )


def world(n: int = 600, queriers: int = 40, seed: int = 0, items: bool = False) -> World:
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 4, n)
    querier = rng.integers(0, queriers, n)
    style = rng.normal(size=(queriers, 12))
    replies = unit(style[querier] + 0.7 * rng.normal(size=(n, 12)))
    queries = unit(3 * np.eye(4, 12)[cluster] + rng.normal(size=(n, 12)))
    item = np.where(rng.random(n) < 0.5, rng.integers(0, 10, n), -1) if items else np.full(n, -1)
    in_pool = rng.random(n) < 0.8
    in_pool[querier == 0] = False  # one querier has never been seen
    rows = Rows(querier, rng.integers(0, n // 2, n), np.arange(n) // 2, item, cluster, in_pool, np.arange(n))
    return World(rows, queries, replies)


def latest_of_each(world: World, anchor: int, entries: np.ndarray) -> dict[int, int]:
    """Admissible entries by querier."""
    rows, latest = world.rows, {}
    for entry in sorted(entries, key=lambda e: (rows.time[e], e)):
        earlier = rows.time[entry] < rows.time[anchor] and rows.scene[entry] != rows.scene[anchor]
        if earlier and rows.querier[entry] != rows.querier[anchor]:
            latest[int(rows.querier[entry])] = int(entry)
    return latest


@pytest.mark.parametrize("items", [False, True])
def test_against_loops_and_sklearn(items: bool) -> None:
    w = world(items=items)
    users, rows = w.find(), w.rows
    styles = fit_styles(rows.querier, rows.cluster, np.flatnonzero(rows.in_pool), lambda r: w.replies[r], rng_after(w))
    limit = styles.limit(CONFIG.false_negative)
    for group in range(users.group.max() + 1):
        entries = np.flatnonzero((users.group == group) & rows.in_pool)
        cells = users.cell[entries]
        means = np.stack([w.replies[entries[cells == c]].mean(0) for c in range(cells.max() + 1)])
        slow = KMeans(len(means), init=means, n_init=1).fit(w.replies[entries])
        np.testing.assert_array_equal(slow.labels_, cells)
        assert len(means) == min(4, len(entries))
        distance = np.linalg.norm(w.replies[entries] - means[cells], axis=1)
        np.testing.assert_allclose(users.distance[entries], distance, atol=1e-4)
        for anchor in np.flatnonzero(users.group == group):
            own = slow_own_cell(w, users, anchor, entries, means)
            assert users.own_cell[anchor] == own
            admissible = [
                entry
                for querier, entry in latest_of_each(w, anchor, entries).items()
                if not alike(styles, limit, rows, anchor, querier)
            ]
            slots = [c for c in range(4) if c != (own if own >= 0 else 3)]
            for slot, cell in enumerate(slots):
                wanted = sorted((e for e in admissible if users.cell[e] == cell), key=lambda e: users.distance[e])
                wanted = wanted[: 2 if rows.in_pool[anchor] else 1]
                got = users.rows[anchor, slot]
                assert got[got >= 0].tolist() == wanted


def rng_after(w: World) -> np.random.Generator:
    return np.random.default_rng(0)  # the styles are the first that draws


def alike(styles, limit, rows, anchor, querier) -> bool:
    cosine = styles.vectors[rows.querier[anchor]] @ styles.vectors[querier]
    return bool(cosine > limit[rows.querier[anchor]])


def slow_own_cell(w: World, users: ContrastUsers, anchor: int, entries: np.ndarray, means: np.ndarray) -> int:
    rows = w.rows
    if rows.in_pool[anchor]:
        return int(users.cell[anchor])
    mine = [
        e
        for e in entries
        if rows.querier[e] == rows.querier[anchor]
        and rows.time[e] < rows.time[anchor]
        and rows.scene[e] != rows.scene[anchor]
    ]
    if not mine:
        return -1
    return int(np.linalg.norm(means - w.replies[mine].mean(0), axis=1).argmin())


@pytest.mark.parametrize("source", [Contrast.contrast_users, Contrast.random])
def test_rules_of_admission(source: Contrast) -> None:
    w = world()
    rows = w.rows
    users = w.find(replace(CONFIG, source=source))
    anchor, _, _ = np.nonzero(users.rows >= 0)
    chosen = users.rows[users.rows >= 0]
    assert len(chosen) > 300
    assert rows.in_pool[chosen].all()
    assert (rows.querier[chosen] != rows.querier[anchor]).all()
    assert (rows.time[chosen] < rows.time[anchor]).all()
    assert (rows.scene[chosen] != rows.scene[anchor]).all()
    pairs = list(zip(anchor.tolist(), rows.querier[chosen].tolist(), strict=True))
    assert len(pairs) == len(set(pairs))  # one entry of a querier
    assert (users.rows[~rows.in_pool][:, :, 1:] == -1).all()


@pytest.mark.parametrize("source", [Contrast.contrast_users, Contrast.random])
def test_replies_outside_the_pool_change_nothing(source: Contrast) -> None:
    w = world()
    config = replace(CONFIG, source=source)
    before = w.find(config)
    outside = ~w.rows.in_pool
    w.replies[outside] = -w.replies[outside]
    w.rows.reply[outside] = 0
    after = w.find(config)
    np.testing.assert_array_equal(before.rows, after.rows)
    np.testing.assert_array_equal(before.own_cell, after.own_cell)


def test_rows_outside_the_pool_change_nothing_for_the_pool() -> None:
    w = world()
    before, pool = w.find(), w.rows.in_pool
    w.rows.time[~pool] += 1000
    w.queries[~pool] = -w.queries[~pool]
    after = w.find()
    np.testing.assert_array_equal(before.rows[pool], after.rows[pool])


def test_own_cell_is_left_out_in_training() -> None:
    w = world()
    users = w.find()
    anchor, _, _ = np.nonzero(users.rows >= 0)
    chosen = users.rows[users.rows >= 0]
    inside = w.rows.in_pool[anchor]
    assert (users.cell[chosen[inside]] != users.cell[anchor[inside]]).all()
    assert (users.group[chosen] == users.group[anchor]).all()


def test_unseen_querier_gets_the_largest_cells() -> None:
    w = world()
    users = w.find()
    unseen = np.flatnonzero(w.rows.querier == 0)
    assert (users.own_cell[unseen] == -1).all()
    chosen = users.rows[unseen, :, 0]
    assert (chosen >= 0).any()
    for slot in range(3):
        found = chosen[:, slot][chosen[:, slot] >= 0]
        assert (users.cell[found] == slot).all()


def test_false_negatives_are_dropped_by_style() -> None:
    """Queriers 1 and 2 are answered in exactly the same way: neither may stand for a difference to the other."""
    w = world(queriers=12, n=800)
    rng = np.random.default_rng(5)
    for querier in (1, 2):
        own = w.rows.querier == querier
        w.replies[own] = unit(np.eye(1, 12, 3) + 0.5 * rng.normal(size=(own.sum(), 12)))
    users = w.find(replace(CONFIG, false_negative=0.95))
    strict = w.find(replace(CONFIG, false_negative=2.0))

    def meet(found: ContrastUsers) -> int:
        chosen = found.rows[w.rows.querier == 1]
        return int((w.rows.querier[chosen[chosen >= 0]] == 2).sum())

    assert meet(users) == 0
    assert meet(strict) > 0
    assert any("dropped as false negatives" in note for note in users.notes)


def test_source_none_and_empty_pool() -> None:
    w = world()
    assert (w.find(replace(CONFIG, source=Contrast.none)).rows == -1).all()
    w.rows.in_pool[:] = False
    assert (w.find().rows == -1).all()


def test_one_querier_alone_has_nobody() -> None:
    w = world()
    w.rows.querier[:] = 0
    assert (w.find().rows == -1).all()


def test_same_seed_same_choice() -> None:
    w = world()
    np.testing.assert_array_equal(w.find(seed=3).rows, w.find(seed=3).rows)


def test_random_users_fill_every_slot_before_any_twice() -> None:
    w = world()
    users = w.find(replace(CONFIG, source=Contrast.random))
    filled = (users.rows >= 0).sum(1)  # (N, nearest)
    assert (filled[:, 0] >= filled[:, 1]).all()
    late = w.rows.time > np.quantile(w.rows.time, 0.5)
    assert (filled[late, 0] == 3).all()
