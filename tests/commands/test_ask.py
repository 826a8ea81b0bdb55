"""`querier ask`: one query, several queriers, also somebody nobody has seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from querier.cli import main
from querier.commands.ask import items_read
from querier.commands.compose import compose
from querier.data.requests import outside_request
from querier.module import QuerierModule


def test_queriers_stand_side_by_side(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "How do bees work, and why, isn't it odd?"
    assert main(["ask", "run=run", f"query={query}", "queriers=[querier 1,querier 2]", "max_new_tokens=4"]) == 0
    shown = capsys.readouterr().out
    assert "querier 1" in shown
    assert "querier 2" in shown


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("ft", 0),
        ("few_shot", 0),
        ("rpg", 0),
        ("qar", 0),
        ("rag", 4),
        ("qcg", 100),
        ("qcg prompt.profiles=told.json", 0),
        ("qcg prompt.distil=llm", 20),
        ("dpl", 100),
        ("dep", 8),
        ("pplug", 100),
        ("querier", 32),
        ("querier ablation=own_items", 32),
        ("rpg ablation=own_items", 4),
        ("ft ablation=permuted_control", 0),
    ],
)
def test_the_items_of_a_history_that_a_method_reads_are_counted(given: str, read: int) -> None:
    config = compose("fit", f"method={given}".split())
    assert [items_read(config, known) for known in (100, 3, 0)] == [read, min(read, 3), 0]


def test_somebody_new_comes_with_a_file(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [{"query": "How do maps work?", "reply": "Slowly."}, {"query": "How do bees work?", "reply": "Slowly."}]
    Path("carla.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    assert main(["ask", "run=run", "query=How do tides work?", "history=carla.jsonl", "max_new_tokens=4"]) == 0
    shown = capsys.readouterr().out
    assert "carla" in shown
    assert "nobody" in shown


def test_an_unknown_querier_is_refused_with_the_nearest(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "run=run", "query=Why?", "queriers=[querrier 1]"]) == 2
    shown = capsys.readouterr().err
    assert "querier 1" in shown
    assert "history=" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["queriers=[querier 1]"], "query is empty"),
        (["query=Why?", "history=none.jsonl"], "no file none.jsonl"),
        (["query=Why?", "strength=-1"], "strength must be in"),
    ],
)
def test_what_is_missing_is_said(
    work: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["ask", "run=run", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_bad_history_line_is_named(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("carla.jsonl").write_text('{"query": "a"}\n')
    assert main(["ask", "run=run", "query=Why?", "history=carla.jsonl"]) == 2
    assert "carla.jsonl:1: field `reply` is missing" in capsys.readouterr().err


def test_who_answers_is_handed_on(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def seen(*values: Any, **_: Any) -> Any:
        asked.append(values[-1])
        return outside_request(*values)

    monkeypatch.setattr("querier.responder.outside_request", seen)
    words = ["run=run", "query=Why?", "queriers=[querier 1]", "max_new_tokens=2"]
    assert main(["ask", *words, "responder=assistant"]) == 0
    assert main(["ask", *words]) == 0
    assert asked == ["assistant", None]


def test_an_unknown_responder_is_refused_with_the_nearest(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "run=run", "query=Why?", "responder=asistant"]) == 2
    assert "no responder 'asistant'; nearest: assistant" in capsys.readouterr().err


def test_empty_and_equal_replies_are_said(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(QuerierModule, "generate", lambda module, requests, *given, **named: [" "] * len(requests))
    assert main(["ask", "run=run", "query=How do bees work?"]) == 0
    shown = capsys.readouterr()
    assert "(empty)" in shown.out
    assert "all replies are the same" in shown.err
    assert "far from all" not in shown.err  # the pool was asked this very question
