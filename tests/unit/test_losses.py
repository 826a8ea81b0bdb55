"""The four losses from nine sides: loops, gradients, a number by hand, invariances, degenerate input, two processes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from two_processes import on_processes

from querier.choices import SwapForm
from querier.losses import Sum, combine, general_loss, lm_loss, mean_log_prob, specific_loss, swap_loss

B, K, P, TAU = 12, 3, 5, 0.2
SPECIFIC = ("first", "second", "hard_first", "hard_second", "querier", "scene", "cluster", "valid", "hard_mask")
GENERAL = ("first", "second", "hard_first", "hard_second", "mutual", "near", "cluster", "valid", "hard_mask")


def case(seed: int = 0, rows: int = B, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Random rows of four queriers in two clusters, with every kind of pair."""
    made = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=made, dtype=dtype)

    def below(high: int) -> Tensor:
        return torch.randint(high, (rows,), generator=made)

    querier = below(4)
    pairs = torch.rand(rows, rows, generator=made)
    near = torch.rand(rows, rows, generator=made) < 0.1
    return {
        "first": normal(rows, P),
        "second": normal(rows, P),
        "hard_first": normal(rows, K, P),
        "hard_second": normal(rows, K, P),
        "querier": querier,
        "scene": querier * 3 + below(3),
        "cluster": below(2),
        "valid": torch.rand(rows, generator=made) < 0.8,
        "hard_mask": torch.rand(rows, K, generator=made) < 0.7,
        "mutual": (pairs + pairs.T < 0.7) & (querier[:, None] != querier),
        "near": near | near.T | torch.eye(rows, dtype=torch.bool),
    }


def specific(made: dict[str, Tensor], temperature: Any = TAU) -> Sum:
    return specific_loss(**{name: made[name] for name in SPECIFIC}, temperature=temperature)


def general(made: dict[str, Tensor], temperature: Any = TAU) -> Sum:
    return general_loss(**{name: made[name] for name in GENERAL}, temperature=temperature)


def loop(made: dict[str, Tensor], kind: str) -> tuple[float, int]:
    """The formula, over pairs."""
    total, count = 0.0, 0
    rows = range(len(made["first"]))

    def cosine(one: Tensor, other: Tensor) -> float:
        return float(one @ other / one.norm() / other.norm())

    for i in rows:
        if not made["valid"][i]:
            continue
        positives, negatives = [], []
        for c in rows:
            if not made["valid"][c] or made["cluster"][i] != made["cluster"][c]:
                continue
            if kind == "specific":
                mine = made["querier"][i] == made["querier"][c]
                if i == c or (mine and made["scene"][i] != made["scene"][c]):
                    positives.append(c)
                elif not mine:
                    negatives.append(c)
            elif made["mutual"][i, c]:
                positives.append(c)
            elif not made["near"][i, c]:
                negatives.append(c)
        if not positives:
            continue
        count += 1
        for anchors, others, hard in (("first", "second", "hard_second"), ("second", "first", "hard_first")):
            anchor = made[anchors][i]
            scores = {c: math.exp(cosine(anchor, made[others][c]) / TAU) for c in positives + negatives}
            hards = [math.exp(cosine(anchor, made[hard][i, k]) / TAU) for k in range(K) if made["hard_mask"][i, k]]
            below = sum(scores.values()) + sum(hards)
            total += -sum(math.log(scores[p] / below) for p in positives) / len(positives) / 2
    return total, count


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("kind", "loss"), [("specific", specific), ("general", general)])
def test_value_against_loops_over_pairs(kind: str, loss: Any, seed: int) -> None:
    made = case(seed)
    found = loss(made)
    total, count = loop(made, kind)
    assert count > 3
    assert int(found.count) == count
    assert found.total.item() == pytest.approx(total, rel=1e-9)
    assert found.mean.item() == pytest.approx(total / count, rel=1e-9)


