"""`querier compare`: trains what is missing, tests all, leaves one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_log import FAST, write_log

from querier.cli import main
from querier.commands.compare import permuted_controls, say_controls, say_without_stars, table_configs
from querier.commands.compose import compose
from querier.evaluation.comparison import Comparison, Difference
from querier.evaluation.statistics import Value


def words(folder: Path) -> list[str]:
    log = folder / "log.jsonl"
    if not log.exists():
        write_log(log)
    return [f"data.path={log}", f"output={folder / 'outputs'}", f"cache={folder / 'cache'}", *FAST]


@pytest.mark.slow
def test_a_table_of_methods_seeds_and_an_ablation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["methods=[zero_shot,ft,querier,querier+no_gate]", "seeds=[0,1]", "name=small", *words(tmp_path)]
    assert main(["compare", *given]) == 0
    logged = capsys.readouterr().err
    for line in ("responder", "split: ", "clusters of queries", "base: 1 epochs, "):
        assert sum(line in one for one in logged.splitlines()) == 1, line  # of seven runs
    folder = tmp_path / "outputs" / "compare" / "small"
    found = json.loads((folder / "results.json").read_text())
    assert found["baseline"] == "ft"
    assert found["seeds"] == [0, 1]
    assert list(found["methods"]) == ["zero_shot", "ft", "querier", "querier+no_gate"]
    assert [len(found["runs"][name]) for name in found["methods"]] == [1, 2, 2, 2]
    assert len({*found["runs"]["querier"], *found["runs"]["querier+no_gate"]}) == 4
    value = found["methods"]["querier"]["nll_per_byte"]
    assert value["low"] <= value["value"] <= value["high"]
    assert value["n_failed"] == 0
    difference = found["differences"]["querier"]["nll_per_byte"]
    assert difference["value"] == pytest.approx(
        value["value"] - found["methods"]["ft"]["nll_per_byte"]["value"], abs=1e-9
    )
    assert len(difference["by_seed"]) == 2
    assert str(tmp_path) not in json.dumps(found)
    examples = [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]
    assert len(examples) == 7 * value["n"]
    assert {"method", "seed", "query", "querier", "gold", "reply", "scores", "error"} <= set(examples[0])
    capsys.readouterr()
    # The same command again trains and scores nothing, and comes to the same numbers.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").glob("*/*.json")}
    assert main(["compare", *given]) == 0
    assert json.loads((folder / "results.json").read_text()) == found
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "querier+no_gate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["methods=[ft,querrier]"], "querrier"),
        (["methods=[ft,querier+no_such]"], "no_such"),
        (["methods=[]"], "methods must name one or more"),
        (["seeds=[0,0]"], "seeds must name one or more, each once"),
        (["methods=[ft]", "baseline=qar"], "baseline=qar is not among"),
    ],
)
def test_a_wrong_table_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    assert main(["compare", *words(tmp_path), *given]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_what_is_personal_and_a_control_that_leaks_are_said(caplog: pytest.LogCaptureFixture) -> None:
    control, half = "querier+permuted_control", Value(0.5, 0.4, 0.6, 9)
    left = {"gain": Difference(Value(0.00125, 0.00025, 0.00225, 9, p=0.01), [0.00125])}
    values = {"querier": {"gain": half}, control: {"swap_accuracy_cluster": half, "swap_accuracy_random": half}}
    caplog.set_level("INFO")
    say_controls(Comparison("querier", values, {}, {control: ("querier", left)}, [control]))
    assert (
        "querier less querier+permuted_control, which is what is personal: gain 0.0013 [0.0003, 0.0022]" in caplog.text
    )
    assert "all the same" not in caplog.text
    values[control]["swap_accuracy_random"] = Value(0.7, 0.6, 0.8, 9)
    say_controls(Comparison("querier", values, {}, permuted=[control]))
    assert "querier+permuted_control reads other queriers' histories and tells queriers apart" in caplog.text


@pytest.mark.parametrize(
    ("name", "others", "controlled"),
    [
        ("querier+permuted_control", ["querier", "querier+name_blind"], "querier+name_blind"),
        ("querier+permuted_control+prefix", ["querier", "querier+prefix"], "querier+prefix"),
        (
            "querier+prefix+permuted_control",
            ["querier+name_blind", "querier+name_blind+prefix"],
            "querier+name_blind+prefix",
        ),
        (
            "rag+permuted_control",
            ["querier", "ft+permuted_control"],
            None,
        ),
    ],
)
def test_a_control_stands_beside_the_row_that_differs_in_whose_history_it_reads(
    name: str, others: list[str], controlled: str | None
) -> None:
    options = compose("compare", [f"methods=[{','.join([name, *others])}]"])
    rows = {label: each[0] for label, each in table_configs(options, []).items()}
    assert permuted_controls(rows) == {name: controlled}


def test_too_few_draws_for_a_star_are_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    value, seeds = Value(0.1, 0.05, 0.2, 9, p=0.01), [0.1, 0.1, 0.1]
    found = {name: Difference(value, seeds) for name in ("rouge_l", "chrf", "chrf_seen")}
    comparison = Comparison("ft", {}, {"querier": found})
    say_without_stars(comparison, 99)
    assert not caplog.text
    say_without_stars(comparison, 19)
    assert "of 2 tests with evaluation.bootstrap=19 draws p by Holm is 0.10 at least" in caplog.text


def test_too_few_seeds_for_a_star_are_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    value = Value(0.1, 0.05, 0.2, 9, p=0.01)
    say_without_stars(Comparison("ft", {}, {"querier": {"rouge_l": Difference(value, [0.1, 0.1])}}), 99)
    assert "no difference can have a star: it takes 3 runs of a row that is trained, one a seed" in caplog.text


def test_dependence_of_what_is_generated_is_compared_in_pairs(tmp_path: Path) -> None:
    """Runs that were tested without it are tested again, and once alone."""
    shared = ["methods=[zero_shot,few_shot]", "seeds=[0]", "name=told", "evaluation.generate=8"]
    given = ["compare", *shared, "evaluation.max_new_tokens=4", *words(tmp_path)]
    assert main(given) == 0
    path = tmp_path / "outputs" / "compare" / "told" / "results.json"
    assert "diversity" not in json.loads(path.read_text())["methods"]["few_shot"]
    assert main([*given, "dependence=true"]) == 0
    found = json.loads(path.read_text())
    difference = found["differences"]["few_shot"]
    assert {"diversity", "retrieval_first", "retrieval_auc"} <= set(difference)
    values = [found["methods"][name]["diversity"]["value"] for name in ("few_shot", "zero_shot")]
    assert difference["diversity"]["value"] == pytest.approx(values[0] - values[1], abs=1e-9)
    assert difference["diversity"]["p"] is not None
    assert "p" not in difference["retrieval_auc_gold"]  # of true replies, the same for both
    runs = [next((tmp_path / "outputs").glob(f"{name}-*/results.json")) for name in ("few_shot", "zero_shot")]
    before = [(one, one.stat().st_mtime_ns) for one in runs]
    assert json.loads(runs[0].read_text())["parts"] == {"dependence": True}
    assert found["cut"]["few_shot"] == [json.loads(runs[0].read_text())["cut"]]
    assert found["cut"]["few_shot"][0]["prompts"] > 0
    assert main([*given, "dependence=true"]) == 0
    assert [(one, one.stat().st_mtime_ns) for one in runs] == before


def test_each_question_has_a_folder_and_what_older_code_tested_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["compare", "methods=[zero_shot,rpg]", "seeds=[0]", "evaluation.generate=0", *words(tmp_path)]
    for question in (["baseline=zero_shot"], ["baseline=rpg"], ["baseline=rpg", "evaluation.bootstrap=300"]):
        assert main([*given, *question]) == 0
    paths = list((tmp_path / "outputs" / "compare").glob("*/results.json"))
    found = [json.loads(path.read_text()) for path in paths]
    assert sorted(one["baseline"] for one in found) == ["rpg", "rpg", "zero_shot"]
    assert "states of the code" not in capsys.readouterr().err
    (one,) = (tmp_path / "outputs").glob("rpg-*/results.json")
    read = json.loads(one.read_text())
    read["origin"]["git"] = "0123abc"
    one.write_text(json.dumps(read))
    assert main([*given, "name=again"]) == 0
    said = capsys.readouterr().err
    assert "tested by different states of the code" in said
    assert f"0123abc: rpg ({one.parent.name})" in said
    again = json.loads((tmp_path / "outputs" / "compare" / "again" / "results.json").read_text())
    assert again["tested"]["rpg"][0].endswith("0123abc")
    for fewer, lost in (("methods=[rpg]", "`zero_shot`"), ("seeds=[1]", "seed 0")):
        assert main([*given, "name=again", fewer]) == 2
        assert f"holds a comparison with {lost}, which this one would replace" in capsys.readouterr().err
    assert again["tested"]["zero_shot"] == found[0]["tested"]["zero_shot"] != again["tested"]["rpg"]


def test_a_table_shows_what_failed_and_ends_with_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["compare", "methods=[zero_shot]", "seeds=[0]", "name=failed", "evaluation.generate=0", *words(tmp_path)]
    assert main(given) == 0
    (path,) = (tmp_path / "outputs").glob("zero_shot-*/examples.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:2]:
        row["scores"] = dict.fromkeys(row["scores"])
        row["error"] = "the reply could not be scored"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    capsys.readouterr()
    assert main(given) == 2
    shown = capsys.readouterr()
    assert "(2 failed)" in shown.out
    assert f"2 of {len(rows)} dialogues of {path.parent.name} could not be scored or answered" in shown.err
    found = json.loads((tmp_path / "outputs" / "compare" / "failed" / "results.json").read_text())
    assert found["methods"]["zero_shot"]["nll_per_byte"]["n_failed"] == 2
    assert main([*given, "allow_failed=true"]) == 0
