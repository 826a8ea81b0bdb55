"""The measurement of testing does the whole work of both sides, and says how long each took."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from querier.bench import score, step
from querier.config import Config, DecoderConfig, EvaluationConfig, TowersConfig
from querier.evaluation.scoring import Scorer

TINY = {
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": 400,
    "tie_word_embeddings": True,
}


def test_ratios_are_of_the_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    towers = TowersConfig(width=16, heads=2, blocks=1, virtual_tokens=2, history=4, neighbours=2, rank=4)
    decoder = DecoderConfig(layers=1, width=32, vocabulary=300)
    config = Config(decoder=decoder, towers=towers, evaluation=EvaluationConfig(batch_size=4))
    monkeypatch.setattr(step, "CLUSTERS", 4)
    monkeypatch.setattr(score, "SMOLLM2_135M", TINY)
    monkeypatch.setattr(score, "CHUNK", 6)
    clock = itertools.count()
    monkeypatch.setattr(score.time, "perf_counter", lambda: float(next(clock)))
    told: list[int] = []
    found = score.measure_score(
        config, step.population(config, 8, tmp_path), 10, Scorer, lambda what, done, of: told.append(done)
    )
    assert told == [6, 10, 6, 10]
    assert found["ratio"] == {name: {"score": 1.0, "answer": 1.0} for name in ("smollm2", "small")}
    assert all(seconds == 2.0 for taken in found["seconds"].values() for seconds in taken.values())
