"""Corpora whose queriers can be told by how they talk, or not at all, and an encoder that reads words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from querier.config import Config, from_plain
from querier.data.history import Histories
from querier.data.preparation import Prepared, prepare
from querier.data.records import Corpus
from querier.data.requests import Requests
from querier.data.splits import split
from querier.methods.prompts import renderer
from querier.methods.registry import build_conditioner, fit_conditioner
from querier.models.decoder import Decoder
from querier.models.small import new_small_decoder, train_tokenizer
from querier.module import QuerierModule
from querier.types import Dialogue, Split, Turn

TOPICS = ("bread", "tides", "bees", "maps", "rust", "snow")
WAYS = ("briefly", "slowly", "my friend", "as ever", "in truth", "by law", "so they say", "step by step")


class WordEncoder:
    """A text's vector is the sum of the vectors of its words, so that like texts are near."""

    digest, size = "words", 32

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.stack([sum((_vector(word) for word in text.split()), np.zeros(self.size)) for text in texts])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _vector(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=WordEncoder.size)


def dialogues(queriers: int, each: int, personal: bool = True, seed: int = 0) -> list[Dialogue]:
    """Dialogues in the order of their times.

    Args:
        queriers: How many.
        each: Dialogues of a querier, each a scene of its own.
        personal: Whether a querier has two ways of talking of their own; else each dialogue has two by chance, and
            words that no other one has.
        seed: Of all chance.
    """
    rng = np.random.default_rng(seed)
    ways = rng.integers(len(WAYS), size=(queriers, 2))
    made: list[Dialogue] = []
    for moment in range(each):
        for querier in rng.permutation(queriers):
            topic = TOPICS[int(rng.integers(len(TOPICS)))]
            asks, hears = ways[querier] if personal else rng.integers(len(WAYS), size=2)
            noise = "" if personal else f" {rng.integers(10**9)}"
            turns = (
                Turn(f"q{querier}", f"how does {topic} work {WAYS[asks]}{noise}"),
                Turn("tutor", f"{topic} works {WAYS[hears]}{noise}"),
            )
            made.append(Dialogue(f"d{len(made)}", f"q{querier}", "tutor", turns, len(made), f"{querier} {moment}"))
    return made


def write_jsonl(path: Path, made: Sequence[Dialogue]) -> Path:
    """Write dialogues as a log."""
    records = [
        {
            "id": one.id,
            "querier": one.querier,
            "query": one.query,
            "reply": one.reply,
            "time": one.time,
            "scene": one.scene,
        }
        for one in made
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def small_config(folder: Path, **changes: Any) -> Config:
    """Small towers and a small decoder; `changes` by group, e.g. `loader={"batch_size": 8}`."""
    plain: dict[str, Any] = {
        "output": str(folder / "outputs"),
        "cache": str(folder / "cache"),
        "towers": {
            "width": 32,
            "heads": 2,
            "blocks": 1,
            "virtual_tokens": 2,
            "history": 8,
            "neighbours": 4,
            "rank": 16,
        },
        "conditioning": {"kind": "soft_prompt"},  # untrained it says something already, unlike a residual shift
        "decoder": {"layers": 1, "width": 32, "vocabulary": 300, "max_length": 96, "base": {"epochs": 0}},
        "loader": {"batch_size": 16},
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "log_every_n_steps": 1},
    }
    for name, value in changes.items():
        plain[name] = {**plain.get(name, {}), **value} if isinstance(value, dict) else value
    config: Config = from_plain(Config, plain)
    return config


def prepared_corpus(made: Sequence[Dialogue], config: Config, folder: Path) -> Prepared:
    """The dialogues, split and prepared with the word encoder."""
    corpus, _ = split(Corpus.build(made), config.data)
    return prepare(corpus, WordEncoder(), config, folder)


def requests_of(prepared: Prepared, config: Config) -> Requests:
    """What models read of them."""
    return Requests(prepared, Histories(prepared.corpus), config, renderer(config.prompt, prepared))


def small_decoder(corpus: Corpus, config: Config, seed: int = 0) -> Decoder:
    """The small decoder of a configuration with random weights."""
    texts = [text for row in corpus.rows_in(Split.TRAIN) for text in (turn.text for turn in corpus.dialogue(row).turns)]
    decoder = new_small_decoder(config.decoder, train_tokenizer(texts, config.decoder.vocabulary), seed)
    decoder._train_only(config.decoder.train)
    return decoder


def small_module(prepared: Prepared, config: Config) -> QuerierModule:
    """An untrained module over a small decoder."""
    decoder = small_decoder(prepared.corpus, config)
    conditioner = build_conditioner(config, decoder, len(prepared.clusters.centroids), prepared.matrix.shape[1])
    if conditioner is not None:
        fit_conditioner(conditioner, prepared)
    return QuerierModule(config, decoder, conditioner)
