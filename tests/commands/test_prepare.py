"""`querier prepare`: checks without writing, and is done once."""

from __future__ import annotations

import json
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
    assert "2 records of" in shown
    assert "cannot be used (listed above); mend them, or leave them out with data.on_error=skip" in shown
    assert "refused" not in shown  # nothing was left out


def test_checking_counts_one_bad_line_as_one_and_many_to_the_twentieth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "log.jsonl")
    log.write_text(log.read_text() + "{\n")
    assert main(["prepare", *words(tmp_path), "check_only=true"]) == 2
    one = capsys.readouterr().err
    assert "querier: 1 record of" in one
    assert "cannot be used (listed above); mend it, or leave it out with" in one
    log.write_text(log.read_text() + "{\n" * 20)
    assert main(["prepare", *words(tmp_path), "check_only=true"]) == 2
    assert "cannot be used (the first 20 are listed above)" in capsys.readouterr().err


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


def test_what_was_refused_is_written_and_said_where_the_split_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "log.jsonl", queriers=1, each=2)
    log.write_text(log.read_text() + "{\n")
    assert main(["prepare", *words(tmp_path), "data.on_error=skip"]) == 2
    shown = capsys.readouterr().err
    assert "querier: 1 of 3 records was refused:" in shown
    assert shown.index("log.jsonl:3: not JSON") < shown.index("data.split=time needs 3 scenes at least, got 2")
    assert "left out" not in shown
    assert "not JSON" in (tmp_path / "out" / "log.refused.jsonl").read_text()
    assert main(["prepare", *words(tmp_path), "check_only=true"]) == 2
    assert "querier: 1 of 3 records was refused:" in capsys.readouterr().err


def test_one_record_without_time_does_not_refuse_all_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "log.jsonl")
    log.write_text(log.read_text().replace(', "time": 0', "", 1))
    assert main(["prepare", *words(tmp_path), "check_only=true", "data.on_error=skip"]) == 0
    shown = capsys.readouterr().err
    assert "1 record was refused and left out" in shown
    assert "log.jsonl:1: field `time`: missing, but 107 of 108 records have it" in shown


def test_what_histories_tell_is_said_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "log.jsonl")
    assert main(["prepare", *words(tmp_path), "signal=true", "evaluation.bootstrap=200"]) == 0
    said = capsys.readouterr()
    assert "told from histories by a linear reader (validation replies, chance 0.5)" in said.out + said.err
    kept = [json.loads(path.read_text()) for path in tmp_path.rglob("signal.json")]
    assert len(kept) == 1
    assert set(kept[0]["histories"]) == {"cluster", "matched"}
    assert kept[0]["settings"]["split"] == "validation"
    assert "which adds" in said.out + said.err
    for found in kept[0]["histories"].values():
        assert set(found["accuracy"]) == {"query", "vectors", "stylometry", "both"}
        assert set(found["gain"]) == {"vectors", "stylometry", "both"}
