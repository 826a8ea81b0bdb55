"""Tables give the dialogues that the same lines of JSON give, and a torn row swallows no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from written import config, dialogues, rows, write_parquet

from querier.choices import OnError, Reader
from querier.data.readers import read
from querier.errors import InputError


def test_csv_takes_query_and_reply_and_counts_empty_cells_as_absent(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("id,customer,query,reply,when,item,mood\na,Ann,Why?,No.,2,,\nb,Ann,So?,Yes.,3.0,x,glad\n")
    first, second = dialogues(path, reader=Reader.csv, fields={"querier": "customer", "time": "when"})
    assert (first.query, first.reply, first.time, first.item, first.extra) == ("Why?", "No.", 2, None, {})
    assert (second.time, second.item, second.extra) == (3, "x", {"mood": "glad"})


def test_parquet_nulls_are_absent_and_dates_are_kept(tmp_path: Path) -> None:
    import datetime

    day = datetime.date(2020, 1, 2)
    records = [{**row, "item": "x" if row["time"] else None, "day": day} for row in rows()]
    got = dialogues(write_parquet(tmp_path / "t.parquet", records), reader=Reader.parquet)
    assert [d.item for d in got] == [None, *["x"] * 5]
    assert got[0].extra == {"day": day}


@pytest.mark.filterwarnings("ignore")
def test_the_parts_of_a_dataset_are_its_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {"train": rows()[:4], "test": rows()[4:]}
    made = datasets.DatasetDict({name: datasets.Dataset.from_list(part) for name, part in parts.items()})
    made.save_to_disk(str(tmp_path / "parts"))
    got = dialogues(tmp_path / "parts", reader=Reader.huggingface)
    assert [d.split for d in got] == ["train"] * 4 + ["test"] * 2


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_a_table_is_separated_as_its_first_line_is(tmp_path: Path, sign: str, name: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        "id,querier,query,reply\na,Ann,Why?,So.\n".replace(",", sign) + f'b{sign}Bob{sign}"x{sign}y"{sign}1, 2\n'
    )
    reading = read(config(path, reader=Reader.csv))
    assert [(one.query, one.reply) for one in dialogues(path, reader=Reader.csv)] == [
        ("Why?", "So."),
        (f"x{sign}y", "1, 2"),
    ]
    assert any(f"separated by {name}, as its first line is" in note for note in reading.notes)
    path.write_text("id,querier,query,reply\na,Ann,Why?,So.,More.\n".replace(",", sign))
    with pytest.raises(InputError, match=f"5 cells, but the header has 4; put cells with {name} into quotes"):
        read(config(path, reader=Reader.csv))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,querier,query,reply\na,Ann,Why?\n", r":2: 3 cells, but the header has 4"),
        ("id,querier,query,reply\na\n", r":2: 1 cell, but the header has 4"),
        ("id,querier,query,reply\na,Ann,Why?,\n", r":2: field `reply`: must not be empty"),
        ("id,querier,query,reply,time\na,Ann,Why?,No.,noon\n", r":2: field `time`: must be a whole number, got 'noon'"),
        ('id,querier,turns\na,Ann,"[{"\n', r":2: field `turns`: must be a list"),
        ("id,id,query,reply\n", r":1: the header names \['id'\] twice"),
        ("\n\n", r":1: the header is empty"),
        ("", r"holds no dialogue"),
        ('id,querier,query,reply\na,Ann,"x\ny",No.\nb,Ann,,No.\n', r":4: field `query`: must not be empty"),
        ('id,querier,query,reply\na,Ann,Why?,"No.\nb,Ann,So?,Yes.\n', r":2: not CSV: unexpected end .* line 2 to 3"),
        ('id,querier,query,reply\na,Ann,"Why"?,No.\n', r":2: not CSV: .* end each quote that begins a cell"),
    ],
)
def test_refuses_faults_of_csv(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read(config(path, reader=Reader.csv))


def test_a_quote_that_is_never_ended_swallows_no_record_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('id,querier,query,reply\na,Ann,Why?,No.\nb,Ann,Why?,"No.\nc,Ann,So?,Yes.\nd,Ann,"So?",Yes.\n')
    reading = read(config(path, reader=Reader.csv, on_error=OnError.skip))
    assert [d.id for d in reading.dialogues] == ["a"]
    assert [(one.line, "line 3 to" in one.reason) for one in reading.refused][0] == (3, True)


def test_a_long_cell_of_csv_is_read_and_an_empty_query_beside_turns_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    turns = '"[{""speaker"": ""Ann"", ""text"": ""Why?""}, {""speaker"": ""Bob"", ""text"": ""No.""}]"'
    path.write_text(f"id,querier,responder,query,reply,turns\na,Ann,Bob,{'x' * 200_000},No.,\nb,Ann,Bob,,,{turns}\n")
    long, spoken = dialogues(path, reader=Reader.csv)
    assert (len(long.query), spoken.query) == (200_000, "Why?")


def test_bad_bytes_of_csv_are_found_inside_a_cell_of_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b'id,querier,query,reply\na,Ann,"x\n\xe4",No.\nb,Ann,Why?,No.\n')
    reading = read(config(path, reader=Reader.csv, on_error=OnError.skip))
    assert [(record.line, record.reason[:21]) for record in reading.refused] == [(2, "not UTF-8: byte 0xe4 ")]
    assert [d.id for d in reading.dialogues] == ["b"]


def test_refuses_what_is_no_parquet_file_and_names_the_row_of_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_text("no")
    with pytest.raises(InputError, match=r"t\.parquet: not a Parquet file that can be read"):
        read(config(path, reader=Reader.parquet))
    records = rows()
    records[3]["turns"][-1]["text"] = ""
    with pytest.raises(InputError, match=r"t\.parquet:4: field `turns`, turn 2 of 2, the reply's text: must not be em"):
        read(config(write_parquet(path, records), reader=Reader.parquet))
