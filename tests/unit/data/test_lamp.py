"""LaMP's files become dialogues and histories: nobody reads the answer to another question."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from querier.choices import OnError, SplitBy
from querier.commands.compose import compose
from querier.config import DataConfig
from querier.data.history import Histories, check_no_leak
from querier.data.readers import read
from querier.data.records import Corpus
from querier.data.splits import split
from querier.errors import InputError
from querier.types import Dialogue, Split

ENTRIES: dict[str, dict[str, Any]] = {  # an entry of each task, and the output of a question
    "LaMP_1": {"title": "On bees", "abstract": "They fly.", "output": "[2]"},
    "LaMP_2N": {"title": "Rates rise", "text": "Banks say so.", "category": "politics", "output": "business"},
    "LaMP_2M": {"description": "A ship is lost.", "tag": "sci-fi", "output": "dystopia"},
    "LaMP_3": {"text": "Fine strings.", "score": "4", "output": "5"},
    "LaMP_4": {"text": "Banks say so.", "title": "Rates rise", "output": "Rates fall"},
    "LaMP_5": {"title": "On bees", "abstract": "They fly.", "output": "On wasps"},
    "LaMP_7": {"text": "good morning all", "output": "morning, everyone"},
}


def entry(task: str, number: int, **more: Any) -> dict[str, Any]:
    own = {name: value for name, value in ENTRIES[task].items() if name != "output"}
    first = next(iter(own))
    return {"id": str(number), **own, first: f"{own[first]} {number}", **more}


def question(identity: int, profile: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"id": str(identity), "input": f"Asked {identity}?", "profile": profile, **more}


def write(folder: Path, part: str, questions: list[dict[str, Any]], task: str = "LaMP_3", **golds: Any) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"{part}_questions.json"
    path.write_text(json.dumps(questions), encoding="utf-8")
    outputs = [{"id": one["id"], "output": golds.get(f"q{one['id']}", ENTRIES[task]["output"])} for one in questions]
    named = {"LaMP_2N": "LaMP_2", "LaMP_2M": "LaMP_2"}.get(task, task)
    (folder / f"{part}_outputs.json").write_text(json.dumps({"task": named, "golds": outputs}), encoding="utf-8")
    return path


@cache
def composed() -> DataConfig:
    data: DataConfig = compose("prepare", ["data=lamp"]).data
    return data


def config(path: Path, **more: Any) -> DataConfig:
    return replace(composed(), path=str(path), **more)


def made(path: Path, **more: Any) -> tuple[Corpus, list[str]]:
    reading = read(config(path, **more))
    corpus, notes = split(Corpus.build(reading.dialogues), config(path, **more))
    return corpus, [*reading.notes, *notes]


def by_id(path: Path, **more: Any) -> dict[str, Dialogue]:
    return {dialogue.id: dialogue for dialogue in read(config(path, **more)).dialogues}


def read_for(corpus: Corpus, identity: str) -> list[str]:
    """The replies in the history of a dialogue, oldest first."""
    row = list(corpus.ids).index(identity)
    items = Histories(corpus).of(row)
    check_no_leak(corpus, row, items)
    return [corpus.dialogue(int(item)).query.rsplit(" ", 1)[1] for item in items[::-1]]


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Twenty people with two entries each in `train`, four others in `dev`, and a test part without outputs."""
    write(tmp_path, "train", [question(n, [entry("LaMP_3", 10 * n + m) for m in range(2)]) for n in range(20)])
    write(tmp_path, "dev", [question(n, [entry("LaMP_3", 10 * n + m) for m in range(2)]) for n in range(90, 94)])
    write(tmp_path, "test", [question(200, [])]).with_name("test_outputs.json").unlink()
    return tmp_path


def test_questions_become_dialogues_and_entries_history(layout: Path) -> None:
    found = by_id(layout)
    asked, history = found["train/3"], found["3/profile/1"]
    assert (asked.querier, asked.query, asked.reply) == ("3", "Asked 3?", "5")
    assert asked.extra == {"task": "LaMP_3"}
    assert (history.querier, history.reply, history.split) == ("3", "4", "history")
    assert history.query == "How many points from 1 to 5 does this review give? Fine strings. 30"
    assert history.time < asked.time


