"""Lightning's own command line trains what `querier fit` trains, and goes on with a checkpoint of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import WordEncoder, dialogues, write_jsonl

from querier.commands import prepare
from querier.lightning_cli import main
from querier.module import QuerierModule

TINY = [
    *("--model.towers.width=32", "--model.towers.heads=2", "--model.towers.blocks=1", "--model.towers.history=4"),
    *("--model.towers.virtual_tokens=2", "--model.towers.neighbours=2", "--model.towers.rank=8"),
    *("--model.decoder.layers=1", "--model.decoder.width=32", "--model.decoder.vocabulary=300"),
    *("--model.decoder.max_length=96", "--model.decoder.base.epochs=0"),
    *("--trainer.accelerator=cpu", "--trainer.devices=1"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The settings of a small training; its encoder needs no weights."""
    monkeypatch.setattr(prepare, "encoder", lambda config: WordEncoder())
    log = write_jsonl(tmp_path / "log.jsonl", dialogues(6, 14))
    places = [f"--model.data.path={log}", f"--model.cache={tmp_path / 'cache'}"]
    return ["fit", *TINY, *places, f"--trainer.default_root_dir={tmp_path}"]


@pytest.mark.filterwarnings("ignore")  # Lightning's, about workers and folders
def test_all_of_the_module_is_in_training_mode(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Or `decoder.dropout` would do nothing."""
    honest, modes = QuerierModule.training_step, []

    def step(module: QuerierModule, *given: Any) -> Any:
        modes.append(all(part.training for part in module.modules()))
        return honest(module, *given)

    monkeypatch.setattr(QuerierModule, "training_step", step)
    main([*words, "--model.decoder.dropout=0.5", "--trainer.max_epochs=2"])
    assert modes
    assert all(modes)


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_without_frozen_weights_is_gone_on_with(words: list[str], tmp_path: Path) -> None:
    first = main([*words, "--model.decoder.train=lora", "--trainer.max_steps=2"]).trainer
    (checkpoint,) = tmp_path.glob("**/*.ckpt")
    again = [*words, "--model.decoder.train=lora", "--trainer.max_steps=3", f"--ckpt_path={checkpoint}"]
    assert (first.global_step, main(again).trainer.global_step) == (2, 3)


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_used_is_said_in_a_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--model.data.path=nope.jsonl"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("querier: data.path: no such file or folder: nope.jsonl")
