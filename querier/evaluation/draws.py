"""What the evaluation draws at random, each from a generator of its own: none depends on how much another one took."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Draw(IntEnum):
    """Marks a draw beside the seed; a new one takes a new number, and another number would be another draw.

    Swaps are drawn by their kind and row (`SwapKind`). `SIGNAL` has the number of `ANSWERED`, which no result has too.
    """

    DIALOGUES = 100  # which are judged
    INTERVALS = 101  # of one run
    SIGNAL = 102  # intervals of the linear readers
    ANSWERED = 102  # which dialogues are answered
    COLD_START = 103  # intervals of the curves
    COMPARED = 104  # intervals of a table
    PAIRED = 105  # intervals of the differences of two runs
    TO_JUDGE = 106  # which replies an LLM judges
    JUDGED = 107  # intervals of its win rates
    ASKED = 108  # queries that several queriers are asked
    PROBED = 109  # queriers and dialogues of the probes


def generator_of(seed: int, draw: Draw, *more: int) -> np.random.Generator:
    """The generator of a draw; `more` numbers tell its parts apart."""
    return np.random.default_rng([seed, draw, *more])
