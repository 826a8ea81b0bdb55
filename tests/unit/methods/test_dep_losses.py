"""The sparse auto-encoder of DEP: its losses against loops, and what the published one cannot do."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from querier.methods import dep
from querier.methods.dep import SparseAutoEncoder, reconstruction, sparsity, sparsity_by_row

SIZE = 16


def test_a_published_code_cannot_rebuild_what_is_negative_and_a_mended_one_can() -> None:
    torch.manual_seed(0)
    target, losses = torch.full((1, SIZE), -0.5), {}
    for faithful in (True, False):
        coder = SparseAutoEncoder(SIZE, faithful)
        adam = torch.optim.Adam(coder.parameters(), lr=1e-2)
        for _ in range(60):
            adam.zero_grad()
            (coder.decode(coder.encode(target)) - target).abs().mean().backward()
            adam.step()
        losses[faithful] = float((coder.decode(coder.encode(target)) - target).abs().detach().mean())
    assert losses[True] > 0.3  # GELU never falls below −0.17
    assert losses[False] < 0.1


@torch.no_grad()
def test_a_published_code_has_no_shares_and_a_mended_one_starts_sparse() -> None:
    unit = torch.nn.functional.normalize(torch.randn(400, SIZE, generator=torch.Generator().manual_seed(0)), dim=-1)
    torch.manual_seed(0)
    published, mended = (SparseAutoEncoder(SIZE, faithful).encode(unit) for faithful in (True, False))
    assert (published.mean(0) < 0).any()
    assert 0 < mended.min() < mended.max() < 1
    assert mended.mean() == pytest.approx(0.05, abs=0.015)
    assert mended.std() > 0.02


STANDS = torch.tensor([[[True, True], [True, False]], [[True, False], [False, False]], [[False] * 2] * 2])


def slow_kl(shares: list[float]) -> float:
    return sum(0.05 * math.log(0.05 / one) + 0.95 * math.log(0.95 / (1 - one)) for one in shares)


def test_the_losses_of_the_auto_encoder_are_those_of_loops() -> None:
    chance = torch.Generator().manual_seed(0)
    vectors, rebuilt = (2 * torch.randn(3, 2, 2, 5, generator=chance) for _ in "ab")
    code = torch.rand(3, 2, 2, 7, generator=chance)
    places = STANDS.nonzero().tolist()
    total = 0.0
    for row, item, kind in places:
        gaps = (rebuilt - vectors)[row, item, kind].tolist()
        total += sum(gap**2 / 2 if abs(gap) < 1 else abs(gap) - 0.5 for gap in gaps) / 5
    found = reconstruction(rebuilt, vectors, STANDS)
    assert (found.total.item(), found.count.item()) == (pytest.approx(total, rel=1e-5), 4)

    def means(chosen: list[list[int]]) -> list[float]:
        return [sum(float(code[*place, unit]) for place in chosen) / len(chosen) for unit in range(7)]

    together, apart = sparsity(code, STANDS), sparsity_by_row(code, STANDS)
    assert together.mean.item() == pytest.approx(slow_kl(means(places)), rel=1e-4)
    rows = [slow_kl(means([place for place in places if place[0] == row])) for row in (0, 1)]
    assert apart.mean.item() == pytest.approx(sum(rows) / 2, rel=1e-4)
    assert together.mean.item() < apart.mean.item()  # no one querier's vectors have to be sparse by themselves
    assert apart.count == 2


@pytest.mark.parametrize("loss", [sparsity, sparsity_by_row])
def test_gradients_of_the_losses_are_right(loss: Any) -> None:
    chance = torch.Generator().manual_seed(0)
    code = torch.rand(3, 2, 2, 4, generator=chance, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: loss(value, STANDS).total, (code,))
    vectors = torch.randn(3, 2, 2, 4, generator=chance, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda value: reconstruction(value, vectors, STANDS).total, (code,))


def test_each_of_two_processes_has_the_sparsity_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.rand(3, 2, 2, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    wanted = sparsity(whole, STANDS)
    wanted.total.backward()
    assert whole.grad is not None
    for mine, other in ((slice(0, 1), slice(1, 3)), (slice(1, 3), slice(0, 1))):
        elsewhere = iter((STANDS[other].sum()[None], whole.detach()[other][STANDS[other]].sum(0)[None]))
        monkeypatch.setattr(dep, "gather_rows", lambda rows, other=elsewhere: torch.cat([rows, next(other)]))
        code = whole.detach()[mine].clone().requires_grad_()
        found = sparsity(code, STANDS[mine])
        found.total.backward()
        assert found.total.item() == pytest.approx(wanted.total.item(), rel=1e-5)
        assert found.count == 1
        assert code.grad is not None
        assert torch.allclose(code.grad, whole.grad[mine], atol=1e-6)
