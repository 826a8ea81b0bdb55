from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from querier import extra
from querier.analysis.extra import need
from querier.analysis.figures import matplotlib_map, plotly_map
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
    axes = matplotlib_map(table, "manner", "run7", path=path).axes[0]
    assert axes.get_title() == "Queriers by manner, n = 3, run run7"
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["terse (1)", "warm (2)"]
    assert path.read_bytes()[:4] == b"\x89PNG"


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
