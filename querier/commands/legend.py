"""What the metrics of a printed table mean, a line each, in the words of the report."""

from __future__ import annotations

from collections.abc import Iterable

from querier.analysis.report.metrics import metric


def legend(names: Iterable[str]) -> str:
    """One line a metric: what it is, its unit, which way is better, what chance is."""
    lines = []
    for name in names:
        known = metric(name)
        chance = "" if known.chance is None else f"chance {known.chance:g}"
        said = [known.unit, f"{known.better} is better" if known.better else "", chance]
        lines.append(f"{name}: {known.label} ({'; '.join(part for part in said if part)})")
    return "\n".join(lines)
