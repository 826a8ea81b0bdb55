"""Run folders: names by content, never two runs in one folder, nothing replaced unasked."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from querier.choices import Profile
from querier.config import Config, DataConfig, EvaluationConfig, OptimConfig, PromptConfig, TrainerConfig
from querier.errors import InputError
from querier.run import FINISHED, Run, check_name, find_run, open_run, place_run, run_digest

HOLD = """
import sys
from pathlib import Path
from querier.run import Run
with Run(Path(sys.argv[1])).held():
    print("held", flush=True)
    sys.stdin.read()
"""


def config(tmp_path: Path, **changes: object) -> Config:
    return replace(Config(output=str(tmp_path)), **changes)  # type: ignore[arg-type]  # fields of Config


def test_the_name_is_the_method_and_a_digest(tmp_path: Path) -> None:
    run = open_run(config(tmp_path, method="ft"), "data")
    assert run.folder.name == f"ft-{run_digest(Config(method='ft'), 'data')}"
    assert run.config() == config(tmp_path, method="ft")
    assert {"torch", "lightning"} <= set(run.card()["versions"])


def test_the_digest_follows_what_training_depends_on_and_nothing_else() -> None:
    same = [
        Config(output="elsewhere"),
        Config(name="x"),
        Config(evaluation=EvaluationConfig(draws=2)),
        Config(data=DataConfig(path="moved.jsonl")),
        Config(trainer=TrainerConfig(enable_progress_bar=False)),
    ]
    other = [Config(seed=1), Config(optim=OptimConfig(lr=1e-2)), Config(trainer=TrainerConfig(max_epochs=9))]
    assert {run_digest(one, "d") for one in same} == {run_digest(Config(), "d")}
    assert len({run_digest(one, "d") for one in [*other, Config()]} | {run_digest(Config(), "e")}) == 5


def test_descriptions_count_by_what_they_say_not_by_where_they_lie(tmp_path: Path) -> None:
    def digest(name: str, text: str) -> str:
        file = tmp_path / name
        file.write_text(text)
        return run_digest(Config(prompt=PromptConfig(profile=Profile.querier, profiles=str(file))), "d")

    first = digest("a.json", '{"Ann": "brief"}')
    assert digest("b.json", '{"Ann": "brief"}') == first
    assert digest("a.json", '{"Ann": "kind"}') != first


def test_an_unfinished_run_goes_on_and_a_finished_one_is_refused(tmp_path: Path) -> None:
    first = open_run(config(tmp_path), "d")
    begun = first.card()["begun"]
    assert open_run(config(tmp_path), "d").card()["begun"] == begun
    first.write(status=FINISHED)
    with pytest.raises(InputError, match="overwrite=true"):
        open_run(config(tmp_path), "d")
    (first.folder / "old").write_text("x")
    again = open_run(config(tmp_path, overwrite=True), "d")
    assert not (again.folder / "old").exists()


def test_a_place_is_found_without_touching_it(tmp_path: Path) -> None:
    assert not place_run(config(tmp_path), "d").folder.exists()
    run = open_run(config(tmp_path), "d")
    run.write(status=FINISHED)
    assert place_run(config(tmp_path, overwrite=True), "d") == run
    assert run.finished
    with pytest.raises(InputError, match="overwrite=true"):
        place_run(config(tmp_path), "d")


def test_each_split_has_its_own_results() -> None:
    run = Run(Path("run"))
    assert (run.results.name, run.examples.name) == ("results.json", "examples.jsonl")
    assert run.results_of("validation").name == "results_validation.json"
    assert run.examples_of("validation").name == "examples_validation.jsonl"


def test_a_name_belongs_to_one_run(tmp_path: Path) -> None:
    open_run(config(tmp_path, name="mine"), "d")
    with pytest.raises(InputError, match="holds another run"):
        open_run(config(tmp_path, name="mine", seed=1), "d")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/tmp/x", ".", "a/.."])
def test_a_name_that_leads_out_of_the_output_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"must be a folder inside `output`.*output=\.\./elsewhere name=first"):
        place_run(config(tmp_path / "runs", name=name), "d")


@pytest.mark.parametrize("name", ["first", "monday/first", "..first", "Dörte"])
def test_a_name_may_be_a_folder_in_a_folder(tmp_path: Path, name: str) -> None:
    assert check_name(name) == name
    assert place_run(config(tmp_path, name=name), "d").folder == tmp_path / name


def test_overwrite_never_removes_a_folder_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("x")
    with pytest.raises(InputError, match="nothing was removed"):
        open_run(config(tmp_path, name="photos", overwrite=True), "d")
    assert (tmp_path / "photos" / "one.jpg").exists()


def test_a_run_is_found_by_name_by_folder_and_as_the_newest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished run"):
        find_run("", str(tmp_path))
    run = open_run(config(tmp_path, name="a"), "d")
    with pytest.raises(InputError, match="no finished run"):
        find_run("", str(tmp_path))
    run.write(status=FINISHED)
    assert find_run("", str(tmp_path)) == find_run("a", str(tmp_path)) == find_run(str(run.folder), "nowhere")
    with pytest.raises(InputError, match=r"no run 'b'.*there: a"):
        find_run("b", str(tmp_path))
    for name, ended in (("new", "2026-02-01T00:00:00"), ("old", "2026-01-01T00:00:00")):
        open_run(config(tmp_path, name=name), "d").write(status=FINISHED, ended=ended)
    assert find_run("", str(tmp_path)).folder.name == "new"  # whenever something was last noted on the other's card


def test_the_cache_of_a_run_is_known_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = open_run(config(tmp_path, name="a", cache="outputs/cache"), "d")
    assert Run(tmp_path / "none").cache is None
    monkeypatch.chdir("/")
    assert run.cache == tmp_path / "outputs" / "cache"
    run.write(prepared=str(tmp_path / "first" / "prepared" / "0123"))
    assert run.cache == tmp_path / "first"
    (tmp_path / "moved" / "outputs" / "cache").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "moved")
    assert run.cache == Path("outputs/cache")  # of the settings, where the first place is gone


def test_a_run_is_held_by_one_process_until_that_ends(tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "a")
    words = [sys.executable, "-c", HOLD, str(run.folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process"), run.held():
            pass
        with Run(tmp_path / "runs" / "b").held():
            pass
        other.kill()
    with run.held():
        assert not run.folder.exists()  # to hold it makes no run


def test_what_goes_wrong_while_a_run_is_held_is_not_taken_for_another_process(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), Run(tmp_path / "a").held():
        raise BlockingIOError


def test_an_unreadable_card_is_said(tmp_path: Path) -> None:
    run = open_run(config(tmp_path, name="a"), "d")
    (run.folder / "run.json").write_text("{")
    with pytest.raises(InputError, match="not readable JSON"):
        run.card()


def test_an_unwritable_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError):
        open_run(Config(output=str(tmp_path / "file")), "d")


def test_the_card_is_json_without_surprises(tmp_path: Path) -> None:
    run = open_run(config(tmp_path, name="a"), "d")
    card = json.loads((run.folder / "run.json").read_text())
    assert card["status"] == "running"
    assert card["config"]["data"]["split"] == "time"
