"""Reading and writing the weights of decoders: safetensors alone, and no code that came with a model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from querier.errors import InputError
from querier.models.geometry import find_layers

ADAPTER = "adapter"  # folder beside the weights


def load_pretrained(source: str, revision: str | None, dtype: torch.dtype) -> tuple[nn.Module, Any]:
    """A model and its tokenizer from a folder or from the hub.

    Args:
        source: A folder that `save_pretrained` of transformers wrote, or a hub name.
        revision: Of a hub name.
        dtype: Of the weights in memory.

    Raises:
        InputError: If there is no such model, it is no text generator, it needs code of its own, or it has no
            safetensors.
    """
    where: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(source, **where)
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        with _without_bars():
            model = kind.from_pretrained(source, dtype=dtype, use_safetensors=True, **where)
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise InputError(
            f"decoder.path={source!r} cannot be read ({type(error).__name__}: {reason}); give a folder or hub name of "
            "a causal or seq2seq transformers model with safetensors that needs no code of its own"
        ) from error
    return model, tokenizer


def add_adapter(model: nn.Module, rank: int, alpha: float, seed: int) -> nn.Module:
    """The model with new LoRA weights beside each linear layer of attention and MLP; it answers as before.

    Args:
        model: Changed in place.
        rank: Of the new weights.
        alpha: They count alpha ÷ rank times.
        seed: Of the new weights; the global random state stays as it was.
    """
    whole: Any = model
    names, transposed = adapted_layers(model)
    lora = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft only divides it by the rank
        target_modules=names,
        lora_dropout=0.0,
        bias="none",
        fan_in_fan_out=transposed,
    )
    with torch.random.fork_rng(), _without_deprecations():
        torch.manual_seed(seed)
        return get_peft_model(whole, lora)


def adapted_layers(model: nn.Module) -> tuple[list[str], bool]:
    """Names of the linear modules inside the layers, and whether they store their weights transposed, as GPT-2.

    Found by type and place and not by name, so that no architecture needs a list of its own.

    Raises:
        InputError: Where the layers hold no linear module.
    """
    inside = {id(part) for part in linear_parts(model)}
    found = {name: part for name, part in model.named_modules() if id(part) in inside}
    if not found:
        raise InputError(f"train=lora: the layers of {type(model).__name__} hold no linear modules; use frozen or full")
    return sorted(found), all(isinstance(part, Conv1D) for part in found.values())


def linear_parts(model: nn.Module) -> list[nn.Module]:
    """The linear modules inside a model's layers; of a seq2seq model those of its encoder too."""
    whole: Any = model
    seq2seq = bool(whole.config.is_encoder_decoder)
    roots: list[nn.Module] = [find_layers(model, seq2seq)]
    if seq2seq:
        roots.append(whole.get_encoder())
    return [part for root in roots for part in root.modules() if isinstance(part, (nn.Linear, Conv1D))]


def save_weights(model: Any, folder: Path) -> None:
    """Write a model's own weights, without LoRA, in the layout of transformers."""
    if isinstance(model, PeftModel):
        base: Any = model.get_base_model()
        state = {_plain(name): value for name, value in base.state_dict().items() if "lora_" not in name}
        with _without_bars():
            base.save_pretrained(str(folder), state_dict=state)
    else:
        with _without_bars():
            model.save_pretrained(str(folder))


def save_adapter(model: Any, folder: Path) -> None:
    """Write LoRA weights alone."""
    # The embeddings are not adapted; left to itself, peft would ask the hub whether the vocabulary was resized.
    model.save_pretrained(str(folder / ADAPTER), safe_serialization=True, save_embedding_layers=False)


def load_adapter(model: nn.Module, folder: Path) -> nn.Module:
    """The model with the LoRA weights that `save_adapter` wrote."""
    whole: Any = model
    with torch.random.fork_rng(), _without_deprecations():  # peft draws weights before it reads them
        return PeftModel.from_pretrained(whole, str(folder / ADAPTER), is_trainable=True)


def saved_weights(folder: Path) -> bool:
    """Whether a folder holds a model's own weights."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def saved_adapter(folder: Path) -> bool:
    """Whether a folder holds LoRA weights."""
    return (folder / ADAPTER / "adapter_model.safetensors").is_file()


def _plain(name: str) -> str:
    return name.replace(".base_layer.", ".")


@contextmanager
def _without_bars() -> Iterator[None]:
    """No progress bar over the tensors of a file: it says nothing about the run."""
    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """No word about names that peft asks for and transformers is about to rename: users can do nothing about them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield
