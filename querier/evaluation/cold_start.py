"""How much each item of a history gives: likelihoods and the swap within a cluster with 0, 1, 2, 4, ... items."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from querier.config import EvaluationConfig
from querier.evaluation.draws import Draw, generator_of
from querier.evaluation.results import WEIGHTS, gain_over
from querier.evaluation.scoring import Scorer
from querier.evaluation.statistics import Value, estimate
from querier.evaluation.swap import EMPTY, SwapKind, Swaps, SwapSet, outcomes
from querier.evaluation.swap_scores import SwapScores, per_token

ITEMS = (0, 1, 2, 4, 8, 16, None)  # None: all that a model reads

Curves = dict[str, dict[str, dict[str, Value]]]
"""By kind of querier, by number of items (`all` for as many as are read), by metric."""

Excluded = dict[str, dict[str, int]]
"""How many dialogues are left out, by what they are left out of and why."""


class ColdStart:
    """Takes the curves, of seen and of unseen queriers apart.

    A point is over the dialogues whose history has so many items: its `gain` is over no history on the same ones.

    Args:
        scorer: Scores.
        swaps: Finds the pairs.
        history: Rows of each dialogue's history, by the row of the dialogue.
        config: Draws and seed.
    """

    def __init__(
        self, scorer: Scorer, swaps: Swaps, history: Mapping[int, np.ndarray], config: EvaluationConfig
    ) -> None:
        self._scorer, self._swaps, self._history, self._config = scorer, swaps, history, config
        self._scores = SwapScores(scorer)
        self._querier = swaps.corpus.querier
        self._generator = generator_of(config.seed, Draw.COLD_START)

    def curves(self) -> tuple[Curves, Excluded]:
        """The curves, and of each point the dialogues without a swap."""
        curves: Curves = {}
        excluded: Excluded = {}
        unseen = self._swaps.corpus.unseen
        for group in ("seen", "unseen"):
            chosen = [row for row in self._history if unseen[self._querier[row]] == (group == "unseen")]
            for items in ITEMS if chosen else ():
                name = "all" if items is None else str(items)
                least = 1 if items is None else items
                point, left_out = self._point([row for row in chosen if len(self._history[row]) >= least], items)
                curves.setdefault(group, {})[name] = point
                excluded[f"cold start, {group}, {name}"] = left_out
        return curves, excluded

    def _point(self, rows: list[int], items: int | None) -> tuple[dict[str, Value], dict[str, int]]:
        keys = {row: self._scorer.key(row, self._history[row][:items]) for row in rows}
        empty = {row: self._scorer.key(row, EMPTY) for row in rows}
        found = SwapSet() if items == 0 else self._swaps.pairs(SwapKind.CLUSTER, rows, 1, items)
        pairs = [key for pair in found.pairs for key in self._scores.keys(pair)]
        self._scorer.add([*keys.values(), *empty.values(), *pairs], "cold start")
        now = {row: per_token(self._scorer[keys[row]]) for row in rows}
        gain = {row: gain_over(per_token(self._scorer[empty[row]]), now[row]) for row in rows}
        values = {"nll_per_token": now, "gain": gain}
        for name, outcome in self._scores.of(SwapKind.CLUSTER).items():
            values[name] = outcomes(found.pairs, outcome)
        scored = {row: self._scorer[keys[row]] or self._scorer[empty[row]] for row in rows}
        tokens = {row: one.tokens if one else 0 for row, one in scored.items()}
        return {name: self._value(each, tokens, name) for name, each in values.items()}, dict(found.excluded)

    def _value(self, values: Mapping[int, float | None], tokens: Mapping[int, int], name: str) -> Value:
        rows = list(values)
        weights = [float(tokens[row]) for row in rows] if name in WEIGHTS else None
        querier = self._querier[np.array(rows, dtype=np.int64)]
        return estimate(list(values.values()), querier, self._config.bootstrap, self._generator, weights)
