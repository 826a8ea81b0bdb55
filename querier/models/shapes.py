"""A decoder of a known shape with random weights, for measurements that need a size and no language."""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from querier.decoder_config import DecoderConfig
from querier.models.decoder import Decoder
from querier.models.small import train_tokenizer

SMOLLM2_135M: Final[dict[str, Any]] = {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49_152,
    "tie_word_embeddings": True,
}


def random_decoder(shape: dict[str, Any], config: DecoderConfig, seed: int, tokenizer: Any = None) -> Decoder:
    """A Llama of a shape with random weights.

    Args:
        shape: Fields of `LlamaConfig`.
        config: Which weights move.
        seed: Of the weights.
        tokenizer: A fast tokenizer of `transformers`; None for one that knows bytes only.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**shape))
    return Decoder(model, tokenizer or train_tokenizer(["text"], 300), config)
