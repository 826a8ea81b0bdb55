"""The language model that answers: any causal or seq2seq model of `transformers`, with or without conditioning.

Log-probabilities are computed by the model's own forward, but its output layer sees only the positions that predict a
labelled token: with a large vocabulary that layer is a good part of the cost, and a prompt has no labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from querier.choices import Attention, DecoderKind, Train
from querier.decoder_config import WHOLE, DecoderConfig
from querier.errors import InputError
from querier.models.generation import GREEDY, Sampling, generate_ids
from querier.models.geometry import Geometry, find_layers, measure, measure_embedding
from querier.models.injection import only, shifted, virtual_tokens
from querier.models.loading import (
    add_adapter,
    linear_parts,
    load_adapter,
    load_pretrained,
    save_adapter,
    save_weights,
    saved_adapter,
    saved_weights,
)
from querier.models.sequence import causal_inputs, seq2seq_inputs
from querier.models.tokens import Cut, Tokenizer
from querier.types import Conditioning, Rendered, Tokens, take

__all__ = ["Decoder", "Geometry", "build_decoder"]


class Decoder(nn.Module):
    """Scores replies and writes them.

    Args:
        model: A causal or seq2seq model of `transformers`, or one that `peft` has wrapped.
        tokenizer: Its fast tokenizer.
        config: Which weights move, their data type, and how many tokens are read; under `lora` a model without an
            adapter gets a new one.
        seed: Of a new adapter.

    Raises:
        InputError: The model cannot compute attention as configured, keeps no keys and values, or has fewer positions
            than a prompt and a reply may have tokens.

    Attributes:
        seq2seq: Whether the model has an encoder of its own.
        geometry: Sizes.
        embedding_rms: RMS of the model's input embeddings.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, config: DecoderConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        wrapped = hasattr(model, "get_base_model")
        if not wrapped:
            model = model.to(getattr(torch, config.dtype))
        self.model: Any = model
        if config.train is Train.lora and not wrapped:
            self.model = add_adapter(model, config.lora_rank, config.lora_alpha, seed)
        self.tokenizer = tokenizer
        self.seq2seq = bool(self.bare.config.is_encoder_decoder)
        self.tokens = Tokenizer(tokenizer, self.seq2seq, config.max_length)
        self._train_only(config.train)
        # Found once, as the search goes through the whole model; in a tuple, or its weights would have a second name.
        self._layers = (find_layers(self.bare, self.seq2seq),)
        self.geometry = measure(self.bare, self.seq2seq)
        self.check_room(0)
        self.embedding_rms = measure_embedding(self.bare)
        self._mixed: torch.dtype | None = None
        self._quickest: str = self.bare.config._attn_implementation  # without gradients: what transformers chose
        for gradients in (True, False):  # or a model that cannot would be found out in the first step
            self._attend(gradients)

    @property
    def bare(self) -> Any:
        """The `transformers` model itself, LoRA layers inside."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def layers(self) -> nn.ModuleList:
        """The layers that a residual conditioning shifts."""
        return self._layers[0]

    def hold_frozen_in(self, dtype: torch.dtype) -> None:
        """Keep the frozen weights that mixed precision rounds, those of the linear layers, as it rounds them.

        The results are the same to the bit. But autocast rounds a frozen weight anew in each pass, as its cache is for
        trained ones alone, which is a third of the work of writing a token on a CPU; and half of their memory is saved.
        From here on the decoder computes in mixed precision, whether its caller says so or not. Weights that `save`
        writes stay as they are.
        """
        if self._saves_weights:
            return
        for part in linear_parts(self.bare):
            for value in part.parameters(recurse=False):
                if not value.requires_grad and value.dtype == torch.float32:
                    value.data = value.data.to(dtype)
                    self._mixed = dtype

    def check_room(self, vectors: int) -> None:
        """Refuse a token budget for which the model has not enough positions.

        Args:
            vectors: Places in its sequence that a conditioning takes beside prompt and reply.

        Raises:
            InputError: Prompt, reply and vectors together are more than the model's positions.
        """
        limit, length = self.geometry.positions, self.config.max_length
        needed = vectors + length + (0 if self.seq2seq else length // 2)  # a seq2seq decoder reads the reply apart
        if limit is None or length >= WHOLE or needed <= limit:
            return
        most = limit - vectors if self.seq2seq else (2 * (limit - vectors) + 1) // 3
        beside = f" beside {vectors} vectors" if vectors else ""
        raise InputError(
            f"decoder.max_length={length} is too long: with a reply of half as many tokens it takes {needed} "
            f"positions{beside}, and {type(self.bare).__name__} has {limit}; set decoder.max_length to {most} or less"
        )

    @property
    def cut(self) -> Cut:
        """The different dialogues that were cut to the token budget so far."""
        return self.tokens.cut

    def score_tokens(self, rendered: Sequence[Rendered]) -> Tokens:
        """Prompt and reply, right-padded, for log-probabilities."""
        return self.tokens.score(rendered)

    def prompt_tokens(self, rendered: Sequence[Rendered]) -> Tokens:
        """Prompt alone, for generation."""
        return self.tokens.prompt(rendered)

    def logits(self, tokens: Tokens, conditioning: Conditioning | None = None) -> Tensor:
        """Logits at every token, (B, L, vocabulary); without conditioning the bare model's, bit for bit."""
        found: Tensor = self._forward(tokens, conditioning)
        return found if self.seq2seq else found[:, virtual_tokens(conditioning) :]

    def log_prob(self, tokens: Tokens, conditioning: Conditioning | None = None) -> Tensor:
        """Log-probability of each labelled token at the token's own place, 0 elsewhere, (B, L) float32.

        The first token of a causal sequence is predicted by nothing and counts as unlabelled. In training
        `decoder.rows_at_once` may divide the rows, with the same result but for rounding and what dropout draws: less
        padding is computed and kept.
        """
        size = self.config.rows_at_once
        if size is None or not torch.is_grad_enabled() or len(tokens.labels) <= size:
            return self._log_prob(tokens, conditioning)
        order = tokens.attention_mask.sum(1).argsort(descending=True, stable=True)
        found = tokens.labels.new_zeros(tokens.labels.shape, dtype=torch.float32)
        for rows in torch.split(order, size):
            part = self._log_prob(self._without_padding(take(tokens, rows)), take(conditioning, rows))
            found = found.index_put((rows[:, None], torch.arange(part.shape[1], device=rows.device)), part)
        return found

    def _without_padding(self, tokens: Tokens) -> Tokens:
        """Right-padded tokens without the last columns, in which no row has any."""
        read = int(tokens.attention_mask.sum(1).max())
        said = int((tokens.labels >= 0).sum(1).max()) if self.seq2seq else read  # labels are the decoder's own there
        columns = {name: value[:, : said if name == "labels" else read] for name, value in vars(tokens).items()}
        return replace(tokens, **columns)

    def _log_prob(self, tokens: Tokens, conditioning: Conditioning | None) -> Tensor:
        scored = tokens.labels >= 0
        if not self.seq2seq:
            scored[:, 1:] &= tokens.attention_mask[:, :-1].bool()
            scored[:, 0] = False
        rows, places = scored.nonzero(as_tuple=True)
        found = torch.zeros(tokens.labels.shape, dtype=torch.float32, device=tokens.labels.device)
        if not len(rows):
            return found
        columns = places if self.seq2seq else places - 1 + virtual_tokens(conditioning)
        with only(self.bare.get_output_embeddings(), rows, columns):
            logits = self._forward(tokens, conditioning)[0]
        values = -functional.cross_entropy(logits.float(), tokens.labels[rows, places], reduction="none")
        return found.index_put((rows, places), values)

    def _forward(self, tokens: Tokens, conditioning: Conditioning | None) -> Tensor:
        prepare = seq2seq_inputs if self.seq2seq else causal_inputs
        self._attend(torch.is_grad_enabled())
        inputs = prepare(self.bare, tokens, conditioning)
        with self._arithmetic(), shifted(self.layers, None if conditioning is None else conditioning.residual):
            logits: Tensor = self.bare(**inputs).logits
        return logits

    def _arithmetic(self) -> AbstractContextManager[Any]:
        """Mixed precision where weights are held for it and the caller has not chosen it already."""
        kind = self.bare.device.type
        chosen = self._mixed is None or torch.is_autocast_enabled(kind)
        return nullcontext() if chosen else torch.autocast(kind, self._mixed)

    @torch.no_grad()
    def generate(
        self,
        tokens: Tokens,
        conditioning: Conditioning | None,
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
    ) -> list[str]:
        """Replies to prompts.

        Args:
            tokens: From `prompt_tokens`.
            conditioning: What the decoder reads besides; None for nothing.
            max_new_tokens: Length limit.
            sampling: How each token is chosen.
        """
        training = self.training
        self.eval()
        self._attend(gradients=False)
        with self._arithmetic():
            ids = generate_ids(self, tokens, conditioning, max_new_tokens, sampling)
        self.train(training)
        return self.tokens.texts(ids)

    def trainable(self) -> Iterator[nn.Parameter]:
        """The parameters that training moves."""
        return (value for value in self.parameters() if value.requires_grad)

    def train(self, mode: bool = True) -> Decoder:
        """Set training mode; a frozen decoder stays without dropout, as nothing in it is trained."""
        super().train(mode and self.config.train is not Train.frozen)
        return self

    def save(self, folder: Path) -> None:
        """Write weights and tokenizer as safetensors and JSON.

        A pretrained model's own weights are written only where they were trained; else the folder holds the adapter,
        and `load` finds the rest where it came from.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self._saves_weights:
            save_weights(self.model, folder)
        if self.config.train is Train.lora:
            save_adapter(self.model, folder)
        self.tokenizer.save_pretrained(str(folder))

    @classmethod
    def load(cls, folder: Path, config: DecoderConfig) -> Decoder:
        """What `save` wrote.

        Raises:
            InputError: Where the weights are not there.
        """
        return build_decoder(config, Path(folder))

    @property
    def _saves_weights(self) -> bool:
        return self.config.kind is DecoderKind.small or self.config.train is Train.full

    def _attend(self, gradients: bool) -> None:
        """Compute attention as configured where gradients are taken: only its backward is ever better unfused."""
        asked = self.config.attention
        way = asked.value if gradients and asked is not Attention.auto else self._quickest
        if way == self.bare.config._attn_implementation:
            return
        with suppress(ValueError):  # of some models; others leave it as it is
            self.bare.set_attn_implementation(way)
        if way != self.bare.config._attn_implementation:
            raise InputError(
                f"decoder.attention={way} cannot be chosen for {type(self.bare).__name__}; use decoder.attention=auto"
            )

    def _train_only(self, train: Train) -> None:
        for name, value in self.model.named_parameters():
            value.requires_grad_(train is Train.full or (train is Train.lora and "lora_" in name))


def build_decoder(config: DecoderConfig, folder: Path | None, seed: int = 0) -> Decoder:
    """The decoder of a run.

    Args:
        config: Which model, and which of its weights move.
        folder: A folder that `Decoder.save` wrote: the base of a small decoder, or a trained one; None for a
            pretrained model as it is.
        seed: Of new LoRA weights.

    Raises:
        InputError: Where the weights are not there, or are no safetensors, or the model is none that `Decoder` takes.
    """
    if folder is not None and saved_weights(folder):
        source, revision = str(folder), None
    elif config.kind is DecoderKind.small:
        raise InputError(f"a small decoder starts from a trained base, and {folder or 'no folder'} holds none")
    else:
        source, revision = config.path, config.revision
    model, tokenizer = load_pretrained(source, revision, getattr(torch, config.dtype))
    if config.train is Train.lora and folder is not None and saved_adapter(folder):
        model = load_adapter(model, folder)
    return Decoder(model, tokenizer, config, seed).eval()
