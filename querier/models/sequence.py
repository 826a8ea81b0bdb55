"""Tokens and conditioning as the keyword arguments of a model's forward."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from querier.errors import InputError
from querier.models.injection import filled_cache, padded_left, positions, with_marked, with_soft_prompt
from querier.models.tokens import IGNORED
from querier.types import Conditioning, MarkedTokens, Tokens


def causal_inputs(
    model: Any, tokens: Tokens, conditioning: Conditioning | None, cached: bool = False
) -> dict[str, Any]:
    """Arguments of a causal model's forward.

    Without conditioning, and without padding at the left, they are ids and mask alone.

    Args:
        model: The `transformers` model.
        tokens: (B, L).
        conditioning: Soft prompt, marked vectors, prefix or none; a residual shift enters by hooks.
        cached: Whether keys and values are kept for later tokens.
    """
    conditioning = conditioning or Conditioning()
    inputs = encoder_inputs(model, tokens, conditioning)
    mask: Tensor = inputs.pop("attention_mask")
    places = positions(mask) if padded_left(mask) else None
    if conditioning.prefix is not None:
        count = conditioning.prefix[0][0].shape[2]
        places = positions(mask) + count
        mask = with_prefix_mask(mask, count)
    if places is not None and takes_positions(type(model)):
        inputs["position_ids"] = places
    inputs["use_cache"] = cached or conditioning.prefix is not None
    if inputs["use_cache"]:
        inputs["past_key_values"] = filled_cache(conditioning.prefix, model.config, model.dtype)
    return {**inputs, "attention_mask": mask}


def seq2seq_inputs(model: Any, tokens: Tokens, conditioning: Conditioning | None) -> dict[str, Any]:
    """Arguments of a seq2seq model's forward: what are embeddings enters the encoder, the prefix the decoder."""
    decoder_ids = shift_right(model, tokens.labels)
    inputs = {**encoder_inputs(model, tokens, conditioning), "decoder_input_ids": decoder_ids, "use_cache": False}
    if conditioning is not None and conditioning.prefix is not None:
        inputs["use_cache"] = True
        inputs["past_key_values"] = seq2seq_cache(model, conditioning)
    return inputs


def encoder_inputs(model: Any, tokens: Tokens, conditioning: Conditioning | None) -> dict[str, Any]:
    """What a causal model or an encoder reads: ids, or embeddings with a soft prompt or with marked vectors.

    Raises:
        InputError: Tokens hold places for vectors that the conditioning does not have.
    """
    conditioning = conditioning or Conditioning()
    embedding, mask = model.get_input_embeddings(), tokens.attention_mask
    if conditioning.marked is not None:
        return {"inputs_embeds": with_marked(embedding, tokens, conditioning.marked), "attention_mask": mask}
    if isinstance(tokens, MarkedTokens):
        raise InputError(
            "the prompt holds places for vectors and the conditioning has none; render it as for a method without them"
        )
    if conditioning.soft_prompt is None:
        return {"input_ids": tokens.input_ids, "attention_mask": mask}
    vectors, mask = with_soft_prompt(embedding, tokens.input_ids, mask, conditioning.soft_prompt)
    return {"inputs_embeds": vectors, "attention_mask": mask}


def seq2seq_cache(model: Any, conditioning: Conditioning | None) -> EncoderDecoderCache:
    """A cache whose self-attention holds the prefix, if there is one."""
    prefix = None if conditioning is None else conditioning.prefix
    return EncoderDecoderCache(filled_cache(prefix, None, model.dtype), DynamicCache())


def shift_right(model: Any, labels: Tensor) -> Tensor:
    """What a seq2seq decoder reads to predict `labels`, (B, L')."""
    start = decoder_start(model)
    shifted = labels.new_full(labels.shape, start)
    shifted[:, 1:] = labels[:, :-1]
    fill = model.config.pad_token_id
    return shifted.masked_fill(shifted == IGNORED, start if fill is None else fill)


def decoder_start(model: Any) -> int:
    """The id that a seq2seq decoder's sequence begins with."""
    given = getattr(model.config, "decoder_start_token_id", None)
    if given is None:
        given = model.generation_config.decoder_start_token_id
    return int(model.config.pad_token_id or 0) if given is None else int(given)


def with_prefix_mask(mask: Tensor, count: int) -> Tensor:
    """The mask (B, L) with `count` visible places before it."""
    return torch.cat([mask.new_ones(len(mask), count), mask], dim=1)


def takes_positions(kind: Any) -> bool:
    """Whether a model's forward reads `position_ids`."""
    return "position_ids" in inspect.signature(kind.forward).parameters
