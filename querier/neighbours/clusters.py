"""Query clusters: spherical k-means on the pool's query vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

import faiss
import numpy as np

from querier.config import ClustersConfig
from querier.errors import InputError

WANTED_SHARE = 0.6  # of the dialogues that share their cluster with one of the same querier from another scene
FAR_QUANTILE = 0.99
ROUNDS = 15  # of k-means
SCORED = 4000  # queries on which the silhouette is computed
STEP = 65_536  # rows that are held in float32 at a time


@dataclass
class Clusters:
    """Fitted clusters of queries.

    Args:
        centroids: Unit vectors, (C, E) float32.
        threshold: A query whose distance is above it is far from all that the pool knows.
        labels: Cluster of each pool query, (n,) int64.
        distances: Distance of each pool query to its centroid, (n,) float32.
        notes: What was chosen and why, for the user.
    """

    centroids: np.ndarray
    threshold: float
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    distances: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.centroids)

    def assign(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest cluster and 1 − cosine to its centroid.

        Args:
            vectors: Queries, (n, E).

        Returns:
            Labels (n,) int64 and distances (n,) float32.
        """
        return nearest_centroid(vectors, self.centroids)

    def is_far(self, distances: np.ndarray) -> np.ndarray:
        """Whether queries lie beyond the 99th percentile of the pool's distances, (n,) bool."""
        return np.asarray(distances > self.threshold)


def fit_clusters(vectors: np.ndarray, querier: np.ndarray, scene: np.ndarray, config: ClustersConfig) -> Clusters:
    """Cluster the pool's queries.

    With `n_clusters=auto`, of √N/2, √N and 2√N the number with the best silhouette is taken among those where at least
    60 % of the dialogues share their cluster with a dialogue of the same querier from another scene; √N/2 if none is.

    Args:
        vectors: Queries of the pool, (n, E), any float type.
        querier: Who asked, (n,).
        scene: Scene of each dialogue, (n,).
        config: Number of clusters, sample, balance, seed.

    Raises:
        InputError: If the pool is empty.
    """
    if len(vectors) == 0:
        raise InputError("the training split holds no dialogue, so that there is nothing to cluster; see data.split")
    rng = np.random.default_rng(config.seed)
    rows = np.sort(rng.choice(len(vectors), config.sample, replace=False)) if len(vectors) > config.sample else None
    sample = unit(vectors if rows is None else vectors[rows])
    distinct = len(np.unique(sample, axis=0)) if len(sample) <= STEP else len(sample)
    if config.n_clusters != "auto":
        wanted = int(config.n_clusters)
        fitted = _fit(vectors, sample, min(wanted, distinct), config)
        share = shared_share(fitted.labels, querier, scene)
        fitted.notes = [_note(fitted, share, f"{wanted} asked for")]
        return fitted
    scored = np.sort(rng.choice(len(vectors), min(SCORED, len(vectors)), replace=False))
    tried = []
    for count in auto_numbers(len(vectors)):
        fitted = _fit(vectors, sample, min(count, distinct), config)
        tried.append((fitted, shared_share(fitted.labels, querier, scene), _silhouette(vectors, fitted.labels, scored)))
    chosen = choose([share for _, share, _ in tried], [score for _, _, score in tried])
    fitted, share, _ = tried[chosen]
    seen = "; ".join(f"{len(c)}: silhouette {score:.3f}, shared {part:.0%}" for c, part, score in tried)
    fitted.notes = [_note(fitted, share, f"chosen automatically; {seen}")]
    return fitted


def auto_numbers(n: int) -> list[int]:
    """√n/2, √n and 2√n, rounded, each at least 1."""
    return [max(1, round(factor * sqrt(n))) for factor in (0.5, 1.0, 2.0)]


def choose(shares: list[float], silhouettes: list[float]) -> int:
    """Which of the numbers of clusters `auto` takes; the first of them if no share is high enough."""
    allowed = [i for i, share in enumerate(shares) if share >= WANTED_SHARE]
    return max(allowed, key=lambda i: silhouettes[i]) if allowed else 0


