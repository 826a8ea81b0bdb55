"""`metrics.csv`: one row a step, kept over interruptions."""

from __future__ import annotations

import csv
from pathlib import Path

from querier.commands.callbacks import MetricsFile


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_of_a_step_stand_in_one_row(tmp_path: Path) -> None:
    logger = MetricsFile(tmp_path / "metrics.csv")
    logger.log_metrics({"train/loss": 2.0, "epoch": 0}, 10)
    logger.log_metrics({"val/nll": 1.5, "epoch": 0}, 10)
    logger.log_metrics({"train/loss": 1.0, "epoch": 1}, 20)
    logger.finalize("success")
    found = rows(tmp_path / "metrics.csv")
    assert found == [
        {"step": "10", "epoch": "0", "train/loss": "2.0", "val/nll": "1.5"},
        {"step": "20", "epoch": "1", "train/loss": "1.0", "val/nll": ""},
    ]


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    first = MetricsFile(tmp_path / "metrics.csv")
    for step in (10, 20, 30):
        first.log_metrics({"train/loss": float(step)}, step)
    first.finalize("killed")
    second = MetricsFile(tmp_path / "metrics.csv")
    second.resume(21)  # twenty-one steps were done, from 0 to 20
    second.log_metrics({"train/loss": 29.0}, 30)
    second.finalize("success")
    assert [row["train/loss"] for row in rows(tmp_path / "metrics.csv")] == ["10.0", "20.0", "29.0"]


def test_numbers_are_written_in_full(tmp_path: Path) -> None:
    logger = MetricsFile(tmp_path / "metrics.csv")
    logger.log_metrics({"x": 0.1 + 0.2}, 0)
    logger.finalize("success")
    assert float(rows(tmp_path / "metrics.csv")[0]["x"]) == 0.1 + 0.2
