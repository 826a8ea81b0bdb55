"""The language model that answers: the group `decoder` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from querier.choices import Attention, DecoderKind, Train
from querier.errors import InputError, check_range

WHOLE = 1 << 30  # tokens of `max_length`: no prompt is cut, and whoever asks sees to it that each fits


@dataclass
class BaseConfig:
    """Training of a small decoder from random weights, blind to the querier, on the pool."""

    epochs: int = 6
    batch_size: int = 32
    lr: float = 2e-3
    patience: int = 2  # epochs without a better validation loss

    def __post_init__(self) -> None:
        check_range("decoder.base.epochs", self.epochs, 0)
        check_range("decoder.base.batch_size", self.batch_size, 1)
        check_range("decoder.base.lr", self.lr, 0.0, 1.0)
        check_range("decoder.base.patience", self.patience, 0)


@dataclass
class DecoderConfig:
    """The language model that answers."""

    kind: DecoderKind = DecoderKind.small
    path: str = ""  # a transformers folder or hub name, for `kind=pretrained`
    revision: str | None = None
    train: Train = Train.full
    lora_rank: int = 8
    lora_alpha: float = 16.0
    max_length: int = 192  # tokens of a prompt, which is cut at its left; a reply has at most half as many
    rows_at_once: int | None = None  # of a training step, those of like length together; null: all
    dtype: str = "float32"
    attention: Attention = Attention.auto  # where gradients are taken; without them as `auto`
    layers: int = 3  # of the small one, as the next three
    width: int = 128
    vocabulary: int = 2048
    dropout: float = 0.0
    base: BaseConfig = field(default_factory=BaseConfig)

    def __post_init__(self) -> None:
        check_range("decoder.lora_rank", self.lora_rank, 1)
        if not self.lora_alpha > 0:
            raise InputError(
                f"decoder.lora_alpha must be > 0, got {self.lora_alpha:g}; at 0 what is trained has no effect"
            )
        check_range("decoder.max_length", self.max_length, 16)
        if self.rows_at_once is not None:
            check_range("decoder.rows_at_once", self.rows_at_once, 1)
        check_range("decoder.layers", self.layers, 1)
        check_range("decoder.vocabulary", self.vocabulary, 300)
        check_range("decoder.dropout", self.dropout, 0.0, 0.9)
        if self.dtype not in ("float32", "bfloat16"):
            raise InputError(f"decoder.dtype must be float32 or bfloat16, got {self.dtype!r}")
        if self.kind is DecoderKind.pretrained and not self.path:
            raise InputError("decoder.kind=pretrained needs decoder.path=<a transformers folder or hub name>")
