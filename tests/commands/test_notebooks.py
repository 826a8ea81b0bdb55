"""Every notebook runs from its first cell to its last on a real, tiny run of the bundled corpus."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from made_runs import write_run
from nbclient import NotebookClient

from querier.cli import main

FOLDER = Path(__file__).parents[2] / "notebooks"
SECONDS = 600
TINY = ["data=sample", "experiment=tiny", "trainer.enable_progress_bar=false", "method=querier"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and tested run, shared by all of them."""
    folder = tmp_path_factory.mktemp("notebooks")
    places = [f"output={folder / 'outputs'}", f"cache={folder / 'cache'}"]
    assert main(["fit", *TINY, *places, "name=tiny"]) == 0
    made = folder / "outputs" / "tiny"
    judged = ["cold_start=true", "evaluation.limit=24", "evaluation.generate=2", "evaluation.draws=1"]
    assert main(["test", f"run={made}", *judged]) == 0
    return made


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a sweep leaves, with numbers made up by hand."""
    folder = tmp_path_factory.mktemp("sweep")
    for seed in range(3):
        for method, rouge in (("ft", 0.25), ("querier", 0.5)):
            write_run(folder / f"{method}-{seed}", rouge + seed / 64, config={"method": method, "seed": seed})
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_it_runs(path: Path, run: Path, sweep: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    places = {"QUERIER_RUN": run, "QUERIER_RUNS": sweep, "QUERIER_CACHE": run.parents[1] / "cache"}
    for name, place in places.items():
        monkeypatch.setenv(name, str(place))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    kinds = {kind for cell in code for output in cell.outputs for kind in output.get("data", {})}
    assert "text/html" in kinds
    assert ("image/png" in kinds) == (path.stem[:2] != "00")
