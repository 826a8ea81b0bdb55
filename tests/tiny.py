"""Tiny decoders with random weights, built in memory, and dialogues for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MptConfig,
    MptForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from querier.choices import DecoderKind, Train
from querier.decoder_config import DecoderConfig
from querier.models.decoder import Decoder
from querier.models.small import train_tokenizer
from querier.types import Rendered

ARCHITECTURES = ("llama", "qwen3", "gpt2", "gemma3", "t5")
CHAT = ("llama", "qwen3", "gemma3")  # the others have no chat template, so that both ways of rendering are used
QUERIES = (
    "What is yeast?",
    "How do tides work, and why are there two of them on most days?",
    "Why does bread rise?",
    "Tell me how a sail pulls a boat against the wind.",
)
REPLIES = ("Tiny living things.", "The moon pulls the water.", "Gas in the dough, friend.", "Like a wing.")


def tiny_rendered(n: int) -> list[Rendered]:
    """Dialogues of different lengths."""
    return [
        Rendered((("user", QUERIES[i % 4] + " Again?" * (i // 4)),), REPLIES[(i + i // 4) % 4], ("Ann", "Tutor"))
        for i in range(n)
    ]


def tiny_tokenizer(chat: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer; a new object each time, as tests may change it."""
    tokenizer = train_tokenizer([*QUERIES, *REPLIES], 320)
    if not chat:
        tokenizer.chat_template = None
    return tokenizer


def tiny_model(architecture: str, **changes: Any) -> nn.Module:
    """A model of two layers and width 32; `changes` go to its configuration."""
    size = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    gated = {**size, **ids, "intermediate_size": 48, "num_key_value_heads": 2, "initializer_range": 0.2}
    made: dict[str, Any] = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**{**gated, **changes})),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**{**gated, "head_dim": 8, **changes})),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**{**_gpt2(), **ids, **changes})),
        "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**{**gated, **_gemma3(), **changes})),
        "gpt_neo": lambda: GPTNeoForCausalLM(GPTNeoConfig(**{**_gpt_neo(), **ids, **changes})),
        "mpt": lambda: MptForCausalLM(MptConfig(**{**_mpt(), **ids, **changes})),
        "bart": lambda: BartForConditionalGeneration(BartConfig(**{**_bart(), **ids, **changes})),
        "t5": lambda: T5ForConditionalGeneration(T5Config(**{**_t5(), **ids, **changes})),
    }
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model: Any = made[architecture]()
    if architecture == "t5":  # embeddings as large as T5 draws them drown the layers: it would repeat what it read
        model.get_input_embeddings().weight.data.mul_(0.1)
    return model


def tiny_decoder(architecture: str = "llama", train: Train = Train.full, **changes: Any) -> Decoder:
    """A decoder on a tiny model; `changes` go to `DecoderConfig`."""
    settings = {"kind": DecoderKind.pretrained, "path": architecture, "train": train, "lora_rank": 4, **changes}
    return Decoder(tiny_model(architecture), tiny_tokenizer(architecture in CHAT), DecoderConfig(**settings)).eval()


def _gpt2() -> dict[str, Any]:
    size = {"vocab_size": 320, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 320, "initializer_range": 0.2}
    return {**size, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def _gemma3() -> dict[str, Any]:
    kinds = ["sliding_attention", "full_attention"]
    return {"head_dim": 8, "sliding_window": 12, "layer_types": kinds, "query_pre_attn_scalar": 8}


def _gpt_neo() -> dict[str, Any]:
    kinds = {"attention_types": [[["global", "local"], 1]], "window_size": 32, "max_position_embeddings": 320}
    size = {"vocab_size": 320, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "initializer_range": 0.2}
    return {**size, **kinds, "resid_dropout": 0.0, "embed_dropout": 0.0, "attention_dropout": 0.0}


def _mpt() -> dict[str, Any]:
    return {"vocab_size": 320, "d_model": 32, "n_layers": 2, "n_heads": 4, "initializer_range": 0.2}


def _bart() -> dict[str, Any]:
    sides = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    width = {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 192}
    start = {"decoder_start_token_id": 1, "forced_eos_token_id": None}
    return {"vocab_size": 320, "dropout": 0.0, "init_std": 0.2, **sides, **width, **start}


def _t5() -> dict[str, Any]:
    size = {"vocab_size": 320, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    return {**size, "decoder_start_token_id": 2, "dropout_rate": 0.0}
