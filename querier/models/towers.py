"""The querier-specific and the general tower: learned latents that attend to items.

A tower is a small resampler: T latents, shifted by the query, read a set of items by cosine attention with a learned
temperature and leave T vectors. A learned null item always stands among the keys, so that an empty set gives finite
values and gradients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from querier.config import TowersConfig
from querier.models.centre import Centre
from querier.types import STYLE, Items

RECENCY_BUCKETS = 8
LOUD, QUIET = 1.4, 0.1
"""Gains of the first weights: what comes from the items is loud, latents and query shift are quiet.

With even gains the read items are a tenth of a latent at the start, the soft prompt says nothing of the querier, and
the decoder learns to ignore it; so the first steps begin from vectors that differ between queriers.
"""


def loud(layer: nn.Linear) -> nn.Linear:
    """The layer with weights that raise the RMS of what it reads by `LOUD`."""
    nn.init.normal_(layer.weight, std=LOUD / math.sqrt(layer.in_features))
    return layer


def recency_bucket(rank: Tensor) -> Tensor:
    """⌊log₂(1 + rank from newest)⌋, at most 7; (..., H) int64."""
    return torch.log2(1.0 + rank.float()).floor().long().clamp(0, RECENCY_BUCKETS - 1)


class ItemEncoder(nn.Module):
    """h_j = P_in c(input_j) + P_out c(output_j) + P_style c(style_j) + recency(j) + responder(j).

    c takes the mean of the item's cluster away and whitens.

    Args:
        clusters: C.
        size: E.
        config: Width D and rank R.
    """

    def __init__(self, clusters: int, size: int, config: TowersConfig) -> None:
        super().__init__()
        self.centre_in = Centre(clusters, size, config.rank)
        self.centre_out = Centre(clusters, size, config.rank)
        self.project_in = loud(nn.Linear(self.centre_in.rank, config.width, bias=False))
        self.project_out = loud(nn.Linear(self.centre_out.rank, config.width, bias=False))
        self.stylometry = config.stylometry
        if config.stylometry:
            self.centre_style = Centre(clusters, STYLE, STYLE)
            self.project_style = loud(nn.Linear(STYLE, config.width, bias=False))
        self.recency = nn.Embedding(RECENCY_BUCKETS, config.width)
        self.responder = nn.Embedding(2, config.width)
        self.dropout = nn.Dropout(config.feature_dropout)
        for table in (self.recency, self.responder):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, items: Items) -> Tensor:
        """Items (..., H, E) to vectors (..., H, D)."""
        asked = self.project_in(self.dropout(self.centre_in(items.inputs, items.cluster)))
        answered = self.project_out(self.dropout(self.centre_out(items.outputs, items.cluster)))
        place = self.recency(recency_bucket(items.rank)) + self.responder(items.same_responder.long())
        read: Tensor = asked + answered + place
        if self.stylometry:
            read = read + self.project_style(self.dropout(self.centre_style(items.style, items.cluster)))
        return read


class PlainItemEncoder(nn.Module):
    """h_j = P_in e(input_j) + P_out e(output_j), for the general tower, which is to know what a text is about."""

    def __init__(self, size: int, config: TowersConfig) -> None:
        super().__init__()
        self.project_in = loud(nn.Linear(size, config.width, bias=False))
        self.project_out = loud(nn.Linear(size, config.width, bias=False))
        self.dropout = nn.Dropout(config.feature_dropout)
        self.scale = math.sqrt(size)  # a unit vector of E coordinates has RMS 1/√E

    def asked(self, queries: Tensor) -> Tensor:
        """Embeddings of what is asked (..., E) alone to vectors (..., D): a question without an answer yet."""
        read: Tensor = self.project_in(self.dropout(queries * self.scale))
        return read

    def forward(self, items: Items) -> Tensor:
        """Items (..., N, E) to vectors (..., N, D)."""
        read: Tensor = self.asked(items.inputs) + self.project_out(self.dropout(items.outputs * self.scale))
        return read


class CosineAttention(nn.Module):
    """Multi-head attention whose scores are cosines times a learned inverse temperature.

    Plain cosine attention is nearly a mean; the temperature lets it choose. Values are not normalised, so that with
    even attention the output is the plain mean of the values.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.log_scale = nn.Parameter(torch.zeros(heads, 1, 1))

    def _split(self, vectors: Tensor) -> Tensor:
        return vectors.reshape(*vectors.shape[:-1], self.heads, -1).transpose(-3, -2)

    def forward(self, latents: Tensor, items: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Latents (B, T, D) read items (B, S, D) under mask (B, T, S); returns (B, T, D), weights (B, heads, T, S)."""
        query = functional.normalize(self._split(self.query(latents)), dim=-1)
        key = functional.normalize(self._split(self.key(items)), dim=-1)
        scores = query @ key.transpose(-1, -2) * self.log_scale.clamp(max=math.log(100.0)).exp()
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], float("-inf"))
        weights = scores.softmax(-1)
        read = (weights @ self._split(self.value(items))).transpose(-3, -2).flatten(-2)
        return self.out(read), weights


class TowerBlock(nn.Module):
    """Cross-attention to the items, self-attention among the latents of a reading, MLP; pre-normalised residuals."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_cross, self.norm_self, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.cross = CosineAttention(width, heads)
        loud(self.cross.value)
        loud(self.cross.out)
        self.among = CosineAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, latents: Tensor, items: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, R, T, D) after reading items (B, S, D) under masks (B, R, S); weights (B, R, T, S)."""
        readings, tokens = latents.shape[1:3]
        wide = mask[:, :, None].expand(-1, -1, tokens, -1).flatten(1, 2)  # (B, R T, S)
        read, weights = self.cross(self.norm_cross(latents).flatten(1, 2), items, wide)
        latents = latents + read.unflatten(1, (readings, tokens))
        normed = self.norm_self(latents).flatten(0, 1)
        latents = latents + self.among(normed, normed, None)[0].unflatten(0, (-1, readings))
        return latents + self.mlp(self.norm_mlp(latents)), weights.mean(1).unflatten(1, (readings, tokens))


class Tower(nn.Module):
    """T latents, shifted by the query vector, read a set of items, under several masks at once.

    Args:
        size: E, of the query's embedding.
        config: Width, heads, blocks, latents and dropouts.
    """

    def __init__(self, size: int, config: TowersConfig) -> None:
        super().__init__()
        self.shift_dropout = config.shift_dropout
        self.latents = nn.Parameter(torch.randn(config.virtual_tokens, config.width) * QUIET)
        self.null = nn.Parameter(torch.randn(config.width) * 0.02)
        self.shift = nn.Linear(size, config.width, bias=False)
        nn.init.normal_(self.shift.weight, std=QUIET / math.sqrt(size))
        self.blocks = nn.ModuleList(TowerBlock(config.width, config.heads) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.scale = math.sqrt(size)

    def forward(self, items: Tensor, masks: Tensor, query: Tensor | None) -> tuple[Tensor, Tensor]:
        """Read the items once for each of R masks; keys and values are computed once.

        Args:
            items: Item vectors, (B, S, D).
            masks: True where a reading may look, (B, R, S) bool.
            query: Embedding of the query, (B, E), or None for the unshifted, query-free reading.

        Returns:
            The vectors (B, R, T, D) and the last block's attention, averaged over heads, null item first,
            (B, R, T, 1 + S).
        """
        count, readings = masks.shape[:2]
        items = torch.cat([self.null.expand(count, 1, -1), items], 1)
        masks = torch.cat([masks.new_ones(count, readings, 1), masks], 2)
        latents = self.latents.expand(count, readings, -1, -1)
        if query is not None:
            latents = latents + self._shift(query)[:, None, None]
        weights = latents
        for block in self.blocks:
            latents, weights = block(latents, items, masks)
        return self.norm(latents), weights

    def _shift(self, query: Tensor) -> Tensor:
        shift: Tensor = self.shift(query * self.scale)
        if self.training and self.shift_dropout:
            kept = torch.rand(len(query), 1, device=query.device) >= self.shift_dropout
            shift = shift * kept
        return shift


class Shrinkage(nn.Module):
    """Z ← w(n) Z + (1 − w(n)) Z_prior with w = n / (n + κ); without history exactly the prior.

    Args:
        config: T, D and the starting value of κ.
    """

    def __init__(self, config: TowersConfig) -> None:
        super().__init__()
        self.prior = nn.Parameter(torch.randn(config.virtual_tokens, config.width) * QUIET)
        self.log_kappa = nn.Parameter(torch.tensor(math.log(config.prior_items)))

    def forward(self, vectors: Tensor, seen: Tensor, strength: float = 1.0) -> Tensor:
        """Shrink (B, T, D) by the number of items seen (B,); `strength` scales what is left of the difference."""
        weight = (seen / (seen + self.log_kappa.exp()))[:, None, None]
        return self.prior + strength * weight * (vectors - self.prior)  # w(0) = 0: the prior, bit for bit
