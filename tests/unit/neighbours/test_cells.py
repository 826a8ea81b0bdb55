from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from querier.neighbours.cells import batches, distance_to_centre, fit_cells


def groups(seed: int = 0, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(6, 40, count)
    mask = np.arange(sizes.max()) < sizes[:, None]
    vectors = np.where(mask[..., None], rng.normal(size=(*mask.shape, 10)), 0).astype(np.float32)
    return vectors, mask


def test_cells_are_those_of_sklearn_from_the_same_centres() -> None:
    vectors, mask = groups()
    cells = fit_cells(vectors, mask, 5, np.random.default_rng(1).random((len(mask), 5)))
    for g in range(len(mask)):
        own = vectors[g, mask[g]]
        filled = cells.centres[g, cells.sizes[g] > 0]
        slow = KMeans(len(filled), init=filled, n_init=1).fit(own)
        np.testing.assert_array_equal(slow.labels_, cells.labels[g, mask[g]])
        np.testing.assert_allclose(slow.cluster_centers_, filled, atol=1e-4)
        np.testing.assert_array_equal(cells.sizes[g], np.bincount(cells.labels[g, mask[g]], minlength=5))
        assert (np.diff(cells.sizes[g]) <= 0).all()
        away = distance_to_centre(vectors, cells)[g, mask[g]]
        np.testing.assert_allclose(away, slow.transform(own).min(1), atol=1e-4)


def test_a_group_is_the_same_alone_and_padded_beside_others() -> None:
    vectors, mask = groups()
    draws = np.random.default_rng(1).random((len(mask), 5))
    together = fit_cells(vectors, mask, 5, draws)
    for g in range(len(mask)):
        alone = fit_cells(vectors[g : g + 1, mask[g]], mask[g : g + 1, mask[g]], 5, draws[g : g + 1])
        np.testing.assert_array_equal(alone.labels[0], together.labels[g, mask[g]])
    assert (together.labels[~mask] == -1).all()


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_fewer_distinct_replies_than_cells(distinct: int) -> None:
    vectors = np.eye(4, 8, dtype=np.float32)[np.arange(12) % distinct][None]
    cells = fit_cells(vectors, np.ones((1, 12), dtype=bool), 5, np.full((1, 5), 0.5))
    assert (cells.sizes[0] > 0).sum() == distinct
    assert np.isfinite(cells.centres).all()
    for kind in range(distinct):
        assert len(np.unique(cells.labels[0][np.arange(12) % distinct == kind])) == 1


def test_every_group_is_worked_on_once() -> None:
    sizes = np.random.default_rng(0).integers(1, 257, 1000)
    parts = list(batches(sizes))
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    assert max(len(part) * sizes[part].max() for part in parts) <= 8192
