"""Intervals, tests and corrections whose unit is the querier.

Dialogues of one querier resemble each other, so queriers are resampled, not dialogues. Every number is a ratio of sums
over queriers, θ = Σ a / Σ b: a micro-average has b = the querier's number of dialogues (or tokens), a macro-average has
a = the querier's own average and b = 1.

One method serves all sizes: the wild cluster bootstrap-t with the null imposed and Webb's six-point weights; the
interval holds the values that its test does not reject, up to one draw. With 12, 20, 40 and 300 queriers of log-normal
sizes it covered the truth in 0.946, 0.942, 0.948 and 0.944 of 2 000 simulations; the percentile bootstrap did in 0.890,
0.900, 0.930 and 0.935. With exponential effects: 0.912, 0.913, 0.926, 0.934 against 0.852, 0.876, 0.904, 0.927.

References:
    Cameron, Gelbach, Miller: Bootstrap-based improvements for inference with clustered errors, 2008.
    Webb: Reworking wild bootstrap-based inference for clustered errors, 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy has no types

from querier.errors import InputError

WEBB = np.concatenate([-np.sqrt([1.5, 1.0, 0.5]), np.sqrt([0.5, 1.0, 1.5])])
FEWEST = 6  # queriers: five lie on one side of the truth by chance in 2 · 2⁻⁵ of cases, more than 5 %
MOST = 4096  # queriers beyond this are put together at random; groups of whole queriers are independent as well
BLOCK = 512  # queriers whose weights are drawn at a time: bounds the memory
POWER = 0.8  # of the minimum detectable effect
STEPS = 32  # of the bisection


@dataclass(frozen=True)
class Value:
    """A number with what it rests on.

    Attributes:
        value: None where nothing was measured.
        low: Lower end of the 95 % interval over queriers; None with fewer than six queriers, or where nothing is
            rejected however far. Where no querier differs from another it is the value itself, and says nothing of
            those who were not measured.
        high: Upper end.
        n: Dialogues measured.
        n_failed: Dialogues that should have been measured and could not be; they are in no number.
        queriers: Queriers measured.
        mde: Minimum detectable effect: the true difference from a fixed number that a test at 5 % finds in 80 %.
        p: Of the test that the true value is 0, for differences.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_failed: int = 0
    queriers: int = 0
    mde: float | None = None
    p: float | None = None

    def to_json(self) -> dict[str, float | int | None]:
        """As it stands in `results.json`; `p` only where there is one."""
        plain = {name: getattr(self, name) for name in ("value", "low", "high", "n", "n_failed", "queriers", "mde")}
        return plain if self.p is None else {**plain, "p": self.p}


class Wild:
    """The wild cluster bootstrap-t of one ratio of sums.

    Args:
        above: Sum of each querier in the numerator, (Q,).
        below: Sum of each querier in the denominator, (Q,), not negative, one positive at least.
        draws: Bootstrap draws.
        generator: Draws the weights.
    """

    def __init__(self, above: np.ndarray, below: np.ndarray, draws: int, generator: np.random.Generator) -> None:
        above, below = _group(np.asarray(above, float), np.asarray(below, float), generator)
        self.total = float(below.sum())
        self.clusters = len(below)
        self.value = float(above.sum()) / self.total
        rest = above - self.value * below  # centred, so that nothing cancels below
        self.squares = float((below * below).sum())
        spread = float((rest * rest).sum())
        # Sums that differ in the last bits only do not vary.
        smallest = (1e-12 * max(float(np.abs(above).max(initial=0.0)), 1e-300)) ** 2 * self.clusters
        self.error = 0.0
        if self.clusters > 1 and spread > smallest:
            self.error = float(np.sqrt(self.clusters / (self.clusters - 1) * spread)) / self.total
        self._first, self._second = np.zeros((draws, 4)), np.zeros((draws, 3))
        if not self.error or self.clusters < FEWEST:
            return
        first = np.stack([rest, below, rest * below, below * below], axis=1)
        second = np.stack([rest * rest, rest * below, below * below], axis=1)
        for start in range(0, self.clusters, BLOCK):
            part = slice(start, start + BLOCK)
            weight = WEBB[generator.integers(len(WEBB), size=(draws, len(first[part])), dtype=np.int8)]
            self._first += weight @ first[part]
            self._second += (weight * weight) @ second[part]

    def p_value(self, null: float = 0.0) -> float | None:
        """Of the two-sided test that the true value is `null`; None with fewer than six queriers.

        The value at hand counts as one of the draws, so that p is never smaller than the draws can tell, nor smaller
        than the probability that all queriers lie on one side of the null by chance.
        """
        if self.clusters < FEWEST:
            return None
        draws = len(self._first)
        by_chance = 2.0 ** (1 - self.clusters)
        if not self.error:
            return 1.0 if self.value == null else max(by_chance, 1 / (draws + 1))
        return max(by_chance, (draws * self._beyond(null) + 1) / (draws + 1))

    def _beyond(self, null: float) -> float:
        """Share of the draws whose t is at least as far from 0 as that of the value at hand, were `null` true."""
        shift = null - self.value
        # Residuals under the null are rest − shift · below; their weighted sums are linear in what was precomputed.
        moved = (self._first[:, 0] - shift * self._first[:, 1]) / self.total
        squared = self._second[:, 0] - 2 * shift * self._second[:, 1] + shift**2 * self._second[:, 2]
        crossed = self._first[:, 2] - shift * self._first[:, 3]
        variance = np.maximum(squared - 2 * moved * crossed + moved**2 * self.squares, 0.0)
        error = np.sqrt(variance * self.clusters / (self.clusters - 1)) / self.total
        return float(np.mean(np.abs(moved) * self.error >= abs(shift) * error))

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """The values that the test does not reject; None with fewer than six queriers, or where these never end."""
        if self.clusters < FEWEST:
            return None
        if not self.error:
            return self.value, self.value
        ends = [self._end(side, 1 - level) for side in (-1.0, 1.0)]
        return (ends[0], ends[1]) if np.all(np.isfinite(ends)) else None

    def _end(self, side: float, size: float) -> float:
        inside, outside = 0.0, 4.0
        while self._beyond(self.value + side * outside * self.error) > size:
            inside, outside = outside, outside * 2
            if outside > 1e6:
                return side * float("inf")
        for _ in range(STEPS):
            middle = (inside + outside) / 2
            if self._beyond(self.value + side * middle * self.error) > size:
                inside = middle
            else:
                outside = middle
        return self.value + side * outside * self.error

    @property
    def mde(self) -> float | None:
        """Minimum detectable effect at 5 % and a power of 80 %; None with fewer than six queriers."""
        return minimum_detectable_effect(self.error, self.clusters) if self.clusters >= FEWEST else None


