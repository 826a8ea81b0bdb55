"""The linear probe finds the querier where vectors hold one, and nothing in noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tiny_court import make_prepared, make_requests

from querier.data.requests import Request
from querier.evaluation.probe import probe, querier_probes
from querier.types import Split


def test_the_share_by_hand() -> None:
    """Against a loop over pairs of queriers."""
    rng = np.random.default_rng(0)
    vectors, querier = rng.normal(size=(30, 4)), np.repeat([3, 5, 8], 10)
    vectors[:, 0] += querier
    asked, own = rng.normal(size=(6, 4)), np.array([0, 1, 2, 0, 1, 2])
    scale = StandardScaler().fit(vectors)
    model = LogisticRegression(max_iter=1000).fit(scale.transform(vectors), querier)
    likely = model.predict_proba(scale.transform(asked))
    wanted = [
        sum(1.0 if row[other] < row[true] else 0.0 for other in range(3) if other != true) / 2
        for row, true in zip(likely, own, strict=True)
    ]
    assert probe(vectors, querier, asked, own).tolist() == pytest.approx(wanted)


def test_a_planted_querier_is_found_and_noise_is_not() -> None:
    prepared = make_prepared()
    requests = make_requests(prepared)
    corpus = prepared.corpus
    rng = np.random.default_rng(0)

    def represent(asked: Sequence[Request]) -> dict[str, np.ndarray]:
        numbers = np.array([request.querier for request in asked])
        planted = np.eye(len(corpus.queriers))[numbers] + 0.1 * rng.normal(size=(len(asked), len(corpus.queriers)))
        return {"specific": planted, "general": rng.normal(size=(len(asked), 4))}

    rows = corpus.rows_in(Split.TEST)
    found = querier_probes(represent, requests, rows, 1)
    assert set(found) == {"probe_specific", "probe_general"}
    means = {name: np.mean([share for share in shares.values() if share is not None]) for name, shares in found.items()}
    assert means["probe_specific"] > 0.99
    assert means["probe_general"] == pytest.approx(0.5, abs=0.2)
    known = np.isin(corpus.querier[rows], corpus.querier[corpus.rows_in(Split.TRAIN)])
    assert list(found["probe_general"]) == rows[known].tolist()


def test_one_querier_alone_has_no_probe() -> None:
    prepared = make_prepared()
    corpus = prepared.corpus
    rows = corpus.rows_in(Split.TEST)
    alone = rows[corpus.querier[rows] == corpus.querier[rows[0]]]
    assert querier_probes(lambda _: {}, make_requests(prepared), alone, 1) == {}
