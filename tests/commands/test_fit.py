"""`querier fit`: leaves a complete run, refuses to replace it, resumes, sweeps."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from tiny_log import FAST, write_log

from querier.cli import main
from querier.commands.compose import compose
from querier.commands.fit import plain_config, run_fit
from querier.config import Config
from querier.module import QuerierModule
from querier.run import Run


def settings(folder: Path) -> list[str]:
    return [f"data.path={folder / 'log.jsonl'}", f"output={folder / 'outputs'}", f"cache={folder / 'cache'}", *FAST]


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("model/**/*.safetensors"))}


def test_a_run_leaves_card_metrics_checkpoints_and_weights(trained: Path) -> None:
    run = trained / "outputs" / "run"
    card = json.loads((run / "run.json").read_text())
    assert card["status"] == "finished"
    assert card["config"]["method"] == "querier"
    assert card["steps"] > 0
    assert card["tokens"] > 0
    assert set(card["seconds"]) == {"prepare", "base", "fit"}
    assert "val/nll_per_byte" in card["best"]
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert {"step", "epoch", "val/nll_per_byte"} <= set(rows[0])
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert load_file(run / "model" / "conditioner.safetensors")


def test_a_finished_run_is_not_replaced_unasked(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = weights(work)
    assert main(["fit", *settings(work), "name=run"]) == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert weights(work) == before


def test_two_processes_do_not_train_one_run_at_once(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = weights(work)
    with Run(work / "outputs" / "run").held():
        assert main(["fit", *settings(work), "name=run", "overwrite=true"]) == 2
    assert "is being trained by another process; wait until that has ended" in capsys.readouterr().err
    assert weights(work) == before


@pytest.mark.parametrize(
    "words",
    [["trainer.accelerator=nonsense"], ["decoder=pretrained", "decoder.path=/nowhere"], ["encoder.name=/nowhere"]],
)
def test_overwrite_keeps_the_old_run_where_the_new_one_is_refused(work: Path, words: list[str]) -> None:
    before = weights(work)
    assert main(["fit", *settings(work), "name=run", "overwrite=true", *words]) == 2
    assert weights(work) == before
    assert json.loads((work / "outputs" / "run" / "run.json").read_text())["status"] == "finished"


def test_a_run_that_starts_anew_writes_its_metrics_once(work: Path) -> None:
    run = work / "outputs" / "run"
    before = (run / "metrics.csv").read_text()
    card = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**card, "status": "running"}))
    shutil.rmtree(run / "checkpoints")
    assert main(["fit", *settings(work), "name=run"]) == 0
    assert (run / "metrics.csv").read_text() == before


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trainer.accelerator=foo", "trainer: "),
        ("trainer.strategy=foo", "trainer: "),
        ("encoder.max_length=1024", "set encoder.max_length=512 or less"),
    ],
)
def test_what_the_trainer_or_the_encoder_cannot_do_is_refused_before_anything_is_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    write_log(tmp_path / "log.jsonl", queriers=2, each=20)
    assert main(["fit", *settings(tmp_path), word]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_losses_that_compare_queriers_need_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "log.jsonl", queriers=1, each=20)
    assert main(["fit", *settings(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "comparing queriers (loss.specific, loss.general, loss.swap) takes two or more" in said
    assert "method=ft" in said
    assert not (tmp_path / "outputs").exists()


def test_the_same_command_gives_the_same_bits(work: Path) -> None:
    assert main(["fit", *settings(work), "name=again"]) == 0
    first, second = (
        load_file(work / "outputs" / name / "model" / "conditioner.safetensors") for name in ("run", "again")
    )
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize("method", ["ft", "zero_shot"])
def test_other_methods_go_the_same_way(work: Path, method: str) -> None:
    config = plain_config(compose("fit", [*settings(work), f"method={method}"]))
    result = run_fit(config)
    assert result.run.folder.name.startswith(f"{method}-")
    assert result.run.finished
    assert result.metrics["val/nll_per_byte"] > 0
    assert (result.steps > 0) == (method == "ft")


def test_a_sweep_runs_each_value_and_returns_what_it_optimises(work: Path) -> None:
    assert main(["fit", *settings(work), "trainer.max_epochs=1", "method=ft", "seed=0,1", "-m"]) == 0
    runs = sorted((work / "outputs" / "sweep").glob("ft-*/run.json"))
    assert sorted(json.loads(path.read_text())["config"]["seed"] for path in runs) == [0, 1]


def test_a_sweep_goes_on_behind_the_runs_that_are_finished(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", *settings(work), "trainer.max_epochs=1", "method=ft", "name=long"]
    assert main([*words, "seed=0", "-m"]) == 0
    cards = {path: path.read_bytes() for path in (work / "outputs" / "long").glob("ft-*/run.json")}
    capsys.readouterr()
    assert main([*words, "seed=0,1", "-m"]) == 0
    assert " is finished" in capsys.readouterr().err
    assert all(path.read_bytes() == content for path, content in cards.items())
    assert len(list((work / "outputs" / "long").glob("ft-*/run.json"))) == 2


def test_a_smoke_run_writes_no_run(work: Path) -> None:
    assert main(["fit", *settings(work), "trainer=smoke", "name=smoke"]) == 0
    assert not (work / "outputs" / "smoke").exists()


def test_python_and_the_command_line_make_the_same_run(trained: Path) -> None:
    config = plain_config(compose("fit", [*settings(trained), "name=run"]))
    assert type(config) is Config
    card = json.loads((trained / "outputs" / "run" / "run.json").read_text())
    assert card["config"]["towers"]["width"] == config.towers.width


def test_bad_data_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.jsonl").write_text('{"id": "a", "querier": "x", "query": "q", "reply": ""}\n')
    assert main(["fit", *settings(tmp_path)]) == 2
    assert "log.jsonl:1" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl"]


def test_an_interrupted_run_says_how_it_goes_on(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(QuerierModule, "training_step", stop)
    before = signal.getsignal(signal.SIGINT)
    for more, same in (([], "the same command"), (["overwrite=true"], "the same command without overwrite=true")):
        try:
            assert main(["fit", "data.path=log.jsonl", "name=stopped", *FAST, *more]) == 130
        finally:
            signal.signal(signal.SIGINT, before)  # Lightning leaves it switched off
        assert f"; {same} goes on from here" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # where an interrupted run goes on
def test_a_checkpoint_of_another_version_is_refused(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("querier.commands.callbacks.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    honest, steps = QuerierModule.training_step, []

    def stop(module: QuerierModule, *given: Any) -> Any:
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return honest(module, *given)

    command = ["fit", "data.path=log.jsonl", "name=stopped", *FAST]
    before = signal.getsignal(signal.SIGINT)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(QuerierModule, "training_step", stop)
            assert main(command) == 130
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning leaves it switched off
    last = work / "outputs" / "stopped" / "checkpoints" / "last.ckpt"
    saved = torch.load(last, weights_only=True)
    saved["optimizer_states"][0]["param_groups"][0]["params"].pop()
    torch.save(saved, last)
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "last.ckpt does not fit the model as it is made now: another version of querier wrote it" in said
    assert "overwrite=true" in said
    assert main([*command, "overwrite=true"]) == 0


@pytest.mark.slow
def test_a_killed_run_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", queriers=9, each=20)
    program = (
        "import sys, querier.commands.callbacks as callbacks; callbacks.SECONDS_BETWEEN_CHECKPOINTS = 0.1; "
        "from querier.cli import main; sys.exit(main(sys.argv[1:]))"
    )

    def start(folder: str) -> subprocess.Popen[bytes]:
        place = tmp_path / folder
        words = ["fit", f"data.path={log}", f"output={place}", f"cache={place / 'cache'}", "name=run", *FAST]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", program, *words, "trainer.max_epochs=3"],
            env=environment,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    assert start("whole").wait(timeout=900) == 0
    killed = start("killed")
    last = tmp_path / "killed" / "run" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 600
    while not last.is_file() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert killed.poll() is None, "the run ended before it could be killed"
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert start("killed").wait(timeout=900) == 0
    first, second = (
        {path.name: load_file(path) for path in (tmp_path / name / "run" / "model").rglob("*.safetensors")}
        for name in ("whole", "killed")
    )
    for name, tensors in first.items():
        for key, value in tensors.items():
            assert (second[name][key] == value).all(), f"{name} {key}"
    cards = [json.loads((tmp_path / name / "run" / "run.json").read_text()) for name in ("whole", "killed")]
    assert cards[0]["steps"] == cards[1]["steps"]
    assert cards[0]["tokens"] == cards[1]["tokens"]
    assert cards[0]["best"] == cards[1]["best"]
