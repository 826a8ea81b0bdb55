"""`querier test`: results with counts and settings, examples, and nothing hidden."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from querier.cli import main


def test_results_name_the_model_and_the_settings(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["test", "run=run", "evaluation.generate=4", "evaluation.bootstrap=100", "evaluation.max_new_tokens=3"])
        == 0
    )
    found = json.loads((work / "outputs" / "run" / "results.json").read_text())
    assert found["n"] > 0
    assert found["n_failed"] == 0
    assert found["settings"]["max_new_tokens"] == 3
    assert len(found["model"]) == 16
    assert {"nll_per_byte", "swap_accuracy_cluster"} <= set(found["metrics"])
    assert "nll_per_byte" in capsys.readouterr().out
    lines = (work / "outputs" / "run" / "examples.jsonl").read_text().splitlines()
    assert len(lines) == found["n_generated"] == 4
    assert "query" not in json.dumps(found["metrics"])


def test_an_unknown_run_is_said(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "run=nothing"]) == 2
    assert "no run 'nothing'" in capsys.readouterr().err
