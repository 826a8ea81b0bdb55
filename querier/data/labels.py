"""Reads a label or a number from a reply, where a task's replies are such."""

from __future__ import annotations

import re
from collections.abc import Sequence

from querier.data.words import words

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w)")


def read_label(reply: str, labels: Sequence[str]) -> str | None:
    """The label that a reply names, None where it names none or several; case and signs do not matter.

    The words of a longer label name no shorter one that they hold.
    """
    said = f" {' '.join(words(reply))} "
    found = []
    for size, spelt, label in sorted({(-len(words(one)), f" {' '.join(words(one))} ", one) for one in labels}):
        if size and spelt in said:
            found.append(label)
            said = said.replace(spelt, " / ")
    return found[0] if len(found) == 1 else None


def read_rating(reply: str, low: float, high: float) -> float | None:
    """The one number of a reply, None where it holds none, several, or one outside [low, high]."""
    numbers = _NUMBER.findall(reply)
    return float(numbers[0]) if len(numbers) == 1 and low <= float(numbers[0]) <= high else None
