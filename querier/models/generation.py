"""Writing replies token by token, with cached keys and values, for a padded batch and every kind of conditioning."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor
from transformers.modeling_outputs import BaseModelOutput

from querier.errors import InputError
from querier.models.injection import only, padded_left, positions, shifted, virtual_tokens
from querier.models.sequence import causal_inputs, decoder_start, encoder_inputs, seq2seq_cache, takes_positions
from querier.types import Conditioning, Tokens, take

if TYPE_CHECKING:
    from querier.models.decoder import Decoder


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Args:
        temperature: 0 takes the likeliest one.
        generator: Source of randomness on the decoder's device, for a temperature above 0.
        repetition_penalty: Above 1 a token that the reply holds already becomes less likely: its logit is divided by
            this where positive, else multiplied (CTRL, Keskar et al. 2019, section 4.1; there 1.2). 1 for none.

    Raises:
        InputError: Sampling without a generator.
    """

    temperature: float = 0.0
    generator: torch.Generator | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature > 0 and self.generator is None:
            raise InputError(
                f"temperature={self.temperature} samples and needs a torch.Generator; 0 is greedy and does not"
            )

    def choose(self, logits: Tensor, said: list[Tensor]) -> Tensor:
        """The next token of each row, (B,), from its logits (B, vocabulary) and the reply's tokens, (B,) each."""
        if self.repetition_penalty != 1 and said:
            penalise = RepetitionPenaltyLogitsProcessor(float(self.repetition_penalty))
            logits = penalise(torch.stack(said, dim=1), logits)
        if self.temperature <= 0:
            return logits.argmax(-1)
        shares = torch.softmax(logits.float() / self.temperature, dim=-1)
        return torch.multinomial(shares, 1, generator=self.generator)[:, 0]


GREEDY = Sampling()


def generate_ids(
    decoder: Decoder,
    tokens: Tokens,
    conditioning: Conditioning | None,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
) -> list[list[int]]:
    """New token ids of each row, its end included.

    Args:
        decoder: In evaluation mode.
        tokens: Prompts, (B, L), left-padded for a causal decoder.
        conditioning: Of the B rows; None for none.
        max_new_tokens: Length limit; a row ends before it where the model has no more positions.
        sampling: How each token is chosen.
    """
    conditioning = conditioning or Conditioning()
    limit = min(max_new_tokens, _room(decoder, tokens, conditioning))
    if padded_left(tokens.attention_mask) and (limit < max_new_tokens or _must_not_pad(decoder, conditioning)):
        return _by_length(decoder, tokens, conditioning, max_new_tokens, sampling)
    if limit < 1:
        return [[] for _ in tokens.input_ids]
    stops = torch.tensor(sorted(decoder.tokens.stops), device=tokens.input_ids.device)
    ended = torch.zeros(len(tokens.input_ids), dtype=torch.bool, device=tokens.input_ids.device)
    said: list[Tensor] = []
    found: list[Tensor] = []
    with shifted(decoder.layers, conditioning.residual):
        steps = (_Seq2Seq if decoder.seq2seq else _Causal)(decoder.bare, tokens, conditioning)
        while True:
            chosen = sampling.choose(steps.logits, said)
            said.append(chosen)
            found.append(torch.where(ended, -1, chosen))
            ended = ended | torch.isin(chosen, stops)
            if len(found) == limit or bool(ended.all()):
                break
            steps.advance(chosen)
    return [[token for token in row if token >= 0] for row in torch.stack(found, dim=1).tolist()]


class _Causal:
    """The state of a causal model between two tokens; `logits` (B, vocabulary) are those of the next one."""

    def __init__(self, model: Any, tokens: Tokens, conditioning: Conditioning) -> None:
        self.model = model
        inputs = causal_inputs(model, tokens, conditioning, cached=True)
        self.mask: Tensor = inputs["attention_mask"]
        self.cache = inputs["past_key_values"]
        self.logits = self._last(inputs)

    def advance(self, chosen: Tensor) -> None:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(chosen), 1)], dim=1)
        inputs = {"input_ids": chosen[:, None], "attention_mask": self.mask, "past_key_values": self.cache}
        if takes_positions(type(self.model)):
            inputs["position_ids"] = positions(self.mask)[:, -1:]
        self.logits = self._last({**inputs, "use_cache": True})

    def _last(self, inputs: dict[str, Any]) -> Tensor:
        rows = torch.arange(len(self.mask), device=self.mask.device)
        with only(self.model.get_output_embeddings(), rows, torch.full_like(rows, -1)):
            logits: Tensor = self.model(**inputs).logits
        return logits[0]


class _Seq2Seq:
    """The same of a seq2seq model; its encoder runs once."""

    def __init__(self, model: Any, tokens: Tokens, conditioning: Conditioning) -> None:
        self.model = model
        inputs = encoder_inputs(model, tokens, conditioning)
        self.mask = inputs["attention_mask"]
        self.encoded: Tensor = model.get_encoder()(**inputs).last_hidden_state
        self.cache = seq2seq_cache(model, conditioning)
        self.advance(tokens.input_ids.new_full((len(tokens.input_ids),), decoder_start(model)))

    def advance(self, chosen: Tensor) -> None:
        found = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.encoded),
            attention_mask=self.mask,
            decoder_input_ids=chosen[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits: Tensor = found.logits[:, -1]


def _room(decoder: Decoder, tokens: Tokens, conditioning: Conditioning) -> int:
    """New tokens that the model has positions for behind the longest row."""
    limit = decoder.geometry.positions
    if limit is None:
        return sys.maxsize
    taken = 0 if conditioning.prefix is None else conditioning.prefix[0][0].shape[2]
    if not decoder.seq2seq:  # whose prompt stands in the encoder
        taken += int(tokens.attention_mask.sum(1).max()) + virtual_tokens(conditioning)
    return max(0, limit - taken)


def _must_not_pad(decoder: Decoder, conditioning: Conditioning) -> bool:
    """Padding between a prefix and the tokens would push the prefix out of a window, or far away without positions."""
    slides = any(window is not None for window in decoder.geometry.sliding)
    counts = not takes_positions(type(decoder.bare))  # places in the cache, padding among them, as ALiBi of MPT
    return conditioning.prefix is not None and (slides or counts) and not decoder.seq2seq


def _by_length(
    decoder: Decoder,
    tokens: Tokens,
    conditioning: Conditioning,
    max_new_tokens: int,
    sampling: Sampling,
) -> list[list[int]]:
    """The same, rows of one length at a time and hence without padding."""
    lengths = tokens.attention_mask.sum(1)
    found: dict[int, list[int]] = {}
    for length in sorted(set(lengths.tolist())):
        rows = (lengths == length).nonzero()[:, 0]
        part = replace(tokens, **{name: value[rows, -length:] for name, value in vars(tokens).items()})
        ids = generate_ids(decoder, part, take(conditioning, rows), max_new_tokens, sampling)
        found.update(zip(rows.tolist(), ids, strict=True))
    return [found[row] for row in range(len(lengths))]
