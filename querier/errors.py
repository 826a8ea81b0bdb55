"""The one exception that means that what the user gave cannot be used, and the check of a number that raises it."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input or configuration; the text names the thing, what was got, what is allowed and what to do.

    The command line prints the text alone, without a traceback, and exits with code 2.
    """


class Unanswered(InputError):
    """A method has no answer to this dialogue; it counts as failed, and the others go on."""


def check_range(name: str, value: float, low: float, high: float = float("inf"), hint: str = "") -> None:
    """Refuse a number outside [low, high].

    Raises:
        InputError: With the name, the value and what is allowed.
    """
    if not low <= value <= high:
        allowed = f">= {low}" if high == float("inf") else f"in [{low}, {high}]"
        raise InputError(f"{name} must be {allowed}, got {value}{'; ' + hint if hint else ''}")
