"""What is personal in a history item: its embedding less what its query cluster shares, along few whitened directions.

A sentence embedding tells mostly what a text is about. How a querier talks, and how they are answered, is what is left
when the mean of the item's query cluster is taken away. The directions along which the pool's items differ then are
brought to unit variance, so that the towers need not first learn which of them are small.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

SHRINK = 8.0  # a cluster's mean counts as if so many items stood at the pool's mean
CHUNK = 16_384  # items that are centred at once
FLOOR = 1e-3  # of the largest deviation; below it a direction is noise of the fp16 cache


class Centre(nn.Module):
    """Centres by cluster and whitens one channel of the items; fitted once on the pool, then frozen.

    Args:
        clusters: C.
        size: E.
        rank: R, directions kept.
    """

    means: Tensor  # (C, E)
    directions: Tensor  # (E, R), each scaled to unit variance

    def __init__(self, clusters: int, size: int, rank: int) -> None:
        super().__init__()
        self.rank = min(rank, size)
        self.register_buffer("means", torch.zeros(clusters, size))
        self.register_buffer("directions", torch.eye(size)[:, : self.rank].clone())

    @torch.no_grad()
    def fit(self, vectors: np.ndarray, cluster: np.ndarray) -> None:
        """Take means and directions from the pool.

        Args:
            vectors: Embeddings of the pool's items, (n, E).
            cluster: Cluster of each item's query, (n,).
        """
        rows = vectors.astype(np.float64)
        pool_mean = rows.mean(0)
        sums = np.zeros((len(self.means), rows.shape[1]))
        np.add.at(sums, cluster, rows)
        counts = np.bincount(cluster, minlength=len(self.means))[:, None]
        means = (sums + SHRINK * pool_mean) / (counts + SHRINK)
        for start in range(0, len(rows), CHUNK):  # in place, as a large pool fills the memory once already
            part = slice(start, start + CHUNK)
            rows[part] -= means[cluster[part]]
        values, axes = np.linalg.eigh(rows.T @ rows / max(1, len(rows)))
        deviation = np.sqrt(np.clip(values[::-1][: self.rank], 0.0, None))
        scale = 1.0 / np.maximum(deviation, max(FLOOR * float(deviation[0]), 1e-12))
        scale[deviation <= FLOOR * float(deviation[0])] = 0.0
        self.means.copy_(torch.from_numpy(means))
        self.directions.copy_(torch.from_numpy(axes[:, ::-1][:, : self.rank] * scale))

    def forward(self, vectors: Tensor, cluster: Tensor) -> Tensor:
        """Coordinates (..., R) of embeddings (..., E) whose queries lie in clusters (...)."""
        return (vectors - self.means[cluster]) @ self.directions
