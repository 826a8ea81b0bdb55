"""Two processes that share each batch train the weights of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from planted import dialogues, write_jsonl
from safetensors.torch import load_file

PROGRAM = Path(__file__).parent / "fit_with_words.py"
STILL = [
    "towers=tiny",
    "towers.feature_dropout=0",
    "towers.shift_dropout=0",
    "decoder.layers=1",
    "decoder.width=32",
    "decoder.vocabulary=300",
    "decoder.base.epochs=0",
    "loader.batch_size=10",
    "loss.swap_fraction=0.3",
    "optim.warmup=0",
    "trainer.accelerator=cpu",
    "trainer.max_steps=3",
    "trainer.enable_progress_bar=false",
]


def fit(folder: Path, name: str, *words: str) -> Path:
    settings = [
        f"data.path={folder / 'log.jsonl'}",
        f"output={folder / 'out'}",
        f"cache={folder / 'cache'}",
        f"name={name}",
    ]
    paths = os.pathsep.join([str(PROGRAM.parents[1]), str(PROGRAM.parents[2])])
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "fit", *settings, *STILL, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out" / name


@pytest.mark.slow
@pytest.mark.parametrize("changes", [(), ("loss.specific=0", "loss.general=0")], ids=["all", "swap"])
def test_two_processes_train_the_weights_of_one(tmp_path: Path, changes: tuple[str, ...]) -> None:
    write_jsonl(tmp_path / "log.jsonl", dialogues(8, 14))
    one = fit(tmp_path, "one", "trainer.devices=1", *changes)
    two = fit(tmp_path, "two", "trainer.devices=2", "trainer.strategy=ddp", *changes)
    assert [json.loads((run / "run.json").read_text())["steps"] for run in (one, two)] == [3, 3]
    paths = sorted(path.relative_to(one) for path in one.glob("model/**/*.safetensors"))
    assert len(paths) == 3
    for path in paths:
        first, second = load_file(one / path), load_file(two / path)
        for name, value in first.items():
            assert torch.allclose(value, second[name], atol=1e-5), f"{path} {name}"
