from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter

from querier import extra
from querier.analysis.extra import need
from querier.analysis.figures import DRAWN, EACH_POINT, GREY, matplotlib_map, note_of, plotly_map
from querier.analysis.maps import space_table
from querier.errors import InputError


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {"querier": ["a", "b", "c"], "x": [0, 1, 2], "y": [2, 1, 0], "manner": ["warm", "terse", "warm"]}
    )


def test_plotly_says_what_it_shows(table: pd.DataFrame) -> None:
    figure = plotly_map(table, "manner", "run7")
    assert figure.layout.title.text == "Queriers by manner, n = 3, run run7"
    assert figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text
    assert [trace.name for trace in figure.data] == ["terse (1)", "warm (2)"]
    assert list(figure.data[1].text) == ["a", "c"]


def test_matplotlib_says_what_it_shows(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "figures" / "map.png"
    figure = matplotlib_map(table, "manner", "run7", path=path)
    axes = figure.axes[0]
    assert figure.get_suptitle() == "Queriers by manner, n = 3, run run7"
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["terse (1)", "warm (2)"]
    assert path.read_bytes()[:4] == b"\x89PNG"
    shown, _ = DisplayFormatter().format(figure, include={"image/png"})  # as a notebook asks for it
    assert shown["image/png"][:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("method", "title", "axis"),
    [("pca", "PCA", "first principal component (no unit)"), ("tsne", "t-SNE", "first axis of t-SNE (no unit)")],
)
def test_a_map_says_how_it_was_made(generator: np.random.Generator, method: str, title: str, axis: str) -> None:
    table = space_table(list("abcdef"), generator.normal(size=(6, 4)), {"kind": list("xyxyxy")}, method)
    drawn, shown = matplotlib_map(table, "kind", "run7"), plotly_map(table, "kind", "run7")
    assert drawn.get_suptitle() == shown.layout.title.text == f"Queriers by kind, {title}, n = 6, run run7"
    assert drawn.axes[0].get_xlabel() == shown.layout.xaxis.title.text == axis
    assert drawn.axes[0].get_ylabel() == axis.replace("first", "second")


def test_an_unknown_label_is_refused(table: pd.DataFrame) -> None:
    for figure in (plotly_map, matplotlib_map):
        with pytest.raises(InputError, match="it has 'manner'"):
            figure(table, "length", "run7")


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(extra, "import_module", missing)
    with pytest.raises(InputError, match=r"plotly is not installed.*pip install 'querier\[analysis\]'"):
        need("plotly.graph_objects")


@pytest.fixture
def large(generator: np.random.Generator) -> pd.DataFrame:
    count = EACH_POINT + 1
    names = [f"q{number}" for number in range(count)]
    places = generator.normal(size=(2, count))
    return pd.DataFrame({"querier": names, "x": places[0], "y": places[1], "kind": ["a", "b", "b"] * (count // 3)})


def test_a_large_map_stays_usable_and_still_says_how_many(large: pd.DataFrame) -> None:
    figure = plotly_map(large, "kind", "run7")
    cells, *points = figure.data
    assert np.nansum(np.array(cells.z, dtype=float)) == len(large)
    assert sum(len(trace.x) for trace in points) == DRAWN
    assert len(figure.to_json()) < 1_000_000
    assert figure.layout.title.text == f"Queriers by kind, n = 20,001 ({DRAWN:,} as points), run run7"
    assert "20,001" in matplotlib_map(large, "kind", "run7").get_suptitle()


def test_many_values_leave_no_two_of_one_colour(table: pd.DataFrame) -> None:
    many = pd.concat([table.assign(manner=str(number)) for number in range(12)])
    figure = plotly_map(many, "manner", "run7")
    shades = [trace.marker.color for trace in figure.data]
    assert len(shades) == len(set(shades)) == 8
    assert figure.data[-1].name == "5 others (15)"


def test_numbers_get_a_scale_with_its_name(table: pd.DataFrame) -> None:
    counted = table.assign(items=[3, 5, 9])
    (trace,) = plotly_map(counted, "items", "run7").data
    assert list(trace.marker.color) == [3, 5, 9]
    assert trace.marker.colorbar.title.text == "items"
    assert matplotlib_map(counted, "items", "run7").axes[1].get_ylabel() == "items"


def test_who_has_no_number_is_drawn_in_grey_and_counted(table: pd.DataFrame) -> None:
    counted = table.assign(items=[3.0, np.nan, 9.0])
    known, unknown = plotly_map(counted, "items", "run7").data
    assert (list(known.marker.color), list(known.text)) == ([3, 9], ["a", "c"])
    assert (unknown.name, unknown.marker.color, list(unknown.text)) == ("not known (1)", GREY, ["b"])
    axes = matplotlib_map(counted, "items", "run7").axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["not known (1)"]
    assert sorted(len(dots.get_offsets()) for dots in axes.collections) == [0, 1, 2]  # and none for the legend
    nobody = plotly_map(table.assign(items=np.nan), "items", "run7").data
    assert [trace.name for trace in nobody] == ["not known (3)"]
    assert matplotlib_map(table.assign(items=np.nan), "items", "run7").axes[0].get_legend()


def test_a_legend_counts_all_and_not_the_points_that_are_drawn(large: pd.DataFrame) -> None:
    some = large.assign(kind=large["kind"].where(large.index >= 30), items=large.index.where(large.index >= 30))
    wanted = ["a (6,657)", "b (13,314)", "not known (30)"]
    assert [trace.name for trace in plotly_map(some, "kind", "run7").data[1:]] == wanted
    legend = matplotlib_map(some, "kind", "run7").axes[1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == wanted
    assert plotly_map(some, "items", "run7").data[-1].name == "not known (30)"


def test_those_who_landed_are_named_and_the_numbers_stand_below(table: pd.DataFrame) -> None:
    marks = pd.DataFrame({"querier": ["Eve"], "x": [0.5], "y": [0.5]})
    figure = matplotlib_map(table, "manner", "run7", note="probe .80", marks=marks)
    assert [text.get_text() for text in figure.axes[0].texts] == ["Eve"]
    assert figure.get_supxlabel() == "probe .80"
    shown = plotly_map(table, "manner", "run7", note="probe .80", marks=marks)
    assert shown.data[-1].text == ("Eve",)
    assert shown.layout.annotations[0].text == "probe .80"


def test_numbers_that_are_not_there_are_not_made_up() -> None:
    with pytest.raises(InputError, match="no numbers for 'length'; there are some for manner"):
        note_of(pd.DataFrame([{"accuracy": 1.0}], index=["manner"]), "length")


def test_names_are_texts_and_neither_formulas_nor_html(table: pd.DataFrame, tmp_path: Path) -> None:
    odd = table.assign(querier=["$x", "<b>", "$\\frac$"], manner=["$a$ $", "<i>", "<i>"])
    path = tmp_path / "odd.svg"
    matplotlib_map(odd, "manner", "$run$", path=path, marks=odd)
    shown = plotly_map(odd, "manner", "<run>", marks=odd)
    assert not any(tag in shown.to_json() for tag in ("<b>", "<i>", "<run>"))
