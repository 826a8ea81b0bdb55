"""The notebook in seconds, on a made-up run; a slow test executes all notebooks on a real one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pytest

from querier.data.sample import read_traits, sample_folder

PATH = Path(__file__).parents[3] / "notebooks" / "01_user_space.ipynb"
CODE = [cell for cell in nbformat.read(PATH, as_version=4).cells if cell.cell_type == "code"]


def test_it_is_valid_stripped_and_opens_with_its_question() -> None:
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.cells[0].cell_type == "markdown"
    assert "?" in notebook.cells[0].source.splitlines()[0]
    for cell in CODE:
        assert len(cell.source.splitlines()) <= 10
        assert (cell.outputs, cell.execution_count) == ([], None)


class FakeResponder:
    """Vectors that hold the manner and nothing else."""

    def __init__(self) -> None:
        self.traits = read_traits(sample_folder() / "traits.jsonl")
        names = sorted(self.traits)[:60]
        self.prepared = SimpleNamespace(corpus=SimpleNamespace(queriers=names, unseen=np.arange(60) >= 30))

    @classmethod
    def load(cls, run: Any) -> FakeResponder:
        return cls()

    def embed_queriers(self, names: list[str]) -> np.ndarray:
        manners = ["warm", "neutral", "terse"]
        index = [manners.index(self.traits[name].manner) for name in names]
        return 5 * np.eye(8)[index] + np.random.default_rng(0).normal(size=(len(names), 8))


def test_every_cell_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = ModuleType("querier.responder")
    fake.Responder = FakeResponder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "querier.responder", fake)
    monkeypatch.setenv("QUERIER_RUN", str(tmp_path / "run7"))
    # A rare trait would have too few of the sixty for a probe.
    space: dict[str, Any] = {}
    for cell in CODE:
        exec(compile(cell.source.replace("in TRAITS}", "in ('manner', 'expertise')}"), str(PATH), "exec"), space)
    assert len(list((tmp_path / "run7" / "figures").glob("user_space_*_run7.png"))) == 3
    assert "Traits(" in capsys.readouterr().out
    assert space["trust"]["tsne"] > 0.6
