"""Runs a function on several processes of a gloo group and brings back what each returned."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def on_processes(work: Callable[[int, int], Any], processes: int = 2) -> list[Any]:
    """What `work(rank, processes)` returns on each process; `work` must be importable, its results picklable by torch.

    Args:
        work: Of the module level.
        processes: How many.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        running = [context.Process(target=_run, args=(work, rank, processes, folder)) for rank in range(processes)]
        for process in running:
            process.start()
        for process in running:
            process.join(120)
        codes = [process.exitcode for process in running]
        if any(codes):
            raise RuntimeError(f"exit codes {codes}")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(processes)]


def _run(work: Callable[[int, int], Any], rank: int, processes: int, folder: str) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    try:
        torch.save(work(rank, processes), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
