"""The guess of a reply against the textbook's best linear predictor, and what it tells the decoder."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_decoder
from torch import Tensor

from querier.models.expectation import HASTE, MOST, Expectation, share_between
from querier.types import STYLE, Echo, Items

SIZE = 6


def made(between: float | None = None, trust: float = 1.0) -> Expectation:
    """Unfitted, its whitening changes nothing."""
    model = Expectation(2, tiny_decoder().geometry, 1.0)
    torch.nn.init.constant_(model.log_trust, math.log(trust) / HASTE)
    if between is not None:
        model.between.fill_(between)
    return model


def population(queriers: int, each: int, between: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n, S) of unit variance, a share of it between queriers, and who got each."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(queriers), each)
    own = rng.normal(size=(queriers, STYLE)) * between**0.5
    return own[who] + rng.normal(size=(len(who), STYLE)) * (1 - between) ** 0.5, who


def history(code: Tensor, lengths: list[int]) -> Items:
    rows, slots = code.shape[:2]
    numbers = torch.zeros(rows, slots, dtype=torch.int64)
    mask = torch.arange(slots)[None] < torch.tensor(lengths)[:, None]
    vectors = torch.zeros(rows, slots, SIZE)
    return Items(vectors, vectors, code, numbers, numbers, mask, mask)


def echo_of(code: Tensor, reliability: float, seed: int = 1) -> Echo:
    noise = torch.randn(code.shape, generator=torch.Generator().manual_seed(seed))
    return Echo(
        torch.arange(len(code)),
        code,
        torch.zeros(len(code), dtype=torch.int64),
        torch.full((len(code),), reliability),
        noise,
    )


@pytest.mark.parametrize("between", [0.0, 0.1, 0.6])
def test_the_share_between_queriers_is_found(between: float) -> None:
    code, who = population(400, 5, between)
    assert share_between(code, who).mean() == pytest.approx(between, abs=0.03)
    uneven = np.random.default_rng(1).random(len(who)) < 0.2 + 0.8 * (who % 2)
    assert share_between(code[uneven], who[uneven]).mean() == pytest.approx(between, abs=0.04)


def test_pools_that_tell_nothing_share_nothing() -> None:
    code = np.random.default_rng(0).normal(size=(6, STYLE))
    for who in (np.zeros(6, dtype=np.int64), np.arange(6)):
        assert share_between(code, who).tolist() == [0.0] * STYLE
    assert share_between(np.repeat(code[:3], 2, axis=0), np.arange(6) // 2).max() == MOST


def test_fitting_whitens_the_pool_and_finds_the_share() -> None:
    code, who = population(300, 4, 0.4)
    mixed = np.random.default_rng(2).normal(size=(STYLE, STYLE))
    style = (code @ mixed).astype(np.float32)
    cluster = np.arange(len(who)) % 2
    model = made()
    model.fit(style, cluster, who)
    found = model.centre(torch.from_numpy(style), torch.from_numpy(cluster))
    assert found.var(0).numpy() == pytest.approx(np.ones(STYLE), abs=0.05)
    assert model.between.mean().item() == pytest.approx(0.4, abs=0.05)


@torch.no_grad()
def test_the_guess_is_the_best_linear_one() -> None:
    """Against the normal equations of each number of items: ŝ = cov(s, y) var(y)⁻¹ y, told as ŝ / (1 − var ŝ)."""
    share, lengths = 0.3, [3, 1, 0]
    code = torch.randn(3, 3, STYLE, generator=torch.Generator().manual_seed(0))
    told = made(share).guess(history(code, lengths))
    for row, count in enumerate(lengths):
        if not count:
            assert told[row].tolist() == [0.0] * STYLE
            continue
        among = np.full((count, count), share) + np.eye(count) * (1 - share)
        weights = np.linalg.solve(among, np.full(count, share))
        guess = weights @ code[row, :count].numpy()
        assert told[row].tolist() == pytest.approx((guess / (1 - share * weights.sum())).tolist(), rel=1e-5)


@torch.no_grad()
def test_echo_and_guess_are_told_in_one_unit() -> None:
    """In a population whose guesses have reliability R, an echo of that R has the guess's slope and variance."""
    share, count = 0.5, 4
    code, _ = population(4000, count + 1, share)
    people = torch.from_numpy(code.reshape(4000, count + 1, STYLE)).float()
    model, reply = made(share), people[:, -1]
    told = model.guess(history(people[:, :-1], [count] * 4000))
    reliability = share * count * share / (1 + (count - 1) * share)
    for read in (told, model.echo(echo_of(reply, reliability))):
        assert ((read * reply).mean() / read.square().mean()).item() == pytest.approx(1 - reliability, abs=0.02)
        assert read.var().item() == pytest.approx(reliability / (1 - reliability) ** 2, rel=0.05)
    assert not model.echo(echo_of(reply, 0.0)).any()


@torch.no_grad()
def test_trust_scales_guesses_and_no_echo() -> None:
    code = torch.randn(2, 3, STYLE)
    half, full = made(0.3, 0.5), made(0.3)
    assert torch.allclose(half.guess(history(code, [3, 1])), 0.5 * full.guess(history(code, [3, 1])), atol=1e-6)
    assert torch.equal(half.echo(echo_of(code[0], 0.4)), full.echo(echo_of(code[0], 0.4)))


def test_untrained_it_says_nothing_and_its_gradient_is_finite() -> None:
    model = made(0.4)
    told = model.guess(history(torch.randn(2, 3, STYLE), [3, 0]))
    shifts = model(told)
    assert len(shifts) == tiny_decoder().geometry.layers
    assert all(not shift.any() and shift.shape[:2] == (2, 1) for shift in shifts)
    torch.stack(shifts).sum().backward()
    assert model.up.grad is not None
    assert torch.isfinite(model.up.grad).all()


@torch.no_grad()
def test_order_and_padding_of_a_history_do_not_count() -> None:
    model = made(0.4)
    code = torch.randn(1, 4, STYLE)
    plain, turned = history(code, [4]), history(code.flip(1), [4])
    padded = history(torch.cat([code, torch.full((1, 2, STYLE), 9.0)], 1), [4])
    other = replace(plain, inputs=torch.ones_like(plain.inputs))  # what it is about does not count
    for items in (turned, padded, other):
        assert torch.allclose(model.guess(plain), model.guess(items), atol=1e-6)
