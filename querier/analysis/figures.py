"""Pictures of the space of queriers. Each has a title, axes, the number of queriers and the run that it shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from querier.analysis.extra import need
from querier.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

# Told apart also by those who do not see red and green (Okabe and Ito), and in this order.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")


def plotly_map(table: DataFrame, colour: str, run: str, title: str = "Queriers") -> Any:
    """A plotly figure of a table of `space_table`: hover over a point to see who it is.

    Args:
        table: With `querier`, `x`, `y` and the label.
        colour: The label by which points are coloured.
        run: Its id, shown in the title.
        title: What is shown.

    Raises:
        InputError: Where the table has no such label, or plotly is missing.
    """
    _check(table, colour)
    graph = need("plotly.graph_objects")
    figure = graph.Figure()
    for number, (value, rows) in enumerate(table.groupby(colour, sort=True)):
        figure.add_trace(
            graph.Scatter(
                x=rows["x"],
                y=rows["y"],
                text=rows["querier"],
                name=f"{value} ({len(rows)})",
                mode="markers",
                marker={"color": COLOURS[number % len(COLOURS)], "size": 8},
                hovertemplate="%{text}<extra>%{fullData.name}</extra>",
            )
        )
    figure.update_layout(
        title=_title(table, colour, run, title),
        xaxis_title="first direction of the map",
        yaxis_title="second direction of the map",
        legend_title=colour,
        template="simple_white",
    )
    return figure


def matplotlib_map(table: DataFrame, colour: str, run: str, title: str = "Queriers", path: Path | None = None) -> Any:
    """A matplotlib figure of a table of `space_table`, written to a file on request.

    Args:
        table: With `querier`, `x`, `y` and the label.
        colour: The label by which points are coloured.
        run: Its id, shown in the title.
        title: What is shown.
        path: Where the picture is written; the ending gives the format.

    Raises:
        InputError: Where the table has no such label, or matplotlib is missing.
    """
    _check(table, colour)
    figure = need("matplotlib.figure").Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    for number, (value, rows) in enumerate(table.groupby(colour, sort=True)):
        axes.scatter(rows["x"], rows["y"], s=24, color=COLOURS[number % len(COLOURS)], label=f"{value} ({len(rows)})")
    axes.set_title(_title(table, colour, run, title))
    axes.set_xlabel("first direction of the map")
    axes.set_ylabel("second direction of the map")
    axes.legend(title=colour, frameon=False)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return figure


def _title(table: DataFrame, colour: str, run: str, title: str) -> str:
    return f"{title} by {colour}, n = {len(table)}, run {run}"


def _check(table: DataFrame, colour: str) -> None:
    if colour not in table.columns:
        labels = [name for name in table.columns if name not in ("querier", "x", "y")]
        raise InputError(f"the table has no label {colour!r}; it has {', '.join(map(repr, labels)) or 'none'}")
