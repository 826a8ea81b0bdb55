"""Numbers as the commands' tables and lines show them."""

from __future__ import annotations

from querier.evaluation.statistics import Value


def number(value: float | None) -> str:
    """Three decimals, a count as it is, or a dash for what could not be measured."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def interval(value: Value) -> str:
    """Both ends of the 95 % interval."""
    return f"[{number(value.low)}, {number(value.high)}]"


def with_interval(value: Value) -> str:
    """A number, and its interval where there is one."""
    return f"{number(value.value)} {interval(value)}" if value.low is not None else number(value.value)