def test_published_parts_are_the_splits_and_nobody_is_in_two(layout: Path) -> None:
    corpus, notes = made(layout)
    rows = [len(corpus.rows_in(part)) for part in (Split.TRAIN, Split.VALIDATION, Split.TEST, Split.HISTORY)]
    assert rows == [18, 2, 4, 48]
    parts = (Split.TRAIN, Split.VALIDATION, Split.TEST)
    people = [number for part in parts for number in set(corpus.querier[corpus.rows_in(part)])]
    assert len(people) == len(set(people)) == 24
    held_out = "there is no validation part: the training questions of 2 queriers, drawn by data.split_seed, are it"
    assert held_out in notes
    left_out = next(note for note in notes if note.startswith("test_questions.json is left out"))
    assert "there is no test_outputs.json, for the outputs of LaMP's test part are not published" in left_out
    drawn = {identity for identity in by_id(layout, split_seed=1) if identity.startswith("validation/")}
    assert len(drawn) == 2
    assert drawn != {corpus.ids[row] for row in corpus.rows_in(Split.VALIDATION)}
    assert max(corpus.time[corpus.rows_in(Split.TRAIN)]) < min(corpus.time[corpus.rows_in(Split.VALIDATION)])


def test_with_outputs_test_is_test_and_dev_is_validation(layout: Path) -> None:
    write(layout, "test", [question(200, [])])
    corpus, notes = made(layout)
    assert [corpus.ids[row] for row in corpus.rows_in(Split.TEST)] == ["test/200"]
    assert len(corpus.rows_in(Split.VALIDATION)) == 4
    assert not any("there is no" in note for note in notes)


def test_the_test_part_alone_is_refused(layout: Path) -> None:
    with pytest.raises(InputError, match=r"test_questions\.json: there is no test_outputs\.json, for the outputs of "):
        read(config(layout / "test_questions.json"))


def test_one_file_is_split_by_people(layout: Path) -> None:
    corpus, notes = made(layout / "train_questions.json")
    parts = [len(corpus.rows_in(part)) for part in (Split.TRAIN, Split.VALIDATION, Split.TEST)]
    assert parts == [16, 2, 2]
    assert sum("there is no" in note for note in notes) == 2


@pytest.mark.parametrize("task", ENTRIES)
def test_every_task_has_a_template(tmp_path: Path, task: str) -> None:
    for part, first in (("train", 0), ("dev", 50)):
        write(tmp_path, part, [question(n, [entry(task, n)]) for n in range(first, first + 10)], task)
    found = by_id(tmp_path)
    own = [value for name, value in ENTRIES[task].items() if name != "output"]
    texts = f"{found['0/profile/1'].query} {found['0/profile/1'].reply}"
    assert all(str(value) in texts for value in own[:2])
    assert found["0/profile/1"].extra["task"] == task
    assert found["train/0"].reply == ENTRIES[task]["output"]


def test_lamp_2_is_told_by_the_fields_of_its_profiles_or_by_name(tmp_path: Path) -> None:
    write(
        tmp_path, "train", [question(n, [{**entry("LaMP_2N", n), **entry("LaMP_2M", n)}]) for n in range(9)], "LaMP_2N"
    )
    with pytest.raises(
        InputError, match=r"'LaMP_2', .*several of data\.tasks fit \(LaMP_2N, LaMP_2M\); say data\.task"
    ):
        read(config(tmp_path))
    assert by_id(tmp_path, task="LaMP_2N")["0/profile/1"].reply == "politics"
    with pytest.raises(InputError, match=r"data\.tasks\.LaMP_3\.reply names \{score\}, which no record has; they have"):
        read(config(tmp_path, task="LaMP_3"))


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", [question(1, [entry("LaMP_7", 1)])], "LaMP_7")
    path = tmp_path / "train_outputs.json"
    path.write_text(path.read_text().replace("LaMP_7", "LaMP_6"))
    with pytest.raises(
        InputError, match=r"the data name the task 'LaMP_6', their profiles have id, text, and none fits"
    ):
        read(config(tmp_path))
    assert by_id(tmp_path, task="LaMP_7")["train/1"].extra["task"] == "LaMP_7"


