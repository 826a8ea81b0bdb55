"""From one record per dialogue to the table: averages with intervals, by kind of querier, and paired differences.

A record is what a line of `examples.jsonl` holds. Its `scores` have a number for what was measured, None for what
failed, and no entry for what was not asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from querier.errors import InputError
from querier.evaluation.averages import as_mean, is_mean, merged_labels, on_both, over_seeds
from querier.evaluation.statistics import Value, estimate, holm, paired
from querier.evaluation.swap import SwapPair

Record = dict[str, Any]

RowScores = dict[int, float | None]
"""One score of several dialogues, by their row in the corpus; None where it failed."""

WEIGHTS = {
    "nll_per_token": "tokens",
    "nll_per_byte": "bytes",
    "nll_swapped": "tokens",
    "nll_swapped_own": "tokens",
    "nll_empty": "tokens",
    "gain": "tokens",
}
"""Scores that are averaged over tokens or bytes, not over dialogues."""

CONDITIONS = ("nll_swapped", "nll_swapped_own", "nll_empty", "retrieval_first_gold", "retrieval_auc_gold")
"""Likelihoods under other histories, and what true replies tell: what others are held against, and not tested."""

GROUPS = {"": None, "_seen": False, "_unseen": True}
"""Suffix of a metric and whose dialogues it is taken over; `_macro` averages over queriers."""


@dataclass
class Result:
    """What a run reaches on held-out dialogues.

    Attributes:
        metrics: By name; `<name>_seen` and `<name>_unseen` over the dialogues of these queriers alone, `<name>_macro`
            over queriers instead of dialogues.
        counts: Dialogues `n`, of these `n_generated` with a reply, `n_failed` with a failure; queriers by kind.
        excluded: For each swap (and `main`) how many dialogues were left out, by reason.
        cold_start: By kind of querier and number of history items.
        settings: Under which all of it was taken.
        rows: One record per dialogue.
        pairs: The pairs of each swap.
    """

    metrics: dict[str, Value]
    counts: dict[str, int]
    excluded: dict[str, dict[str, int]]
    settings: dict[str, Any]
    cold_start: dict[str, dict[str, dict[str, Value]]] = field(default_factory=dict)
    rows: list[Record] = field(default_factory=list, repr=False)
    pairs: dict[str, list[SwapPair]] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> float | None:
        """The number of a metric."""
        return self.metrics[name].value

    def to_json(self) -> dict[str, Any]:
        """What `results.json` holds: numbers only, no text of anybody."""
        return {
            **self.counts,
            "metrics": {name: value.to_json() for name, value in self.metrics.items()},
            "cold_start": {
                group: {
                    items: {name: value.to_json() for name, value in found.items()} for items, found in curve.items()
                }
                for group, curve in self.cold_start.items()
            },
            "excluded": self.excluded,
            "settings": self.settings,
        }


def summarise(
    rows: Sequence[Record], draws: int, generator: np.random.Generator, names: Iterable[str] | None = None
) -> dict[str, Value]:
    """Each score over all dialogues, over those of seen and of unseen queriers, and over queriers.

    Args:
        rows: The records.
        draws: Bootstrap draws.
        generator: Draws the weights of the bootstrap.
        names: Scores; None for all that occur.
    """
    found: dict[str, Value] = {}
    for name in score_names(rows) if names is None else names:
        for suffix, unseen in GROUPS.items():
            chosen = [row for row in rows if name in row["scores"] and unseen in (None, row["unseen"])]
            if chosen or not suffix:
                found[name + suffix] = _estimate(chosen, name, draws, generator)
        if is_mean(name):
            chosen = [row for row in rows if name in row["scores"]]
            found[f"{name}_macro"] = _estimate(chosen, name, draws, generator, macro=True)
    return found


def average_seeds(runs: Sequence[Sequence[Record]]) -> list[Record]:
    """One record per dialogue with each score averaged over several runs that differ in their seed.

    A score that failed in one run failed; only dialogues and scores that all runs have are kept.

    Raises:
        InputError: Where there is no run, or no dialogue is common to all.
    """
    by_id = [{row["id"]: row for row in run} for run in runs]
    common = [row for row in runs[0] if all(row["id"] in known for known in by_id)] if runs else []
    if not common:
        raise InputError(f"{len(runs)} runs have no dialogue in common; test them on the same data and split")
    averaged = []
    for row in common:
        same = [known[row["id"]]["scores"] for known in by_id]
        names = [name for name in row["scores"] if all(name in one for one in same)]
        scores = {name: over_seeds(name, [one[name] for one in same]) for name in names}
        averaged.append({**row, "scores": scores, **merged_labels([known[row["id"]] for known in by_id])})
    return averaged


def differences(
    rows: Sequence[Record],
    baseline: Sequence[Record],
    draws: int,
    generator: np.random.Generator,
    names: Iterable[str] | None = None,
    macro: bool = False,
) -> dict[str, Value]:
    """Paired differences to a baseline on the dialogues that both have, with Holm's p over all that is tested.

    Args:
        rows: Records of what is judged.
        baseline: Records of what it is compared with.
        draws: Bootstrap draws.
        generator: Draws the weights of the bootstrap.
        names: Scores; None for all that both have.
        macro: Whether `<name>_macro` stands beside each mean, over queriers instead of dialogues: another average of
            the same numbers, and so, like the likelihoods of `CONDITIONS`, without a p.

    Raises:
        InputError: Where they have no dialogue in common.
    """
    other = {row["id"]: row for row in baseline}
    common = [row for row in rows if row["id"] in other]
    if not common:
        raise InputError("the two runs have no dialogue in common; test them on the same data and split")
    wanted = score_names(common) if names is None else list(names)
    found: dict[str, Value] = {}
    for name in wanted:
        both = [row for row in common if name in row["scores"] and name in other[row["id"]]["scores"]]
        if both:
            mine, theirs = on_both(name, both, [other[row["id"]] for row in both])
            weights = _weights(both, name)
            value = paired(mine, theirs, _queriers(both), draws, generator, weights)
            found[name] = replace(value, p=None) if name in CONDITIONS else value
            if macro and is_mean(name):
                (own,) = generator.spawn(1)  # the draws of the others stay what they are
                value = paired(mine, theirs, _queriers(both), draws, own, weights, macro=True)
                found[f"{name}_macro"] = replace(value, p=None)
    return with_holm(found)


def with_holm(values: Mapping[str, Value]) -> dict[str, Value]:
    """The same values with `p` adjusted for their number."""
    tested = {name: value.p for name, value in values.items() if value.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {name: replace(value, p=adjusted.get(name)) for name, value in values.items()}


def with_gain(rows: Sequence[Record]) -> list[Record]:
    """The records with `gain`: how much likelier the true reply is with the history than without, nats per token."""
    found = []
    for row in rows:
        scores = row["scores"]
        if {"nll_empty", "nll_per_token"} <= set(scores):
            scores = {**scores, "gain": gain_over(scores["nll_empty"], scores["nll_per_token"])}
        found.append({**row, "scores": scores})
    return found


def gain_over(without: float | None, matched: float | None) -> float | None:
    """How much likelier a reply is with a history than without, of both NLLs; None where one of them failed."""
    return None if without is None or matched is None else without - matched


def was_asked(row: Record) -> bool:
    """Whether a reply to the dialogue was asked for: it has the scores of one, be they None because there is none."""
    return "rouge_l" in row["scores"]


def score_names(rows: Sequence[Record]) -> list[str]:
    """All scores that occur, in the order of their first record."""
    return list(dict.fromkeys(name for row in rows for name in row["scores"]))


def _estimate(
    rows: Sequence[Record], name: str, draws: int, generator: np.random.Generator, macro: bool = False
) -> Value:
    values = as_mean(name, rows)
    return estimate(values, _queriers(rows), draws, generator, _weights(rows, name), macro)


def _weights(rows: Sequence[Record], name: str) -> np.ndarray | None:
    column = WEIGHTS.get(name)
    return None if column is None else np.array([row[column] for row in rows], dtype=float)


def _queriers(rows: Sequence[Record]) -> np.ndarray:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(row["querier"], len(numbers)) for row in rows], dtype=np.int64)
