"""A tiny shape in place of SmolLM2-135M's, and a small population."""

from __future__ import annotations

import pytest

from querier.bench import score, step
from querier.config import Config, EvaluationConfig, TowersConfig
from querier.decoder_config import DecoderConfig

TINY = {
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": 400,
    "tie_word_embeddings": True,
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "SMOLLM2_135M", TINY)
    monkeypatch.setattr(score, "SMOLLM2_135M", TINY)
    monkeypatch.setattr(step, "CLUSTERS", 4)
    monkeypatch.setattr(step, "TEXTS", 64)


@pytest.fixture
def config() -> Config:
    towers = TowersConfig(width=16, heads=2, blocks=1, virtual_tokens=2, history=4, neighbours=2, rank=4)
    decoder = DecoderConfig(layers=1, width=32, vocabulary=300)
    return Config(decoder=decoder, towers=towers, evaluation=EvaluationConfig(batch_size=4))
