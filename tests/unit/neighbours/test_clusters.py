from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from querier.config import ClustersConfig
from querier.errors import InputError
from querier.neighbours.clusters import (
    auto_numbers,
    balance,
    choose,
    fit_clusters,
    nearest_centroid,
    shared_share,
    unit,
)


def blobs(n: int = 400, kinds: int = 8, noise: float = 0.15, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, kinds, n)
    return unit(rng.normal(size=(kinds, 16))[kind] / 4 + noise * rng.normal(size=(n, 16))), kind


def test_well_separated_queries_are_found_again() -> None:
    vectors, kind = blobs(noise=0.01)
    querier, scene = np.zeros(400, dtype=int), np.arange(400)
    labels = fit_clusters(vectors, querier, scene, ClustersConfig(n_clusters="8")).labels
    mixed = [len(np.unique(kind[labels == label])) for label in np.unique(labels)]
    assert max(mixed) <= 2
    assert np.mean(mixed) < 1.4


def test_centroids_are_unit_means_of_their_rows_and_labels_are_the_nearest() -> None:
    vectors, _ = blobs()
    fitted = fit_clusters(vectors, np.zeros(400, dtype=int), np.arange(400), ClustersConfig(n_clusters="8"))
    np.testing.assert_allclose(np.linalg.norm(fitted.centroids, axis=1), 1, atol=1e-5)
    cosine = vectors @ fitted.centroids.T
    np.testing.assert_array_equal(fitted.labels, cosine.argmax(1))
    np.testing.assert_allclose(fitted.distances, 1 - cosine.max(1), atol=1e-5)
    means = np.stack([unit(vectors[fitted.labels == c].mean(0)[None])[0] for c in range(len(fitted))])
    assert (means * fitted.centroids).sum(1).min() > 0.99


def test_auto_rule_against_its_words() -> None:
    vectors, kind = blobs(n=400, kinds=10)
    querier = np.random.default_rng(1).integers(0, 12, 400)
    scene = np.arange(400) // 2
    fitted = fit_clusters(vectors, querier, scene, ClustersConfig())
    tried = []
    for count in (10, 20, 40):
        one = fit_clusters(vectors, querier, scene, ClustersConfig(n_clusters=str(count)))
        tried.append(
            (one, slow_share(one.labels, querier, scene), silhouette_score(vectors, one.labels, metric="cosine"))
        )
    allowed = [entry for entry in tried if entry[1] >= 0.6]
    wanted = max(allowed, key=lambda entry: entry[2])[0] if allowed else tried[0][0]
    np.testing.assert_array_equal(fitted.labels, wanted.labels)
    assert "chosen automatically" in fitted.notes[0]


def slow_share(labels: np.ndarray, querier: np.ndarray, scene: np.ndarray) -> float:
    shares = [
        any(labels[j] == labels[i] and querier[j] == querier[i] and scene[j] != scene[i] for j in range(len(labels)))
        for i in range(len(labels))
    ]
    return sum(shares) / len(shares)


def test_shared_share_against_loops() -> None:
    rng = np.random.default_rng(2)
    labels, querier, scene = rng.integers(0, 5, 200), rng.integers(0, 30, 200), rng.integers(0, 60, 200)
    assert shared_share(labels, querier, scene) == pytest.approx(slow_share(labels, querier, scene))


@pytest.mark.parametrize(
    ("shares", "silhouettes", "chosen"),
    [
        ([0.9, 0.7, 0.6], [0.1, 0.3, 0.2], 1),
        ([0.9, 0.7, 0.59], [0.1, 0.05, 0.9], 0),
        ([0.5, 0.4, 0.3], [0.1, 0.2, 0.9], 0),
    ],
)
def test_choice_needs_sixty_percent_and_falls_back_to_the_fewest(
    shares: list[float], silhouettes: list[float], chosen: int
) -> None:
    assert choose(shares, silhouettes) == chosen


def test_auto_numbers() -> None:
    assert auto_numbers(400) == [10, 20, 40]
    assert auto_numbers(1) == [1, 1, 2]


def test_same_seed_gives_the_same_bits() -> None:
    vectors, _ = blobs()
    one, two = (fit_clusters(vectors, np.zeros(400, dtype=int), np.arange(400), ClustersConfig()) for _ in range(2))
    np.testing.assert_array_equal(one.centroids, two.centroids)


def test_threshold_is_the_99th_percentile_of_pool_distances() -> None:
    vectors, _ = blobs()
    fitted = fit_clusters(vectors, np.zeros(400, dtype=int), np.arange(400), ClustersConfig(n_clusters="8"))
    assert fitted.is_far(fitted.distances).mean() == pytest.approx(0.01, abs=0.003)
    assert fitted.is_far(fitted.assign(-fitted.centroids.sum(0)[None])[1]).all()


def test_balanced_clusters_hold_no_more_than_their_share() -> None:
    rng = np.random.default_rng(3)
    vectors = unit(np.r_[np.tile(rng.normal(size=16), (90, 1)), rng.normal(size=(10, 16))] + 0.01)
    config = ClustersConfig(n_clusters="4", balanced=True)
    fitted = fit_clusters(vectors, np.zeros(100, dtype=int), np.arange(100), config)
    assert np.bincount(fitted.labels).max() <= -(-100 // len(fitted))
    labels, distances = balance(vectors, fitted.centroids)
    np.testing.assert_allclose(distances, 1 - (vectors * fitted.centroids[labels]).sum(1), atol=1e-5)


def test_balancing_moves_nobody_when_there_is_room() -> None:
    centroids = np.eye(4, dtype=np.float32)
    vectors = np.repeat(centroids, 5, axis=0)
    np.testing.assert_array_equal(balance(vectors, centroids)[0], nearest_centroid(vectors, centroids)[0])


@pytest.mark.parametrize("n_clusters", ["auto", "7"])
def test_one_text_asked_by_all_is_one_cluster(n_clusters: str) -> None:
    vectors = np.tile(unit(np.ones((1, 8))), (30, 1)).astype(np.float16)
    fitted = fit_clusters(vectors, np.arange(30), np.arange(30), ClustersConfig(n_clusters=n_clusters))
    assert len(fitted) == 1
    assert not fitted.is_far(fitted.distances).any()


def test_single_dialogue() -> None:
    fitted = fit_clusters(np.ones((1, 8)), np.zeros(1, dtype=int), np.zeros(1, dtype=int), ClustersConfig())
    assert fitted.labels.tolist() == [0]


def test_empty_pool_is_refused() -> None:
    with pytest.raises(InputError, match="training split holds no dialogue"):
        fit_clusters(np.zeros((0, 8)), np.zeros(0, dtype=int), np.zeros(0, dtype=int), ClustersConfig())
