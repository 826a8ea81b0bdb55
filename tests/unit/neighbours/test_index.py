from __future__ import annotations

import numpy as np
import pytest

from querier.neighbours import index as module
from querier.neighbours.clusters import unit
from querier.neighbours.index import PoolIndex, first_true


def pool(n: int = 500, queriers: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return unit(rng.normal(size=(n, 12))), rng.integers(0, queriers, n), rng.integers(0, n // 2, n), np.arange(n) // 3


def slow(vectors, querier, time, scene, query, k, own, before, not_scene):
    allowed = [
        j
        for j in range(len(vectors))
        if querier[j] != own and (before is None or time[j] < before) and (not_scene is None or scene[j] != not_scene)
    ]
    return sorted(allowed, key=lambda j: -float(vectors[j] @ query))[:k]


@pytest.mark.parametrize("queriers", [2, 20])
@pytest.mark.parametrize("restricted", [True, False])
def test_nearest_against_loops(queriers: int, restricted: bool) -> None:
    vectors, querier, time, scene = pool(queriers=queriers)
    before, not_scene = (time, scene) if restricted else (None, None)
    found = PoolIndex(vectors, querier, time, scene).nearest(vectors, 6, querier, before, not_scene)
    for i in range(len(vectors)):
        wanted = slow(
            vectors,
            querier,
            time,
            scene,
            vectors[i],
            6,
            querier[i],
            time[i] if restricted else None,
            scene[i] if restricted else None,
        )
        assert found[i][found[i] >= 0].tolist() == wanted
        assert (np.diff((found[i] < 0).astype(int)) >= 0).all()  # pads stand last


def test_inverted_file_keeps_the_rules_and_finds_nearly_all(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, querier, time, scene = pool(n=3000)
    exact = PoolIndex(vectors, querier, time, scene).nearest(vectors, 5, querier, time, scene)
    monkeypatch.setattr(module, "EXACT_BELOW", 1000)
    found = PoolIndex(vectors, querier, time, scene).nearest(vectors, 5, querier, time, scene)
    rows, _ = np.nonzero(found >= 0)
    chosen = found[found >= 0]
    assert (querier[chosen] != querier[rows]).all()
    assert (time[chosen] < time[rows]).all()
    assert (scene[chosen] != scene[rows]).all()
    np.testing.assert_array_equal((found >= 0).sum(1), (exact >= 0).sum(1))
    assert np.mean([np.isin(a, b).mean() for a, b in zip(found, exact, strict=True)]) > 0.8


def test_nothing_is_earlier_than_the_first() -> None:
    vectors, querier, time, scene = pool()
    time = np.arange(len(time))
    found = PoolIndex(vectors, querier, time, scene).nearest(vectors[:2], 4, querier[:2], time[:2], scene[:2])
    assert (found[0] == -1).all()


def test_later_rows_change_nothing() -> None:
    vectors, querier, time, scene = pool()
    changed = vectors.copy()
    changed[time >= 100] = -changed[time >= 100]
    asked = np.flatnonzero(time <= 100)
    one, two = (
        PoolIndex(v, querier, time, scene).nearest(vectors[asked], 4, querier[asked], time[asked], scene[asked])
        for v in (vectors, changed)
    )
    np.testing.assert_array_equal(one, two)


def test_empty_pool_and_no_neighbours() -> None:
    vectors, querier, time, scene = pool()
    empty = PoolIndex(vectors[:0], querier[:0], time[:0], scene[:0])
    assert (empty.nearest(vectors, 3, querier, time, scene) == -1).all()
    assert PoolIndex(vectors, querier, time, scene).nearest(vectors, 0, querier).shape == (500, 0)


def test_an_exact_search_in_blocks_finds_what_one_block_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    vectors = unit(rng.integers(-1, 2, size=(300, 5)).astype(np.float32) + 0.01)  # with ties
    querier, scene, time = rng.integers(2, size=300), rng.integers(40, size=300), rng.integers(50, size=300)
    index = PoolIndex(vectors, querier, time, scene)
    whole = index.nearest(vectors, 20, querier, time, scene)
    monkeypatch.setattr("querier.neighbours.index.BLOCK", 7)
    parts = index.nearest(vectors, 20, querier, time, scene)
    np.testing.assert_array_equal(parts < 0, whole < 0)
    one, other = (np.where(rows >= 0, (vectors[:, None] * vectors[rows]).sum(-1), -2) for rows in (parts, whole))
    np.testing.assert_allclose(one, other, atol=1e-6)  # of equal ones any may be found
    assert (np.diff(one, axis=1) <= 1e-6).all()


def test_first_true() -> None:
    allowed = np.array([[True, False, True, True], [False, False, False, True], [False] * 4])
    assert first_true(allowed, 2, np.array([7, 8, 9, 10])).tolist() == [[7, 9], [10, -1], [-1, -1]]
