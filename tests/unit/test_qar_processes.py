"""QAR on several processes: one memory, and the loss and the gradient of one process."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_decoder
from torch import Tensor
from two_processes import on_processes

from querier.config import Config, from_plain
from querier.distributed import gather_rows
from querier.losses import combine
from querier.methods.qar import QuerierAwareResponder

SIZE, ROWS, STEPS = 6, 8, 3
Outcome = tuple[list[float], Tensor, dict[str, Tensor]]


def made(faithful: bool) -> QuerierAwareResponder:
    plain = {"conditioning": {"model": "qar", "kind": "none", "faithful": faithful}, "qar": {"projected": SIZE}}
    config: Config = from_plain(Config, plain)
    return QuerierAwareResponder(config, 2, tiny_decoder())


def part_of_three_batches(rank: int, processes: int) -> list[Outcome]:
    """What a process finds that reads its part of each batch: the losses, its gradients, its memory."""
    part = slice(rank * ROWS // processes, (rank + 1) * ROWS // processes)
    found = []
    for faithful in (False, True):
        model = made(faithful)
        losses, gradients = [], []
        for step in range(STEPS):
            numbers = [[row % 2, row % 3, row + 4 * step] for row in range(ROWS)]
            mine = torch.tensor(numbers[part])
            vectors = torch.randn(ROWS, 2, SIZE, generator=torch.Generator().manual_seed(step))
            views = vectors[part].requires_grad_()
            sums = {"prototypes": model.contrast(views, mine[:, 0], mine[:, 1], numbers)}
            both = combine(sums, {"prototypes": 1.0})
            gradients.append(torch.autograd.grad(both.total, views)[0] / processes)  # as averaged over processes
            losses.append(float(both.parts["prototypes"]))
            model.memory.write(numbers, gather_rows(views.detach()))
        found.append((losses, torch.stack(gradients, 1), model.memory.get_extra_state()))
    return found


def test_two_processes_hold_the_memory_of_one_and_share_its_loss() -> None:
    alone, (first, second) = part_of_three_batches(0, 1), on_processes(part_of_three_batches)
    for one, left, right in zip(alone, first, second, strict=True):
        assert left[0] == pytest.approx(one[0], rel=1e-5)
        assert left[0] == right[0]
        assert one[1][:, 1:].abs().sum() > 0
        assert torch.allclose(torch.cat([left[1], right[1]]), one[1], atol=1e-6)
        for name, value in one[2].items():
            assert torch.equal(value, left[2][name])
            assert torch.equal(value, right[2][name])
