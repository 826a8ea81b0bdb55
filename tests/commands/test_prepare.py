"""`querier prepare`: checks without writing, and is done once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_log import FAST, write_log

from querier.cli import main


def words(folder: Path) -> list[str]:
    fast = [word for word in FAST if not word.startswith("evaluation")]
    return [f"data.path={folder / 'log.jsonl'}", f"output={folder / 'out'}", f"cache={folder / 'cache'}", *fast]


def test_checking_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "log.jsonl")
    assert main(["prepare", *words(tmp_path), "check_only=true"]) == 0
    assert "9 queriers" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_checking_names_every_bad_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "log.jsonl")
    log.write_text(log.read_text() + "{\n" + '{"id": "x"}\n')
    assert main(["prepare", *words(tmp_path), "check_only=true"]) == 2
    shown = capsys.readouterr().err
    assert "log.jsonl:109" in shown
    assert "log.jsonl:110" in shown
    assert "2 records" in shown


def test_preparing_twice_is_preparing_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "log.jsonl")
    assert main(["prepare", *words(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["prepare", *words(tmp_path)]) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_refused_records_are_written_beside_the_output(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl")
    log.write_text(log.read_text() + "{\n")
    assert main(["prepare", *words(tmp_path), "data.on_error=skip"]) == 0
    assert "not JSON" in (tmp_path / "out" / "log.refused.jsonl").read_text()
