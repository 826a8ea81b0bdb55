"""Cold start: what a run makes of queriers of whom little is known yet, from what `querier test` measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from querier.analysis.extra import need
from querier.analysis.figures import COLOURS, finished, plain
from querier.analysis.report.figures import number_range
from querier.analysis.report.metrics import metric
from querier.analysis.report.sources import read_run
from querier.errors import InputError
from querier.run import Run

if TYPE_CHECKING:
    from pandas import DataFrame

ALL = "all"  # of the history items that a model reads


def cold_start_table(run: str | Path) -> DataFrame:
    """What was measured at each number of history items.

    Args:
        run: The folder of a run that `querier test cold_start=true` tested.

    Returns:
        `queriers` (seen or unseen), `items`, `metric`, `value`, `low` and `high` of the 95 % interval over queriers,
        `n`, the dialogues, and `n_queriers`, those whose they are. What could not be measured is missing.

    Raises:
        InputError: The run was not tested, or not for cold start.

    >>> cold_start_table(runs / "querier-0")["items"].unique().tolist()
    ['0', '4', 'all']
    """
    found = read_run(Run(Path(run))).cold_start
    lines = [
        {"queriers": group, "items": items, "metric": name, "value": number.value, "low": number.low}
        | {"high": number.high, "n": number.n, "n_queriers": number.queriers}
        for group, curve in found.items()
        for items, point in curve.items()
        for name, number in point.items()
    ]
    if not lines:
        raise InputError(f"{run} holds no cold start; measure it with `querier test run={run} cold_start=true`")
    table: DataFrame = need("pandas").DataFrame(lines)
    return table.astype({"value": float, "low": float, "high": float})


def cold_start_figure(table: DataFrame, name: str, run: str, path: Path | None = None) -> Any:
    """A matplotlib figure of a table of `cold_start_table`: one metric against the number of items.

    Args:
        table: Of one run.
        name: The metric.
        run: Its id.
        path: Where the picture is written; the ending gives the format.

    Raises:
        InputError: Where the metric was not measured.

    >>> cold_start_figure(cold_start_table(runs / "querier-0"), "gain", "querier-0").axes[0].get_xlabel()
    'history items read, newest first'
    """
    shown = table[(table["metric"] == name) & table["value"].notna()]
    if not len(shown):
        raise InputError(f"no {name} was measured; there are {', '.join(sorted(set(table['metric'])))}")
    order = sorted(set(table["items"]), key=lambda items: (items == ALL, int(items) if items != ALL else 0))
    known = metric(name)
    figure = need("matplotlib.figure").Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    if known.chance is not None:
        axes.axhline(known.chance, color="black", linestyle=":", linewidth=1, label="chance")
    for number, (group, rows) in enumerate(shown.groupby("queriers", sort=True)):
        places = [order.index(items) + 0.06 * number for items in rows["items"]]
        ends = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
        counts = f"n = {number_range(rows['n'])} dialogues of {number_range(rows['n_queriers'])}"
        style = {"marker": "os"[number % 2], "color": COLOURS[number], "capsize": 3}
        axes.errorbar(places, rows["value"], yerr=ends, label=f"{group}: {counts} queriers", **style)
    axes.set_xticks(range(len(order)), order)
    axes.set_xlabel("history items read, newest first")
    axes.set_ylabel(f"{known.label} ({known.unit})" if known.unit else known.label)
    way = f" ({known.better} is better)" if known.better else ""
    figure.suptitle(plain(f"{known.label} by what is known{way}, run {run}"), fontsize=11)
    axes.legend(frameon=False, fontsize=8)
    return finished(figure, "bars: 95 % over queriers", path)
