"""The parts of the objective as pure functions on tensors.

`L = L_lm + λ_s L_specific + λ_g L_general + λ_w L_swap`, and with an expected style λ_e L_lm over the rows that read an
echo. Each part comes as a `Sum` over this process's rows (tokens)
with its count; `combine` divides by the count over all processes, so that two processes give the value and the gradient
of one. The two contrastive parts compare across views only: anchors of this process against the candidates of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from querier.choices import SwapForm
from querier.distributed import gather_rows, gather_with_start, sum_over_processes, world_size
from querier.types import LossParts


@dataclass
class Sum:
    """A sum over rows (or tokens) of one process and how many there were.

    Args:
        total: With gradient, scalar.
        count: Number of terms on this process, scalar.
    """

    total: Tensor
    count: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean over this process's terms; 0 without any."""
        return self.total / self.count.clamp(min=1)


def lm_loss(log_prob: Tensor, mask: Tensor) -> Sum:
    """Cross-entropy over the reply's tokens.

    Args:
        log_prob: log p of each labelled token in nats, (B, L).
        mask: True at the reply's tokens, (B, L) bool.

    Returns:
        Sum over tokens.
    """
    total = -torch.where(mask, _at_least_float(log_prob), 0.0).sum()
    return Sum(total, mask.sum())


def mean_log_prob(log_prob: Tensor, mask: Tensor) -> Tensor:
    """Mean log-probability over each row's reply tokens, (B,); what `swap_loss` compares."""
    total = torch.where(mask, _at_least_float(log_prob), 0.0).sum(-1)
    return total / mask.sum(-1).clamp(min=1)


def swap_loss(true: Tensor, swapped: Tensor, margin: float, form: SwapForm = SwapForm.hinge) -> Sum:
    """The reply must be more likely for its querier than for a contrast user.

    With Δ = true − swapped: max(0, margin − Δ) or −log σ(Δ).

    Args:
        true: Mean log-probability of each row's reply tokens, (R,).
        swapped: The same with a contrast user's history, (R,); detached unless it is to be pushed away.
        margin: Of the hinge, nats per token.
        form: Hinge or logistic.

    Returns:
        Sum over rows.
    """
    gain = _at_least_float(true) - _at_least_float(swapped)
    terms = F.relu(margin - gain) if form is SwapForm.hinge else F.softplus(-gain)
    return Sum(terms.sum(), torch.tensor(len(true), device=true.device))


def specific_loss(
    first: Tensor,
    second: Tensor,
    hard_first: Tensor,
    hard_second: Tensor,
    *,
    querier: Tensor,
    scene: Tensor,
    cluster: Tensor,
    valid: Tensor,
    hard_mask: Tensor,
    temperature: Tensor | float,
    own_view: bool = True,
) -> Sum:
    """Contrast of queriers inside a cluster of queries, across two views of their histories.

    ℓ_i = −1/|P_i| Σ_{p∈P_i} log [ exp(s_ip/τ) / Σ_{c∈A_i} exp(s_ic/τ) ], averaged over both directions. P_i: the
    anchor's other view and the same querier's rows of other scenes in the cluster; A_i: P_i, in-cluster rows of other
    queriers and the anchor's own hard negatives. Rows of the anchor's querier and scene are neither.

    Args:
        first: View 1 through head 1, (B, P); scale does not matter.
        second: View 2 through head 2, (B, P).
        hard_first: The same queries with contrast users' histories, through head 1, (B, K, P).
        hard_second: The same through head 2, (B, K, P).
        querier: (B,) int64.
        scene: (B,) int64.
        cluster: (B,) int64; all equal to compare across clusters.
        valid: True where both views hold an item, (B,) bool.
        hard_mask: True where a contrast user stands, (B, K) bool.
        temperature: > 0.
        own_view: Whether an anchor's other view is a positive; False where both views are the same items, which would
            be a comparison with itself.

    Returns:
        Sum over rows.
    """
    columns, start = gather_with_start(torch.stack([querier, scene, cluster, valid.to(querier.dtype)], dim=1))
    all_querier, all_scene, all_cluster, all_valid = columns.unbind(1)
    here = start + torch.arange(len(querier), device=querier.device)
    itself = here[:, None] == torch.arange(len(columns), device=querier.device)
    usable = (cluster[:, None] == all_cluster) & (all_valid > 0)
    same_querier = querier[:, None] == all_querier
    positive = usable & same_querier & (scene[:, None] != all_scene)
    if own_view:
        positive = positive | (usable & itself)
    candidate = positive | (usable & ~same_querier)
    return _both_directions(
        (first, second), (hard_first, hard_second), positive, candidate, valid, hard_mask, temperature
    )


