"""Projection heads of the contrastive losses: p_v = normalise(head_v(z_v)), one head a view."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LOWEST, HIGHEST = 0.01, 1.0  # of the temperature


class ViewHeads(nn.Module):
    """Two projection heads and the learned temperature of one contrastive loss.

    Args:
        width: D.
        start: Temperature at the beginning.
        projected: P, size of the compared vectors.
    """

    def __init__(self, width: int, start: float, projected: int = 128) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, projected, bias=False) for _ in range(2))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self, vectors: Tensor, view: int) -> Tensor:
        """Unit vectors (..., P) of the mean over T of tower vectors (..., T, D), by the head of `view`."""
        return functional.normalize(self.heads[view](vectors.mean(-2)).float(), dim=-1)

    def temperature(self) -> Tensor:
        """τ, clamped to [0.01, 1]."""
        return self.log_temperature.clamp(math.log(LOWEST), math.log(HIGHEST)).exp()
