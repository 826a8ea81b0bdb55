"""The measurement of testing: the same tokens on both sides, and how long each took."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from querier.bench import score, step
from querier.config import Config
from querier.evaluation.scoring import Scorer
from querier.models.decoder import Decoder


def test_ratios_are_of_the_seconds(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_both_sides_read_the_same_texts(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the decoder is asked, with a conditioning and without: as many rows, prompt and reply tokens alike."""
    asked: dict[str, Counter[str]] = {"tested": Counter(), "bare": Counter()}

    def watch(name: str, method: Any) -> Any:
        def watched(decoder: Decoder, tokens: Any, conditioning: Any = None, *given: Any, **named: Any) -> Any:
            side = asked["bare" if conditioning is None else "tested"]
            side[f"{name} rows"] += len(tokens.labels)
            side[f"{name} tokens"] += int(tokens.attention_mask.sum())
            side[f"{name} scored"] += int((tokens.labels >= 0).sum())
            return method(decoder, tokens, conditioning, *given, **named)

        return watched

    monkeypatch.setattr(Decoder, "log_prob", watch("log_prob", Decoder.log_prob))
    monkeypatch.setattr(Decoder, "generate", watch("generate", Decoder.generate))
    score.measure_score(config, step.population(config, 8, tmp_path), 10, Scorer, lambda *told: None)
    assert asked["tested"] == asked["bare"]
    assert asked["bare"]["log_prob rows"] == asked["bare"]["generate rows"] > 0
    assert asked["bare"]["log_prob scored"] > 0
