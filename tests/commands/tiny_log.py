"""A small log for tests of the commands: who asks decides how the answer ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ("in short", "my friend", "as physicians say")
FAST = [
    "encoder.max_length=16",
    "decoder.width=32",
    "decoder.layers=1",
    "decoder.vocabulary=300",
    "decoder.max_length=64",
    "decoder.base.epochs=1",
    "towers=tiny",
    "loader.batch_size=8",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false",
    "evaluation.generate=4",
    "evaluation.max_new_tokens=4",
    "evaluation.bootstrap=100",
]


def records(queriers: int = 9, each: int = 12, seed: int = 0) -> list[dict[str, Any]]:
    """Dialogues in the order of their times."""
    rng = np.random.default_rng(seed)
    made = []
    for moment in range(each):
        for number in rng.permutation(queriers):
            thing = ("bread", "tides", "bees", "maps")[int(rng.integers(4))]
            made.append(
                {
                    "id": f"d{len(made)}",
                    "querier": f"querier {number}",
                    "query": f"How do {thing} work?",
                    "reply": f"{thing.title()} work slowly, {WAYS[number % 3]}.",
                    "time": len(made),
                    "scene": f"{number}-{moment}",
                }
            )
    return made


def write_log(path: Path, **changes: Any) -> Path:
    """Write the log as JSONL."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records(**changes)), encoding="utf-8")
    return path
