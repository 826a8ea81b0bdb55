"""Scores whose value over many dialogues is not the mean of their values: root mean squared error and macro F1.

Each dialogue gets a number such that the plain mean of these over the very dialogues at hand *is* the metric, to first
order in what one dialogue contributes. So intervals over queriers and paired differences come from the same bootstrap
as those of all other scores. With x the errors and R their root mean square the number is R + (x² − R²) / 2R. With
N_l = Σ (has_l + said_l) over n dialogues and F_l = 2 Σ hit_l / N_l it is the mean over labels l of
F_l + n (2 hit_l − F_l (has_l + said_l)) / N_l. A label that nobody has and nobody was said to have is not judged.

The score of one dialogue by itself is its error and its hit. What was read of a reply stands in the record as shares of
labels, so that several seeds can be put together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

F1, RMSE = "f1", "rmse"
LABELS = "labels"
"""Names the entry of a record with the true label and the shares of those read; behind it the suffix of the reply."""

Record = Mapping[str, Any]


def is_mean(name: str) -> bool:
    """Whether a metric is the mean of its values by dialogue, and so has one over queriers."""
    return _kind(name) is None


def labels_of(true: str | None, said: str | None) -> dict[str, Any]:
    """What a record holds of the labels of one reply."""
    return {"true": true, "said": {} if said is None else {said: 1.0}}


def as_mean(name: str, rows: Sequence[Record]) -> list[float | None]:
    """A number for each dialogue, None for one that failed; their mean is the metric on these dialogues."""
    values = [row["scores"][name] for row in rows]
    kind = _kind(name)
    good = [place for place, value in enumerate(values) if value is not None]
    if kind is None or not good:
        return values
    if kind == RMSE:
        numbers = _of_errors(np.array([values[place] for place in good], dtype=float))
    else:
        numbers = _of_labels([rows[place][LABELS + name.removeprefix(F1)] for place in good])
    found: list[float | None] = [None] * len(rows)
    for place, number in zip(good, numbers.tolist(), strict=True):
        found[place] = number
    return found


def on_both(
    name: str, rows: Sequence[Record], others: Sequence[Record]
) -> tuple[list[float | None], list[float | None]]:
    """As `as_mean` for two runs on the same dialogues; one that failed on either side has failed on both."""
    if is_mean(name):
        return as_mean(name, rows), as_mean(name, others)
    failed = [None in (row["scores"][name], other["scores"][name]) for row, other in zip(rows, others, strict=True)]
    first, second = (
        [{**row, "scores": {name: None}} if fault else row for row, fault in zip(side, failed, strict=True)]
        for side in (rows, others)
    )
    return as_mean(name, first), as_mean(name, second)


def over_seeds(name: str, values: Sequence[float | None]) -> float | None:
    """One dialogue's score over several seeds; a score that failed in one of them failed."""
    numbers = np.array([value for value in values if value is not None], dtype=float)
    if len(numbers) < len(values):
        return None
    return float(np.sqrt(np.mean(numbers**2)) if _kind(name) == RMSE else np.mean(numbers))


def merged_labels(rows: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """The labels of one dialogue over several seeds: the mean of the shares."""
    merged = {}
    for key in (name for name in rows[0] if name.startswith(LABELS) and all(name in row for row in rows)):
        shares: dict[str, float] = {}
        for row in rows:
            for label, share in row[key]["said"].items():
                shares[label] = shares.get(label, 0.0) + share / len(rows)
        merged[key] = {"true": rows[0][key]["true"], "said": shares}
    return merged


def _kind(name: str) -> str | None:
    """`rmse` for itself and for what has a suffix, `f1` likewise; None for a plain mean."""
    return next((kind for kind in (F1, RMSE) if name == kind or name.startswith(f"{kind}_")), None)


def _of_errors(errors: np.ndarray) -> np.ndarray:
    """(n,) numbers whose mean is the root of the mean square of n errors."""
    root = float(np.sqrt(np.mean(errors**2)))
    if not root:
        return np.zeros(len(errors))
    numbers: np.ndarray = root + (errors**2 - root**2) / (2 * root)
    return numbers


def _of_labels(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(n,) numbers whose mean is the F1 averaged over the labels that somebody has or was said to have."""
    names = sorted({one["true"] for one in records} | {label for one in records for label in one["said"]})
    has = np.array([[one["true"] == label for label in names] for one in records], dtype=float)
    said = np.array([[one["said"].get(label, 0.0) for label in names] for one in records])
    hits, named = has * said, has + said
    f1 = 2 * hits.sum(0) / named.sum(0)
    numbers: np.ndarray = (f1 + len(records) * (2 * hits - f1 * named) / named.sum(0)).mean(1)
    return numbers
