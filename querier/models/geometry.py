"""What a conditioning must know of a decoder: its sizes, and how large its own vectors are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from querier.errors import InputError

CHUNK = 16_384  # rows of the embedding matrix that are measured at once
PROBE = 16  # tokens read to measure hidden states, keys and values
WINDOWS = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size", "local": "window_size"}


@dataclass(frozen=True)
class Geometry:
    """Sizes of a decoder.

    Args:
        layers: Number of layers; for a seq2seq model those of its decoder.
        width: W.
        heads: Attention heads of a layer.
        kv_heads: Heads of keys and values; 0 where the layers differ or hold no plain keys, so that no prefix fits.
        head_size: Size of a key.
        vocabulary: Number of token ids that have a logit.
        sliding: For each layer the number of tokens it looks back at, None for all.
        key_rms: For each layer the RMS of the keys in the cache.
        value_rms: For each layer the RMS of the values in the cache.
        hidden_rms: For each layer the RMS of the hidden states behind it, the median over tokens: in some models the
            first one's are a hundred times larger.
        positions: Tokens that the model has places for, None where it states no limit.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    sliding: tuple[int | None, ...]
    key_rms: tuple[float, ...] = ()
    value_rms: tuple[float, ...] = ()
    hidden_rms: tuple[float, ...] = ()
    positions: int | None = None


def find_layers(model: nn.Module, seq2seq: bool) -> nn.ModuleList:
    """The list of layers that a decoder runs through.

    Raises:
        InputError: Where the model holds no list of `num_hidden_layers` modules.
    """
    whole: Any = model
    config = whole.config.get_text_config(decoder=True)
    count = getattr(config, "num_decoder_layers", None) if seq2seq else None
    count = count or config.num_hidden_layers
    root = whole.get_decoder() if seq2seq else whole
    lists = [part for part in root.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    if not lists:
        raise InputError(
            f"{type(model).__name__} holds no list of {count} layers; the decoder must be a plain transformers "
            "causal or seq2seq model"
        )
    return max(lists, key=lambda part: sum(value.numel() for value in part.parameters()))


@torch.no_grad()
def measure_embedding(model: nn.Module) -> float:
    """RMS of the vectors that enter the first layer, a scale that the model applies included."""
    whole: Any = model
    embedding = whole.get_input_embeddings()
    count, device = embedding.weight.shape[0], embedding.weight.device
    squares, rows = 0.0, 0
    for start in range(0, count, CHUNK):
        vectors = embedding(torch.arange(start, min(start + CHUNK, count), device=device)).double()
        used = vectors.ne(0).any(-1)  # a padding row is zero and would lower the mean
        squares += float(vectors[used].pow(2).mean(-1).sum())
        rows += int(used.sum())
    return (squares / max(1, rows)) ** 0.5 or 1.0


@torch.no_grad()
def measure(model: nn.Module, seq2seq: bool) -> Geometry:
    """Sizes of a model, read off its configuration and off one short forward pass.

    Raises:
        InputError: Where the model has no cache of keys and values, or holds no list of its layers.
    """
    whole: Any = model
    config = whole.config.get_text_config(decoder=True)
    vocabulary = whole.get_output_embeddings().weight.shape[0]
    found = find_layers(model, seq2seq)
    layers = len(found)
    hidden: list[torch.Tensor] = []
    handles = [layer.register_forward_hook(partial(_note, hidden)) for layer in found]
    try:
        keys, values = _probe(model, seq2seq, layers)
    finally:
        for handle in handles:
            handle.remove()
    shapes = {(key.shape[1], key.shape[3]) for key in keys} | {(value.shape[1], value.shape[3]) for value in values}
    plain = len(shapes) == 1 and len(keys) == layers
    kv_heads, head_size = next(iter(shapes)) if plain else (0, 0)
    return Geometry(
        layers=layers,
        width=int(whole.get_input_embeddings().weight.shape[1]),
        heads=int(config.num_attention_heads),
        kv_heads=kv_heads,
        head_size=head_size,
        vocabulary=int(vocabulary),
        sliding=_sliding(config, layers),
        key_rms=tuple(_rms(key) for key in keys),
        value_rms=tuple(_rms(value) for value in values),
        hidden_rms=tuple(float(states.double().pow(2).mean(-1).sqrt().median()) or 1.0 for states in hidden),
        positions=getattr(config, "max_position_embeddings", None),
    )


def _probe(model: nn.Module, seq2seq: bool, layers: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Keys and values that the model itself makes of some tokens, one of each for a layer that holds them."""
    whole: Any = model
    embedding = whole.get_input_embeddings().weight
    ids = torch.linspace(0, embedding.shape[0] - 1, PROBE, device=embedding.device).long()[None]
    training = model.training
    model.eval()
    inputs = {"input_ids": ids, "use_cache": True, **({"decoder_input_ids": ids} if seq2seq else {})}
    cache: Any = getattr(whole(**inputs), "past_key_values", None)
    model.train(training)
    cache = getattr(cache, "self_attention_cache", None) if seq2seq else cache
    if not hasattr(cache, "layers"):
        raise InputError(
            f"{type(model).__name__} keeps no keys and values of the tokens it has read, as models without attention; "
            "use decoder=small, decoder=smollm2 or another decoder whose layers attend, as Llama, Qwen, GPT-2 or T5"
        )
    held = [layer for layer in cache.layers[:layers] if getattr(layer, "keys", None) is not None]
    return [layer.keys for layer in held], [layer.values for layer in held]


def _note(seen: list[torch.Tensor], layer: nn.Module, given: Any, output: Any) -> None:
    seen.append(output[0] if isinstance(output, tuple) else output)


def _rms(tensor: torch.Tensor) -> float:
    return float(tensor.double().pow(2).mean().sqrt()) or 1.0


def _sliding(config: Any, layers: int) -> tuple[int | None, ...]:
    kinds = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None)
    names = [WINDOWS.get(kind, "") for kind in kinds[:layers]] if kinds else ["sliding_window"] * layers
    windows = (getattr(config, name, None) for name in names)
    return tuple(int(window) if window else None for window in windows)
