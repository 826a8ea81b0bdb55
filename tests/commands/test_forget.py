"""`querier forget`: afterwards the querier is answered as somebody without a history."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from querier.cli import main
from querier.responder import Responder


def test_the_reply_is_that_without_a_history(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = work / "outputs" / "run"
    before = Responder.load(run)
    others = [before.respond("How do bees work?", f"querier {number}", max_new_tokens=4) for number in (0, 2)]
    assert len(before.history_of("querier 1")) > 0
    assert main(["forget", "run=run", "querier=querier 1"]) == 0
    shown = capsys.readouterr().err
    assert "not unlearned" in shown
    assert str(run.name) in shown
    after = Responder.load(run)
    assert after.history_of("querier 1") == []
    assert "querier 1" not in after.prepared.corpus.queriers  # type: ignore[union-attr]  # loaded with its corpus
    forgotten = after.request("How do bees work?", "querier 1")
    nobody = after.request("How do bees work?", "querier 1", [])
    assert after.module.generate([forgotten], 4) == after.module.generate([nobody], 4)
    assert [after.respond("How do bees work?", f"querier {number}", max_new_tokens=4) for number in (0, 2)] == others


def test_a_second_call_finds_nothing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["forget", "run=run", "querier=querier 1"]) == 0
    capsys.readouterr()
    assert main(["forget", "run=run", "querier=querier 1"]) == 0
    assert "nothing about 'querier 1' is left" in capsys.readouterr().err


def test_a_name_that_is_nobodys_is_told_from_one_that_was_forgotten(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["forget", "run=run", "querier=qerier 3"]) == 0
    assert "nobody is called 'qerier 3' here; nearest: querier 3" in capsys.readouterr().err


def test_a_name_is_needed(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["forget", "run=run"]) == 2
    assert "querier is empty" in capsys.readouterr().err


def test_runs_at_any_depth_and_what_is_left_to_do_are_named(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = work / "outputs"
    (outputs / "sweep").mkdir()
    shutil.copytree(outputs / "run", outputs / "sweep" / "other")
    (outputs / "log.refused.jsonl").write_text("{}\n")
    (outputs / "sweep" / "other" / "examples.jsonl").write_text('{"querier": "querier 1"}\n{"querier": "querier 2"}\n')
    left = '{"method": "ft", "querier": "querier 2", "query": "one\u2028two\u0085three"}\n'
    compared = [outputs / "compare" / name / "examples.jsonl" for name in ("table", "monday/table")]
    for path in compared:
        path.parent.mkdir(parents=True)
        path.write_text('{"method": "ft", "querier": "querier 1"}\n' + left)
    assert main(["forget", "run=run", "querier=querier 1"]) == 0
    shown = " ".join(capsys.readouterr().err.split())
    for folder in ("run", "sweep/other"):  # a slow run has a last checkpoint too
        assert re.search(rf"not unlearned: outputs/{folder} \(checkpoints/best.ckpt,( \S+,)? model\)", shown)
    assert [path.read_text() for path in compared] == [left, left]
    assert "not unlearned: the base" in shown
    assert "outputs/log.refused.jsonl" in shown
    assert "remove them there too" in shown
    assert (outputs / "sweep" / "other" / "examples.jsonl").read_text() == '{"querier": "querier 2"}\n'


def test_it_works_from_any_folder(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = work / "outputs" / "run" / "run.json"
    card.write_text(card.read_text().replace(f'"cache": "{work / "cache"}"', '"cache": "cache"'))
    (work / "elsewhere").mkdir()
    monkeypatch.chdir(work / "elsewhere")
    assert main(["forget", f"output={work / 'outputs'}", "querier=querier 1"]) == 0
    assert re.search(r"removed [1-9]\d* dialogues from", capsys.readouterr().err)
    assert Responder.load(work / "outputs" / "run").history_of("querier 1") == []


def test_a_cache_that_is_gone_is_said(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(work / "cache")
    assert main(["forget", "run=run", "querier=querier 1"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"not searched: the cache {work / 'cache'} is not there" in said
    assert "is left in the runs (no cache was searched) under" in said


def test_a_project_that_was_moved_as_a_whole_is_searched(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = work / "outputs" / "run" / "run.json"
    card.write_text(card.read_text().replace(f'"cache": "{work / "cache"}"', '"cache": "cache"'))
    moved = work.rename(work.parent / "moved")
    monkeypatch.chdir(moved)
    assert main(["forget", "run=run", "querier=querier 1"]) == 0
    said = capsys.readouterr().err
    assert re.search(r"removed [1-9]\d* dialogues from", said)
    assert "not unlearned: outputs/run" in said


def test_the_cache_of_every_run_is_covered(work: Path) -> None:
    outputs = work / "outputs"
    shutil.copytree(work / "cache", work / "second")
    shutil.copytree(outputs / "run", outputs / "other")
    card = outputs / "other" / "run.json"
    card.write_text(card.read_text().replace(str(work / "cache"), str(work / "second")))
    assert main(["forget", "run=run", "querier=querier 1"]) == 0
    for name in ("run", "other"):
        assert Responder.load(outputs / name).history_of("querier 1") == []
