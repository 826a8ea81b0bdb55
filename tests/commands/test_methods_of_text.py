"""Methods whose prompts show more than the dialogue go the whole way: train where they train, test, answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_log import FAST, write_log

from querier.cli import main

FITS = ["decoder.max_length=256", "prompt.name_querier=false", "evaluation.limit=24"]


def scores_of(folder: Path, method: str, *words: str) -> dict[str, float]:
    """The metrics of a method on the tiny log, by name."""
    log = folder / "log.jsonl"
    if not log.exists():
        write_log(log)
    settings = [f"data.path={log}", f"output={folder / 'outputs'}", f"cache={folder / 'cache'}", f"name={method}"]
    assert main(["fit", *settings, *FAST, *FITS, f"method={method}", *words]) == 0
    run = folder / "outputs" / method
    assert main(["test", f"run={run}", "evaluation.generate=2", "evaluation.bootstrap=100", "evaluation.limit=24"]) == 0
    found = json.loads((run / "results.json").read_text())
    assert found["n_failed"] == 0
    past = folder / "past.jsonl"
    past.write_text(json.dumps({"query": "How do maps work?", "reply": "Maps work slowly, my friend."}) + "\n")
    assert main(["ask", f"run={run}", "query=How do tides work?", f"history={past}", "max_new_tokens=2"]) == 0
    return {name: value["value"] for name, value in found["metrics"].items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Found .* in eval mode")  # a frozen decoder is meant to be
@pytest.mark.parametrize("method", ["rag", "qcg", "dep", "dpl"])
def test_what_is_read_of_the_history_is_swapped_with_it(method: str, tmp_path: Path) -> None:
    found = scores_of(tmp_path, method)
    assert found["nll_swapped"] != found["nll_swapped_own"]
    assert found["nll_empty"] != found["nll_per_token"]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "words"), [("few_shot", ()), ("few_shot", ("prompt.by=bm25",)), ("rpg", ())])
def test_what_reads_nothing_of_the_querier_is_the_same_for_all(
    method: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    found = scores_of(tmp_path, method, *words)
    assert found["nll_swapped"] == found["nll_swapped_own"]
    assert found["nll_empty"] == found["nll_per_token"]
    assert found["swap_accuracy_random"] == found["swap_accuracy_cluster"] == 0.5


@pytest.mark.slow
def test_a_run_finds_its_descriptions_and_a_saved_model_names_no_file(tmp_path: Path) -> None:
    path = tmp_path / "written.json"
    path.write_text(json.dumps({f"querier {number}": f"likes {number}" for number in range(9)}))
    found = scores_of(tmp_path, "qcg", f"prompt.profiles={path}")
    assert found["nll_swapped"] != found["nll_swapped_own"]
    assert "written.json" not in (tmp_path / "outputs" / "qcg" / "model" / "parts.json").read_text()
