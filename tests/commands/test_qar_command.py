"""QAR from the command line: it trains, is tested by names alone, probes no towers that are not there, and answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_log import FAST, write_log

from querier.cli import main
from querier.responder import Responder


@pytest.mark.slow
@pytest.mark.parametrize("faithful", ["false", "true"])
def test_it_goes_the_whole_way(faithful: str, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl")
    settings = [f"data.path={log}", f"output={tmp_path / 'outputs'}", f"cache={tmp_path / 'cache'}", "name=run"]
    words = ["method=qar", f"conditioning.faithful={faithful}", "clusters.n_clusters=2", "optim.lr=0.01"]
    assert main(["fit", *settings, *FAST, *words]) == 0
    run = tmp_path / "outputs" / "run"
    assert main(["test", f"run={run}", "evaluation.generate=2", "evaluation.limit=24", "dependence=true"]) == 0
    found = json.loads((run / "results.json").read_text())
    metrics = {name: value["value"] for name, value in found["metrics"].items()}
    assert found["n_failed"] == 0
    assert metrics["nll_empty"] == metrics["nll_per_token"]  # no history is read
    assert metrics["nll_swapped"] != metrics["nll_swapped_own"]  # a name is
    asked = tmp_path / "queries.jsonl"
    asked.write_text(json.dumps({"query": "How do tides work?", "querier": "querier 1"}) + "\n")
    assert main(["predict", f"run={run}", f"input={asked}", f"into={tmp_path / 'replies.jsonl'}"]) == 0
    assert (tmp_path / "replies.jsonl").read_text()
    words = ["query=How do tides work?", "queriers=[querier 1,querier 2]", "max_new_tokens=2"]
    assert main(["ask", f"run={run}", *words]) == 0
    responder = Responder.load(run)
    responder.save_pretrained(tmp_path / "model")
    again = Responder.from_pretrained(tmp_path / "model")
    pair = [one.respond("How do bees work?", "querier 3", history=[]) for one in (responder, again)]
    assert pair[0] == pair[1]


def test_a_single_querier_has_nobody_to_be_told_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "log.jsonl", queriers=1)
    words = [f"data.path={log}", f"output={tmp_path / 'out'}", f"cache={tmp_path / 'cache'}", "method=qar", *FAST]
    assert main(["fit", *words]) == 2
    assert "comparing queriers (qar.weight) takes two or more" in capsys.readouterr().err
