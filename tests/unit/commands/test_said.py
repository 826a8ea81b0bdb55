"""What a run passes over is said, and what is not the demo's own is not removed."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from querier.commands.compose import compose
from querier.commands.demo import run
from querier.commands.fit import say_passed_over
from querier.config import Config
from querier.errors import InputError
from querier.models.tokens import Cut


def said(caplog: pytest.LogCaptureFixture, cut: Cut, skipped: int) -> str:
    caplog.clear()
    module: Any = SimpleNamespace(decoder=SimpleNamespace(cut=cut), config=Config())
    data: Any = SimpleNamespace(builder=SimpleNamespace(skipped=skipped))
    with caplog.at_level(logging.INFO, "querier"):
        say_passed_over(module, data)
    return caplog.text


def test_what_was_cut_and_skipped_is_said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("querier"), "propagate", True)
    text = said(caplog, Cut({1, 2}, {3}), 7)
    assert "2 prompts and 1 replies were longer than decoder.max_length, 192 tokens and half of it" in text
    assert "passed over 7 rows" in text
    assert not said(caplog, Cut(), 0)


def test_the_demo_removes_only_what_a_demo_left(tmp_path: Path) -> None:
    precious = tmp_path / "demo" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(InputError, match="holds files that no demo left"):
        run(compose("demo", [f"output={tmp_path}"]))
    assert precious.read_text() == "years of work"


def test_a_demo_that_cannot_run_leaves_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "demo" / "cache").mkdir(parents=True)
    with pytest.raises(InputError, match="querrier"):
        run(compose("demo", [f"output={tmp_path}", "methods=[ft,querrier]"]))
    assert (tmp_path / "demo" / "cache").is_dir()
    with pytest.raises(InputError, match="methods must name one or more"):
        compose("demo", ["methods=[]"])
