"""Pictures of the space of queriers. Each has a title, axes, the number of queriers and the run that it shows.

Up to `EACH_POINT` queriers every one is a point; beyond that the picture shows how many lie where, and a seeded sample
of points, so that it can still be moved and pointed at.
"""

from __future__ import annotations

from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import escape

from querier.analysis.extra import need
from querier.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

# Told apart also by those who do not see red and green (Okabe and Ito), and in this order.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
REST = "#BBBBBB"  # of values beyond the colours
GREY, UNKNOWN = "#D9D9D9", "not known"  # of queriers without a value
SCALE = "viridis"  # of numbers
EACH_POINT = 20_000
DRAWN = 5000  # points of a larger map
CELLS = 60  # of a larger map, along each axis
METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def plotly_map(
    table: DataFrame,
    colour: str,
    run: str,
    title: str = "Queriers",
    note: str = "",
    marks: DataFrame | None = None,
) -> Any:
    """A plotly figure of a table of `space_table`: hover over a point to see who it is.

    Args:
        table: With `querier`, `x`, `y` and the label.
        colour: The label by which points are coloured; numbers get a scale, texts a colour each.
        run: Its id, shown in the title.
        title: What is shown.
        note: Numbers that belong to the picture, as `note_of` gives them.
        marks: Others to mark on it, with `querier`, `x`, `y`, as `landing` gives them.

    Raises:
        InputError: Where the table has no such label, or plotly is missing.

    >>> table = pd.DataFrame({"querier": ["Ann", "Bob"], "x": [0, 1], "y": [1, 0], "manner": ["warm", "terse"]})
    >>> plotly_map(table, "manner", "first").layout.title.text
    'Queriers by manner, n = 2, run first'
    """
    _check(table, colour)
    graph = need("plotly.graph_objects")
    figure = graph.Figure([*_density(graph, table), *_points(graph, table, colour)])
    if marks is not None:
        figure.add_trace(_stars(graph, marks))
    figure.update_layout(
        title=str(escape(_title(table, colour, run, title))),
        xaxis_title=_axis(table, "first"),
        yaxis_title=_axis(table, "second"),
        legend_title=str(escape(colour)),
        template="simple_white",
        margin={"b": 110 if note else 80},
    )
    if note:
        place = {"xref": "paper", "yref": "paper", "x": 0, "y": -0.22, "xanchor": "left"}
        figure.add_annotation(text=note, showarrow=False, font={"size": 11}, **place)
    return figure


def matplotlib_map(
    table: DataFrame,
    colour: str,
    run: str,
    title: str = "Queriers",
    path: Path | None = None,
    note: str = "",
    marks: DataFrame | None = None,
) -> Any:
    """A matplotlib figure of a table of `space_table`, written to a file on request.

    Args:
        table: With `querier`, `x`, `y` and the label.
        colour: The label by which points are coloured; numbers get a scale, texts a colour each.
        run: Its id, shown in the title.
        title: What is shown.
        path: Where the picture is written; the ending gives the format.
        note: Numbers that belong to the picture, as `note_of` gives them.
        marks: Others to mark on it, with `querier`, `x`, `y`, as `landing` gives them.

    Raises:
        InputError: Where the table has no such label, or matplotlib is missing.

    >>> table = pd.DataFrame({"querier": ["Ann", "Bob"], "x": [0, 1], "y": [1, 0], "manner": ["warm", "terse"]})
    >>> matplotlib_map(table, "manner", "first", path=tmp_path / "map.svg").get_suptitle()
    'Queriers by manner, n = 2, run first'
    """
    _check(table, colour)
    large, drawn = len(table) > EACH_POINT, _drawn(table)
    groups = _groups(table, colour, drawn)
    figure = need("matplotlib.figure").Figure(figsize=(11.0, 4.8) if large else (6.4, 4.8), layout="constrained")
    panels = figure.subplots(1, 2 if large else 1, squeeze=False, sharex=True, sharey=True)[0]
    axes = panels[-1]
    if large:
        cells = panels[0].hexbin(table["x"], table["y"], gridsize=CELLS, bins="log", mincnt=1, cmap=SCALE)
        figure.colorbar(cells, ax=panels[0], label="queriers in a cell")
    size = 4 if large else 24 if len(table) <= 500 else 10
    if groups:
        _scatter(axes, groups, size)
    if _is_number(table, colour):
        known = table[drawn & table[colour].notna().to_numpy()]
        dots = axes.scatter(known["x"], known["y"], s=size, c=known[colour].astype(float), cmap=SCALE)
        figure.colorbar(dots, ax=axes, label=plain(colour))
    if groups:
        beside = {} if _is_number(table, colour) else {"title": plain(colour), "bbox_to_anchor": (1.0, 0.5)}
        axes.legend(frameon=not beside, loc="center left" if beside else "best", **beside)
    if marks is not None:
        _mark(axes, marks)
    figure.suptitle(plain(_title(table, colour, run, title)), fontsize=11)
    for panel in panels:
        panel.set_xlabel(_axis(table, "first"))
    panels[0].set_ylabel(_axis(table, "second"))
    return finished(figure, note, path)


