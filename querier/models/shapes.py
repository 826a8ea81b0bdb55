"""Decoders of a known shape with random weights, for measurements that need a size and no language."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from querier.config import DecoderConfig
from querier.models.decoder import Decoder

SMOLLM2_135M = {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}


def shape_of(config: DecoderConfig) -> dict[str, int | bool]:
    """The shape of the small decoder of a configuration."""
    return {
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "intermediate_size": 3 * config.width,
        "num_attention_heads": max(1, config.width // 32),
        "num_key_value_heads": max(1, config.width // 32),
        "vocab_size": config.vocabulary,
        "tie_word_embeddings": True,
    }


def random_decoder(shape: dict[str, int | bool], config: DecoderConfig, seed: int) -> Decoder:
    """A Llama of a shape with random weights, and a tokenizer that knows no word.

    Args:
        shape: Fields of `LlamaConfig`.
        config: Which weights move.
        seed: Of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**shape, bos_token_id=0, eos_token_id=1, pad_token_id=2))
    words = Tokenizer(WordLevel({"<s>": 0, "</s>": 1, "<pad>": 2, "<unk>": 3}, unk_token="<unk>"))  # noqa: S106  # no password
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",  # noqa: S106
    )
    return Decoder(model, tokenizer, config)
