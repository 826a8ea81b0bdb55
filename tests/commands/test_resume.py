"""A run that stops inside an epoch ends, after the same call, with the bits of one that never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from safetensors.numpy import load_file
from tiny_log import FAST, write_log

from querier.commands import fit
from querier.commands.compose import compose

EVERY, STOP = 4, 7  # steps; an epoch has six, so the checkpoint and the stop lie inside epochs


class Stopped(Exception):
    """Stands for whatever ends a process."""


class Stop(Callback):
    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == STOP:
            raise Stopped


def run(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, stops: bool) -> dict[str, Any]:
    usual = fit.callbacks

    def callbacks(*arguments: Any) -> list[Callback]:
        made = usual(*arguments)
        last = next(one for one in made if isinstance(one, ModelCheckpoint) and one.filename == "last")
        made[made.index(last)] = ModelCheckpoint(
            dirpath=last.dirpath, filename="last", enable_version_counter=False, every_n_train_steps=EVERY
        )
        return [*made, *([Stop()] if stops else [])]

    settings = [f"data.path={folder / 'log.jsonl'}", f"output={folder}", f"cache={folder / 'cache'}", f"name={name}"]
    config = fit.plain_config(compose("fit", [*settings, *FAST]))
    with monkeypatch.context() as patched:
        patched.setattr(fit, "callbacks", callbacks)
        result = fit.run_fit(config)
    weights = {path.name: load_file(path) for path in (folder / name / "model").rglob("*.safetensors")}
    return {"weights": weights, "steps": result.steps, "tokens": result.tokens, "metrics": result.metrics}


@pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning")
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")
def test_stopping_inside_an_epoch_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(tmp_path / "log.jsonl", queriers=6, each=10)
    whole = run(tmp_path, "whole", monkeypatch, stops=False)
    with pytest.raises(Stopped):
        run(tmp_path, "stopped", monkeypatch, stops=True)
    again = run(tmp_path, "stopped", monkeypatch, stops=False)
    for file, tensors in whole["weights"].items():
        for name, value in tensors.items():
            assert (again["weights"][file][name] == value).all(), f"{file} {name}"
    assert [again[key] for key in ("steps", "tokens", "metrics")] == [
        whole[key] for key in ("steps", "tokens", "metrics")
    ]
    lines = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("whole", "stopped")]
    assert lines[0] == lines[1]