def trajectory_figure(table: DataFrame, run: str, path: Path | None = None, note: str = "") -> Any:
    """A matplotlib figure of a table of `trajectory`: how soon a querier is known.

    Args:
        table: With `querier`, `items` and `left`.
        run: Its id, shown in the title.
        path: Where the picture is written; the ending gives the format.
        note: Shown under it.

    >>> table = pd.DataFrame({"querier": ["Ann", "Ann"], "items": [0, 4], "left": [1.0, 0.0]})
    >>> trajectory_figure(table, "first").axes[0].get_xlabel()
    'dialogues read, oldest first'
    """
    figure = need("matplotlib.figure").Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for _, rows in table.groupby("querier", sort=True):
        axes.plot(rows["items"], rows["left"], color=COLOURS[0], alpha=0.35, linewidth=1)
    middle = table.groupby("items")["left"].agg(["median", "size"])
    middle = middle[middle["size"] >= max(1, middle["size"].max() // 2)]  # few have the longest histories
    axes.plot(middle.index, middle["median"], color=COLOURS[5], marker="o", linewidth=2, label="median querier")
    queriers = table["querier"].nunique()
    axes.set_title(plain(f"How soon a querier is known, n = {queriers:,}, run {run}"), fontsize=11)
    axes.set_xlabel("dialogues read, oldest first")
    axes.set_ylabel("distance left to the last vector (share)")
    axes.set_xscale("symlog", base=2, linthresh=1)
    ticks = [0, *(2**power for power in range(int(table["items"].max()).bit_length()))]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return finished(figure, note, path)


def note_of(found: DataFrame, label: str) -> str:
    """One line for under a map: how far it may be believed, and how much of the label is in the vectors.

    Args:
        found: As `user_space.numbers` gives it.
        label: One of its lines.

    Raises:
        InputError: Where it has no such line.

    >>> row = {"accuracy": 0.8, "low": 0.7, "high": 0.9, "permuted": 0.34, "permuted_high": 0.4, "chance": 0.333}
    >>> more = {"silhouette": 0.1, "trustworthiness": None, "n": 48}
    >>> note_of(pd.DataFrame([{**row, **more}], index=["manner"]), "manner")
    'probe .80 [.70, .90], shuffled .34 (at most .40), chance .33; silhouette .10; trustworthiness –; n = 48'
    """
    if label not in found.index:
        raise InputError(
            f"no numbers for {label!r}; there are some for {', '.join(map(str, found.index)) or 'nothing'}"
        )
    row = found.loc[label].to_dict()
    said = {name: short(row[name]) for name in row if name != "n"}
    return (
        f"probe {said['accuracy']} [{said['low']}, {said['high']}], shuffled {said['permuted']} "
        f"(at most {said['permuted_high']}), chance {said['chance']}; silhouette {said['silhouette']}; "
        f"trustworthiness {said['trustworthiness']}; n = {int(row['n']):,}"
    )


def short(value: float | None) -> str:
    """Two decimals without a leading zero; a dash for no number.

    >>> short(0.25), short(-0.5), short(None)
    ('.25', '−.50', '–')
    """
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:.2f}".replace("0.", ".", 1).replace("-", "−") if abs(value) < 1 else f"{value:.2f}"


def plain(text: object) -> str:
    """A text as matplotlib shows it letter by letter: a dollar starts no formula.

    Args:
        text: Such as the name of a querier.

    >>> len(plain("$5")), plain("5")
    (3, '5')
    """
    return str(text).replace("$", r"\$")


def finished(figure: Any, note: str = "", path: Path | None = None) -> Any:
    """The figure with a line under it, as a notebook can show it, written to a file on request.

    Notebooks show figures of pyplot alone, which keeps every figure in memory; so this one says how it is shown.

    Args:
        figure: Of matplotlib.
        note: The line; empty for none.
        path: Where it is written; the ending gives the format.

    >>> finished(trajectory_figure(pd.DataFrame({"querier": ["Ann"], "items": [0], "left": [1.0]}), "first"), "so").axes
    [<Axes: ...>]
    """
    if note:
        figure.supxlabel(plain(note), fontsize=8, color="0.3")
    figure._repr_png_ = partial(_png, figure)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return figure


def _png(figure: Any) -> bytes:
    content = BytesIO()
    figure.savefig(content, format="png", dpi=100)
    return content.getvalue()


def _safe(names: Any) -> list[str]:
    """Texts of which plotly would read some as HTML."""
    return [str(escape(name)) for name in names]


def _hover(colour: str) -> dict[str, Any]:
    said = f"{colour} %{{marker.color}}" if colour else "%{fullData.name}"
    return {"mode": "markers", "hovertemplate": f"%{{text}}<extra>{said}</extra>"}


def _groups(table: DataFrame, colour: str, drawn: Any) -> list[tuple[str, DataFrame, str]]:
    """Name with count, drawn rows and colour of each value; beyond the colours the rare ones are put together.

    Of numbers there is no group but that of the queriers without one. Counts are those of the whole table.
    """
    missing = table[colour].isna().to_numpy()
    groups: list[tuple[str, np.ndarray, str]] = []
    if not _is_number(table, colour):
        shown = table[colour].astype(str).to_numpy(dtype=object)
        counts = need("pandas").Series(shown[~missing]).value_counts()
        kept = list(counts.index[: len(COLOURS) - 1] if len(counts) > len(COLOURS) else counts.index)
        groups = [(name, ~missing & (shown == name), shade) for name, shade in zip(sorted(kept), COLOURS, strict=False)]
        if others := len(counts) - len(kept):
            groups.append((f"{others} others", ~missing & ~np.isin(shown, kept), REST))
    if missing.any():
        groups.append((UNKNOWN, missing, GREY))
    return [(f"{name} ({chosen.sum():,})", table[chosen & drawn], shade) for name, chosen, shade in groups]


def _scatter(axes: Any, groups: list[tuple[str, DataFrame, str]], size: float) -> None:
    """Points in an order by chance, so that no group lies over the others."""
    places = np.concatenate([rows[["x", "y"]].to_numpy(dtype=float) for _, rows, _ in groups])
    shades = np.repeat([shade for *_, shade in groups], [len(rows) for _, rows, _ in groups])
    order = np.random.default_rng(0).permutation(len(places))
    axes.scatter(places[order, 0], places[order, 1], s=size, c=shades[order])
    for name, _, shade in groups:
        axes.scatter([], [], s=24, color=shade, label=plain(name))


def _density(graph: Any, table: DataFrame) -> list[Any]:
    """Of a large map how many queriers lie where; else nothing."""
    if len(table) <= EACH_POINT:
        return []
    counts, across, along = _cells(table)
    named = {"name": "queriers in a cell", "colorbar": {"title": "queriers in a cell"}}
    return [graph.Heatmap(z=counts.T, x=_middle(across), y=_middle(along), colorscale="Greys", **named)]


def _points(graph: Any, table: DataFrame, colour: str) -> list[Any]:
    """Traces of plotly: one with a scale of numbers, or one for each value; and one of those without."""
    large, drawn = len(table) > EACH_POINT, _drawn(table)
    point = graph.Scattergl if large else graph.Scatter
    numbers = []
    if _is_number(table, colour):
        known = table[drawn & table[colour].notna().to_numpy()]
        bar = {"title": str(escape(colour)), "x": 1.15 if large else 1.0}
        marker = {"color": known[colour].astype(float), "colorscale": SCALE, "showscale": True, "size": 7}
        marker["colorbar"] = bar
        numbers = [point(x=known["x"], y=known["y"], text=_safe(known["querier"]), marker=marker, **_hover(colour))]
    return numbers + [
        point(
            x=rows["x"],
            y=rows["y"],
            text=_safe(rows["querier"]),
            name=str(escape(name)),
            marker={"color": shade, "size": 8},
            **_hover(""),
        )
        for name, rows, shade in _groups(table, colour, drawn)
    ]


def _stars(graph: Any, marks: DataFrame) -> Any:
    """A trace of plotly with stars and names."""
    star = {"symbol": "star", "size": 15, "color": "#000000", "line": {"color": "#FFFFFF", "width": 1}}
    words = {"textposition": "top center", "mode": "markers+text", "name": "marked"}
    return graph.Scatter(x=marks["x"], y=marks["y"], text=_safe(marks["querier"]), marker=star, **words)


def _mark(axes: Any, marks: DataFrame) -> None:
    """Stars with names."""
    axes.scatter(marks["x"], marks["y"], s=140, marker="*", color="black", edgecolors="white", zorder=3)
    for name, x, y in zip(marks["querier"], marks["x"], marks["y"], strict=True):
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
        axes.annotate(plain(name), (x, y), (6, 6), textcoords="offset points", fontsize=9, bbox=box)


def _drawn(table: DataFrame) -> np.ndarray:
    """Which queriers are drawn as points, (Q,) bool."""
    kept = np.full(len(table), len(table) <= EACH_POINT)
    if not kept.all():
        kept[np.random.default_rng(0).choice(len(table), size=DRAWN, replace=False)] = True
    return kept


def _cells(table: DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queriers of each cell (CELLS, CELLS), none as NaN, and the cells' edges."""
    counts, across, along = np.histogram2d(table["x"], table["y"], bins=CELLS)
    counts[counts == 0] = np.nan
    return counts, across, along


def _middle(edges: np.ndarray) -> np.ndarray:
    middle: np.ndarray = (edges[1:] + edges[:-1]) / 2
    return middle


def _is_number(table: DataFrame, colour: str) -> bool:
    """Whether a label is one of numbers, and anybody has one."""
    kind = table[colour].dtype
    return bool(getattr(kind, "kind", "O") in "iuf" and table[colour].notna().any())


def _title(table: DataFrame, colour: str, run: str, title: str) -> str:
    drawn = f" ({DRAWN:,} as points)" if len(table) > EACH_POINT else ""
    method = METHODS.get(table.attrs.get("map", ""))
    return f"{title} by {colour}, {f'{method}, ' if method else ''}n = {len(table):,}{drawn}, run {run}"


def _axis(table: DataFrame, place: str) -> str:
    """What an axis is; only those of a PCA are directions of the space."""
    method = METHODS.get(table.attrs.get("map", ""), "the map")
    return f"{place} {'principal component' if method == 'PCA' else f'axis of {method}'} (no unit)"


def _check(table: DataFrame, colour: str) -> None:
    if colour not in table.columns:
        labels = [name for name in table.columns if name not in ("querier", "x", "y")]
        raise InputError(f"the table has no label {colour!r}; it has {', '.join(map(repr, labels)) or 'none'}")
