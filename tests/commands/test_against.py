"""`querier test run=a against=b`: paired differences, and a judge behind a real endpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llm_server import Behaviour, fails, says, serving
from tiny_log import FAST

from querier.cli import main
from querier.data.requests import Request
from querier.module import QuerierModule

WORDS = ["evaluation.generate=6", "evaluation.bootstrap=100", "evaluation.max_new_tokens=4"]


@pytest.fixture(scope="module")
def two(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained folder with a second run, `plain`, trained without a look at the querier."""
    folder = tmp_path_factory.mktemp("two") / "work"
    shutil.copytree(trained, folder)
    for path in folder.glob("outputs/*/run.json"):
        path.write_text(path.read_text().replace(str(trained), str(folder)))
    settings = [f"data.path={folder / 'log.jsonl'}", f"output={folder / 'outputs'}", f"cache={folder / 'cache'}"]
    assert main(["fit", *settings, "name=plain", "method=ft", *FAST, "trainer.max_epochs=1"]) == 0
    return folder


@pytest.fixture
def place(two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of both runs to work in; their prepared corpus is shared and only read."""
    folder = tmp_path / "work"
    shutil.copytree(two / "outputs", folder / "outputs")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(QuerierModule, "generate", written)
    return folder


def written(module: QuerierModule, requests: Sequence[Request], *given: Any, **named: Any) -> list[str]:
    """As long as the history that is read asks for: so short a training writes nothing worth a comparison."""
    return [f"ok{'!' * int(1000 * np.abs(one.history.inputs).sum() % 7)}" for one in requests]


def against(*words: str) -> int:
    return main(["test", "run=run", "against=plain", *WORDS, *words])


def found(place: Path, name: str = "against_plain.json") -> dict[str, Any]:
    read: dict[str, Any] = json.loads((place / "outputs" / "run" / name).read_text())
    return read


def examples(place: Path, run: str) -> dict[str, dict[str, Any]]:
    lines = (place / "outputs" / run / "examples.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_differences_are_those_of_the_examples(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert against() == 0
    read = found(place)
    a, b = examples(place, "run"), examples(place, "plain")
    assert set(a) == set(b)
    tokens = {name: row["tokens"] for name, row in a.items()}
    by_hand = np.average(
        [a[name]["scores"]["nll_per_token"] - b[name]["scores"]["nll_per_token"] for name in a],
        weights=[tokens[name] for name in a],
    )
    value = read["differences"]["nll_per_token"]
    assert value["value"] == pytest.approx(by_hand)
    assert value["low"] <= value["value"] <= value["high"]
    assert 0 <= value["p"] <= 1
    assert value["mde"] > 0
    assert (value["n"], value["n_failed"]) == (len(a), 0)
    known = read["values"]["nll_per_token"]
    assert known["a"] - known["b"] == pytest.approx(by_hand)
    assert "judge" not in read
    shown = capsys.readouterr().out
    assert "a = run, b = plain" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "nll_per_token" in shown


def test_what_failed_on_one_side_is_in_neither_column(place: Path) -> None:
    assert against() == 0
    path = place / "outputs" / "run" / "examples.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["scores"]["nll_per_token"] = None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert against() == 0
    read = found(place)
    for name in ("nll_per_token", "gain"):
        assert read["differences"][name]["n_failed"] == 1
        known = read["values"][name]
        assert known["a"] - known["b"] == pytest.approx(read["differences"][name]["value"])
    b = examples(place, "plain")
    weights = [b[row["id"]]["tokens"] for row in rows[1:]]
    rest = np.average([b[row["id"]]["scores"]["nll_per_token"] for row in rows[1:]], weights=weights)
    assert read["values"]["nll_per_token"]["b"] == pytest.approx(rest)


def test_what_is_tested_is_not_tested_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert against() == 0
    first = found(place)
    monkeypatch.setattr("querier.commands.test.run_test", lambda *given, **named: pytest.fail("tested again"))
    assert against() == 0
    assert found(place) == first


def test_unequal_lengths_are_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert against() == 0
    assert "decoder.max_length" not in capsys.readouterr().err
    card = place / "outputs" / "plain" / "run.json"
    read = json.loads(card.read_text())
    length = read["config"]["decoder"]["max_length"]
    read["config"]["decoder"]["max_length"] = 2 * length
    card.write_text(json.dumps(read))
    assert against() == 0
    assert f"run reads up to {length} tokens and plain up to {2 * length}" in capsys.readouterr().err


def test_swaps_of_other_pairs_are_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert against() == 0
    card = place / "outputs" / "plain" / "run.json"
    read = json.loads(card.read_text())
    read["config"]["towers"]["neighbours"] = 3  # no swap reads them
    card.write_text(json.dumps(read))
    assert against() == 0
    assert "may be of other pairs" not in capsys.readouterr().err
    read["config"]["clusters"]["n_clusters"] = "7"
    card.write_text(json.dumps(read))
    assert against() == 0
    assert "run and plain differ in their clusters or contrast users" in capsys.readouterr().err


def test_other_settings_and_other_data_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "run=plain", *WORDS, "evaluation.limit=20"]) == 0
    assert against() == 2
    assert "evaluation.limit=20; add that here" in capsys.readouterr().err
    assert not (place / "outputs" / "run" / "against_plain.json").exists()
    assert against("evaluation.limit=20", "evaluation.bootstrap=200") == 0  # draws change no dialogue's scores
    card = place / "outputs" / "plain" / "run.json"
    whole = card.read_text()
    card.write_text(json.dumps({**json.loads(whole), "data_digest": "other"}))
    assert against() == 2
    assert "different data or splits" in capsys.readouterr().err
    card.write_text(json.dumps({**json.loads(whole), "status": "running"}))
    assert against() == 2
    assert "plain is not finished" in capsys.readouterr().err
    assert main(["test", "run=run", "against=outputs/run"]) == 2
    assert "are the same run" in capsys.readouterr().err
    assert main(["test", "run=run", "judge=true"]) == 2
    assert "against=" in capsys.readouterr().err
    assert against("judge=true") == 2
    assert "no LLM is named" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["cold_start=true", "dependence=true", "bertscore=minilm"])
def test_what_is_measured_on_one_run_alone_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "run=run", "against=plain", word]) == 2
    assert f"run `querier test run=... {word}` without against" in capsys.readouterr().err


# the judge


def part(prompt: str, tag: str) -> str:
    return prompt.partition(f"<{tag}>\n")[2].partition(f"\n</{tag}>")[0]


def prefers_longer(prompt: str, before: int) -> Behaviour:
    a, b = (part(prompt, tag) for tag in ("reply_a", "reply_b"))
    return says(
        "Verdict: tie" if len(a.encode()) == len(b.encode()) else f"Verdict: {'AB'[len(a.encode()) < len(b.encode())]}"
    )


def judged(url: str, *words: str) -> int:
    return against("judge=true", f"llm.base_url={url}", "llm.model=tiny", "llm.backoff=0.01", "llm.retries=1", *words)


def test_the_judge_sees_both_runs_replies(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    with serving(prefers_longer) as served:
        assert judged(served.url) == 0
        calls = len(served.bodies)
        assert judged(served.url) == 0
        assert len(served.bodies) == calls  # all kept
    a, b = examples(place, "run"), examples(place, "plain")
    both = [(a[name]["reply"], b[name]["reply"]) for name in a if a[name]["reply"] is not None]
    assert len({len(reply) for reply, _ in both}) > 1
    wins = [0.5 if len(x) == len(y) else float(len(x) > len(y)) for x, y in ((x.encode(), y.encode()) for x, y in both)]
    read = found(place)["judge"]
    rate = read["arms"]["runs"]["win_rate"]
    assert rate["value"] == pytest.approx(np.mean(wins))
    assert (rate["n"], rate["n_failed"]) == (len(both), 0)
    assert read["model"] == "tiny"
    assert {"own_over_swapped", "own_over_swapped_unknown"} < set(read["arms"])
    swapped = read["arms"]["own_over_swapped"]
    assert swapped["n"] + sum(read["excluded"].values()) == len(both)
    lines = [json.loads(line) for line in (place / "outputs/run/judged_plain.jsonl").read_text().splitlines()]
    assert len(lines) == len(both) + 2 * swapped["n"]
    shown = capsys.readouterr()
    assert "win rate" in shown.out
    assert "a over b" in shown.out
    assert f"judge: {calls} calls" in shown.err
    assert "are sent to 127.0.0.1" in shown.err
    assert all("<history>" in prompt or "Nothing is known" in prompt for prompt in served.prompts)
    assert against() == 0
    assert found(place)["judge"] == read  # it was not asked again, nor forgotten


def test_the_sample_is_as_large_as_asked(place: Path) -> None:
    pytest.importorskip("openai")
    with serving(lambda prompt, before: says("Verdict: A")) as served:
        assert judged(served.url, "judge_limit=2") == 0
    rate = found(place)["judge"]["arms"]["runs"]
    assert (rate["n"], rate["win_rate"]["value"]) == (2, 0.5)
    assert len(served.bodies) <= 2 * 3 * 2


def test_failures_are_counted_and_end_with_an_error(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    with serving(lambda prompt, before: fails(400, "no such model")) as served:
        assert judged(served.url) == 2
        assert "no such model" in capsys.readouterr().err
        arm = found(place)["judge"]["arms"]["runs"]
        assert arm["n_unanswered"] == arm["n_failed"] > 0
        assert arm["win_rate"]["value"] in (None, 0.5)  # equal replies need no judge
        assert judged(served.url, "allow_failed=true") == 0
        served.decide = prefers_longer
        assert judged(served.url) == 0
    assert found(place)["judge"]["arms"]["runs"]["n_failed"] == 0


def test_who_is_forgotten_leaves_the_judged_lines(place: Path) -> None:
    pytest.importorskip("openai")
    with serving(prefers_longer) as served:
        assert judged(served.url) == 0
    path = place / "outputs/run/judged_plain.jsonl"
    name = json.loads(path.read_text().splitlines()[0])["querier"]
    card = place / "outputs" / "run" / "run.json"
    cache = Path(json.loads(card.read_text())["config"]["cache"])
    for one in (place / "outputs").glob("*/run.json"):
        one.write_text(one.read_text().replace(str(cache), str(place / "cache")))
    shutil.copytree(cache, place / "cache")
    assert main(["forget", f"querier={name}", "run=run"]) == 0
    assert name not in path.read_text()
