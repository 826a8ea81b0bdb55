"""The notebooks in seconds, on a model that was never trained; a slow test executes them on a run."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import nbformat
import pytest
from made_runs import cold_start, write_run
from planted import WordEncoder, prepared_corpus, small_config, small_module

from querier.config import DataConfig
from querier.data.readers import read
from querier.data.sample import sample_folder
from querier.responder import Responder

FOLDER = Path(__file__).parents[3] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
ON_A_RUN = [path for path in NOTEBOOKS if path.stem[:2] in ("00", "01", "02", "03", "05")]
QUERIERS, UNSEEN = 60, 24


def code(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_is_one_for_each_question() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["00", "01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_valid_stripped_opens_with_its_question_and_holds_no_logic(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.cells[0].cell_type == "markdown"
    assert "?" in notebook.cells[0].source.splitlines()[0]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 10
            assert (cell.outputs, cell.execution_count) == ([], None)
            kinds = (ast.FunctionDef, ast.ClassDef, ast.While, ast.Try)
            assert not [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, kinds)]


@pytest.fixture(scope="module")
def responder(tmp_path_factory: pytest.TempPathFactory) -> Responder:
    """Over the first queriers of the bundled corpus, who have traits."""
    folder = tmp_path_factory.mktemp("sample")
    everything = read(DataConfig(path=str(sample_folder() / "dialogues.jsonl"))).dialogues
    names = sorted({one.querier for one in everything})[:QUERIERS]
    dialogues = [one for one in everything if one.querier in set(names)]
    prepared = prepared_corpus(dialogues, config := small_config(folder, data={"unseen": names[-UNSEEN:]}), folder)
    return Responder(small_module(prepared, config), WordEncoder(), prepared.clusters, prepared)


@pytest.mark.parametrize("path", ON_A_RUN, ids=lambda path: path.stem)
def test_every_cell_runs(
    path: Path,
    responder: Responder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Responder, "load", lambda run: responder)
    run = write_run(tmp_path / "run7", cold_start=cold_start(0.25))
    monkeypatch.setenv("QUERIER_RUN", str(run))
    space: dict[str, Any] = {}
    for source in code(path):
        # A rare trait would have too few of so few queriers for a probe.
        exec(
            compile(source.replace("for trait in TRAITS}", "for trait in ('manner', 'expertise')}"), str(path), "exec"),
            space,
        )
    figures = [one.name for one in (run / "figures").glob("*.png")] if (run / "figures").is_dir() else []
    assert all(name.endswith("_run7.png") for name in figures)
    assert bool(figures) == (path.stem[:2] != "00")