def minimum_detectable_effect(error: float, queriers: int, power: float = POWER) -> float:
    """The true difference that a two-sided test at 5 % finds with this power, given the standard error."""
    return float((stdtrit(queriers - 1, 0.975) + stdtrit(queriers - 1, power)) * error)


def estimate(
    values: Sequence[float | None] | np.ndarray,
    querier: Sequence[int] | np.ndarray,
    draws: int,
    generator: np.random.Generator,
    weights: Sequence[float] | np.ndarray | None = None,
    macro: bool = False,
    test: bool = False,
) -> Value:
    """The average of one number per dialogue, with its interval over queriers.

    Args:
        values: One each dialogue, (n,); None or NaN for one that failed, as does one without a weight.
        querier: Number of each dialogue's querier, (n,).
        draws: Bootstrap draws.
        generator: Draws the weights of the bootstrap.
        weights: Of each dialogue, e.g. its tokens, (n,); None for 1.
        macro: Average over queriers of each one's average, instead of over dialogues.
        test: Whether `p` is given.
    """
    numbers = np.asarray([np.nan if value is None else value for value in values], dtype=float)
    weight = np.ones(len(numbers)) if weights is None else np.asarray(weights, dtype=float)
    good = np.isfinite(numbers) & np.isfinite(weight) & (weight > 0)
    failed = int((~good).sum())
    if not good.any():
        return Value(None, None, None, 0, failed)
    _, place = np.unique(np.asarray(querier)[good], return_inverse=True)
    above: np.ndarray = np.bincount(place, numbers[good] * weight[good])
    below: np.ndarray = np.bincount(place, weight[good])
    if macro:
        above, below = above / below, np.ones(len(below))
    wild = Wild(above, below, draws, generator)
    low, high = wild.interval() or (None, None)
    p = wild.p_value() if test else None
    return Value(wild.value, low, high, int(good.sum()), failed, len(below), wild.mde, p)


def paired(
    values: Sequence[float | None] | np.ndarray,
    baseline: Sequence[float | None] | np.ndarray,
    querier: Sequence[int] | np.ndarray,
    draws: int,
    generator: np.random.Generator,
    weights: Sequence[float] | np.ndarray | None = None,
    macro: bool = False,
) -> Value:
    """The difference to a baseline on the same dialogues; one that failed on either side counts as failed."""
    if len(values) != len(baseline):
        raise InputError(f"a paired difference needs the same dialogues, got {len(values)} and {len(baseline)}")
    both = [None if x is None or y is None else x - y for x, y in zip(values, baseline, strict=True)]
    return estimate(both, querier, draws, generator, weights, macro, test=True)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of several tests, in the order given."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = running
    return [float(value) for value in adjusted]


def _group(above: np.ndarray, below: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if len(below) <= MOST:
        return above, below
    place = generator.permutation(len(below)) % MOST
    return np.bincount(place, above), np.bincount(place, below)
