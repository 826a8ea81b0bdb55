"""Numbers as the commands' tables and lines show them."""

from __future__ import annotations

from querier.evaluation.statistics import Value


def number(value: float | None, digits: int = 3) -> str:
    """So many decimals, a count as it is, or a dash for what could not be measured."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def interval(value: Value, digits: int = 3) -> str:
    """Both ends of the 95 % interval."""
    return f"[{number(value.low, digits)}, {number(value.high, digits)}]"


def with_interval(value: Value, digits: int = 3) -> str:
    """A number, and its interval where there is one."""
    shown = number(value.value, digits)
    return f"{shown} {interval(value, digits)}" if value.low is not None else shown
