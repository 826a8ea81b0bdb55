"""A process that is killed and started again ends where an unbroken one ends, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import WordEncoder, dialogues, small_config, write_jsonl

from querier.commands import callbacks, fit
from querier.config import Config, DataConfig
from querier.data.preparation import prepare
from querier.data.records import Corpus
from querier.data.splits import split
from querier.module import QuerierModule


def in_a_child(work: Callable[[], object]) -> int:
    """The wait status of a forked process that does `work`; it shares nothing with this one but the disk."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(7)  # it came to its end, or an error did
    return os.waitpid(child, 0)[1]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob(pattern)) if path.is_file()}


# training


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each step, and an encoder that needs no weights."""
    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    monkeypatch.setattr(fit, "encoder", lambda config: WordEncoder())


def config_of(folder: Path, **changes: Any) -> Config:
    log = folder / "log.jsonl"
    if not log.is_file():
        write_jsonl(log, dialogues(6, 14))
    settings = {"data": {"path": str(log)}, "trainer": {"max_epochs": 2, **changes.pop("trainer", {})}}
    settings["trainer"] = {**vars(small_config(folder).trainer), **settings["trainer"]}
    return small_config(folder, name="run", **settings, **changes)


def outcome(folder: Path) -> dict[str, Any]:
    run = folder / "outputs" / "run"
    card = json.loads((run / "run.json").read_text())
    shown = {name: card[name] for name in ("status", "steps", "tokens", "best")}
    return {**shown, "metrics": (run / "metrics.csv").read_text(), **files(run, "model/**/*.safetensors")}


def killing(monkeypatch: pytest.MonkeyPatch, hook: str, step: int) -> None:
    """Kill the process when a hook of the module is called after `step` steps."""
    original = getattr(QuerierModule, hook)

    def hooked(self: QuerierModule, *args: Any) -> Any:
        if self.global_step == step:
            die()
        return original(self, *args)

    monkeypatch.setattr(QuerierModule, hook, hooked)


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.usefixtures("every_step")
def test_a_run_killed_anywhere_ends_as_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    steps = fit.run_fit(config_of(whole)).steps
    assert steps % 2 == 0
    epoch = steps // 2
    assert epoch >= 3
    kills = {
        "mid_epoch": ("training_step", 2),
        "before_validation": ("validation_step", epoch),
        "after_validation": ("on_validation_epoch_end", epoch),
        "second_epoch_begins": ("training_step", epoch),
        "second_epoch": ("training_step", epoch + 1),
        "last_validation": ("validation_step", steps),
        "trained": ("state_dict", steps),
    }
    for name, (hook, step) in kills.items():
        folder = tmp_path / name
        folder.mkdir()
        with monkeypatch.context() as patch:
            killing(patch, hook, step)
            status = in_a_child(lambda folder=folder: fit.run_fit(config_of(folder)))
        assert os.WIFSIGNALED(status), f"{name}: ended with {status}"
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert (folder / "outputs" / "run" / "checkpoints" / "last.ckpt").is_file()
        fit.run_fit(config_of(folder))
        found, wanted = outcome(folder), outcome(whole)
        for key, value in wanted.items():
            assert found[key] == value, f"{name}: {key}"


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.usefixtures("every_step")
def test_a_memory_of_what_was_seen_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings: dict[str, Any] = {
        "conditioning": {"model": "qar", "kind": "none"},
        "clusters": {"n_clusters": "2"},
        "loss": {"specific": 0.0, "general": 0.0, "swap": 0.0},
    }
    for folder in (whole, killed):
        folder.mkdir()
    steps = fit.run_fit(config_of(whole, **settings)).steps
    with monkeypatch.context() as patch:
        killing(patch, "training_step", steps // 2 + 1)
        assert os.WIFSIGNALED(in_a_child(lambda: fit.run_fit(config_of(killed, **settings))))
    fit.run_fit(config_of(killed, **settings))
    found, wanted = outcome(killed), outcome(whole)
    assert found == wanted
    losses = [line.split(",") for line in wanted["metrics"].splitlines()]
    column = losses[0].index("train/prototypes")
    assert float(losses[-2][column] or losses[-1][column]) > 0


# preparing


def prepare_here(folder: Path, kill_at: int | None = None) -> int:
    """Prepare, killed at the given report of progress; returns how many there were."""
    config = small_config(folder)
    corpus, _ = split(Corpus.build(dialogues(8, 20)), DataConfig())
    reports = 0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal reports
        reports += 1
        if reports == kill_at:
            die()

    prepare(corpus, WordEncoder(), config, folder, progress)
    return reports


def test_a_preparation_killed_anywhere_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    reports = prepare_here(tmp_path / "whole")
    assert reports >= 3
    wanted = files(tmp_path / "whole", "**/[!.]*.npy") | files(tmp_path / "whole", "embeddings/*/*")
    killed = tmp_path / "killed"
    for kill_at in range(1, reports + 1):  # again and again in the same folder, each time a bit further
        status = in_a_child(lambda kill_at=kill_at: prepare_here(killed, kill_at))
        if not os.WIFSIGNALED(status):
            break  # what was kept left less to do
        assert not list(killed.glob("prepared/[!.]*/prepared.json"))
    prepare_here(killed)
    found = files(killed, "**/[!.]*.npy") | files(killed, "embeddings/*/*")
    assert found == wanted
    assert not [path for path in (killed / "prepared").iterdir() if path.name.endswith(".part")]


@pytest.mark.slow
def test_the_command_killed_while_it_encodes_goes_on(tmp_path: Path) -> None:
    made = dialogues(60, 40, personal=False)  # 4800 different texts, more than are written at once
    log = write_jsonl(tmp_path / "log.jsonl", made)

    def start(folder: str) -> subprocess.Popen[bytes]:
        words = [f"data.path={log}", f"cache={tmp_path / folder}", f"output={tmp_path / 'out'}", "encoder.max_length=8"]
        return subprocess.Popen(
            [sys.executable, "-m", "querier.cli", "prepare", *words],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    assert start("whole").wait(timeout=900) == 0
    killed = start("killed")
    deadline = time.monotonic() + 600
    while killed.poll() is None and time.monotonic() < deadline:
        if sum(path.stat().st_size for path in (tmp_path / "killed").glob("embeddings/*/keys.bin")):
            break
        time.sleep(0.02)
    assert killed.poll() is None, "it ended before it could be killed"
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not list((tmp_path / "killed").glob("prepared/*/prepared.json"))
    assert start("killed").wait(timeout=900) == 0
    for pattern in ("prepared/*/*.npy", "embeddings/*/keys.bin"):
        assert files(tmp_path / "killed", pattern) == files(tmp_path / "whole", pattern)
    vectors = [
        np.frombuffer(next((tmp_path / name).glob("embeddings/*/vectors.f16")).read_bytes(), np.float16)
        for name in ("whole", "killed")
    ]
    assert np.array_equal(*vectors)
