"""What a history tells of the reply to come, read by a linear model that is fitted in seconds.

A swap asks whether a reply is likelier with its own querier's history than with another's. Pairs of the same kind are
judged here without any decoder: by how alike the dialogue and the earlier dialogues of each side are. What is asked
tells something of who asks, and a reply repeats much of it; so a signal is only what the reply adds to the query. What
this finds is there to be found by any method; where it finds nothing, there may be nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import minimize  # type: ignore[import-untyped]  # scipy has no types
from scipy.special import expit  # type: ignore[import-untyped]

from querier.config import EvaluationConfig
from querier.data.preparation import Prepared
from querier.data.requests import Requests
from querier.evaluation.draws import Draw, generator_of
from querier.evaluation.evaluate import sample_rows
from querier.evaluation.statistics import Value, estimate
from querier.evaluation.swap import SwapKind, SwapPair, Swaps, outcomes
from querier.types import Split

LEARNED = 4000  # training dialogues that the model is fitted on
STRENGTH = 0.1  # variance of its weights before anything is seen, for features of unit variance
QUERY = "query"  # the reader of the query alone
READERS = {
    QUERY: (QUERY,),
    "vectors": (QUERY, "vectors"),
    "stylometry": (QUERY, "stylometry"),
    "both": (QUERY, "vectors", "stylometry"),
}


@dataclass
class Signal:
    """How often a linear reader finds whose history belongs to a dialogue; empty where nobody can be told apart.

    Attributes:
        accuracy: Of the reader of the `query` alone, and of those that read the reply's `vectors`, its `stylometry` or
            `both` besides; ½ is chance.
        gain: Of each of the latter over the first, on the same dialogues; 0 where a reply adds nothing to its query.
    """

    accuracy: dict[str, Value] = field(default_factory=dict)
    gain: dict[str, Value] = field(default_factory=dict)

    def to_json(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Both as plain values."""
        return {part: {name: value.to_json() for name, value in found.items()} for part, found in vars(self).items()}


def history_signal(
    requests: Requests, prepared: Prepared, config: EvaluationConfig, kind: SwapKind = SwapKind.CLUSTER
) -> Signal:
    """Swap accuracy inside clusters of linear readers of the query and of the reply.

    A reply that shows what was asked more clearly than the query's own vector counts as a gain too, so a small one
    proves nothing personal. Where queries alone tell who asks, little is left to gain whatever replies are like.

    Args:
        requests: Finds histories.
        prepared: The corpus with vectors, stylometry and clusters.
        config: Split, `draws`, `limit`, `bootstrap` and seed.
        kind: `CLUSTER`, or `MATCHED` for what is left where histories tell neither who answered nor when.
    """
    drawn = generator_of(config.seed, Draw.SIGNAL)
    corpus, swaps = prepared.corpus, Swaps(requests, prepared, config.seed)

    def pairs(split: Split, limit: int | None, draws: int) -> list[SwapPair]:
        rows = sample_rows(corpus.rows_in(split), corpus.querier, limit, generator_of(config.seed, Draw.DIALOGUES))
        return swaps.pairs(kind, rows, draws).pairs

    learned = pairs(Split.TRAIN, LEARNED, 1)
    judged = pairs(Split[config.split.upper()], config.limit, config.draws)
    if not learned or not judged:
        return Signal()
    alike = _Likeness(prepared, requests.limit)
    known, asked = alike.gaps(learned), alike.gaps(judged)
    right: dict[str, np.ndarray] = {}
    for name, channels in READERS.items():
        gaps, held_out = (np.concatenate([side[each] for each in channels], axis=1) for side in (known, asked))
        won = iter(((np.sign(held_out @ _fit(gaps)) + 1) / 2).tolist())
        by_row = outcomes(judged, lambda _, won=won: next(won))  # type: ignore[misc]  # in the order of the pairs
        right[name] = np.array(list(by_row.values()), dtype=np.float64)
    querier = corpus.querier[list(by_row)]

    def value(numbers: np.ndarray) -> Value:
        return estimate(numbers, querier, config.bootstrap, drawn)

    return Signal(
        {name: value(numbers) for name, numbers in right.items()},
        {name: value(numbers - right[QUERY]) for name, numbers in right.items() if name != QUERY},
    )


class _Likeness:
    """How alike a dialogue is to a history, by channel.

    Args:
        prepared: Vectors and stylometry.
        limit: Items that a model reads at most.
    """

    def __init__(self, prepared: Prepared, limit: int) -> None:
        self.prepared, self.limit = prepared, limit
        pool = prepared.styles(prepared.pool)
        self.mean, self.deviation = pool.mean(0), pool.std(0) + 1e-6

    def gaps(self, pairs: Sequence[SwapPair]) -> dict[str, np.ndarray]:
        """By channel, the features of the true querier's side less those of the other's, (n, F)."""
        sides = [(self.of(pair.row, pair.own), self.of(pair.row, pair.other)) for pair in pairs]
        return {name: np.stack([own[name] - other[name] for own, other in sides]) for name in sides[0][0]}

    def of(self, row: int, history: np.ndarray) -> Mapping[str, np.ndarray]:
        """The features of a dialogue beside a history, (F,) by channel."""
        history = history[: self.limit]
        query, reply = self.prepared.queries([row])[0], self.prepared.replies([row])[0]
        asked, answered = self.prepared.queries(history), self.prepared.replies(history)
        style = (self.prepared.styles([row])[0] - self.mean) / self.deviation
        usual = ((self.prepared.styles(history) - self.mean) / self.deviation).mean(0)
        return {
            QUERY: _cosines(query, asked, answered),
            "vectors": _cosines(reply, asked, answered),
            "stylometry": np.concatenate([-np.abs(style - usual), style * usual]),
        }


def _cosines(vector: np.ndarray, asked: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Cosines of a unit vector (E,) with the mean and with the nearest of what was asked and answered, (4,)."""
    means = (side.mean(0) for side in (asked, answered))
    mean = [float(vector @ side / max(1e-6, np.linalg.norm(side))) for side in means]
    return np.array([*mean, (asked @ vector).max(), (answered @ vector).max()])


def _fit(gaps: np.ndarray) -> np.ndarray:
    """Weights of a logistic regression that finds the true side of pairs, (F,).

    Nothing distinguishes the sides but their features, so there is no intercept.

    Args:
        gaps: Features of the true side less those of the other, (n, F).
    """
    scale = gaps.std(0) + 1e-9
    gaps = gaps / scale

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = gaps @ weights
        penalty = weights @ weights / (2 * STRENGTH)
        return float(np.logaddexp(0.0, -odds).sum() + penalty), weights / STRENGTH - expit(-odds) @ gaps

    weights: np.ndarray = minimize(loss, np.zeros(gaps.shape[1]), jac=True, method="L-BFGS-B").x / scale
    return weights
