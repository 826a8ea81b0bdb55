"""A small decoder from random weights: tokenizer trained on the pool's texts, a few Llama layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from querier.combinations import HEAD_SIZE
from querier.decoder_config import DecoderConfig
from querier.models.decoder import Decoder

START, END, PAD = "<s>", "</s>", "<pad>"
ROLES = ("<system>", "<user>", "<assistant>")
POSITIONS = 2048
TEMPLATE = (
    "{{ '<s>' }}{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] + '</s>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template; no text is outside of its vocabulary.

    Args:
        texts: Of the training split.
        vocabulary: Number of tokens at most; fewer where the texts have fewer pairs to join.
    """
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[START, END, PAD, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    plain.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # of transformers
        tokenizer_object=plain,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def new_small_decoder(config: DecoderConfig, tokenizer: Any, seed: int) -> Decoder:
    """A Llama of `config.layers` × `config.width` with random weights, all of them trainable.

    Args:
        config: Sizes (the width a multiple of `HEAD_SIZE`), dropout and dtype; `train` is that of the decoder that is
            returned, hence `full` for a base.
        tokenizer: From `train_tokenizer`.
        seed: Of the weights; the global random state stays as it was.
    """
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        intermediate_size=-(-config.width * 8 // (3 * HEAD_SIZE)) * HEAD_SIZE,  # 8/3 of the width, rounded up
        num_hidden_layers=config.layers,
        num_attention_heads=config.width // HEAD_SIZE,
        num_key_value_heads=config.width // HEAD_SIZE,
        max_position_embeddings=POSITIONS,
        attention_dropout=config.dropout,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(shape)
    return Decoder(model, tokenizer, config)
