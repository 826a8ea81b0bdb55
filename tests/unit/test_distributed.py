"""Gathering over processes: order, unequal numbers of rows, gradients to the owner."""

from __future__ import annotations

from typing import Any

import torch
from two_processes import on_processes

from querier.distributed import gather_rows, gather_with_start, rank, sum_over_processes, world_size


def rows_of(number: int) -> torch.Tensor:
    """Process r gives r + 1 rows."""
    return (10.0 * number + torch.arange(number + 1.0))[:, None].repeat(1, 3)


def gather(number: int, processes: int) -> dict[str, Any]:
    rows = rows_of(number).requires_grad_()
    gathered, start = gather_with_start(rows)
    factors = torch.arange(float(len(gathered)))[:, None] + number  # each process weighs every row in its own way
    (gathered * factors).sum().backward()
    return {
        "rank": (rank(), world_size()),
        "gathered": gathered.detach(),
        "start": start,
        "gradient": rows.grad,
        "flags": gather_rows(torch.tensor([number == 1] * (number + 1))),
        "numbers": gather_rows(torch.full((1,), number)),
        "sum": sum_over_processes(torch.tensor([1, number])),
    }


def test_two_processes_see_all_rows_in_their_order() -> None:
    results = on_processes(gather)
    everything = torch.cat([rows_of(0), rows_of(1)])
    for number, found in enumerate(results):
        assert found["rank"] == (number, 2)
        assert torch.equal(found["gathered"], everything)
        assert found["flags"].tolist() == [False, True, True]
        assert found["flags"].dtype is torch.bool
        assert found["numbers"].tolist() == [0, 1]
        assert found["sum"].tolist() == [2, 1]
    assert [found["start"] for found in results] == [0, 1]
    total = (torch.arange(3.0) * 2 + 1)[:, None].repeat(1, 3)  # factors of both processes
    assert torch.equal(torch.cat([found["gradient"] for found in results]), total)


def test_one_process_is_the_identity() -> None:
    rows = torch.ones(2, 2, requires_grad=True)
    assert gather_rows(rows) is rows
    assert gather_with_start(rows) == (rows, 0)
    assert sum_over_processes(torch.tensor(3)).item() == 3
    assert (rank(), world_size()) == (0, 1)
