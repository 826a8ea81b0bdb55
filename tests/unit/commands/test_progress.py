"""Progress on a terminal is a bar, elsewhere a line now and then."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from querier.commands.progress import Progress, clock


def test_without_a_terminal_the_end_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="querier"), Progress(console=Console(file=io.StringIO())) as progress:
        for done in (*range(1, 6), 5):
            progress("read", done, 5, "val 1.0")
    assert [record.getMessage() for record in caplog.records] == ["read: 5 of 5, 0:00, val 1.0"]


def test_a_short_work_aside_is_not_mentioned(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation of seconds says nothing, one of minutes how far it is and that it ended, each time anew."""
    now = [0.0]
    monkeypatch.setattr("querier.commands.progress.time.monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO, logger="querier"), Progress(console=Console(file=io.StringIO())) as progress:
        for step in (1.0, 20.0, 1.0, 20.0):
            for done in (1, 2, 3):
                now[0] += step
                progress("validate", done, 3, aside=True)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["validate: 2 of 3, 0:20, 0:20 left", "validate: 3 of 3, 0:40"] * 2


def test_on_a_terminal_there_is_a_bar_with_the_time_that_is_left() -> None:
    out = io.StringIO()
    with Progress(console=Console(file=out, force_terminal=True, width=100)) as progress:
        progress("read", 1, 2)
        progress("read", 2, 2)
    assert "read" in out.getvalue()
    assert "2/2" in out.getvalue()


def test_nothing_is_shown_where_nothing_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    out = io.StringIO()
    with caplog.at_level(logging.INFO), Progress(False, Console(file=out, force_terminal=True)) as progress:
        progress("read", 1, 1)
    assert out.getvalue() == ""
    assert not caplog.records


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.9, "1:01"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_the_same_work_is_shown_once_more(caplog: pytest.LogCaptureFixture) -> None:
    """The second method of a comparison trains under the same word as the first."""
    with caplog.at_level(logging.INFO, logger="querier"), Progress(console=Console(file=io.StringIO())) as progress:
        for done in (1, 2, 2, 1, 2):
            progress("train", done, 2)
    assert [record.getMessage().split(",")[0] for record in caplog.records] == ["train: 2 of 2"] * 2
    out = io.StringIO()
    with Progress(console=Console(file=out, force_terminal=True, width=100)) as progress:
        for done in (2, 1):
            progress("train", done, 2)
    assert "1/2" in out.getvalue().replace(" ", "")
