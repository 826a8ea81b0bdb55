"""`querier test`: results with counts and settings, examples, and nothing hidden."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_log import WAYS

from querier.cli import main
from querier.commands.test import other_settings, refuse_failed_curves
from querier.config import EvaluationConfig
from querier.errors import InputError
from querier.evaluation.evaluate import settings_of
from querier.evaluation.results import Result
from querier.evaluation.statistics import Value
from querier.models.decoder import Decoder
from querier.run import Run
from querier.types import Rendered, Tokens


def test_results_name_the_model_and_the_settings(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["test", "run=run", "evaluation.generate=4", "evaluation.bootstrap=100", "evaluation.max_new_tokens=3"])
        == 0
    )
    found = json.loads((work / "outputs" / "run" / "results.json").read_text())
    assert found["n"] > 0
    assert found["n_generated"] == 4
    assert found["n_failed"] == 0
    assert found["settings"]["max_new_tokens"] == 3
    assert len(found["model"]) == 16
    assert {"nll_per_byte", "swap_accuracy_cluster"} <= set(found["metrics"])
    assert "nll_per_byte" in capsys.readouterr().out
    lines = (work / "outputs" / "run" / "examples.jsonl").read_text().splitlines()
    assert len(lines) == found["n"]
    assert "query" not in json.dumps(found["metrics"])


def test_what_is_not_said_is_as_the_run_was_configured_and_a_replacement_is_told(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = json.loads((work / "outputs" / "run" / "run.json").read_text())
    own = card["config"]["evaluation"]
    assert main(["test", "run=run", "evaluation.limit=9"]) == 0
    shown = capsys.readouterr()
    legend = "swap_accuracy_cluster: Swap accuracy, same cluster (share, 0 to 1; higher is better; chance 0.5)"
    assert legend in " ".join(shown.out.split())
    settings = json.loads((work / "outputs" / "run" / "results.json").read_text())["settings"]
    assert settings["limit"] == 9
    assert (settings["generate"], settings["max_new_tokens"]) == (own["generate"], own["max_new_tokens"])
    assert main(["test", "run=run", "++evaluation.limit=8", "evaluation.generate=0"]) == 0
    assert "which was taken with evaluation.limit=9 evaluation.generate=4" in capsys.readouterr().err


def test_settings_of_the_evaluation_are_given_one_by_one(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "run=run", "evaluation={limit:9}"]) == 2
    assert "one by one: evaluation.limit=" in capsys.readouterr().err


def test_results_do_not_outlive_what_they_vouch_for(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that ends between the examples and the results leaves no older results that would pass for theirs."""
    found = work / "outputs" / "run"
    few = ["test", "run=run", "evaluation.generate=0", "evaluation.bootstrap=100"]
    assert main([*few, "evaluation.limit=9"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("querier.commands.test.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main([*few, "evaluation.limit=4"]) == 130
    assert len((found / "examples.jsonl").read_text().splitlines()) == 4
    assert not (found / "results.json").exists()


def test_what_is_cut_is_said_and_curves_are_not_lost_silently(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = work / "outputs" / "run" / "model" / "parts.json"
    read = json.loads(parts.read_text())
    read["config"]["decoder"]["max_length"] = 16
    parts.write_text(json.dumps(read))
    few = ["test", "run=run", "evaluation.limit=6", "evaluation.generate=0", "evaluation.bootstrap=100"]
    assert main([*few, "cold_start=true", "dependence=true"]) == 0
    shown = capsys.readouterr().err
    found = json.loads((work / "outputs" / "run" / "results.json").read_text())
    assert found["cut"]["prompts"] + found["cut"]["replies"] > 0
    prompts, replies = found["cut"]["prompts"], found["cut"]["replies"]
    assert f"{prompts} prompts and {replies} replies were longer than decoder.max_length" in shown
    assert main(few) == 0
    assert "which was taken with cold_start=true dependence=true" in capsys.readouterr().err
    assert main(few) == 0
    assert "which was taken with" not in capsys.readouterr().err


def test_a_failure_on_a_curve_ends_with_an_error(work: Path) -> None:
    good, bad = Value(1.0, None, None, 3), Value(1.0, None, None, 3, n_failed=2)
    result = Result({"rouge_l": good}, {}, {}, {}, {"seen": {"4": {"gain": good, "swap": good}}})
    run = Run(work / "outputs" / "run")
    refuse_failed_curves(run, result)
    broken = replace(result, cold_start={"seen": {"4": {"gain": bad, "swap": good}}})
    with pytest.raises(InputError, match=r"cold_start\.seen\.4 \(2\)"):
        refuse_failed_curves(run, broken)


def test_validation_has_its_own_files_and_batches_are_as_large_as_asked(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = Decoder.score_tokens

    def counted(self: Decoder, rendered: Sequence[Rendered]) -> Tokens:
        sizes.append(len(rendered))
        return original(self, rendered)

    monkeypatch.setattr(Decoder, "score_tokens", counted)
    words = ["evaluation.split=validation", "evaluation.generate=0", "evaluation.bootstrap=100"]
    assert main(["test", "run=run", *words, "evaluation.batch_size=3"]) == 0
    assert max(sizes) == 3
    run = work / "outputs" / "run"
    assert json.loads((run / "results_validation.json").read_text())["settings"]["split"] == "validation"
    assert (run / "examples_validation.jsonl").is_file()
    assert not (run / "results.json").exists()


def test_replies_that_are_labels_are_judged_as_such_and_unreadable_ones_end_with_an_error(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = work / "outputs" / "run"
    card = json.loads((run / "run.json").read_text())
    card["config"]["data"] |= {"task": "ways", "tasks": {"ways": {"query": "{q}", "reply": "{r}", "labels": [*WAYS]}}}
    (run / "run.json").write_text(json.dumps(card))
    words = ["test", "run=run", "evaluation.generate=4", "evaluation.bootstrap=100", "evaluation.max_new_tokens=3"]
    assert main(words) == 2
    assert "4 of" in capsys.readouterr().err  # three tokens are too few to name one
    assert main([*words, "allow_failed=true"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "accuracy (4 of 4 failed)" in shown
    assert "f1: F1, mean over labels (score, 0 to 1; higher is better)" in shown
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    assert (metrics["f1"]["value"], metrics["f1"]["n_failed"]) == (None, 4)
    lines = [json.loads(line) for line in (run / "examples.jsonl").read_text().splitlines()]
    failed = [line for line in lines if line["error"]]
    assert {line["error"] for line in failed} == {"the reply could not be read for accuracy, f1"}
    assert all(line["labels"]["true"] in WAYS and line["labels"]["said"] == {} for line in failed)


def test_an_unknown_run_is_said(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "run=nothing"]) == 2
    assert "no run 'nothing'" in capsys.readouterr().err


def test_results_from_before_a_setting_were_taken_with_its_default() -> None:
    taken = settings_of(EvaluationConfig())
    del taken["repetition_penalty"]
    assert other_settings(taken, EvaluationConfig()) == ""
    assert other_settings(taken, EvaluationConfig(repetition_penalty=1.2)) == "evaluation.repetition_penalty=1.0"
