"""Echoes: training rows that read the style of their own reply, under noise, instead of a history.

What for stands in `models/expectation.py`.
"""

from __future__ import annotations

import numpy as np
import torch

from querier.data.preparation import Prepared
from querier.types import STYLE, Echo

CLEAREST = 0.5  # reliability of the clearest echo


def echoed(seed: tuple[int, ...], count: int, share: float) -> np.ndarray:
    """Which rows of a batch over all processes read an echo, (count,) bool."""
    return np.random.default_rng(seed).random(count) < share


def draw_echo(prepared: Prepared, seed: tuple[int, ...], rows: np.ndarray, part: slice, share: float) -> Echo | None:
    """The echoes of one process's rows; None where there is none.

    Args:
        prepared: Stylometry of replies and clusters of queries.
        seed: Of all chance, the same for each process.
        rows: Rows of the batch over all processes, (G,).
        part: Which of them this process reads.
        share: Of the rows, that read an echo.
    """
    places = np.flatnonzero(echoed(seed, len(rows), share)[part])
    if not len(places):
        return None
    draws = np.random.default_rng([*seed, 1])
    noise = draws.standard_normal((len(rows), STYLE))[part][places]
    chosen = rows[part][places]
    reliability = draws.uniform(0.0, CLEAREST, len(rows))[part][places]
    return Echo(
        index=torch.from_numpy(places),
        style=torch.from_numpy(prepared.styles(chosen)),
        cluster=torch.from_numpy(np.asarray(prepared.cluster)[chosen].astype(np.int64)),
        reliability=torch.from_numpy(reliability.astype(np.float32)),
        noise=torch.from_numpy(noise.astype(np.float32)),
    )
