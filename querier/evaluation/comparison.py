"""Several methods on the same dialogues: one table, and paired differences to one of them.

Scores are averaged over seeds for each dialogue first; intervals are over queriers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from querier.errors import InputError
from querier.evaluation.draws import Draw, generator_of
from querier.evaluation.results import GROUPS, Record, average_seeds, differences, summarise, with_gain
from querier.evaluation.statistics import Value
from querier.evaluation.swap_scores import SWAPPED, UNNAMED

SEEDS = 3  # of which a claim needs the same sign
LEVEL = 0.05  # of Holm's p
SWAPS = (*SWAPPED, UNNAMED)
PERSONAL = ("gain", *SWAPS, "diversity", "retrieval_first", "retrieval_auc")


@dataclass(frozen=True)
class Difference:
    """How far a method is from the baseline.

    Attributes:
        value: Paired, seeds averaged, p adjusted by Holm over the metrics of the method, those of all, of seen and of
            unseen queriers apart; without p for what is not tested (`results.CONDITIONS`, averages over queriers).
        by_seed: The same for each seed alone, without an interval.
    """

    value: Value
    by_seed: list[float | None]

    @property
    def same_sign(self) -> bool:
        """Whether the seeds agree about the direction; False with fewer than three of them."""
        signs = {value is not None and value > 0 for value in self.by_seed if value != 0}
        return len(self.by_seed) >= SEEDS and len(signs) == 1 and None not in self.by_seed and 0 not in self.by_seed

    @property
    def sure(self) -> bool:
        """Whether the interval excludes 0, Holm's p is below .05, and all seeds, at least three, share the sign."""
        low, high, p = self.value.low, self.value.high, self.value.p
        apart = low is not None and high is not None and (low > 0 or high < 0)
        return apart and p is not None and p < LEVEL and self.same_sign

    def to_json(self) -> dict[str, Any]:
        """As it stands in `results.json`."""
        return {**self.value.to_json(), "by_seed": self.by_seed, "same_sign": self.same_sign, "sure": self.sure}


@dataclass(frozen=True)
class Comparison:
    """The table.

    Attributes:
        baseline: Name of the method that the others are compared with.
        methods: Metrics of each method.
        differences: To the baseline, of every other method; `<metric>_seen` and `_unseen` over these queriers alone,
            `_macro` over queriers instead of dialogues.
        controls: For each permuted control the row that it controls, and that row's differences to it. What a model
            gains by somebody else's history is not personal; what is left when it is subtracted is. Of a row that reads
            the name, as no control does, `gain` alone.
        permuted: The permuted controls, also those without a row that they control.
    """

    baseline: str
    methods: dict[str, dict[str, Value]]
    differences: dict[str, dict[str, Difference]]
    controls: dict[str, tuple[str, dict[str, Difference]]] = field(default_factory=dict)
    permuted: Sequence[str] = ()

    @property
    def leaking(self) -> list[str]:
        """Controls that tell queriers apart all the same: the interval of a swap accuracy leaves one half out.

        Of what reads items as text that is no proof of a leak (evaluation/swap.py).
        """
        return [name for name in self.permuted if any(_finds(self.methods[name].get(metric)) for metric in SWAPS)]

    def to_json(self) -> dict[str, Any]:
        """As it stands in `results.json`."""
        return {
            "baseline": self.baseline,
            "methods": {
                name: {metric: value.to_json() for metric, value in found.items()}
                for name, found in self.methods.items()
            },
            "differences": {
                name: {metric: value.to_json() for metric, value in found.items()}
                for name, found in self.differences.items()
            },
            "controls": {
                name: {"of": controlled, **{metric: value.to_json() for metric, value in found.items()}}
                for name, (controlled, found) in self.controls.items()
            },
        }


def compare(
    runs: Mapping[str, Sequence[Sequence[Record]]],
    baseline: str,
    draws: int,
    seed: int = 0,
    blind: Collection[str] = (),
    permuted: Mapping[str, str | None] = MappingProxyType({}),
) -> Comparison:
    """Compare methods that were tested on the same dialogues.

    Args:
        runs: For each method the records of each of its seeds, in one order of seeds; a method that trains nothing
            has one.
        baseline: One of the methods.
        draws: Bootstrap draws.
        seed: Of the draws.
        blind: The methods that do not read who asks; of these all that is `PERSONAL` is held against the control.
        permuted: The methods that are permuted controls, each with the one that it controls, if that is here.

    Raises:
        InputError: The baseline is none of the methods, or two runs were not tested on the same dialogues.
    """
    if baseline not in runs:
        raise InputError(f"baseline={baseline} is not among the methods {', '.join(runs)}")
    _check_same(runs)
    runs = {name: [with_gain(rows) for rows in one] for name, one in runs.items()}
    rows = {name: average_seeds(one) for name, one in runs.items()}
    drawn = generator_of(seed, Draw.COMPARED)
    methods = {name: summarise(one, draws, drawn) for name, one in rows.items()}
    found = {
        name: _differences(runs[name], runs[baseline], rows[name], rows[baseline], draws, drawn)
        for name in runs
        if name != baseline
    }
    controls = {}
    for name, controlled in permuted.items():
        if controlled is not None:
            names = PERSONAL if controlled in blind else PERSONAL[:1]
            against = _differences(runs[controlled], runs[name], rows[controlled], rows[name], draws, drawn, names)
            controls[name] = controlled, against
    return Comparison(baseline, methods, found, controls, tuple(permuted))


def _finds(accuracy: Value | None) -> bool:
    """Whether the interval of a swap accuracy leaves one half out."""
    if accuracy is None or accuracy.low is None or accuracy.high is None:
        return False
    return not accuracy.low <= 0.5 <= accuracy.high


def _differences(
    runs: Sequence[Sequence[Record]],
    others: Sequence[Sequence[Record]],
    rows: Sequence[Record],
    baseline: Sequence[Record],
    draws: int,
    generator: np.random.Generator,
    names: Sequence[str] | None = None,
) -> dict[str, Difference]:
    found: dict[str, Difference] = {}
    for suffix, unseen in GROUPS.items():
        mine, theirs = _of(rows, unseen), _of(baseline, unseen)
        if not mine:
            continue
        # What trains nothing has one run, which stands against each seed.
        each = [
            differences(
                runs[place % len(runs)], _of(others[place % len(others)], unseen), 1, generator, names, not suffix
            )
            for place in range(max(len(runs), len(others)))
        ]
        for name, value in differences(mine, theirs, draws, generator, names, not suffix).items():
            found[name + suffix] = Difference(value, [one[name].value if name in one else None for one in each])
    return found


def _of(rows: Sequence[Record], unseen: bool | None) -> list[Record]:
    """The dialogues of unseen queriers, of seen ones, or all."""
    return [row for row in rows if unseen in (None, row["unseen"])]


def _check_same(runs: Mapping[str, Sequence[Sequence[Record]]]) -> None:
    """Refuse runs whose dialogues differ: their difference would be one of data."""
    wanted: set[str] | None = None
    first = ""
    for name, one in runs.items():
        for rows in one:
            ids = {row["id"] for row in rows}
            if wanted is None:
                wanted, first = ids, name
            elif ids != wanted:
                raise InputError(
                    f"{name} and {first} were tested on different dialogues ({len(ids)} and {len(wanted)}, "
                    f"{len(ids & wanted)} of them the same); compare runs of the same data, split and evaluation"
                )
