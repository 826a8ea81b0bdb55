"""Two runs against each other: what `querier test run=a against=b` left beside the runs of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from querier.analysis.report.numbers import Number, damaged, numbers, read_json

ARMS = {
    "runs": "a over b",
    "own_over_swapped": "a on own over other's history",
    "own_over_swapped_unknown": "same, judge sees no history",
}
"""What the judge compared, in words."""

COUNTS = ("n_tied", "n_inconsistent")
RATES = ("win_rate", "longer_wins", "bytes_first", "bytes_second")


@dataclass(frozen=True)
class Arm:
    """What the judge said of many pairs of replies.

    Attributes:
        name: What was compared, in words.
        values: `win_rate` of the first replies, `longer_wins`, mean lengths `bytes_first` and `bytes_second`.
        counts: Pairs that were tied, and tied because the two orders disagreed.
    """

    name: str
    values: dict[str, Number]
    counts: dict[str, int]


@dataclass(frozen=True)
class Against:
    """One run against another, dialogue by dialogue.

    Attributes:
        a: Name of the run.
        b: Of the one it is compared with.
        values: Of both, by metric, on the dialogues that both have.
        differences: a minus b, by metric.
        judge: Model that judged; empty for none.
        arms: What it said.
        stale: Whether one of them was trained or tested anew since.
    """

    a: str
    b: str
    values: dict[str, dict[str, float | None]]
    differences: dict[str, Number]
    judge: str = ""
    arms: list[Arm] = field(default_factory=list)
    stale: bool = False


def read_against(folders: Sequence[Path], names: Sequence[str], models: Sequence[str | None]) -> list[Against]:
    """What was left in these folders about each other.

    Args:
        folders: Of the runs.
        names: Under which a report shows them.
        models: Which weights each was tested with.

    Raises:
        InputError: A file that cannot be read.
    """
    places = {folder.resolve().name: place for place, folder in enumerate(folders)}
    found: list[Against] = []
    for a, folder in enumerate(folders):
        for path in sorted(folder.glob("against_*.json")):
            plain = read_json(path)
            b = places.get(str(plain.get("b")))
            if b is not None and (plain.get("settings") or {}).get("split", "test") == "test":
                found.append(_one(path, plain, (names[a], names[b]), (models[a], models[b])))
    return found


def _one(path: Path, plain: Mapping[str, Any], names: tuple[str, str], models: tuple[Any, Any]) -> Against:
    try:
        judge = plain.get("judge") or {}
        judged = (plain["models"]["a"], plain["models"]["b"])
        return Against(
            *names,
            values={metric: dict(both) for metric, both in plain["values"].items()},
            differences=numbers(plain["differences"]),
            judge=str(judge.get("model") or ""),
            arms=[_arm(name, arm) for name, arm in (judge.get("arms") or {}).items()],
            stale=judged != models,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, error) from error


def _arm(name: str, plain: Mapping[str, Any]) -> Arm:
    values = numbers({rate: plain[rate] for rate in RATES})
    return Arm(ARMS.get(name, name), values, {count: int(plain[count]) for count in COUNTS})