# ---- one person, several questions


def test_what_questions_of_one_person_share_stands_once(tmp_path: Path) -> None:
    shared = [entry("LaMP_3", 1), entry("LaMP_3", 2)]
    write(tmp_path, "train", [question(5, shared, user_id="u")])
    write(tmp_path, "dev", [question(6, [*shared, entry("LaMP_3", 3)], user_id="u")])
    corpus, _ = made(tmp_path)
    assert len(corpus.rows_in(Split.HISTORY)) == 3
    assert corpus.queriers == ["u"]
    assert read_for(corpus, "train/5") == ["1", "2"]
    assert read_for(corpus, "test/6") == ["1", "2", "5?", "3"]  # the person's training question is earlier


def test_nobody_reads_an_entry_that_the_own_question_does_not_list(tmp_path: Path) -> None:
    """Each profile holds all but the own answer: question 5 is about entry 1, 6 about entry 2, 7 about entry 3."""
    entries = [entry("LaMP_3", number) for number in (1, 2, 3, 4)]
    asked = [question(5 + n, [one for one in entries if one is not entries[n]], user_id="u") for n in range(3)]
    write(tmp_path, "train", asked)
    write(tmp_path, "dev", [question(9, [entry("LaMP_3", 9)], user_id="v")])
    corpus, notes = made(tmp_path)
    for identity, answer in (("train/5", "1"), ("train/6", "2"), ("train/7", "3")):
        history = read_for(corpus, identity)
        assert answer not in history
        assert "4" in history
        assert not any(item.endswith("?") for item in history)  # questions of one part are no history of each other
    assert read_for(corpus, "train/7") == ["4", "1", "2"]
    assert "1 entry of profiles left out: a later question of the same person does not list what may be its" in str(
        notes
    )


def test_the_same_id_in_two_parts_is_one_person_where_profiles_meet(tmp_path: Path) -> None:
    write(tmp_path, "train", [question(1, [entry("LaMP_3", 1)]), question(2, [entry("LaMP_3", 2)])])
    write(tmp_path, "dev", [question(1, [entry("LaMP_3", 1), entry("LaMP_3", 3)]), question(2, [entry("LaMP_3", 4)])])
    corpus, notes = made(tmp_path)
    assert corpus.queriers == ["1", "2", "2 (test)"]
    assert read_for(corpus, "test/1") == ["1", "1?", "3"]
    assert read_for(corpus, "test/2") == ["4"]
    assert any(note.startswith("1 question id of one part is another person's in another part") for note in notes)


def test_an_entry_twice_in_one_profile_stands_once_and_entries_go_by_date(tmp_path: Path) -> None:
    dates = ("2015-10-02", "2014", "2015-9-30")
    profile = [entry("LaMP_3", number, date=date) for number, date in enumerate(dates)]
    write(tmp_path, "train", [question(1, [*profile, profile[0]])])
    write(
        tmp_path,
        "dev",
        [question(2, [entry("LaMP_3", 7, date="2015"), entry("LaMP_3", 8), entry("LaMP_3", 6, date="2")])],
    )
    corpus, _ = made(tmp_path)
    assert read_for(corpus, "train/1") == ["1", "2", "0"]
    assert read_for(corpus, "test/2") == ["7", "8", "6"]  # one has no date: as they came
    assert corpus.dialogue(list(corpus.ids).index("1/profile/1")).extra["date"] == "2014"


def test_an_entry_without_a_text_is_left_out_and_counted(tmp_path: Path) -> None:
    write(
        tmp_path,
        "train",
        [question(1, [entry("LaMP_3", 1), entry("LaMP_3", 2, score=""), entry("LaMP_3", 3, text=None)])],
    )
    write(tmp_path, "dev", [question(2, [])])
    corpus, notes = made(tmp_path)
    assert read_for(corpus, "train/1") == ["1"]
    assert "2 entries of profiles left out, without a text for the query or the reply" in notes


