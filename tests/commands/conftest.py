"""One finished run, shared by the tests of the commands that use one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_log import FAST, write_log

from querier.cli import main


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `log.jsonl` and `outputs/run`, trained once."""
    folder = tmp_path_factory.mktemp("trained")
    log = write_log(folder / "log.jsonl")
    settings = [f"data.path={log}", f"output={folder / 'outputs'}", f"cache={folder / 'cache'}", "name=run"]
    assert main(["fit", *settings, *FAST]) == 0
    return folder


@pytest.fixture
def work(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained folder to work in; its cache is its own too."""
    folder = tmp_path / "work"
    shutil.copytree(trained, folder)
    for path in folder.glob("outputs/*/run.json"):
        path.write_text(path.read_text().replace(str(trained), str(folder)))
    monkeypatch.chdir(folder)
    return folder
