"""How the querier-specific and the general representation become one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from querier.choices import Fusion

PERSONAL = 2.0
"""First bias of the gate, σ(2) = .88 on the querier's side.

An even gate halves what is personal while it is still to be found, and the decoder learns to do without it; the gate
moves towards the general side where that helps.
"""


class GateFusion(nn.Module):
    """Z = g ⊙ Z_s + (1 − g) ⊙ Z_g with g = σ(W[Z_s; Z_g] + b), one number a virtual token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width, 1)
        nn.init.constant_(self.gate.bias, PERSONAL)

    def forward(self, specific: Tensor, general: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) twice to (B, T, D) and the gate (B, T, 1)."""
        gate = torch.sigmoid(self.gate(torch.cat([specific, general], -1)))
        return gate * specific + (1 - gate) * general, gate


class ConcatFusion(nn.Module):
    """Z = W[Z_s; Z_g]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * width, width)

    def forward(self, specific: Tensor, general: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) twice to (B, T, D)."""
        return self.mix(torch.cat([specific, general], -1)), None


class FilmFusion(nn.Module):
    """Z = (1 + a(Z_s)) ⊙ Z_g + b(Z_s)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 2 * width)

    def forward(self, specific: Tensor, general: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) twice to (B, T, D)."""
        scale, shift = self.modulation(specific).chunk(2, -1)
        return (1 + scale) * general + shift, None


class CrossAttentionFusion(nn.Module):
    """Z = Z_s + attention of Z_s to Z_g."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, specific: Tensor, general: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) twice to (B, T, D)."""
        return specific + self.attention(specific, general, general, need_weights=False)[0], None


def build_fusion(choice: Fusion, width: int, heads: int) -> nn.Module:
    """The chosen fusion for vectors of `width`."""
    match choice:
        case Fusion.gate:
            return GateFusion(width)
        case Fusion.concat:
            return ConcatFusion(width)
        case Fusion.film:
            return FilmFusion(width)
        case Fusion.cross_attention:
            return CrossAttentionFusion(width, heads)