@pytest.mark.parametrize("loss", [specific, general])
def test_gradcheck(loss: Any) -> None:
    made = case(1, rows=6)
    vectors = [made[name].requires_grad_() for name in SPECIFIC[:4]]
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def value(first: Tensor, second: Tensor, hard_first: Tensor, hard_second: Tensor, tau: Tensor) -> Tensor:
        changed = dict(zip(SPECIFIC[:4], (first, second, hard_first, hard_second), strict=True))
        total: Tensor = loss({**made, **changed}, tau).total
        return total

    assert torch.autograd.gradcheck(value, (*vectors, temperature))


def test_a_number_by_hand() -> None:
    """Two queriers, one row each, one cluster, no hard negative, τ = 0.5.

    View 1 is (1, 0) for both; view 2 is (1, 0) for row 0 and (0, 1) for row 1. Forth, row 0: scores e², e⁰, positive
    the first: −log(e²/(e² + 1)) = log(1 + e⁻²); row 1: log(1 + e²). Back, row 0: both scores e²: log 2; row 1: both e⁰:
    log 2. Sum of the means of both directions: (log(1 + e⁻²) + log(1 + e²)) / 2 + log 2 = 1.1269280 + 0.6931472.
    """
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    hard, ids = torch.zeros(2, 1, 2), torch.arange(2)
    found = specific_loss(
        torch.stack([one, one]),
        torch.stack([one, other]),
        hard,
        hard,
        querier=ids,
        scene=ids,
        cluster=torch.zeros(2, dtype=torch.int64),
        valid=torch.ones(2, dtype=torch.bool),
        hard_mask=torch.zeros(2, 1, dtype=torch.bool),
        temperature=0.5,
    )
    assert found.total.item() == pytest.approx(1.1269280 + 0.6931472, abs=1e-6)
    assert int(found.count) == 2


@pytest.mark.parametrize("loss", [specific, general])
def test_order_and_length_of_vectors_do_not_matter(loss: Any) -> None:
    made = case(2)
    order = torch.randperm(B, generator=torch.Generator().manual_seed(5))
    moved = {name: value[order] for name, value in made.items()}
    for name in ("mutual", "near"):
        moved[name] = moved[name][:, order]
    scaled = {name: value * 7 if name in SPECIFIC[:4] else value for name, value in made.items()}
    expected = loss(made).total.item()
    assert loss(moved).total.item() == pytest.approx(expected, rel=1e-9)
    assert loss(scaled).total.item() == pytest.approx(expected, rel=1e-9)


def test_rows_of_the_same_querier_and_scene_are_neither_positive_nor_negative() -> None:
    made = case(3)
    made["valid"][:] = True
    made["querier"][1], made["scene"][1], made["cluster"][1] = made["querier"][0], made["scene"][0], made["cluster"][0]
    for name in SPECIFIC[:2]:
        made[name].requires_grad_()
    alone = {**made, "cluster": made["cluster"].clone()}
    alone["cluster"][2:] = 9  # rows 0 and 1 are left to themselves
    alone["hard_mask"] = torch.zeros_like(made["hard_mask"])
    # Each of the two has itself as its only candidate: nothing to tell apart, whatever the other one is.
    terms = specific({name: value[:2] for name, value in alone.items()})
    assert terms.total.item() == pytest.approx(0.0, abs=1e-12)
    assert int(terms.count) == 2


def test_without_an_own_view_a_row_is_never_compared_with_itself() -> None:
    """One querier, two scenes, equal items in both views: the other row is the only candidate."""
    made = case(rows=2)
    made.update(querier=torch.tensor([0, 0]), scene=torch.tensor([0, 1]), cluster=torch.zeros(2, dtype=torch.int64))
    made.update(valid=torch.ones(2, dtype=torch.bool), hard_mask=torch.zeros(2, K, dtype=torch.bool))
    arguments = {**{name: made[name] for name in SPECIFIC}, "temperature": TAU}
    assert float(specific_loss(**arguments, own_view=False).total) == pytest.approx(0.0, abs=1e-9)
    assert float(specific_loss(**arguments).total) > 0.01
    made["scene"][1] = 0
    assert int(specific_loss(**arguments, own_view=False).count) == 0