def shared_share(labels: np.ndarray, querier: np.ndarray, scene: np.ndarray) -> float:
    """Share of dialogues whose cluster holds another one of the same querier from another scene."""
    pair = labels.astype(np.int64) * (int(querier.max()) + 1) + querier
    order = np.lexsort((scene, pair))
    pairs, scenes = pair[order], scene[order]
    starts = np.flatnonzero(np.r_[True, pairs[1:] != pairs[:-1]])
    counts = np.diff(np.r_[starts, len(pairs)])
    # Sorted by scene within a pair: more than one scene if and only if the first and the last differ.
    several = scenes[starts] != scenes[starts + counts - 1]
    return float(counts[several].sum() / len(pairs))


def nearest_centroid(vectors: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label (n,) int64 and 1 − cosine (n,) float32 of the nearest of `centroids` (C, E)."""
    index = faiss.IndexFlatIP(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids, dtype=np.float32))
    labels = np.zeros(len(vectors), dtype=np.int64)
    distances = np.zeros(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), STEP):
        part = slice(start, start + STEP)
        cosine, found = index.search(unit(vectors[part]), 1)
        labels[part], distances[part] = found[:, 0], 1.0 - cosine[:, 0]
    return labels, distances


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors (n, E) as contiguous float32 of length 1; a zero vector stays zero."""
    dense = np.array(vectors, dtype=np.float32, order="C")
    norms = np.linalg.norm(dense, axis=-1, keepdims=True)
    dense /= np.where(norms > 0, norms, 1.0)
    return dense


def _fit(vectors: np.ndarray, sample: np.ndarray, count: int, config: ClustersConfig) -> Clusters:
    means = faiss.Kmeans(
        sample.shape[1],
        count,
        niter=ROUNDS,
        seed=config.seed + 1,  # 0 would mean the library's own seed
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=max(256, -(-len(sample) // count)),  # the sample is all that is drawn
    )
    means.train(sample)
    centroids = unit(np.asarray(means.centroids))
    labels, distances = nearest_centroid(vectors, centroids)
    used = np.unique(labels)
    centroids, labels = centroids[used], np.searchsorted(used, labels)  # an empty cluster is none
    if config.balanced:
        labels, distances = balance(vectors, centroids)
    threshold = float(np.quantile(distances, FAR_QUANTILE))
    return Clusters(centroids, threshold, labels.astype(np.int64), distances)


def balance(vectors: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid that still has room, no more than ⌈n / C⌉ rows each; the nearest rows choose first.

    Args:
        vectors: (n, E).
        centroids: (C, E).

    Returns:
        Labels (n,) int64 and 1 − cosine (n,) float32.
    """
    count = len(centroids)
    room = np.full(count, -(-len(vectors) // count))
    labels = np.full(len(vectors), -1, dtype=np.int64)
    distances = np.zeros(len(vectors), dtype=np.float32)
    left = np.arange(len(vectors))
    while len(left):
        open_ = np.flatnonzero(room)
        wish, distance = nearest_centroid(vectors[left], centroids[open_])
        wish = open_[wish]
        order = np.lexsort((left, distance, wish))
        sorted_wish = wish[order]
        starts = np.flatnonzero(np.r_[True, sorted_wish[1:] != sorted_wish[:-1]])
        place = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
        taken = order[place < room[sorted_wish]]
        labels[left[taken]], distances[left[taken]] = wish[taken], distance[taken]
        room -= np.bincount(wish[taken], minlength=count)
        left = np.delete(left, taken)
    return labels, distances


def _silhouette(vectors: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> float:
    from sklearn.metrics import silhouette_score

    kinds = len(np.unique(labels[rows]))
    if not 1 < kinds < len(rows):
        return -1.0
    return float(silhouette_score(unit(vectors[rows]), labels[rows], metric="cosine"))


def _note(clusters: Clusters, share: float, why: str) -> str:
    return (
        f"{len(clusters)} clusters of queries ({why}); {share:.0%} of the training dialogues share their cluster "
        "with a dialogue of the same querier from another scene"
    )
