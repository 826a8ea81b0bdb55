"""Reads a label or a number from a reply, where a task's replies are such."""

from __future__ import annotations

import re
from collections.abc import Sequence

from querier.data.words import words

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w)")


def read_label(reply: str, labels: Sequence[str]) -> str | None:
    """The label that a reply names, None where it names none or several; case and signs do not matter.

    Of two labels one of which holds the other, the longer one is named.
    """
    said = f" {' '.join(words(reply))} "
    found = [label for label in labels if f" {' '.join(words(label))} " in said]
    longest = [one for one in found if not any(one != other and one in other for other in found)]
    return longest[0] if len(longest) == 1 else None


def read_rating(reply: str, low: float, high: float) -> float | None:
    """The one number of a reply, None where it holds none, several, or one outside [low, high]."""
    numbers = _NUMBER.findall(reply)
    return float(numbers[0]) if len(numbers) == 1 and low <= float(numbers[0]) <= high else None
