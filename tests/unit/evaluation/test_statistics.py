from __future__ import annotations

import numpy as np
import pytest

from querier.errors import InputError
from querier.evaluation.statistics import MOST, WEBB, Wild, estimate, holm, minimum_detectable_effect, paired

DRAWS = 1999


def clustered(queriers: int, generator: np.random.Generator, effect: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Values of dialogues of queriers of log-normal sizes: one effect of each querier plus noise."""
    sizes = np.maximum(1, np.round(generator.lognormal(2, 1, queriers))).astype(int)
    querier = np.repeat(np.arange(queriers), sizes)
    return effect + generator.normal(size=queriers)[querier] + generator.normal(size=len(querier)), querier


def test_micro_and_macro_by_hand(generator: np.random.Generator) -> None:
    values, querier = [1.0, 1.0, 1.0, 5.0, 0.0], [7, 7, 7, 3, 1]
    assert estimate(values, querier, DRAWS, generator).value == pytest.approx(8 / 5)
    assert estimate(values, querier, DRAWS, generator, macro=True).value == pytest.approx(2.0)
    weighted = estimate(values, querier, DRAWS, generator, weights=[1, 2, 3, 4, 0])
    assert weighted.value == pytest.approx(26 / 10)
    assert (weighted.n, weighted.queriers) == (4, 2)


def test_a_failure_is_counted_and_enters_no_number(generator: np.random.Generator) -> None:
    found = estimate([1.0, None, float("nan"), 3.0], [0, 1, 2, 3], DRAWS, generator)
    assert (found.value, found.n, found.n_failed) == (2.0, 2, 2)
    nothing = estimate([None, None], [0, 1], DRAWS, generator)
    assert (nothing.value, nothing.low, nothing.n, nothing.n_failed) == (None, None, 0, 2)


def test_a_score_without_a_weight_has_failed(generator: np.random.Generator) -> None:
    found = estimate([1.0, 2.0, 3.0, None], [0, 1, 2, 3], DRAWS, generator, weights=[0, 0, 5, 0])
    assert (found.value, found.n, found.n_failed) == (3.0, 1, 3)


def test_the_bootstrap_equals_a_slow_one() -> None:
    """Each draw: residuals under the null times weights, a new estimate, a new error; compare |t|."""
    rng = np.random.default_rng(1)
    above, below = rng.normal(1, 2, 7), rng.integers(1, 9, 7).astype(float)
    wild = Wild(above, below, 400, np.random.default_rng(5))
    weight = WEBB[np.random.default_rng(5).integers(6, size=(400, 7), dtype=np.int8)]
    total, estimate_now = below.sum(), above.sum() / below.sum()

    def error(residual: np.ndarray) -> float:
        return float(np.sqrt(7 / 6 * (residual**2).sum()) / total)

    for null in (0.0, 0.9, -3.0):
        t = (estimate_now - null) / error(above - estimate_now * below)
        count = 0
        for draw in weight:
            made = null * below + draw * (above - null * below)
            again = made.sum() / total
            count += abs((again - null) / error(made - again * below)) >= abs(t) - 1e-12
        assert wild.p_value(null) == pytest.approx(max(count / 400, 2**-6), abs=1 / 400 + 1e-9)


def test_the_interval_holds_what_the_test_does_not_reject(generator: np.random.Generator) -> None:
    values, querier = clustered(25, generator, 0.5)
    wild = Wild(np.bincount(querier, values), np.bincount(querier).astype(float), DRAWS, generator)
    low, high = wild.interval() or (0.0, 0.0)
    assert low < wild.value < high
    for inside, outside in ((low + 1e-3, low - 1e-2), (high - 1e-3, high + 1e-2)):
        assert (wild.p_value(inside) or 0) > 0.05
        assert (wild.p_value(outside) or 1) <= 0.06
    narrow = wild.interval(0.8) or (0.0, 0.0)
    assert low < narrow[0] < narrow[1] < high


def test_shift_scale_and_order_do_not_matter() -> None:
    values, querier = clustered(15, np.random.default_rng(3))
    first = estimate(values, querier, DRAWS, np.random.default_rng(0))
    moved = estimate(1000 + 10 * values, querier, DRAWS, np.random.default_rng(0))
    assert moved.low == pytest.approx(1000 + 10 * (first.low or 0), abs=1e-3)
    assert moved.high == pytest.approx(1000 + 10 * (first.high or 0), abs=1e-3)
    order = np.random.default_rng(4).permutation(len(values))
    assert estimate(values[order], querier[order], DRAWS, np.random.default_rng(0)).low == pytest.approx(first.low)


def test_few_queriers_and_no_spread(generator: np.random.Generator) -> None:
    five = estimate([0.0, 1.0, 2.0, 1.0, 1.0, 1.0], [0, 0, 1, 2, 3, 4], DRAWS, generator, test=True)
    assert (five.value, five.low, five.high, five.mde, five.p) == (1.0, None, None, None, None)
    equal = estimate([0.1] * 30, list(range(10)) * 3, DRAWS, generator)
    assert (equal.low, equal.high, equal.mde) == (pytest.approx(0.1), pytest.approx(0.1), 0.0)


def test_clones_of_dialogues_do_not_narrow_the_interval() -> None:
    values, querier = clustered(20, np.random.default_rng(8))
    once = estimate(values, querier, DRAWS, np.random.default_rng(0))
    often = estimate(np.tile(values, 10), np.tile(querier, 10), DRAWS, np.random.default_rng(0))
    assert (often.low, often.high) == (pytest.approx(once.low), pytest.approx(once.high))


def test_many_queriers_are_put_together(generator: np.random.Generator) -> None:
    values = generator.normal(size=MOST * 2)
    found = estimate(values, np.arange(MOST * 2), 200, generator)
    assert found.value == pytest.approx(values.mean())
    assert (found.high or 0) - (found.low or 0) == pytest.approx(2 * 1.96 / np.sqrt(MOST * 2), rel=0.2)


def test_paired_differences_are_sharper_than_unpaired_ones(generator: np.random.Generator) -> None:
    values, querier = clustered(30, generator)
    better = values + 0.1 + generator.normal(scale=0.05, size=len(values))
    found = paired(better, values, querier, DRAWS, generator)
    assert found.value == pytest.approx(0.1, abs=0.02)
    assert (found.low or 0) > 0
    assert found.p is not None
    assert found.p < 0.01
    assert paired([1.0, None, 2.0], [0.0, 1.0, None], [0, 1, 2], DRAWS, generator).n_failed == 2
    with pytest.raises(InputError, match="same dialogues"):
        paired([1.0], [1.0, 2.0], [0, 1], DRAWS, generator)


def test_p_is_never_smaller_than_the_draws_can_tell() -> None:
    """Of 99 draws none is as extreme: the value at hand is one of a hundred."""
    generator = np.random.default_rng(0)
    values = 5.0 + generator.normal(scale=0.01, size=200)
    found = estimate(values, np.arange(200) % 20, 99, generator, test=True)
    assert found.p == pytest.approx(0.01)
    assert estimate([5.0] * 20, np.arange(20), 99, generator, test=True).p == pytest.approx(0.01)  # nothing varies


def test_holm_by_hand() -> None:
    """Sorted 0.01·4, 0.015·3, 0.02·2 → raised to 0.045, 0.5·1."""
    assert holm([0.02, 0.01, 0.5, 0.015]) == pytest.approx([0.045, 0.04, 0.5, 0.045])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_minimum_detectable_effect_tends_to_the_normal_one() -> None:
    assert minimum_detectable_effect(1.0, 100_000) == pytest.approx(1.95996 + 0.84162, abs=1e-3)
    assert minimum_detectable_effect(1.0, 10) > 3.0


@pytest.mark.parametrize("queriers", [3, 5, 6, 7, 8, 10])
def test_few_queriers_who_agree_by_chance_reject_nothing_too_often(queriers: int) -> None:
    """One dialogue each, won or lost like a coin: the coarsest of scores. The share is exact, over all outcomes."""
    outcomes = 2 * np.array(list(np.ndindex(*(2,) * queriers))) - 1.0
    distinct = {int(each.sum()): each for each in outcomes}  # the order of queriers does not matter
    share = 0.0
    for total, each in distinct.items():
        p = estimate(each, np.arange(queriers), DRAWS, np.random.default_rng(0), test=True).p
        share += (outcomes.sum(1) == total).mean() * (p is not None and p <= 0.05)
    assert share <= 0.071, "a coin would be called a finding"


@pytest.mark.slow
@pytest.mark.parametrize("macro", [False, True])
@pytest.mark.parametrize("queriers", [12, 20, 40, 300])
def test_coverage_and_false_positives(queriers: int, macro: bool) -> None:
    rng = np.random.default_rng([11, queriers])
    covered = rejected = 0
    for _ in range(1000):
        values, querier = clustered(queriers, rng)
        found = estimate(values, querier, 999, rng, macro=macro, test=True)
        assert found.low is not None
        assert found.high is not None
        assert found.p is not None
        covered += found.low <= 0 <= found.high
        rejected += found.p <= 0.05
    assert 930 <= covered <= 970
    assert 30 <= rejected <= 70
