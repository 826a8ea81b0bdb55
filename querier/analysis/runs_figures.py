"""Pictures of many runs: parallel coordinates, the effect of each setting, quality against cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from querier.analysis.extra import need
from querier.analysis.figures import COLOURS, REST, SCALE, finished, plain
from querier.analysis.report.metrics import HIGHER, LOWER, metric
from querier.analysis.runs import direction, effects, pareto
from querier.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame


def parallel_coordinates(table: DataFrame, column: str, settings: Sequence[str] | None = None) -> Any:
    """A plotly figure with an axis for each setting and one for a number; drag along an axis to select runs.

    Args:
        table: As `load_runs` gives it.
        column: The number, which also colours the lines.
        settings: Axes; None for all that differ.

    Raises:
        InputError: A column that is not there, or no run with the number.

    >>> figure = parallel_coordinates(load_runs(runs), "rouge_l")
    >>> [axis.label for axis in figure.data[0].dimensions]
    ['method', 'seed', 'ROUGE-L']
    """
    graph = need("plotly.graph_objects")
    axes = list(table.attrs.get("settings", ()) if settings is None else settings)
    absent = [name for name in [*axes, column] if name not in table.columns]
    if absent:
        raise InputError(f"these runs have no column {', '.join(absent)}; they have {', '.join(table.columns)}")
    shown = table[table[column].notna()]
    if not len(shown):
        raise InputError(f"no run has {column}; `querier test` measures it")
    dimensions = [_axis(shown, name) for name in axes]
    dimensions.append({"label": _label(column), "values": shown[column]})
    line = {"color": shown[column], "colorscale": SCALE, "showscale": True, "colorbar": {"title": _label(column)}}
    figure = graph.Figure(graph.Parcoords(dimensions=dimensions, line=line))
    figure.update_layout(title=f"{_label(column)} of n = {len(shown)} runs{_better(column)}", margin={"t": 110})
    return figure


def effects_figure(
    table: DataFrame, column: str, settings: Sequence[str] | None = None, path: Path | None = None
) -> Any:
    """A matplotlib figure of `effects`: the difference that each value makes, with its interval over seeds.

    Args:
        table: As `load_runs` gives it.
        column: The number that changes.
        settings: As in `effects`.
        path: Where the picture is written; the ending gives the format.

    Raises:
        InputError: As `effects`; or no two runs differ in one setting alone.

    >>> effects_figure(load_runs(runs), "rouge_l").axes[0].get_xlabel()
    'difference in ROUGE-L to the reference (score, 0 to 1)'
    """
    found = effects(table, column, settings)
    found = found[found["difference"].notna()].reset_index(drop=True)
    if not len(found):
        raise InputError(f"no two runs with {column} differ in one setting alone; train such pairs, or read the table")
    figure = need("matplotlib.figure").Figure(figsize=(7.2, 1.6 + 0.4 * len(found)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=REST, linewidth=1)
    for place, line in found.iterrows():
        whole = line["low"] == line["low"]
        if whole:
            axes.plot([line["low"], line["high"]], [place, place], color=COLOURS[0], linewidth=2)
        axes.plot(line["difference"], place, "o", color=COLOURS[0], fillstyle="full" if whole else "none")
    names = [
        f"{line['setting']} = {line['value']}\nnot {line['reference']}; {line['pairs']} pairs, {line['seeds']} seeds"
        for _, line in found.iterrows()
    ]
    axes.set_yticks(range(len(found)), [plain(name) for name in names], fontsize=8)
    axes.set_ylim(len(found) - 0.5, -0.5)
    unit = metric(column.removeprefix("val/")).unit
    axes.set_xlabel(f"difference in {_label(column)} to the reference{f' ({unit})' if unit else ''}")
    way = {LOWER: " (left is better)", HIGHER: " (right is better)"}.get(direction(column), "")
    figure.suptitle(f"What each setting changes{way}, n = {len(table)} runs", fontsize=11)
    note = "bars: 95 % over seeds; an empty ring: one seed, no interval"
    if found["along"].any():
        note += "; with what comes along, as the table of effects says"
    return finished(figure, note, path)


def pareto_figure(
    table: DataFrame,
    quality: str,
    cost: str,
    names: str = "run",
    path: Path | None = None,
    log: bool = False,
    smaller_is_better: bool | None = None,
) -> Any:
    """A matplotlib figure of `pareto`: quality against cost; runs that nobody beats are joined and named.

    Args:
        table: As `load_runs` or `over_seeds` gives it.
        quality: A metric.
        cost: Such as `seconds`, `tokens` or `steps`.
        names: Column by which points are named.
        path: Where the picture is written; the ending gives the format.
        log: Whether the cost stands on a logarithmic axis.
        smaller_is_better: Of the metric; None for what is known about it.

    Raises:
        InputError: As `pareto`.

    >>> table = load_runs(runs).assign(seconds=[1, 2, 3, 4, 5, 6])
    >>> pareto_figure(table, "rouge_l", "seconds").axes[0].get_xlabel()
    'seconds'
    """
    found = pareto(table, quality, cost, smaller_is_better)
    if names not in found.columns:
        raise InputError(f"these runs have no column {names}; name one of {', '.join(found.columns)}")
    figure = need("matplotlib.figure").Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    front, rest = found[found["on_front"]], found[~found["on_front"]]
    axes.scatter(rest["cost"], rest["quality"], color=REST, edgecolors="black", linewidths=0.5, label="beaten")
    axes.plot(front["cost"], front["quality"], "o-", color=COLOURS[0], label="nobody is better and cheaper")
    for name, x, y in zip(front[names], front["cost"], front["quality"], strict=True):
        axes.annotate(plain(name), (x, y), (6, -4), textcoords="offset points", fontsize=8, va="top")
    if log:
        axes.set_xscale("log")
    axes.margins(x=0.2, y=0.15)
    axes.set_xlabel(cost.replace("_", " of ", 1) if cost.startswith("seconds_") else cost)
    axes.set_ylabel(f"{_label(quality)}{_better(quality, smaller_is_better)}")
    axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{_label(quality)} against {cost}, n = {len(found)} runs", fontsize=11)
    return finished(figure, path=path)


def _axis(table: DataFrame, name: str) -> dict[str, Any]:
    """An axis of numbers, or of texts in alphabetical order."""
    values = table[name]
    if values.dtype.kind in "iuf" and values.notna().all():
        return {"label": name, "values": values}
    texts = values.astype(str)
    kinds = sorted(set(texts))
    places = [kinds.index(text) for text in texts]
    return {"label": name, "values": places, "tickvals": list(range(len(kinds))), "ticktext": kinds}


def _better(column: str, smaller_is_better: bool | None = None) -> str:
    """Which way is better, in brackets; empty where that is not known."""
    way = direction(column) if smaller_is_better is None else LOWER if smaller_is_better else HIGHER
    return f" ({way} is better)" if way else ""


def _label(column: str) -> str:
    bare = column.removeprefix("val/")
    return f"{metric(bare).label}, validation" if bare != column else metric(bare).label
