"""Every reader gives the same dialogues; every fault names file, line, field, what was got and what to do."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from written import Row, config, dialogues, rows, write_csv, write_datasets, write_jsonl, write_parquet

from querier.choices import OnError, Reader, SplitBy
from querier.config import DataConfig
from querier.data.readers import check, read, split_reading, write_refused
from querier.errors import InputError


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "good.jsonl", rows())


# ---- the formats


@pytest.mark.parametrize(
    ("reader", "write"),
    [
        (Reader.csv, write_csv),
        (Reader.parquet, write_parquet),
        pytest.param(Reader.huggingface, write_datasets, marks=pytest.mark.filterwarnings("ignore")),
    ],
)
def test_all_readers_read_the_same(
    tmp_path: Path, good: Path, reader: Reader, write: Callable[[Path, list[Row]], Path]
) -> None:
    path = write(tmp_path / "table", rows())
    assert dialogues(path, reader=reader) == dialogues(good)


def test_a_folder_is_read_file_by_file_in_the_order_of_names(tmp_path: Path) -> None:
    records = rows()
    for record in records:
        del record["time"]
    write_jsonl(tmp_path / "log_10.jsonl", records[4:])
    write_jsonl(tmp_path / "log_9.JSONL", records[2:4])
    write_jsonl(tmp_path / "log_1.jsonl", records[:2])
    (tmp_path / "notes.txt").write_text("not read")
    reading = read(config(tmp_path))
    assert [(d.id, d.time) for d in reading.dialogues] == [(f"d{n}", n) for n in range(6)]
    order = "no record has a time, so the order of the files is it: log_1.jsonl, log_9.JSONL, log_10.jsonl"
    assert order in reading.notes


def test_byte_order_mark_windows_line_ends_and_empty_lines_are_fine(tmp_path: Path, good: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + good.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert dialogues(path) == dialogues(good)


@pytest.mark.filterwarnings("ignore")
def test_an_unknown_dataset_and_a_missing_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "good.jsonl", rows())
    with pytest.raises(InputError, match=r"no such file or folder: .*good2.*nearest in .*good\.jsonl"):
        read(config(tmp_path / "good2", reader=Reader.huggingface))
    with pytest.raises(InputError, match=r"the dataset 'nobody/nothing' cannot be loaded \(.*check the network"):
        read(DataConfig(path="nobody/nothing", reader=Reader.huggingface))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="needs the package datasets: pip install datasets"):
        read(DataConfig(path="nobody/nothing", reader=Reader.huggingface))


# ---- what is counted and said


def test_times_are_sorted_and_counted(tmp_path: Path, good: Path) -> None:
    records = rows()
    records[1], records[4] = records[4], records[1]
    reading = read(config(write_jsonl(tmp_path / "mixed.jsonl", records)))
    assert reading.dialogues == dialogues(good)
    assert "3 of 6 dialogues came out of the order of their times and were sorted" in reading.notes


def test_shuffled_input_gives_the_same_dialogues_even_with_ties(tmp_path: Path) -> None:
    records = [{**row, "time": row["time"] // 3} for row in rows()]
    first = dialogues(write_jsonl(tmp_path / "a.jsonl", records))
    assert dialogues(write_jsonl(tmp_path / "b.jsonl", records[::-1])) == first


def test_notes_count_what_was_accepted(tmp_path: Path) -> None:
    records = [{**row, "querier": "A", "turns": None, "query": "q", "reply": "r", "split": "train"} for row in rows()]
    reading = read(config(write_jsonl(tmp_path / "one.jsonl", records)))
    assert "6 dialogues of 1 querier with 1 responder" in reading.notes
    assert any(note.startswith("one querier only (A)") for note in reading.notes)
    records[0]["split"], records[1]["querier"] = "history", "B"
    notes = read(config(write_jsonl(tmp_path / "two.jsonl", records))).notes
    assert "6 dialogues of 2 queriers with 1 responder" in notes
    assert "1 querier has one dialogue only, hence no history" in notes
    assert "1 dialogue is history only: never trained on or scored" in notes


def test_a_note_says_what_could_be_the_time_where_none_is_given(tmp_path: Path) -> None:
    records = [{**{name: value for name, value in row.items() if name != "time"}, "created_at": 1} for row in rows()]
    path = write_jsonl(tmp_path / "log.jsonl", records)
    note = "no record has a time, so their order is it; if `created_at` is the time, say data.fields.time=created_at"
    assert note in read(config(path)).notes
    assert not any("created_at" in note for note in read(config(path, fields={"time": "created_at"})).notes)


# ---- what is refused


def broken(good: Path, line: int, text: str | bytes) -> Path:
    """The good file with a line replaced."""
    lines = good.read_bytes().splitlines(keepends=True)
    lines[line - 1] = (text if isinstance(text, bytes) else text.encode()) + b"\n"
    good.write_bytes(b"".join(lines))
    return good


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"id": "x",', r"not JSON: .* at column \d+, near .*; write one object in braces on each line"),
        ('["a"]', r"a record must be a JSON object"),
        ('{"id": ' + "9" * 5000 + "}", r"not JSON that can be read"),
        ("[" * 100_000, r"not JSON that can be read|not JSON"),
        (b'{"id": "\xff"}', r"not UTF-8: byte 0xff at position 9; save the file as UTF-8"),
        ('{"id": "x", "querier": "A", "query": "q"}', r"field `reply`: missing"),
        ('{"id": "x", "querier": "A", "query": "q", "reply": "r", "tme": 1}', r"field `tme`: unknown, .*`time`"),
        (json.dumps(rows()[0]), r"field `id`: 'd0' stands in .*good\.jsonl:1 too; give each dialogue an id of its own"),
    ],
)
def test_refuses_with_file_and_line(good: Path, text: str | bytes, reason: str) -> None:
    with pytest.raises(InputError, match=rf"good\.jsonl:3: (?:{reason})"):
        read(config(broken(good, 3, text)))


def test_skip_collects_what_was_refused(good: Path, tmp_path: Path) -> None:
    broken(good, 3, b'{"id": "\xff"}')
    broken(good, 5, json.dumps(rows()[0]))
    reading = read(config(good, on_error=OnError.skip))
    assert [d.id for d in reading.dialogues] == ["d0", "d1", "d3", "d5"]
    assert [record.line for record in reading.refused] == [3, 5]
    assert "2 records were refused and left out" in reading.notes
    write_refused(reading.refused, tmp_path / "out" / "refused.jsonl")
    written = [json.loads(line) for line in (tmp_path / "out" / "refused.jsonl").read_text().splitlines()]
    assert [record["line"] for record in written] == [3, 5]
    assert written[0]["reason"].startswith("not UTF-8")
    assert json.loads(written[1]["text"]) == rows()[0]
    assert set(written[0]) == {"file", "line", "reason", "text"}


def test_one_refused_record_is_counted_as_one(good: Path) -> None:
    reading = read(config(broken(good, 3, "{}"), on_error=OnError.skip))
    assert "1 record was refused and left out" in reading.notes


def untimed(path: Path, count: int, *without: int) -> Path:
    """A log of which the records of these numbers, from 0, have no time."""
    records = rows(count)
    for number in without:
        del records[number]["time"]
    return write_jsonl(path, records)


def test_the_records_that_do_otherwise_than_most_are_refused_for_their_time(tmp_path: Path) -> None:
    path = untimed(tmp_path / "log.jsonl", 200, 0)
    with pytest.raises(InputError, match=r"log\.jsonl:1: field `time`: missing, but 199 of 200 records have it; give"):
        read(config(path))
    reading = check(config(path))
    assert [record.line for record in reading.refused] == [1]
    assert (len(reading.dialogues), json.loads(reading.refused[0].text)["id"]) == (199, "d0")
    path = untimed(tmp_path / "log.jsonl", 8, 0, 1, 2, 4, 5, 6, 7)
    with pytest.raises(InputError, match=r"log\.jsonl:4: field `time`: given, but 7 of 8 records have none"):
        read(config(path))
    reading = read(config(path, on_error=OnError.skip))
    assert [dialogue.time for dialogue in reading.dialogues] == [0, 1, 2, 4, 5, 6, 7]
    assert "1 record was refused and left out" in reading.notes


def test_a_refused_record_does_not_count_among_the_times(tmp_path: Path) -> None:
    records = rows(5)
    for record in records[1:]:
        del record["time"], record["querier"]
    path = write_jsonl(tmp_path / "log.jsonl", records)
    reading = read(config(path, on_error=OnError.skip))
    assert [dialogue.id for dialogue in reading.dialogues] == ["d0"]
    assert all(record.reason.startswith("field `querier`: missing") for record in reading.refused)


def test_what_was_refused_stands_before_a_fault_of_what_is_left(good: Path) -> None:
    for line in range(3, 7):
        broken(good, line, "{}")
    message = (
        r"4 of 6 records were refused:\n(  .*good\.jsonl:\d: field `querier`: missing.*\n){4}"
        r"and what is left cannot be used: data\.split=time needs 3 scenes at least, got 2"
    )
    with pytest.raises(InputError, match=message):
        check(config(good))
    skipping = config(good, on_error=OnError.skip)
    with pytest.raises(InputError, match=message):
        split_reading(read(skipping), skipping)
    with pytest.raises(
        InputError, match=r"4 of 6 records were refused:\n[^$]*cannot be used: data\.fields\.item=thing"
    ):
        read(config(good, on_error=OnError.skip, fields={"item": "thing"}))
    with pytest.raises(InputError, match=r"4 of 6 records were refused:\n[^$]*nobody named 'Zoe' answers in this data"):
        read(config(good, on_error=OnError.skip, responders=["Zoe"]))
    many = write_jsonl(good, rows(1) + [{} for _ in range(9)])
    with pytest.raises(InputError, match=r"9 of 10 records were refused:\n(  .*\n){5}  and 4 more\nand what is left"):
        check(config(many))


def test_refuses_an_input_without_dialogues(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n \n")
    with pytest.raises(InputError, match=r"empty\.jsonl: holds no dialogue; write one record on each line"):
        read(config(empty))
    empty.write_text("{}\n[]\n")
    with pytest.raises(
        InputError, match=r"none of the 2 records can be used; the first fault is .*:1: field `querier`"
    ):
        read(config(empty, on_error=OnError.skip))
    empty.write_text("[]\n")
    with pytest.raises(InputError, match=r"its only record cannot be used: .*:1: a record must be a JSON object"):
        read(config(empty, on_error=OnError.skip))


def test_a_file_of_another_reader_is_named_as_such(tmp_path: Path, good: Path) -> None:
    table = write_csv(tmp_path / "table.csv", rows())
    columns = write_parquet(tmp_path / "table.parquet", rows())
    for on_error in OnError:
        with pytest.raises(
            InputError, match=r"table\.csv:1: no JSON object; its name ends in \.csv: read it with data=csv"
        ):
            read(config(table, on_error=on_error))
    with pytest.raises(InputError, match=r"good\.jsonl:1: a JSON object, where a CSV file .*; read it with data=jsonl"):
        read(config(good, reader=Reader.csv))
    with pytest.raises(InputError, match=r"table\.parquet:1: no JSON object; .*: read it with data=parquet"):
        read(config(columns))
    with pytest.raises(InputError, match=r"table\.parquet:1: not UTF-8: .*: read it with data=parquet"):
        read(config(columns, reader=Reader.csv))
    with pytest.raises(InputError, match=r"not a Parquet file .*; its name ends in \.csv: read it with data=csv"):
        read(config(table, reader=Reader.parquet))


def test_a_name_alone_does_not_decide_what_a_file_is(tmp_path: Path, good: Path) -> None:
    renamed = good.rename(tmp_path / "good.csv")
    assert len(dialogues(renamed)) == 6
    with pytest.raises(InputError, match=r"good\.csv:3: not JSON"):
        read(config(broken(renamed, 3, "{")))


def test_refuses_a_path_that_is_not_there(good: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data.path is empty; give the file or folder"):
        read(DataConfig())
    with pytest.raises(InputError, match=r"no such file or folder: .*god\.jsonl; nearest in .*: good\.jsonl"):
        read(config(tmp_path / "god.jsonl"))
    with pytest.raises(InputError, match=r"no such file or folder: .*; nearest in"):
        read(config(tmp_path / "nowhere" / "at" / "all.jsonl"))
    with pytest.raises(InputError, match=r"no \.csv file; .* data\.reader \(it holds \.jsonl files: data=jsonl\)$"):
        read(config(tmp_path, reader=Reader.csv))
    good.unlink()
    with pytest.raises(InputError, match=r"holds no \.csv file; give a file, or another data\.reader$"):
        read(config(tmp_path, reader=Reader.csv))


def test_refuses_an_unknown_responder_nearest_first(good: Path) -> None:
    records = [
        {**row, "responder": name, "turns": None, "query": "q", "reply": "r"}
        for row, name in zip(rows(), ["Paul D. Clement", "Zoe", "Ann", "Paul", "Eve", "Max"], strict=True)
    ]
    write_jsonl(good, records)
    with pytest.raises(InputError, match=r"nobody named 'Paul Clement' .* those who do: 'Paul D. Clement', 'Paul', "):
        read(config(good, responders=["Zoe", "Paul Clement"]))
    with pytest.raises(InputError, match="data.responders is an empty list"):
        read(config(good, responders=[]))


def test_refuses_wrong_names_in_data_fields(good: Path) -> None:
    with pytest.raises(InputError, match=r"data\.fields\.queryer: there is no field .*`querier`"):
        read(config(good, fields={"queryer": "x"}))
    with pytest.raises(InputError, match=r"data\.fields\.item=thing: no record has a field `thing`"):
        read(config(good, fields={"item": "thing"}))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(b"{}"), "unpack it with gunzip"),
        ("{}".encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
        (b'{"id": "\xe4"}', "iconv -f LATIN1 -t UTF-8"),
    ],
)
def test_bytes_that_are_no_utf_8_are_told_apart(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"not UTF-8: .*{what}"):
        read(config(path))


# ---- check_only


def test_check_finds_all_faults_and_writes_nothing(good: Path, tmp_path: Path) -> None:
    broken(good, 2, "{}")
    broken(good, 4, "[]")
    before = sorted(tmp_path.iterdir())
    reading = check(config(good))
    assert [record.line for record in reading.refused] == [2, 4]
    assert any(note.startswith("split: ") for note in reading.notes)
    assert not any("left out" in note for note in reading.notes)  # they are not: the command fails
    assert "2 records were refused and left out" in check(config(good, on_error=OnError.skip)).notes
    assert sorted(tmp_path.iterdir()) == before


def test_check_refuses_what_cannot_be_split(good: Path) -> None:
    with pytest.raises(InputError, match="field `split` is missing in 6 of 6 dialogues"):
        check(config(good, split=SplitBy.given))