def test_nearly_equal_queries_are_never_negatives() -> None:
    made = case(4)
    made["mutual"][:], made["near"][:] = False, True
    made["mutual"][0, 1] = made["mutual"][1, 0] = True
    made["valid"][:], made["cluster"][:], made["hard_mask"][:] = True, 0, False
    found = general(made)
    assert int(found.count) == 2
    assert found.total.item() == pytest.approx(0.0, abs=1e-9)  # the one positive is the one candidate
    made["near"][0, 2] = False
    assert general(made).total.item() > 0


def test_a_hard_negative_enters_only_its_anchors_row() -> None:
    made = case(5)
    made["valid"][:] = True
    made["hard_mask"][:] = False
    without = specific(made).total
    made["hard_mask"][0, 0] = True
    changed = [made["hard_first"].requires_grad_(), made["first"].requires_grad_(), made["second"].requires_grad_()]
    with_one = specific(made).total
    assert with_one > without
    gradient, first, second = torch.autograd.grad(with_one - without.detach(), changed)
    assert gradient[0, 0].any()
    gradient[0, 0] = 0
    assert not gradient.any()
    assert torch.isfinite(first).all()
    assert torch.isfinite(second).all()


def test_a_far_negative_changes_nothing() -> None:
    made = case(6)
    made["valid"][:] = True
    made["hard_mask"][:] = False
    far = {**made, "hard_mask": made["hard_mask"].clone()}
    far["hard_mask"][0, 0] = True
    made["first"][0] = made["second"][0] = torch.eye(P, dtype=torch.float64)[0]
    made["hard_first"][0, 0] = made["hard_second"][0, 0] = -made["first"][0]
    assert specific(far, 0.05).total.item() == pytest.approx(specific(made, 0.05).total.item(), abs=1e-6)


@pytest.mark.parametrize("loss", [specific, general])
@pytest.mark.parametrize("which", ["one row", "one querier", "nothing valid", "no positive", "all positive", "zeros"])
def test_degenerate_batches_are_finite(loss: Any, which: str) -> None:
    made = case(7, rows=1 if which == "one row" else B, dtype=torch.float32)
    if which == "one querier":
        made["querier"][:], made["scene"][:] = 0, 0
    made["valid"][:] = which != "nothing valid"
    if which == "no positive":
        made["mutual"][:], made["cluster"] = False, torch.arange(B)
    if which == "all positive":
        made["mutual"][:], made["querier"][:], made["cluster"][:] = True, 0, 0
        made["scene"] = torch.arange(B)
    if which == "zeros":
        made["first"], made["hard_second"] = torch.zeros(B, P), torch.zeros(B, K, P)
    vectors = [made[name].requires_grad_() for name in SPECIFIC[:4]]
    found = loss(made)
    gradients = torch.autograd.grad(found.total, vectors)
    assert torch.isfinite(found.total)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    if which == "nothing valid":
        assert found.total.item() == 0
        assert int(found.count) == 0
        assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_are_finite_and_right(dtype: torch.dtype) -> None:
    made = case(8)
    made["valid"][:] = True
    low = {name: value.to(dtype) if value.is_floating_point() else value for name, value in made.items()}
    exact = {name: value.double() if value.is_floating_point() else value for name, value in low.items()}
    for name in SPECIFIC[:4]:
        low[name].requires_grad_()
    found = specific(low, 1e-4)  # logits up to ±1e4
    assert found.total.dtype is torch.float32
    assert found.total.item() == pytest.approx(specific(exact, 1e-4).total.item(), rel=1e-4)
    found.total.backward()
    assert all(torch.isfinite(low[name].grad).all() for name in SPECIFIC[:4])  # type: ignore[arg-type]


