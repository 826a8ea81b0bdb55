"""Expectation: the style that a history lets one expect of the next reply, told to the decoder.

A reply's style is its stylometry less what its query's cluster shares, whitened. Of each feature the best linear guess
from n earlier replies is their mean, shrunk by n / (n + κ) with κ = (1 − ρ) / ρ, where ρ is the share of the feature's
variance in the pool that lies between queriers. That is empirical Bayes and needs no gradient.

What the decoder has to learn is how to write when a style is expected; of that a history says so little that hundreds
of steps teach it nothing. So on a share of the training rows it reads an *echo* instead: the style of the very reply
that it is to write, under so much noise that it is but a good guess. There the lesson is loud, and as both are guesses
of known reliability, what is learned from one holds for the other.

References:
    Robinson: That BLUP is a good thing, Statistical Science 1991, sections 1 and 5 (shrinkage by reliability).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from querier.models.centre import Centre
from querier.models.geometry import Geometry
from querier.types import STYLE, Echo, Items

MOST = 0.9  # of ρ: pools of few replies are not trusted beyond it
TRUST = 0.25  # at the start
HASTE = (
    10.0  # how much faster than its parameter the logarithm of the trust moves: it is to settle in some hundred steps
)


class Expectation(nn.Module):
    """A guess of the reply's style, and the shift of each layer that makes the decoder expect it.

    A guess ŝ of reliability R = var ŝ is told as ŝ / (1 − R), the natural parameter of a normal variable of unit
    variance of which so much is known: a vague guess and a sure one then ask for the same shift per unit. But the first
    words of a reply tell of its style too, and the shift is learned from few rows; so a guess is told with a trust that
    the language-model loss on histories learns, while an echo is told in full.

    Args:
        clusters: C.
        geometry: Sizes of the decoder.
        gain: Of the shift, as `Residual` has it.
    """

    between: Tensor  # (S,), ρ of each feature

    def __init__(self, clusters: int, geometry: Geometry, gain: float) -> None:
        super().__init__()
        self.centre = Centre(clusters, STYLE, STYLE)
        self.up = nn.Parameter(torch.zeros(geometry.layers, STYLE, geometry.width))
        self.register_buffer("between", torch.zeros(STYLE))
        self.log_trust = nn.Parameter(torch.tensor(math.log(TRUST) / HASTE))
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(geometry.hidden_rms) * gain / geometry.layers)

    @torch.no_grad()
    def fit(self, style: np.ndarray, cluster: np.ndarray, querier: np.ndarray) -> None:
        """Take whitening and ρ from the pool, ρ by analysis of variance.

        Args:
            style: Stylometry of the pool's replies, (n, S).
            cluster: Cluster of each reply's query, (n,).
            querier: Who got each of them, (n,).
        """
        self.centre.fit(style, cluster)
        whitened = self.centre(torch.from_numpy(style), torch.from_numpy(cluster)).numpy().astype(np.float64)
        self.between.copy_(torch.from_numpy(share_between(whitened, querier)))

    def guess(self, history: Items) -> Tensor:
        """What histories (B, H) tell, (B, S); 0 without an item."""
        style = self.centre(history.style, history.cluster)
        seen = history.mask.sum(1, keepdim=True)
        total = torch.where(history.mask[..., None], style, 0.0).sum(1)
        shrunk = self.between / (1.0 + (seen - 1.0) * self.between)  # n times this is n / (n + κ)
        reliability = self.between * seen * shrunk
        trust = (HASTE * self.log_trust).exp()
        return trust * total * shrunk / (1.0 - reliability)

    def echo(self, echo: Echo) -> Tensor:
        """What replies tell of themselves under noise, (R, S)."""
        style, share = self.centre(echo.style, echo.cluster), echo.reliability[:, None]
        told: Tensor = (share * style + (share * (1.0 - share)).sqrt() * echo.noise) / (1.0 - share)
        return told

    def forward(self, told: Tensor) -> list[Tensor]:
        """The shift (B, 1, W) of each layer for what is told, (B, S)."""
        shifts = torch.einsum("bs,lsw->lbw", told, self.up) * self.scale[:, None, None]
        return [shift[:, None] for shift in shifts]


def share_between(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Share of each column's variance that lies between groups, by analysis of variance, 0 to `MOST`.

    Args:
        values: (n, F).
        group: Of each row, (n,); with a single group, or none of two rows, nothing can be told and the share is 0.
    """
    _, place, count = np.unique(group, return_inverse=True, return_counts=True)
    groups, rows = len(count), len(values)
    if groups < 2 or rows <= groups:
        return np.zeros(values.shape[1])
    means = np.zeros((groups, values.shape[1]))
    np.add.at(means, place, values)
    means /= count[:, None]
    within = ((values - means[place]) ** 2).sum(0) / (rows - groups)
    among = (count[:, None] * (means - values.mean(0)) ** 2).sum(0) / (groups - 1)
    size = (rows - (count**2).sum() / rows) / (groups - 1)  # rows of a group, as unequal groups count
    variance = np.clip((among - within) / size, 0.0, None)
    share: np.ndarray = np.clip(variance / np.maximum(variance + within, 1e-12), 0.0, MOST)
    return share
