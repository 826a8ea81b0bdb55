"""What several processes of one training run tell each other; on one process every function is the identity.

The process group is started and ended by the trainer; nothing here starts one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes in the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of `value` over all processes, without a gradient; same shape on each process."""
    total = value.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, one process after the other, with a gradient to the process that gave them.

    Processes may give different numbers of rows; a gradient that reaches a row on any process is summed at its owner.

    Args:
        rows: This process's rows, (B, ...), of any type.

    Returns:
        All rows, (B of process 0 + B of process 1 + ..., ...).
    """
    if world_size() == 1:
        return rows
    sizes = _sizes(rows)
    if rows.dtype is torch.bool:
        return gather_rows(rows.to(torch.uint8)).to(torch.bool)
    gathered: Tensor = _Gather.apply(rows, sizes)  # type: ignore[no-untyped-call]  # autograd.Function is untyped
    return gathered


def gather_with_start(rows: Tensor) -> tuple[Tensor, int]:
    """`gather_rows` and the place of this process's first row in it."""
    if world_size() == 1:
        return rows, 0
    return gather_rows(rows), sum(_sizes(rows)[: rank()])


def _sizes(rows: Tensor) -> list[int]:
    """Number of rows that each process gives."""
    counts = torch.zeros(world_size(), dtype=torch.int64, device=rows.device)
    counts[rank()] = len(rows)
    dist.all_reduce(counts)
    return [int(count) for count in counts]


class _Gather(torch.autograd.Function):
    """All-gather of unequal numbers of rows; its gradient sums over processes and keeps the own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        """Padded to the longest, gathered, cut again."""
        ctx.sizes = sizes
        most = max(sizes)
        padded = rows.new_zeros((most, *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The sum over processes of what reached this process's rows."""
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        start = sum(ctx.sizes[: rank()])
        return total[start : start + ctx.sizes[rank()]], None