def test_autocast_does_not_cost_digits() -> None:
    made = case(9, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = specific(made).total.item()
    assert inside == pytest.approx(specific(made).total.item(), rel=1e-6)


def test_lm_loss_counts_tokens_of_the_reply_only() -> None:
    log_prob = torch.tensor([[-1.0, -2.0, -100.0], [float("-inf"), -4.0, -8.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, True, False]])
    found = lm_loss(log_prob, mask)
    assert found.total.item() == pytest.approx(7.0)
    assert int(found.count) == 3
    assert mean_log_prob(log_prob, mask).tolist() == pytest.approx([-1.5, -4.0])
    found.total.backward()
    assert log_prob.grad is not None
    assert log_prob.grad.tolist() == [[-1.0, -1.0, 0.0], [0.0, -1.0, 0.0]]
    assert lm_loss(log_prob, torch.zeros_like(mask)).mean.item() == 0


def test_swap_loss_by_hand() -> None:
    """Δ = 0.05, 0.3, −1: the hinge at 0.1 gives 0.05 + 0 + 1.1; −log σ gives log(1 + e^−Δ) each."""
    true, swapped = torch.tensor([-1.0, -1.0, -2.0], requires_grad=True), torch.tensor([-1.05, -1.3, -1.0])
    hinge = swap_loss(true, swapped, 0.1)
    assert hinge.total.item() == pytest.approx(1.15, abs=1e-6)
    assert int(hinge.count) == 3
    hinge.total.backward()
    assert true.grad is not None
    assert true.grad.tolist() == [-1.0, 0.0, -1.0]
    logistic = swap_loss(true, swapped, 0.1, SwapForm.logistic)
    assert logistic.total.item() == pytest.approx(sum(math.log(1 + math.exp(-gap)) for gap in (0.05, 0.3, -1.0)))
    empty = swap_loss(true[:0], swapped[:0], 0.1)
    assert empty.total.item() == 0
    assert int(empty.count) == 0


def test_combine_weighs_means_and_reports_them_unweighted() -> None:
    value = torch.tensor(6.0, requires_grad=True)
    parts = {"lm": Sum(value, torch.tensor(3)), "swap": Sum(torch.tensor(5.0), torch.tensor(0))}
    found = combine(parts, {"lm": 1.0, "swap": 0.5, "general": 2.0})
    assert found.total.item() == pytest.approx(2.0 + 0.5 * 5.0)
    assert {name: part.item() for name, part in found.parts.items()} == {"lm": 2.0, "swap": 5.0}
    found.total.backward()
    assert value.grad is not None
    assert value.grad.item() == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="swap"):
        combine(parts, {"lm": 1.0})


def whole_objective(rank: int, processes: int) -> dict[str, Any]:
    """Value and gradient of all parts with the rows divided 5 to 7."""
    made = case(11)
    mine = slice(0, B) if processes == 1 else (slice(0, 5), slice(5, B))[rank]
    linear = torch.nn.Linear(P, P, bias=False, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(P, P, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    rows = {name: value[mine] for name, value in made.items()}
    for name in SPECIFIC[:4]:
        rows[name] = torch.tanh(linear(rows[name]))
    log_prob = rows["first"] - 1
    parts = {
        "lm": lm_loss(log_prob, rows["first"] > -0.5),
        "specific": specific(rows),
        "general": general(rows),
    }
    if rank == 0:  # only one process has rows of the swap loss
        parts["swap"] = swap_loss(log_prob[:2].mean(1), log_prob[2:4].mean(1), 3.0)
    found = combine(parts, {"lm": 1.0, "specific": 0.7, "general": 0.3, "swap": 0.2})
    found.total.backward()
    return {"total": found.total.detach(), "gradient": linear.weight.grad, "parts": found.parts}


def test_two_processes_give_value_and_gradient_of_one() -> None:
    one = whole_objective(0, 1)
    two = on_processes(whole_objective)
    assert sum(each["total"] for each in two).item() / 2 == pytest.approx(one["total"].item(), rel=1e-6)
    gradient = sum(each["gradient"] for each in two) / 2  # as data-parallel training averages
    torch.testing.assert_close(gradient, one["gradient"], rtol=1e-9, atol=1e-12)
    for each in two:
        assert each["parts"].keys() == one["parts"].keys()
        for name, value in one["parts"].items():
            assert each["parts"][name].item() == pytest.approx(value.item(), rel=1e-5)
