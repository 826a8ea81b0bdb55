"""How a conditioning enters a decoder: soft prompt, prefix, or a shift of the hidden states.

The soft prompt stands directly before the first token that is not padding, also in a left-padded batch, so that a
window that counts places sees the same distances as in an unpadded row. Marked vectors stand in place of the
embeddings of tokens that only hold their places. A prefix stands in the cache before all
tokens; its keys are taken as they are, as keys at the positions 0 … T − 1, and the first token has position T. Layers
with a sliding window of w tokens see no prefix, and no soft prompt, from w tokens on: deeper layers still hold what
the earlier tokens took from it, but a model whose layers all slide forgets it in the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from querier.types import Conditioning, MarkedTokens, Tokens


@contextmanager
def shifted(layers: nn.ModuleList, shifts: Sequence[Tensor] | None) -> Iterator[None]:
    """Add a shift (B, 1, W) to what each layer gives, inside the block.

    Args:
        layers: The decoder's layers.
        shifts: One for each layer; None changes nothing.
    """
    handles = []
    try:
        for layer, shift in zip(layers, shifts or (), strict=shifts is not None):
            handles.append(layer.register_forward_hook(_adder(shift)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _adder(shift: Tensor) -> Any:
    def add(module: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] + shift.to(output[0].dtype), *output[1:])
        return output + shift.to(output.dtype)

    return add


@contextmanager
def only(door: Any, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """Let only some positions into the output layer, inside the block; the logits come out as (1, n, vocabulary).

    The model's own forward runs, so whatever it does to hidden states or logits around that layer is kept. Outside of
    training the layer computes in its weights' own precision, in mixed precision too: logits that are rounded to eight
    bits would hide small differences between two readings of one reply.

    Args:
        door: The output layer.
        rows: Rows of the positions, (n,) int64.
        columns: Places of the positions in the sequence, (n,) int64.
    """
    own = door.weight.dtype
    exact = ExitStack()

    def choose(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        chosen = inputs[0][rows, columns][None]
        if not torch.is_grad_enabled():
            chosen = chosen.to(own)
            exact.enter_context(torch.autocast(chosen.device.type, enabled=False))
        return (chosen, *inputs[1:])

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        exact.close()

    handles = [door.register_forward_pre_hook(choose), door.register_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def virtual_tokens(conditioning: Conditioning | None) -> int:
    """How many places a soft prompt takes in the sequence of a causal decoder or of an encoder."""
    soft = None if conditioning is None else conditioning.soft_prompt
    return 0 if soft is None else soft.shape[1]


def with_soft_prompt(
    embedding: nn.Module, input_ids: Tensor, attention_mask: Tensor, soft_prompt: Tensor
) -> tuple[Tensor, Tensor]:
    """Input embeddings (B, T + L, W) and mask (B, T + L), a soft prompt (B, T, W) before each first token."""
    vectors = embedding(input_ids)
    soft_prompt = soft_prompt.to(vectors.dtype)
    count = soft_prompt.shape[1]
    joined = torch.cat([soft_prompt, vectors], dim=1)
    mask = torch.cat([attention_mask.new_ones(len(input_ids), count), attention_mask], dim=1)
    if not padded_left(attention_mask):
        return joined, mask
    skipped = attention_mask.argmax(1)[:, None]  # padding before the first token
    place = torch.arange(mask.shape[1], device=mask.device)[None]
    source = torch.where(place < skipped, place + count, torch.where(place < skipped + count, place - skipped, place))
    moved = joined.gather(1, source[..., None].expand_as(joined))
    return moved, mask.gather(1, source)


def with_marked(embedding: nn.Module, tokens: Tokens, marked: Tensor) -> Tensor:
    """Input embeddings (B, L, W), at marked places the vectors (B, S, W) of these numbers.

    Without any mark they are the embeddings themselves, and the vectors have a gradient of zero.
    """
    vectors: Tensor = embedding(tokens.input_ids)
    marks = tokens.marks if isinstance(tokens, MarkedTokens) else torch.full_like(tokens.input_ids, -1)
    rows, places = (marks >= 0).nonzero(as_tuple=True)
    return vectors.index_put((rows, places), marked[rows, marks[rows, places]].to(vectors.dtype))


def padded_left(attention_mask: Tensor) -> bool:
    """Whether any row begins with padding."""
    return not bool(attention_mask[:, 0].all())


def filled_cache(prefix: Sequence[tuple[Tensor, Tensor]] | None, config: Any, dtype: torch.dtype) -> DynamicCache:
    """A cache that holds a prefix, or nothing.

    Args:
        prefix: For each layer keys and values, each (B, heads, T, head size).
        config: The model's configuration, for the window of each layer; None where every layer sees everything.
        dtype: Of the decoder.
    """
    cache = DynamicCache() if config is None else DynamicCache(config=config)
    for layer, (keys, values) in enumerate(prefix or ()):
        cache.update(keys.to(dtype), values.to(dtype), layer)
    return cache


def positions(attention_mask: Tensor) -> Tensor:
    """Place of each token among the tokens that are not padding, (B, L) int64."""
    return (attention_mask.cumsum(1) - 1).clamp(min=0)
