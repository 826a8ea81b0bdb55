"""Heads that turn the fused representation Z (B, T, D) into what a decoder reads.

A soft prompt works with any decoder and server; a prefix reaches every layer but no further than a sliding window; a
residual shift starts as nothing at all, so that an untrained head leaves the decoder as it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from querier.choices import Kind
from querier.errors import InputError
from querier.models.geometry import Geometry
from querier.types import Conditioning

EPSILON = 1e-6


class SoftPrompt(nn.Module):
    """T input embeddings, each of the RMS that the decoder's own have, times a learned gain that starts at 1.

    Args:
        width: D.
        virtual_tokens: T.
        geometry: Sizes of the decoder.
        embedding_rms: Of the decoder's embeddings; kept with the weights, as training may change the decoder's.
    """

    def __init__(self, width: int, virtual_tokens: int, geometry: Geometry, embedding_rms: float) -> None:
        super().__init__()
        self.project = nn.Linear(width, geometry.width)
        self.log_gain = nn.Parameter(torch.zeros(virtual_tokens))
        self.rms: Tensor
        self.register_buffer("rms", torch.tensor(embedding_rms))

    def forward(self, vectors: Tensor) -> Conditioning:
        """Z (B, T, D) as a soft prompt (B, T, W)."""
        scale = self.rms * self.log_gain.exp()[:, None]
        return Conditioning(soft_prompt=scaled(self.project(vectors), scale))


class Prefix(nn.Module):
    """T keys and values for each layer, of the RMS that the decoder's own have there, times learned gains.

    Args:
        width: D.
        geometry: Sizes of the decoder.

    Raises:
        InputError: Where the decoder's layers do not hold keys and values of one shape.
    """

    def __init__(self, width: int, geometry: Geometry) -> None:
        super().__init__()
        if not geometry.kv_heads:
            raise InputError(
                "conditioning.kind=prefix needs a decoder whose layers hold keys and values of one shape; "
                "use soft_prompt or residual"
            )
        self.shape = (geometry.layers, 2, geometry.kv_heads, geometry.head_size)
        self.project = nn.Linear(width, math.prod(self.shape))
        self.log_gain = nn.Parameter(torch.zeros(geometry.layers * 2))
        self.rms: Tensor
        self.register_buffer("rms", torch.tensor([geometry.key_rms, geometry.value_rms]).T.contiguous())

    def forward(self, vectors: Tensor) -> Conditioning:
        """Z (B, T, D) as keys and values of every layer, each (B, heads, T, head size)."""
        found = _normalise(self.project(vectors).unflatten(-1, self.shape))  # (B, T, layers, 2, heads, head size)
        scale = self.rms * self.log_gain.view_as(self.rms).exp()
        found = (found * scale[..., None, None]).permute(2, 3, 0, 4, 1, 5)
        return Conditioning(prefix=[(keys, values) for keys, values in found])


class Residual(nn.Module):
    """A shift of the hidden states after each layer, of low rank and zero at the start.

    What a step of training moves is a share of the hidden states' own RMS, divided among the layers, whose shifts add
    up: those of a large pretrained decoder are a hundred times those of a small one, and it would hardly notice a shift
    that the small one cannot miss.

    Args:
        width: D.
        virtual_tokens: T.
        geometry: Sizes of the decoder.
        rank: Inner size.
        gain: Share of the RMS, over all layers.
    """

    def __init__(self, width: int, virtual_tokens: int, geometry: Geometry, rank: int, gain: float) -> None:
        super().__init__()
        size = virtual_tokens * width
        self.down = nn.Parameter(torch.randn(geometry.layers, size, rank) / math.sqrt(size))
        self.up = nn.Parameter(torch.zeros(geometry.layers, rank, geometry.width))
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(geometry.hidden_rms) * gain / geometry.layers)

    def forward(self, vectors: Tensor) -> Conditioning:
        """Z (B, T, D) as one shift (B, 1, W) for each layer."""
        flat = _normalise(vectors.flatten(1))
        shifts = torch.einsum("bi,lir,lrw->lbw", flat, self.down, self.up) * self.scale[:, None, None]
        return Conditioning(residual=[shift[:, None] for shift in shifts])


class Nothing(nn.Module):
    """The decoder reads text alone."""

    def forward(self, vectors: Tensor) -> Conditioning:
        """An empty conditioning, whatever Z is."""
        return Conditioning()


def build_head(
    kind: Kind,
    geometry: Geometry,
    embedding_rms: float,
    width: int,
    virtual_tokens: int,
    rank: int,
    gain: float,
) -> nn.Module:
    """The head of a kind of conditioning, which maps Z (B, T, D) to a `Conditioning`.

    Args:
        kind: Which one.
        geometry: Sizes of the decoder.
        embedding_rms: RMS of the decoder's input embeddings.
        width: D.
        virtual_tokens: T.
        rank: Of the residual shift.
        gain: Of the residual shift.
    """
    match kind:
        case Kind.soft_prompt:
            return SoftPrompt(width, virtual_tokens, geometry, embedding_rms)
        case Kind.prefix:
            return Prefix(width, geometry)
        case Kind.residual:
            return Residual(width, virtual_tokens, geometry, rank, gain)
        case Kind.none:
            return Nothing()


def scaled(vectors: Tensor, rms: Tensor) -> Tensor:
    """Vectors (..., W) of the given RMS along the last axis, in float32."""
    return _normalise(vectors) * rms


def _normalise(vectors: Tensor) -> Tensor:
    """Vectors of RMS 1 along the last axis, in float32."""
    wide = vectors.float()
    return wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPSILON)
