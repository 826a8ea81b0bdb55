"""What a history tells of the reply to come, read by a linear model that is fitted in seconds (design 7).

A swap asks whether a reply is likelier with its own querier's history than with another's. The same pairs are judged
here without any decoder: by how alike the reply and the earlier replies of each side are, in their sentence vectors and
in their stylometry. What this finds is there to be found by any method; where it finds nothing, there may be nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import minimize  # type: ignore[import-untyped]  # scipy has no types
from scipy.special import expit  # type: ignore[import-untyped]

from querier.config import EvaluationConfig
from querier.data.preparation import Prepared
from querier.data.requests import Requests
from querier.evaluation.statistics import Value, estimate
from querier.evaluation.swap import SwapKind, SwapPair, Swaps
from querier.types import Split

LEARNED = 4000  # training dialogues that the model is fitted on
STRENGTH = 0.1  # variance of its weights before anything is seen, for features of unit variance
CHANNELS = {"vectors": ("vectors",), "stylometry": ("stylometry",), "both": ("vectors", "stylometry")}


def history_signal(
    requests: Requests, prepared: Prepared, config: EvaluationConfig, kind: SwapKind = SwapKind.CLUSTER
) -> dict[str, Value]:
    """Swap accuracy inside clusters of a linear reader of each channel, and of both.

    How alike the query is to each side's history is known before there is a reply: those odds are fitted first and kept
    out of what is judged, so that what is asked does not count as what is answered.

    Args:
        requests: Finds histories.
        prepared: The corpus with vectors, stylometry and clusters.
        config: Split, `draws`, `limit`, `bootstrap` and seed.
        kind: `CLUSTER`, or `MATCHED` for what is left where histories tell neither who answered nor when.

    Returns:
        `vectors`, `stylometry` and `both`; ½ is chance. Empty where the training split has no pair of queriers.
    """
    generator = np.random.default_rng([config.seed, 102])
    corpus, swaps = prepared.corpus, Swaps(requests, prepared, config.seed)

    def pairs(split: Split, limit: int | None, draws: int) -> list[SwapPair]:
        rows = corpus.rows_in(split)
        return swaps.pairs(kind, np.sort(generator.permutation(rows)[:limit]), draws).pairs

    learned = pairs(Split.TRAIN, LEARNED, 1)
    judged = pairs(Split[config.split.upper()], config.limit, config.draws)
    if not learned or not judged:
        return {}
    alike = _Likeness(prepared, requests.limit)
    known, asked = alike.gaps(learned), alike.gaps(judged)
    querier = corpus.querier[[pair.row for pair in judged]]
    topic = known["query"] @ _fit(known["query"], np.zeros(len(learned)))
    found = {}
    for name, channels in CHANNELS.items():
        gaps, held_out = (np.concatenate([side[each] for each in channels], axis=1) for side in (known, asked))
        odds = held_out @ _fit(gaps, topic)
        found[name] = estimate((np.sign(odds) + 1) / 2, querier, config.bootstrap, generator)
    return found


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
            "query": _cosines(query, asked, answered),
            "vectors": _cosines(reply, asked, answered),
            "stylometry": np.concatenate([-np.abs(style - usual), style * usual]),
        }


def _cosines(vector: np.ndarray, asked: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Cosines of a unit vector (E,) with the mean and with the nearest of what was asked and answered, (4,)."""
    means = (side.mean(0) for side in (asked, answered))
    mean = [float(vector @ side / max(1e-6, np.linalg.norm(side))) for side in means]
    return np.array([*mean, (asked @ vector).max(), (answered @ vector).max()])


def _fit(gaps: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Weights of a logistic regression that finds the true side of pairs, (F,).

    Nothing distinguishes the sides but their features, so there is no intercept.

    Args:
        gaps: Features of the true side less those of the other, (n, F).
        offset: Log-odds that are known besides, (n,).
    """
    scale = gaps.std(0) + 1e-9
    gaps = gaps / scale

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = offset + gaps @ weights
        penalty = weights @ weights / (2 * STRENGTH)
        return float(np.logaddexp(0.0, -odds).sum() + penalty), weights / STRENGTH - expit(-odds) @ gaps

    weights: np.ndarray = minimize(loss, np.zeros(gaps.shape[1]), jac=True, method="L-BFGS-B").x / scale
    return weights
