from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tiny_court import Blind, Reader, make_prepared, make_requests

from querier.config import EvaluationConfig
from querier.data.requests import Request
from querier.errors import InputError
from querier.evaluation import dependence
from querier.evaluation.dependence import Style, diversity, querier_retrieval
from querier.evaluation.evaluate import Options, evaluate
from querier.evaluation.scoring import Scorer
from querier.evaluation.statistics import Value
from querier.evaluation.swap import Swaps
from querier.types import Split


class Noisy(Blind):
    """Says something else at every seed, to everybody alike."""

    def generate(
        self, requests: Sequence[Request], max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str | None]:
        return [f"word{seed} again" for _ in requests]


class Silent(Reader):
    def answer(self, request: Request) -> str | None:
        return None


def measure(model: Any, queriers: int = 3, seeds: int = 4) -> list[float | None]:
    prepared = make_prepared()
    requests = make_requests(prepared)
    rows = prepared.corpus.rows_in(Split.TEST).tolist()
    scorer, swaps = Scorer(model, requests), Swaps(requests, prepared, 0)
    return list(diversity(scorer, swaps, rows, queriers, 8, seeds=seeds).values())


def test_a_model_that_reads_the_history_answers_queriers_differently() -> None:
    found = measure(Reader())
    gaps = np.array(found, dtype=float)
    assert len(gaps) > 10
    assert gaps.mean() > 0.05
    assert gaps.mean() > 2 * gaps.std(ddof=1) / np.sqrt(len(gaps))


def test_noise_is_not_diversity() -> None:
    assert measure(Noisy()) == pytest.approx([0.0] * len(measure(Noisy())))


def test_one_reply_for_all_is_no_diversity() -> None:
    assert set(measure(Blind())) == {0.0}


def test_missing_replies_fail() -> None:
    assert set(measure(Silent())) == {None}


def test_one_querier_or_one_seed_has_no_distance() -> None:
    with pytest.raises(InputError, match="at least 2 queriers"):
        measure(Reader(), queriers=1)
    with pytest.raises(InputError, match="2 seeds"):
        measure(Reader(), seeds=1)


def test_retrieval_by_hand() -> None:
    """First reply: own nearest of three. Second: own last. Third: all equally far, ⅓ and ½."""
    profiles = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    found = querier_retrieval(np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]]), np.array([0, 2, 1]), profiles)
    assert found["retrieval_first"].tolist() == pytest.approx([1, 0, 1 / 3])
    assert found["retrieval_auc"].tolist() == pytest.approx([1, 0, 0.5])


def test_retrieval_needs_profiles() -> None:
    with pytest.raises(InputError, match="at least 2"):
        querier_retrieval(np.ones((1, 2)), np.array([0]), np.ones((1, 2)))
    with pytest.raises(InputError, match="outside the 2 profiles"):
        querier_retrieval(np.ones((1, 2)), np.array([2]), np.ones((2, 2)))


def generated(model: Any, bootstrap: int = 200) -> dict[str, Value]:
    prepared = make_prepared()
    requests = make_requests(prepared)
    config = EvaluationConfig(bootstrap=bootstrap, generate=100, max_new_tokens=8)
    result = evaluate(model, requests, prepared, config, Options(dependence=True))
    return result.metrics


def test_what_is_generated_tells_of_the_querier_only_where_the_model_does() -> None:
    """The replies name a style that half of the queriers share, so the own querier is found among three."""
    told, silent = generated(Reader()), generated(Blind())
    assert (told["diversity"].value or 0) > 0.05
    assert silent["diversity"].value == 0
    assert (told["retrieval_auc"].value or 0) > 0.7
    assert (told["retrieval_auc"].value or 0) == pytest.approx(told["retrieval_auc_gold"].value, abs=0.15)
    assert silent["retrieval_auc"].value == pytest.approx(0.5, abs=0.2)
    assert "diversity" not in evaluate_plain()


def test_every_method_is_asked_the_same_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many draws the intervals of its other scores took."""
    asked: list[list[int]] = []

    def noted(scorer: Scorer, swaps: Swaps, rows: list[int], *given: Any) -> dict[int, float]:
        asked.append(rows)
        return dict.fromkeys(rows, 0.0)

    monkeypatch.setattr(dependence, "QUERIES", 5)
    monkeypatch.setattr(dependence, "diversity", noted)
    generated(Reader())
    generated(Blind(), bootstrap=100)
    assert len(asked[0]) == 5
    assert asked[0] == asked[1]


def evaluate_plain() -> dict[str, Value]:
    prepared = make_prepared()
    return evaluate(Reader(), make_requests(prepared), prepared, EvaluationConfig(bootstrap=200)).metrics


def test_style_vectors_are_of_writing_and_do_not_depend_on_the_batch() -> None:
    style = Style(["Yes!!! wow!!!", "I concur, your honour.", "Great!!! yes!!!", "Your honour, I concur."] * 3)
    loud, formal = style(["Wow!!!", "I concur."])
    assert float(loud @ style.pool[0]) > float(loud @ style.pool[1])
    assert float(formal @ style.pool[1]) > float(formal @ style.pool[0])
    np.testing.assert_allclose(style(["Wow!!!"])[0], loud)
