"""LongLaMP's rows, from each kind of file, become dialogues and histories of the right task."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from querier.choices import OnError, SplitBy
from querier.commands.compose import compose
from querier.config import DataConfig
from querier.data.readers import read
from querier.errors import InputError
from querier.types import Dialogue

Row = dict[str, Any]
TASKS: dict[str, tuple[str, Row, str, str]] = {  # who asks, an entry, its query and its reply
    "product_review": (
        "reviewerId",
        {"description": "A case.", "overall": 4.0, "reviewText": "It fits.", "summary": "Fine"},
        "Write a review of this product. A case.\nRating: 4\nIn short: Fine",
        "It fits.",
    ),
    "abstract_generation": (
        "name",
        {"id": "7", "title": "On bees", "abstract": "They fly.", "year": 2015},
        "Write the abstract of the paper “On bees”.",
        "They fly.",
    ),
    "topic_writing": (
        "author",
        {"id": "8", "author": "Ann", "summary": "a lost cat", "content": "She came home."},
        "Write a post about this: a lost cat",
        "She came home.",
    ),
    "email_generation": (
        "user_id",
        {"id": "9", "title": "Lunch", "text": "At noon?"},
        "Write the mail with the subject “Lunch”.",
        "At noon?",
    ),
}


def rows(task: str, count: int = 3, first: int = 0) -> list[Row]:
    user, entry, *_ = TASKS[task]
    return [
        {user: f"person {first + n}", "input": f"Asked {first + n}?", "output": "Said.", "profile": [entry]}
        for n in range(count)
    ]


def jsonl(path: Path, records: list[Row]) -> None:
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in records), encoding="utf-8")


def as_list(path: Path, records: list[Row]) -> None:
    path.with_suffix(".json").write_text(json.dumps(records), encoding="utf-8")


def parquet(path: Path, records: list[Row]) -> None:
    half = len(records) // 2
    for shard, part in enumerate((records[:half], records[half:])):
        pyarrow.parquet.write_table(pa.Table.from_pylist(part), f"{path}-0000{shard}-of-00002.parquet")


def write(folder: Path, task: str, one: Callable[[Path, list[Row]], None] = jsonl) -> Path:
    folder.mkdir(exist_ok=True)
    for part, first in (("train", 0), ("val", 10), ("test", 20)):
        one(folder / part, rows(task, first=first))
    (folder / "dataset_info.json").write_text("{}")
    return folder


@cache
def composed() -> DataConfig:
    data: DataConfig = compose("prepare", ["data=longlamp"]).data
    return data


def config(path: Path | str, **more: Any) -> DataConfig:
    return replace(composed(), path=str(path), **more)


def by_id(path: Path, **more: Any) -> dict[str, Dialogue]:
    return {dialogue.id: dialogue for dialogue in read(config(path, **more)).dialogues}


@pytest.mark.parametrize("task", TASKS)
def test_the_task_is_told_by_the_fields_of_the_profiles(tmp_path: Path, task: str) -> None:
    found = by_id(write(tmp_path, task))
    _, _, query, reply = TASKS[task]
    asked, history = found["validation/1"], found["person 11/profile/1"]
    assert (asked.querier, asked.query, asked.reply, asked.split) == ("person 11", "Asked 11?", "Said.", "validation")
    assert (history.query, history.reply, history.split) == (query, reply, "history")
    assert asked.extra["task"] == task
    assert history.time < asked.time
    assert len(found) == 18


@pytest.mark.parametrize("one", [as_list, parquet])
def test_each_kind_of_file_gives_the_same(tmp_path: Path, one: Callable[[Path, list[Row]], None]) -> None:
    wanted = by_id(write(tmp_path / "lines", "topic_writing"))
    assert by_id(write(tmp_path / "other", "topic_writing", one)) == wanted


@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_datasets_saved_gives_the_same(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {
        part: datasets.Dataset.from_list(rows("topic_writing", first=first))
        for part, first in (("train", 0), ("val", 10), ("test", 20))
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    assert by_id(tmp_path / "saved") == by_id(write(tmp_path / "lines", "topic_writing"))


def test_a_person_with_several_rows_has_each_entry_once(tmp_path: Path) -> None:
    entry = TASKS["topic_writing"][1]
    other = {**entry, "content": "He left."}
    records = [
        {"author": "Ann", "input": "One?", "output": "Yes.", "profile": [entry, other]},
        {"author": "Ann", "input": "Two?", "output": "No.", "profile": [entry]},
    ]
    jsonl(write(tmp_path, "topic_writing") / "train", records)
    reading = read(config(tmp_path))
    own = [dialogue for dialogue in reading.dialogues if dialogue.querier == "Ann"]
    assert [dialogue.reply for dialogue in own] == ["She came home.", "Yes.", "No."]
    assert own[1].scene == own[2].scene  # questions of one part are no history of each other
    assert any(note.startswith("1 entry of profiles left out: a later question") for note in reading.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"author": None}, r"train\.jsonl:1: none of reviewerId, .* says who asks"),
        ({"input": None}, r"train\.jsonl:1: field `input`: missing; a row must be"),
        ({"output": None}, r"train\.jsonl:1: field `output`: missing"),
        ({"output": ""}, r"train\.jsonl:1: field `reply`: must not be empty"),
        ({"profile": "none"}, r"train\.jsonl:1: field `profile`: must be a list of objects"),
    ],
)
def test_refuses_faulty_rows(tmp_path: Path, change: Row, message: str) -> None:
    records = rows("topic_writing")
    records[0] = {**records[0], **change}
    jsonl(write(tmp_path, "topic_writing") / "train", records)
    with pytest.raises(InputError, match=message):
        read(config(tmp_path))
    assert len(read(config(tmp_path, on_error=OnError.skip)).refused) == 1


def test_refuses_what_is_no_row(tmp_path: Path) -> None:
    write(tmp_path, "topic_writing")
    (tmp_path / "train.jsonl").write_text('[]\n{"author": \n\n')
    reading = read(config(tmp_path, on_error=OnError.skip))
    assert [record.line for record in reading.refused] == [1, 2]
    assert reading.refused[0].reason.startswith("a row must be {")
    assert reading.refused[1].reason.startswith("not JSON: ")


def test_refuses_folders_that_are_not_one_task(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no train\*\.parquet, .*give the folder of one task"):
        read(config(tmp_path / "empty"))
    write(tmp_path / "one", "topic_writing")
    write(tmp_path / "two", "product_review")
    with pytest.raises(InputError, match=r"holds several tasks \(.*one, .*two\); give the folder of one"):
        read(config(tmp_path))
    with pytest.raises(InputError, match=r"train\.jsonl is one file; give the folder that holds the parts"):
        read(config(tmp_path / "one" / "train.jsonl"))
    with pytest.raises(InputError, match=r"data\.split=scene would train on and score the entries of profiles"):
        read(config(tmp_path / "one", split=SplitBy.scene))
    with pytest.raises(InputError, match=r"data\.tasks\.abstract_generation\.query names \{title\}, which no record"):
        read(config(tmp_path / "one", task="abstract_generation"))
    (tmp_path / "one" / "train.parquet").write_text("no")
    with pytest.raises(InputError, match=r"train\.parquet: not a readable Parquet file"):
        read(config(tmp_path / "one"))
