"""Descriptions that a text LLM behind a real endpoint writes, from `fit` to `predict`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from llm_server import Behaviour, fails, says, serving
from tiny_log import FAST, write_log

from querier.cli import main


def describes(prompt: str, before: int) -> Behaviour:
    return says("slow and courteous")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "log.jsonl")
    return ["data.path=log.jsonl", "name=run", "method=rpg", "prompt.distil=llm", *FAST]


def test_the_run_asks_the_llm_that_it_names(settings: list[str], tmp_path: Path) -> None:
    with serving(describes) as served:
        endpoint = [f"llm.base_url={served.url}", "llm.model=some"]
        assert main(["fit", *settings, *endpoint]) == 0
        assert len(served.bodies) == 1  # one responder, described once
        assert "work slowly" in served.prompts[0]
        assert main(["test", "run=run", "evaluation.bootstrap=100", "evaluation.generate=2"]) == 0
        assert len(served.bodies) == 1  # kept
    model = json.loads((tmp_path / "outputs" / "run" / "model" / "parts.json").read_text())
    assert model["config"]["llm"]["base_url"] == ""  # an address is the machine's, not the model's


def test_an_llm_that_is_not_named_or_does_not_answer_is_said(
    settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *settings]) == 2
    assert "no LLM is named; give llm.base_url" in capsys.readouterr().err
    with serving(lambda prompt, before: fails(500)) as served:
        endpoint = [f"llm.base_url={served.url}", "llm.model=some", "llm.retries=0"]
        assert main(["fit", *settings, *endpoint]) == 2
    assert "gave no description" in capsys.readouterr().err


def test_differences_take_a_call_an_answer_and_what_fails_is_recorded_and_asked_again(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = json.dumps({"writing": ["terse"], "emotion": [], "semantics": ["ships"]})
    behaviour = [says(lists)]
    short = ["test", "run=run", "evaluation.bootstrap=100", "evaluation.generate=2", "evaluation.swaps=[]"]
    examples = tmp_path / "outputs" / "run" / "examples.jsonl"
    with serving(lambda prompt, before: behaviour[0]) as served:
        endpoint = [f"llm.base_url={served.url}", "llm.model=some", "llm.retries=0"]
        assert main(["fit", *settings, *endpoint, "method=dpl"]) == 0
        asked = len(served.bodies)
        assert 0 < asked <= 11  # the validation dialogues
        behaviour[0] = says(None, refusal="I cannot judge people")
        assert main(short) == 2
        assert "could not be scored or answered" in capsys.readouterr().err
        records = [json.loads(line) for line in examples.read_text().splitlines()]
        refused = [record for record in records if record["error"]]
        assert refused
        assert all("refused: I cannot judge people" in record["error"] for record in refused)
        assert all(record["scores"]["nll_per_token"] is None for record in refused)
        assert main([*short, "allow_failed=true"]) == 0
        behaviour[0] = says(lists)
        before = len(served.bodies)
        assert main(short) == 0
        assert 0 < len(served.bodies) - before <= len(records)
        asked = len(served.bodies)
        assert main(short) == 0
        assert len(served.bodies) == asked  # all of it is kept
