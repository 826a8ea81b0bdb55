"""Linear probes: how much of who asks can be read off the two towers.

A probe that finds the querier in Z_s and not in Z_g says that the towers share the work as they should.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from querier.data.requests import Request, Requests
from querier.evaluation.draws import Draw, generator_of
from querier.evaluation.results import RowScores
from querier.types import Split

Represent = Callable[[Sequence[Request]], Mapping[str, np.ndarray]]
"""Vectors of requests by the name of what made them, each (n, D)."""

QUERIERS = 50  # that a probe tells apart
EACH = 20  # training dialogues of each that it learns from


def querier_probes(represent: Represent, requests: Requests, rows: np.ndarray, seed: int) -> dict[str, RowScores]:
    """How well a linear probe, fitted on training dialogues, finds the querier of held-out ones.

    Args:
        represent: Gives the vectors of the towers.
        requests: Builds what they read.
        rows: The judged dialogues, (n,) int64.
        seed: Draws queriers and dialogues, the same for every method.

    Returns:
        `probe_<name>` for each kind of vector, by row: the share of other queriers that the probe finds less likely
        than the true one, ties ½, so that chance is ½; empty where fewer than two queriers stand on both sides.
    """
    corpus, drawn = requests.corpus, generator_of(seed, Draw.PROBED)
    pool = drawn.permutation(corpus.rows_in(Split.TRAIN))
    both = np.intersect1d(corpus.querier[pool], corpus.querier[rows])
    if len(both) < 2:
        return {}
    chosen = np.sort(drawn.permutation(both)[:QUERIERS])
    learned = np.concatenate([pool[corpus.querier[pool] == querier][:EACH] for querier in chosen])
    judged = rows[np.isin(corpus.querier[rows], chosen)]
    known = represent([requests.matched(int(row)) for row in learned])
    asked = represent([requests.matched(int(row)) for row in judged])
    own = np.searchsorted(chosen, corpus.querier[judged])
    return {
        f"probe_{name}": dict(
            zip(judged.tolist(), probe(vectors, corpus.querier[learned], asked[name], own).tolist(), strict=True)
        )
        for name, vectors in known.items()
    }


def probe(vectors: np.ndarray, querier: np.ndarray, asked: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Share of other queriers that a logistic regression finds less likely than the true one, (n,).

    Args:
        vectors: Learned from, (m, D).
        querier: Whose they are, (m,).
        asked: Judged, (n, D).
        own: Place of the true querier among those of `querier` in ascending order, (n,).
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(vectors, querier)
    scores = model.predict_log_proba(asked)
    true = scores[np.arange(len(own)), own][:, None]
    others = scores.shape[1] - 1
    return np.asarray(((scores < true).sum(1) + ((scores == true).sum(1) - 1) / 2) / others)
