"""What the metrics of a printed table mean, a line each, in the words of the report."""

from __future__ import annotations

from collections.abc import Iterable

from querier.analysis.report.metrics import metric

CHANCE = {"swap_accuracy": ".5", "retrieval_auc": ".5", "probe": ".5", "diversity": "0"}
"""What a model that knows nothing of the querier comes to, by how a metric's name begins."""


def legend(names: Iterable[str]) -> str:
    """One line a metric: what it is, its unit, which way is better, what chance is."""
    lines = []
    for name in names:
        known = metric(name)
        chance = next((value for start, value in CHANCE.items() if name.startswith(start)), None)
        said = [known.unit, f"{known.better} is better" if known.better else "", f"chance {chance}" if chance else ""]
        lines.append(f"{name}: {known.label} ({'; '.join(part for part in said if part)})")
    return "\n".join(lines)
