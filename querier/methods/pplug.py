"""Persona-Plug (PPlug): all of the history as one soft token of a frozen decoder.

Liu et al., "LLMs + Persona-Plug = Personalized LLMs", arXiv 2409.11901, section 3. A history item is one frozen vector
h_j; a second, trained encoder reads the query; the personal token is Σ_j softmax_j(⟨q, h_j⟩) MLP(h_j), and a trained
instruction token stands before it.

As published (`conditioning.faithful=true`) three things change results and are kept: the attention has no temperature,
so that with cosines it is nearly a mean; both tokens are multiplied by constants that were fitted to one decoder's
embeddings (539.9738, the instruction token divided by 7); and a querier without history gives not-a-number, but in
training, which it would end: there the sum over no item is zero, and the row trains the instruction token alone. Mended
(default) the temperature is learned, the tokens have the RMS of the decoder's own embeddings, and without history a
learned vector stands in.

What differs from the paper in both: our cache holds what was asked and what was answered apart, so h_j is the direction
of their sum; the history is thinned anew at each step (`towers.history_dropout`) instead of ten fixed times.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from querier.choices import Train
from querier.config import Config
from querier.models.conditioner import Conditioner
from querier.models.conditioning import scaled
from querier.models.geometry import Geometry
from querier.models.query_encoder import QueryEncoder
from querier.types import Batch, Conditioning, Items

PERSONAL, INSTRUCTION = 539.9738, 539.9738 / 7.0  # of the released code, for FlanT5-XXL
START = 10.0  # inverse temperature that mended attention starts from


class PersonaPlug(Conditioner):
    """One personal token and one instruction token before the prompt.

    Args:
        config: Reads `conditioning`, `encoder` and `seed`.
        size: E.
        geometry: Sizes of the decoder.
        embedding_rms: RMS of the decoder's input embeddings.
    """

    def __init__(self, config: Config, size: int, geometry: Geometry, embedding_rms: float) -> None:
        super().__init__()
        self.faithful = config.conditioning.faithful
        self.scales = not self.faithful
        self.places = 2
        if config.encoder.train is not Train.frozen:
            self.encoder = QueryEncoder(config.encoder, config.seed)
        self.instruction = nn.Parameter(torch.rand(size))
        self.align_instruction = _two_layers(size, geometry.width)
        self.align = _two_layers(size, geometry.width)
        if not self.faithful:
            self.nobody = nn.Parameter(torch.randn(geometry.width))
            self.log_scale = nn.Parameter(torch.tensor(math.log(START)))
            self.log_gain = nn.Parameter(torch.zeros(2))
        self.rms: Tensor
        self.register_buffer("rms", torch.tensor(embedding_rms))

    def condition(self, batch: Batch, strength: float = 1.0) -> Conditioning:
        """The instruction token and the personal token, (B, 2, W).

        As published there is no answer without history, hence no `strength` but 1.
        """
        query = self.encoder(batch.asked) if self.encoder is not None else batch.query
        weights = self.attention(query, batch.history)
        personal = (weights[:, None] @ self.align(one_vector(batch.history)))[:, 0]
        instruction = self.align_instruction(self.instruction).expand_as(personal)
        if self.faithful:
            tokens = torch.stack([instruction * INSTRUCTION, personal * PERSONAL], 1)
        else:
            known = batch.history.mask.any(1, keepdim=True)
            personal = self.nobody + strength * torch.where(known, personal - self.nobody, 0.0)
            tokens = scaled(torch.stack([instruction, personal], 1), self.rms * self.log_gain.exp()[:, None])
        nothing = 1 - weights.detach().sum(1, keepdim=True)  # stands where other methods have their null item
        explain = {"attention": torch.cat([nothing, weights.detach()], 1)[:, None]}
        return Conditioning(soft_prompt=tokens, explain=explain)

    def attention(self, query: Tensor, history: Items) -> Tensor:
        """Weights of the items, (B, E) and (B, H) to (B, H).

        An empty row has not-a-number as published, outside of training, and else 0.
        """
        scores = (one_vector(history) @ query[:, :, None])[..., 0]
        if self.faithful and not self.training:
            return scores.masked_fill(~history.mask, float("-inf")).softmax(-1)
        known = history.mask.any(1, keepdim=True)
        if not self.faithful:
            scores = scores * self.log_scale.clamp(max=math.log(100.0)).exp()
        return scores.masked_fill(~history.mask & known, float("-inf")).softmax(-1) * known


def one_vector(history: Items) -> Tensor:
    """One unit vector of each item, (B, H, E): the direction of what was asked and what was answered together."""
    return functional.normalize(history.inputs + history.outputs, dim=-1)


def _two_layers(size: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, width), nn.GELU(), nn.Linear(width, width))