# ---- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, r"train_questions\.json:1: field `id`: missing; a question must be an object of"),
        ({"input": None}, r":1: field `input`: missing"),
        ({"input": " "}, r":1: field `query`: must not be empty"),
        ({"profile": {}}, r":1: field `profile`: must be a list of objects"),
        ({"profile": ["x"]}, r":1: field `profile`: must be a list of objects"),
        ({"id": "1"}, r":2: field `id`: 'train/1' stands in .*train_questions\.json:1 too"),
    ],
)
def test_refuses_faulty_questions(layout: Path, change: dict[str, Any], message: str) -> None:
    path = layout / "train_questions.json"
    questions = json.loads(path.read_text())
    questions[0] = {name: value for name, value in (questions[0] | change).items() if value is not None}
    path.write_text(json.dumps(questions))
    outputs = layout / "train_outputs.json"
    golds = json.loads(outputs.read_text())
    if "id" in change:
        golds["golds"] = golds["golds"][1:]
        outputs.write_text(json.dumps(golds))
    with pytest.raises(InputError, match=message):
        read(config(layout))
    assert len(read(config(layout, on_error=OnError.skip)).refused) == 1


@pytest.mark.parametrize(
    ("task", "output", "message"),
    [
        ("LaMP_3", "7", r"field `output`: '7' is no number from 1 to 5, as LaMP_3 has"),
        ("LaMP_2M", "horror", r"field `output`: 'horror' is none of the labels of LaMP_2M: sci-fi, "),
        ("LaMP_7", "", r"field `reply`: must not be empty"),
        ("LaMP_7", None, r"field `reply`: missing"),
    ],
)
def test_refuses_outputs_that_are_none_of_the_task(tmp_path: Path, task: str, output: Any, message: str) -> None:
    write(tmp_path, "train", [question(n, [entry(task, n)]) for n in range(3)], task, q1=output)
    with pytest.raises(InputError, match=rf"train_questions\.json:2: {message}"):
        read(config(tmp_path))


def test_an_output_that_is_a_number_is_a_text(tmp_path: Path) -> None:
    write(tmp_path, "train", [question(1, [entry("LaMP_3", 1, score=4.0)])], q1=5)
    found = by_id(tmp_path)
    assert (found["train/1"].reply, found["1/profile/1"].reply) == ("5", "4")


def test_refuses_files_that_do_not_belong_together(layout: Path, tmp_path: Path) -> None:
    outputs = layout / "train_outputs.json"
    good = outputs.read_text()
    golds = json.loads(good)
    outputs.write_text(json.dumps({**golds, "golds": golds["golds"][1:]}))
    with pytest.raises(
        InputError, match=r"train_questions\.json:1: no output has the id '0'; take the two files of one"
    ):
        read(config(layout))
    outputs.write_text(json.dumps({**golds, "golds": [*golds["golds"], {"id": "x", "output": "5"}]}))
    with pytest.raises(InputError, match=r"train_outputs\.json: 1 output without a question, 'x' first"):
        read(config(layout))
    outputs.write_text(json.dumps({**golds, "task": "LaMP_4"}))
    with pytest.raises(
        InputError, match=r"holds several tasks, 'LaMP_4' in .*, 'LaMP_3' in .*; give the folder of one"
    ):
        read(config(layout))
    outputs.write_text("[]")
    with pytest.raises(InputError, match=r"train_outputs\.json: must be \{\"task\", \"golds\""):
        read(config(layout))
    outputs.write_text(good)
    write(tmp_path / "other", "train", [question(1, [])])
    with pytest.raises(
        InputError, match=r"holds .*train_questions\.json and .*train_questions\.json; give the folder of"
    ):
        read(config(layout))


def test_refuses_another_layout_and_other_splits(layout: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no train_questions.json or dev_questions.json"):
        read(config(tmp_path / "empty"))
    with pytest.raises(InputError, match=r"data\.split=time would train on and score the entries of profiles"):
        read(config(layout, split=SplitBy.time))
    with pytest.raises(InputError, match=r"data\.tasks is empty; take them from the file: data=lamp"):
        read(config(layout, tasks={}))
    (layout / "train_questions.json").write_text("{}")
    with pytest.raises(InputError, match=r"train_questions\.json: must be a JSON list of"):
        read(config(layout))
