from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_court import Reader, make_prepared, make_requests

from querier.config import EvaluationConfig
from querier.evaluation.cold_start import ColdStart
from querier.evaluation.scoring import Reads, Scorer
from querier.evaluation.swap import SwapKind, Swaps
from querier.types import Split

CONFIG = EvaluationConfig(bootstrap=100)


@pytest.fixture(scope="module")
def taken() -> Any:
    """The curves, what was left out of each point, and the histories."""
    prepared = make_prepared()
    requests = make_requests(prepared)
    swaps = Swaps(requests, prepared, CONFIG.seed)
    rows = prepared.corpus.rows_in(Split.TEST)
    history = {int(row): requests.history_rows(int(row)) for row in rows}
    return *ColdStart(Scorer(Reader(), requests, Reads()), swaps, history, CONFIG).curves(), history, swaps


def test_each_point_has_the_likelihoods_of_all_three_histories(taken: Any) -> None:
    """The reader loses 1 nat a token with the own history, 2 without, 1 or 3 with another's."""
    curves, _, _, _ = taken
    point = curves["seen"]["2"]
    assert point["nll_per_token"].value == point["nll_swapped_own"].value == 1
    assert point["gain"].value == 1
    assert 1 < point["nll_swapped"].value < 3
    losing = point["nll_swapped"].value - 1  # 2 nats more for each pair of unlike styles, which it wins, else a tie
    assert point["swap_accuracy_cluster"].value == pytest.approx(0.5 + losing / 4)


def test_no_history_has_no_swap_and_no_gain(taken: Any) -> None:
    curves, excluded, _, _ = taken
    point = curves["seen"]["0"]
    assert (point["nll_per_token"].value, point["gain"].value) == (2, 0)
    assert point["swap_accuracy_cluster"].n == 0
    assert excluded["cold start, seen, 0"] == {}


def test_a_point_is_over_the_histories_that_are_long_enough(taken: Any) -> None:
    curves, excluded, history, swaps = taken
    unseen = swaps.corpus.unseen[swaps.corpus.querier]
    for group in ("seen", "unseen"):
        rows = [row for row in history if unseen[row] == (group == "unseen")]
        for items in (0, 1, 2, 4):
            long = [row for row in rows if len(history[row]) >= items]
            point = curves[group][str(items)]
            assert point["nll_per_token"].n == len(long)
            if items:
                left_out = excluded[f"cold start, {group}, {items}"]
                pairs = swaps.pairs(SwapKind.CLUSTER, np.array(long), 1, items)
                assert point["swap_accuracy_cluster"].n == len(pairs.pairs)
                assert point["swap_accuracy_cluster"].n + sum(left_out.values()) == len(long)
