"""The measurement of testing does the whole work of both sides, and says how long each took."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from querier.bench import score, step
from querier.config import Config
from querier.evaluation.scoring import Scorer


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
