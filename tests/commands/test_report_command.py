"""`querier report`: where the page lies, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_runs import write_comparison, write_run

from querier.cli import main
from querier.commands.report import default_path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "outputs" / "a")
    write_run(tmp_path / "outputs" / "b", 0.5)
    write_comparison(tmp_path / "outputs" / "compare" / "small")
    return tmp_path


def test_a_tested_run_becomes_a_page(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluation.generate=4", "evaluation.bootstrap=100", "evaluation.max_new_tokens=3", "cold_start=true"]
    assert main(["report", "runs=[run]"]) == 2
    assert "`querier test run=outputs/run` first" in capsys.readouterr().err
    assert main(["test", "run=run", *words]) == 0
    assert main(["report", "runs=[run]"]) == 0
    page = (work / "outputs" / "report_run.html").read_text(encoding="utf-8")
    found = json.loads((work / "outputs" / "run" / "results.json").read_text())
    assert f"{found['metrics']['nll_per_byte']['value']:.4f}" in page
    assert "NLL per token, seen queriers" in page
    assert "val/nll_per_byte" in page
    assert str(work) not in page
    assert "it holds texts of queriers" in capsys.readouterr().err
    assert main(["report", "runs=[run]", "maps=true", "into=maps.html"]) == 0
    assert 'src="data:image/svg+xml;base64,' in Path("maps.html").read_text(encoding="utf-8")
    assert main(["forget", "run=run", "querier=querier 1"]) == 0
    assert "not searched: outputs/report_run.html" in capsys.readouterr().err


def test_the_page_is_named_after_the_runs_or_as_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "runs=[a,b]"]) == 0
    assert (folder / "outputs" / "report_a_b.html").is_file()
    assert "report_a_b.html" in capsys.readouterr().err
    assert (
        main(["report", "runs=[outputs/a,compare/small]", "into=pages/mine.html", "title=What Ann's run, a, says"]) == 0
    )
    page = (folder / "pages" / "mine.html").read_text(encoding="utf-8")
    assert "<h1>What Ann&#39;s run, a, says</h1>" in page
    assert "Differences to the baseline" in page
    assert "bread" in page
    assert main(["report", "runs=[a]", "into=bare.html", "examples=0"]) == 0
    assert "bread" not in (folder / "bare.html").read_text(encoding="utf-8")
    assert "texts of queriers" not in capsys.readouterr().err.splitlines()[-1]


def test_default_names_stay_short_and_inside_the_folder() -> None:
    assert default_path("outputs", ["a"]) == Path("outputs/report_a.html")
    assert default_path("outputs", ["sweep/a", "b c"]) == Path("outputs/report_sweep_a_b_c.html")
    many = default_path("outputs", [f"querier-{number:08d}" for number in range(40)]).name
    assert many.endswith("_more.html")
    assert len(many) < 140
    assert len(default_path("outputs", ["a" * 300]).name) < 140


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs=[nothing]"], "no run 'nothing'"),
        (["runs=a"], "runs must be a list, e.g. 'runs=[a,b]'"),
        (["runs=[a,a]"], "named twice"),
        (["runs=[a]", "into=page.txt"], "into=page.txt must end in .html"),
        (["runs=[a]", "examples=-1"], "examples must be >= 0"),
        (["runs=[a]", "into=outputs/a/run.json/page.html"], "cannot be written"),
        (["run=a"], "did you mean `runs`"),
    ],
)
def test_what_cannot_be_done_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *words]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


def test_maps_need_a_run_that_has_vectors_of_queriers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = json.loads((folder / "outputs" / "a" / "run.json").read_text())
    card["config"] = {"method": "ft", "conditioning": {"kind": "none"}}
    (folder / "outputs" / "a" / "run.json").write_text(json.dumps(card))
    assert main(["report", "runs=[a]", "maps=true"]) == 2
    assert "maps=true draws queriers of runs of method querier, and none is among the runs" in capsys.readouterr().err
    assert main(["report", "runs=[a]", "labels=teams.jsonl"]) == 2
    assert "labels=teams.jsonl colours maps, and there are none; add maps=true" in capsys.readouterr().err
    assert not (folder / "outputs" / "report_a.html").exists()
