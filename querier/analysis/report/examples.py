"""The examples of a report: what was asked, the true reply, and what each run answered, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from querier.analysis.report.metrics import LOWER, MAIN, WITHOUT, metric
from querier.analysis.report.sources import Entry, Report
from querier.analysis.report.templates import draw

FAILED = "failed"  # in place of a number
FIRST = "rouge_l"  # what they are sorted by, where it was measured

Key = tuple[str, str, str, str]


def examples(report: Report) -> tuple[str, Markup]:
    """Every dialogue with the replies of all runs; a script shows, searches and sorts them."""
    found = merged(report.entries)
    shown = chosen(found, report.examples)
    without = [entry.name for entry in report.entries if not entry.examples]
    return "Examples", draw(
        "examples", data=data(report.entries, shown), total=len(found), shown=len(shown), without=without
    )


def merged(entries: Sequence[Entry]) -> list[list[dict[str, Any] | None]]:
    """For each dialogue the line of each entry, None where it has none.

    Dialogues are the same when id, querier, query and true reply are: runs on different data may use the same ids.
    """
    found: dict[Key, list[dict[str, Any] | None]] = {}
    for place, entry in enumerate(entries):
        for row in entry.examples:
            key = (str(row["id"]), str(row["querier"]), str(row["query"]), str(row["gold"]))
            found.setdefault(key, [None] * len(entries))[place] = row
    return list(found.values())


def chosen(found: Sequence[list[dict[str, Any] | None]], limit: int) -> list[list[dict[str, Any] | None]]:
    """As many as fit: failures first, then those with a generated reply, then the others, each in their order."""

    def rank(lines: list[dict[str, Any] | None]) -> int:
        known = [line for line in lines if line is not None]
        return 0 if any(line.get("error") for line in known) else 1 if any(_replied(line) for line in known) else 2

    return sorted(found, key=rank)[:limit]


def data(entries: Sequence[Entry], found: Sequence[list[dict[str, Any] | None]]) -> dict[str, Any]:
    """What the script reads: names of runs and scores, and the dialogues."""
    names = list(dict.fromkeys(name for lines in found for line in lines if line for name in line["scores"]))
    order = {name: place for place, name in enumerate(MAIN)}
    names = sorted((name for name in names if not name.endswith(WITHOUT)), key=lambda name: order.get(name, len(order)))
    known = [metric(name) for name in names]
    return {
        "runs": [entry.name for entry in entries],
        "scores": [
            {"name": one.name, "label": one.label, "lower": one.better == LOWER, "digits": one.digits} for one in known
        ],
        "first": max(0, names.index(FIRST)) if FIRST in names else 0,
        "rows": [_row(lines, names) for lines in found],
    }


def _row(lines: list[dict[str, Any] | None], names: Sequence[str]) -> dict[str, Any]:
    first = next(line for line in lines if line is not None)
    return {
        "id": str(first["id"]),
        "querier": str(first["querier"]),
        "unseen": bool(first.get("unseen")),
        "history": first.get("history"),
        "query": str(first["query"]),
        "gold": str(first["gold"]),
        "of": [None if line is None else _answer(line, names) for line in lines],
    }


def _answer(line: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A run's part: its reply, scores by their place (null where none was asked for), and what went wrong."""
    scores = line["scores"]
    return {
        "reply": _text(line.get("reply")),
        "empty": _text(line.get("reply_empty_history")),
        "error": _text(line.get("error")),
        "scores": [_score(scores[name]) if name in scores else None for name in names],
    }


def _score(value: Any) -> float | str:
    if value is None or not math.isfinite(float(value)):
        return FAILED
    return float(f"{float(value):.5g}")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _replied(line: dict[str, Any]) -> bool:
    return line.get("reply") is not None