def general_loss(
    first: Tensor,
    second: Tensor,
    hard_first: Tensor,
    hard_second: Tensor,
    *,
    mutual: Tensor,
    near: Tensor,
    cluster: Tensor,
    valid: Tensor,
    hard_mask: Tensor,
    temperature: Tensor | float,
) -> Sum:
    """The same form with the roles turned: what is asked counts, who asks does not.

    Positives are in-cluster rows whose query is a mutual nearest neighbour asked by another querier; negatives the
    in-cluster rows whose query is not nearly the same; hard negatives the anchor's own other queries. Rows without a
    positive have no term.

    Args:
        first: View 1 of the neighbours through head 1, (B, P).
        second: View 2 through head 2, (B, P).
        hard_first: The anchor's own other queries through head 1, (B, K, P).
        hard_second: The same through head 2, (B, K, P).
        mutual: True where two queries of different queriers are mutual nearest neighbours, (B, B of all processes).
        near: True where two queries have cosine >= 0.95, itself included, (B, B of all processes) bool.
        cluster: (B,) int64.
        valid: True where both views hold a neighbour, (B,) bool.
        hard_mask: True where such a query stands, (B, K) bool.
        temperature: > 0.

    Returns:
        Sum over rows that have a positive.
    """
    all_cluster, all_valid = gather_rows(torch.stack([cluster, valid.to(cluster.dtype)], dim=1)).unbind(1)
    usable = (cluster[:, None] == all_cluster) & (all_valid > 0)
    positive = usable & mutual
    candidate = positive | (usable & ~near)
    return _both_directions(
        (first, second), (hard_first, hard_second), positive, candidate, valid, hard_mask, temperature
    )


def combine(parts: Mapping[str, Sum], weights: Mapping[str, float]) -> LossParts:
    """The weighted total, each part divided by its count over all processes.

    The total is multiplied by the number of processes, because gradients are averaged over them: the average is then
    what one process with all rows would have got. Each process names the same weights; a part that a process did not
    compute counts as an empty sum.

    Args:
        parts: Sums of this process by name.
        weights: Weight of each name; a superset of the names of `parts`.

    Returns:
        The total of this process with gradient, and the unweighted parts over all processes without.

    Raises:
        ValueError: A part has no weight, or there is no part at all.
    """
    unknown = set(parts) - set(weights)
    if unknown or not parts:
        raise ValueError(f"each loss needs a weight and there must be one; without weight: {sorted(unknown)}")
    device = next(iter(parts.values())).total.device
    names = sorted(weights)
    zero = torch.zeros((), device=device)
    local = [parts.get(name, Sum(zero, zero)) for name in names]
    counts = sum_over_processes(torch.stack([each.count.to(device, torch.int64) for each in local]))
    totals = sum_over_processes(torch.stack([each.total.detach().float() for each in local]))
    values = totals / counts.clamp(min=1)
    total = zero
    for name, each, count in zip(names, local, counts.clamp(min=1), strict=True):
        total = total + weights[name] * each.total * (world_size() / count.to(each.total.dtype))
    shown = {name: value for name, value, count in zip(names, values, counts, strict=True) if name in parts or count}
    return LossParts(total, shown)


def _both_directions(
    views: tuple[Tensor, Tensor],
    hard: tuple[Tensor, Tensor],
    positive: Tensor,
    candidate: Tensor,
    valid: Tensor,
    hard_mask: Tensor,
    temperature: Tensor | float,
) -> Sum:
    """Mean of view 1 against view 2 and view 2 against view 1, summed over valid rows with a positive."""
    first, second = (_unit(view) for view in views)
    hard_first, hard_second = (_unit(each) for each in hard)
    counted = valid & positive.any(1)
    forth = _terms(first, gather_rows(second), hard_second, positive, candidate, hard_mask, temperature)
    back = _terms(second, gather_rows(first), hard_first, positive, candidate, hard_mask, temperature)
    # A row that does not count is cut off before the sum: its gradient is exactly zero.
    total = torch.where(counted, (forth + back) / 2, 0.0).sum()
    return Sum(total, counted.sum())


def _terms(
    anchors: Tensor,
    others: Tensor,
    hard: Tensor,
    positive: Tensor,
    candidate: Tensor,
    hard_mask: Tensor,
    temperature: Tensor | float,
) -> Tensor:
    """ℓ_i of each anchor, (B,); finite also for rows without any candidate.

    Args:
        anchors: Unit vectors, (B, P).
        others: Unit vectors of the other view of all processes, (G, P).
        hard: Unit vectors in the other view, (B, K, P).
        positive: (B, G) bool, a subset of `candidate`.
        candidate: (B, G) bool.
        hard_mask: (B, K) bool.
        temperature: > 0.
    """
    with torch.autocast(anchors.device.type, enabled=False):  # bf16 keeps three digits: too few under 1/τ = 100
        against = anchors @ others.T / temperature  # (B, G)
        against_hard = torch.einsum("bp,bkp->bk", anchors, hard) / temperature  # (B, K)
        lowest = torch.finfo(against.dtype).min  # finite: an empty row then has a finite value and no gradient
        masked = torch.cat([against.masked_fill(~candidate, lowest), against_hard.masked_fill(~hard_mask, lowest)], 1)
        log_prob = against - masked.logsumexp(1, keepdim=True)
        return -torch.where(positive, log_prob, 0.0).sum(1) / positive.sum(1).clamp(min=1)


def _unit(vectors: Tensor) -> Tensor:
    """Unit length in at least float32; a zero vector stays zero."""
    return F.normalize(_at_least_float(vectors), dim=-1, eps=1e-6)


def _at_least_float(values: Tensor) -> Tensor:
    """In float32, or float64 if it was."""
    return values if values.dtype is torch.float64 else values.float()
