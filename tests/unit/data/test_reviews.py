"""Amazon's layouts become dialogues; each filter removes what it says and says what it removed."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from querier.choices import Filters, OnError, SplitBy
from querier.commands.compose import compose
from querier.config import DataConfig
from querier.data.history import Histories, check_no_leak
from querier.data.readers import read
from querier.data.records import Corpus
from querier.data.splits import split
from querier.errors import InputError
from querier.types import Split

Row = dict[str, Any]


def review(user: str, item: str, time: int, text: str = "It works.", **more: Any) -> Row:
    return {"user_id": user, "item_id": item, "rating": 4.0, "title": "Good", "text": text, "timestamp": time, **more}


def write(path: Path, records: list[Row]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@cache
def composed() -> DataConfig:
    data: DataConfig = compose("prepare", ["data=reviews"]).data
    return data


def config(path: Path, **more: Any) -> DataConfig:
    return replace(composed(), path=str(path), **{key: str(v) if key == "items" else v for key, v in more.items()})


def parts(path: Path, **more: Any) -> dict[str, str | None]:
    return {dialogue.id: dialogue.split for dialogue in read(config(path, **more)).dialogues}


# ---- the layouts


LAYOUTS: dict[str, Row] = {
    "2014": {"reviewerID": "U", "asin": "I", "overall": 4.0, "summary": "Good", "reviewText": "It works.",
             "unixReviewTime": 7, "reviewerName": "u", "helpful": [0, 1], "reviewTime": "01 2, 2014"},
    "2018": {"reviewerID": "U", "asin": "I", "overall": 4.0, "summary": "Good", "reviewText": "It works.",
             "unixReviewTime": 7, "verified": True, "vote": "3", "style": {"Size:": "big"}},
    "2023": {"user_id": "U", "asin": "variant", "parent_asin": "I", "rating": 4.0, "title": "Good",
             "text": "It works.", "timestamp": 7, "verified_purchase": True, "helpful_vote": 3, "images": []},
    "plain": review("U", "I", 7),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("packed", [False, True])
def test_every_layout_gives_the_same(tmp_path: Path, layout: str, packed: bool) -> None:
    path = tmp_path / ("r.jsonl.gz" if packed else "r.jsonl")
    content = json.dumps(LAYOUTS[layout]).encode() + b"\n"
    path.write_bytes(gzip.compress(content) if packed else content)
    (found,) = read(config(path)).dialogues
    assert (found.id, found.querier, found.responder, found.item, found.time) == ("U/I", "U", "assistant", "I", 7)
    assert found.query == "Write my review of this item.\nMy rating: 4 of 5\nTitle of my review: Good"
    assert found.reply == "It works."
    assert found.extra == {"task": "review", "rating": 4.0}


def test_items_are_described_where_they_are_known(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [review("U", "I", 1), review("U", "J", 2), review("U", "K", 3, title="")])
    items = write(
        tmp_path / "items.jsonl",
        [
            {"parent_asin": "I", "title": "A case", "description": ["Product Description", "Made of tin.", "Red."]},
            {"asin": "J", "title": "A lamp", "description": "Bright."},
            {"asin": "not reviewed"},
        ],
    )
    reading = read(config(path, items=items))
    first, second, third = (dialogue.query.splitlines()[1:] for dialogue in reading.dialogues)
    assert first[:2] == ["Item: A case", "About it: Made of tin. Red."]
    assert second[:2] == ["Item: A lamp", "About it: Bright."]
    assert third == ["My rating: 4 of 5"]
    assert "2 of 3 reviews are of an item that data.items describes" in reading.notes


def test_reviews_without_a_text_and_copies_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [review("U", "I", 1), review("U", "I", 1), review("U", "I", 2), review("U", "J", 3, text=" ")]
    reading = read(config(write(tmp_path / "r.jsonl", [*rows, review("U", "K", 4, text=None)])))
    assert [dialogue.id for dialogue in reading.dialogues] == ["U/I", "U/I/2"]
    assert "2 reviews left out: no text" in reading.notes
    assert "1 review left out: the same stands there before" in reading.notes


# ---- parts and filters


def test_the_latest_review_is_test_and_the_one_before_it_validation(tmp_path: Path) -> None:
    rows = [review("A", f"i{n}", 10 - n) for n in range(5)] + [review("B", f"i{n}", n) for n in range(2)]
    found = parts(write(tmp_path / "r.jsonl", rows))
    assert [found[f"A/i{n}"] for n in range(5)] == ["test", "validation", "train", "train", "train"]
    assert {found["B/i0"], found["B/i1"]} == {"train"}


def test_items_that_four_others_reviewed_are_asked_for_and_the_rest_is_history(tmp_path: Path) -> None:
    rows = [review(user, "five", n) for n, user in enumerate("ABCDE")]
    rows += [review(user, "four", 10 + n) for n, user in enumerate("ABCD")] + [review("A", "four", 20)]
    rows += [review("A", "six", 30 + n) if n == 0 else review(f"x{n}", "six", 30 + n) for n in range(6)]
    reading = read(config(write(tmp_path / "r.jsonl", rows), filters=Filters.min_reviewers_4))
    history = {dialogue.id for dialogue in reading.dialogues if dialogue.split == "history"}
    assert history == {"A/four", "B/four", "C/four", "D/four", "A/four/2"}  # A twice is one querier
    assert {dialogue.split for dialogue in reading.dialogues if dialogue.item != "four"} == {"train"}
    note = (
        "items that 4 other queriers reviewed (else history only): 5 reviews, 0 queriers, 1 item removed; "
        "11 reviews, 10 queriers, 2 items left"
    )
    assert note in reading.notes


LONG = "This is a long review of a thing that I used every day. " * 4
GOOD = {"title": "Thing", "description": "d" * 100}


def crowd(queriers: int = 8, items: int = 18) -> list[Row]:
    """Queriers who reviewed the same items, each in an order of time of their own."""
    return [
        review(f"q{q}", f"i{n}", 1000 * n + q, text=f"{q} {n} {LONG}") for n in range(items) for q in range(queriers)
    ]


def described(rows: list[Row], path: Path) -> Path:
    return write(path, [{"parent_asin": item, **GOOD} for item in sorted({row["item_id"] for row in rows})])


def dpl(tmp_path: Path, rows: list[Row], items: Path | None = None) -> tuple[dict[str, str | None], list[str]]:
    path = write(tmp_path / "r.jsonl", rows)
    reading = read(config(path, items=items or described(rows, tmp_path / "items.jsonl"), filters=Filters.dpl))
    return {dialogue.id: dialogue.split for dialogue in reading.dialogues}, reading.notes


def test_dpl_keeps_a_crowd_and_splits_the_last_ten(tmp_path: Path) -> None:
    found, notes = dpl(tmp_path, crowd())
    assert len(found) == 8 * 18
    own = [found[f"q3/i{n}"] for n in range(18)]
    assert own == ["history"] * 8 + ["train"] * 8 + ["validation", "test"]
    nothing = "0 reviews, 0 queriers, 0 items removed; 144 reviews, 8 queriers, 18 items left"
    assert sum(note.endswith(nothing) for note in notes) == 5


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({"text": "x" * 199}, "reviews of 200 characters or more"),
        ({"rating": None}, "reviews of 200 characters or more"),
        ({"title": ""}, "reviews of 200 characters or more"),
        ({"item_id": "i1"}, "the newest review of an item"),
        ({"text": f"1 4 \n {LONG}"}, "the newest review of an item"),  # but for white space that of the newer i4
    ],
)
def test_each_step_of_dpl_removes_what_it_says(tmp_path: Path, change: Row, step: str) -> None:
    rows = crowd(queriers=9, items=19)
    place = next(n for n, row in enumerate(rows) if row["user_id"] == "q1" and row["item_id"] == "i0")
    rows[place] = {**rows[place], **change}
    items = write(tmp_path / "items.jsonl", [{"asin": f"i{n}", **GOOD} for n in range(19)])
    found, notes = dpl(tmp_path, rows, items)
    (note,) = [note for note in notes if note.startswith(step)]
    assert ": 1 review, 0 queriers, 0 items removed; " in note
    assert len(found) == 9 * 19 - 1
    assert "q1/i0" not in found


@pytest.mark.parametrize("item", [{}, {"title": ""}, {"description": "d" * 99}, {"description": "d" * 2001}])
def test_dpl_leaves_out_items_that_are_not_described(tmp_path: Path, item: Row) -> None:
    rows = crowd(items=19)
    items = write(tmp_path / "items.jsonl", [{"asin": f"i{n}", **GOOD, **(item if n == 4 else {})} for n in range(19)])
    if not item:
        write(items, [{"asin": f"i{n}", **GOOD} for n in range(19) if n != 4])
    found, notes = dpl(tmp_path, rows, items)
    assert not any(identity.endswith("/i4") for identity in found)
    assert len(found) == 8 * 18
    (note,) = [note for note in notes if note.startswith("items with a title and a description of 100 to 2000")]
    assert ": 8 reviews, 0 queriers, 1 item removed; " in note


def test_dpl_takes_items_and_queriers_away_until_nothing_changes(tmp_path: Path) -> None:
    """q8 has 17 reviews and goes; then i18, which needed q8, has 7 queriers and goes; nobody else has fewer than 18."""
    rows = crowd(queriers=9, items=19)
    rows = [row for row in rows if not (row["user_id"] == "q8" and row["item_id"] in ("i0", "i1"))]
    rows = [row for row in rows if not (row["user_id"] == "q7" and row["item_id"] == "i18")]
    found, notes = dpl(tmp_path, rows)
    assert {identity.split("/")[0] for identity in found} == {f"q{n}" for n in range(8)}
    assert not any(identity.endswith("/i18") for identity in found)
    assert len(found) == 8 * 18
    (note,) = [note for note in notes if note.startswith("items with 8 queriers or more, queriers with 18 to 500")]
    assert ": 24 reviews, 1 querier, 1 item removed; 144 reviews, 8 queriers, 18 items left" in note


def test_dpl_removes_queriers_with_too_many_reviews(tmp_path: Path) -> None:
    rows = crowd() + [review("many", f"i{n}", 50_000 + n, text=f"{n} {LONG}") for n in range(501)]
    rows += [review(f"f{q}", f"i{n}", 90_000 + n, text=f"{q} {n} {LONG}") for q in range(7) for n in range(18, 501)]
    found, _ = dpl(tmp_path, rows)
    assert not any(identity.startswith("many/") for identity in found)
    assert len(found) == 8 * 18  # and with that querier the items that only the seven others reviewed


def test_dpl_keeps_of_a_history_what_others_had_in_theirs(tmp_path: Path) -> None:
    """Nine queriers; q0 reviewed the items in the other direction, so that the histories hold other items than q0's."""
    rows = crowd(queriers=9)
    for row in rows:
        if row["user_id"] == "q0":
            row["timestamp"] = 1000 * (17 - int(row["item_id"][1:]))
    found, notes = dpl(tmp_path, rows)
    assert not any(identity.startswith("q0/") for identity in found)
    assert len(found) == 8 * 18
    (note,) = [note for note in notes if note.startswith("histories of items that 4 others have there")]
    assert ": 18 reviews, 1 querier, 0 items removed; " in note


def test_parts_of_dpl_never_leak(tmp_path: Path) -> None:
    rows = crowd()
    path = write(tmp_path / "r.jsonl", rows)
    settings = config(path, items=described(rows, tmp_path / "items.jsonl"), filters=Filters.dpl)
    corpus, _ = split(Corpus.build(read(settings).dialogues), settings)
    histories = Histories(corpus)
    for part, items in ((Split.VALIDATION, 16), (Split.TEST, 17)):
        for row in corpus.rows_in(part):
            found = histories.of(int(row))
            check_no_leak(corpus, int(row), found)
            assert len(found) == items


# ---- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": None}, r"r\.jsonl:2: field `user_id`: missing; take a published file of reviews"),
        ({"item_id": None}, r"r\.jsonl:2: field `parent_asin` or `asin` or `item_id`: missing"),
        ({"timestamp": None}, r"r\.jsonl:2: field `timestamp`: missing"),
        ({"timestamp": "soon"}, r"r\.jsonl:2: field `timestamp`: must be a whole number, got 'soon'"),
        ({"text": 5}, r"r\.jsonl:2: field `text`: must be text, got 5"),
    ],
)
def test_refuses_faulty_reviews(tmp_path: Path, change: Row, message: str) -> None:
    rows = [review("U", "I", 1), {**review("U", "J", 2), **change}]
    path = write(tmp_path / "r.jsonl", rows)
    with pytest.raises(InputError, match=message):
        read(config(path))
    reading = read(config(path, on_error=OnError.skip))
    assert (len(reading.dialogues), len(reading.refused)) == (1, 1)


def test_refuses_what_is_no_file_of_reviews(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("{'reviewerID': 'U'}\n")  # as the oldest files are
    with pytest.raises(InputError, match=r"r\.jsonl:1: not JSON: .*; one object in braces on each line is read"):
        read(config(path))
    write(path, [{"id": "a", "querier": "U"}])
    with pytest.raises(InputError, match=r"no `reviewerID` or `user_id` says who wrote it, the record has id, querier"):
        read(config(path))
    broken = tmp_path / "r.json.gz"
    broken.write_bytes(gzip.compress(os.urandom(99))[:50])
    with pytest.raises(InputError, match=r"r\.json\.gz: cannot be unpacked"):
        read(config(broken))
    with pytest.raises(InputError, match=r"data\.path: .* is a folder; give one file"):
        read(config(tmp_path))


def test_refuses_settings_that_do_not_go_together(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [review("U", "I", 1)])
    with pytest.raises(InputError, match=r"data\.filters=dpl chooses items by their descriptions; say data\.items="):
        read(config(path, filters=Filters.dpl))
    with pytest.raises(InputError, match=r"data\.items: no such file or folder: .*nothing\.jsonl; nearest in"):
        read(config(path, items=tmp_path / "nothing.jsonl"))
    with pytest.raises(InputError, match=r"data\.filters=min_reviewers_4 brings parts of its own: data\.split=given"):
        read(config(path, filters=Filters.min_reviewers_4, split=SplitBy.time))
    leaking = {"review": replace(composed().tasks["review"], query="{text}")}
    with pytest.raises(InputError, match=r"data\.tasks\.review\.query names \{text\}, which no record has; they have"):
        read(config(path, tasks=leaking))
    with pytest.raises(InputError, match=r"data\.tasks has no `review`; take it from the file: data=reviews"):
        read(config(path, tasks={}))
    with pytest.raises(InputError, match=r"items\.jsonl:1: none of parent_asin, asin, item_id names the item"):
        read(config(path, items=write(tmp_path / "items.jsonl", [{"title": "?"}])))
    with pytest.raises(InputError, match=r"no review of .* passes data\.filters=dpl; .*removed; 0 reviews"):
        read(config(path, items=write(tmp_path / "items.jsonl", [{"asin": "I", **GOOD}]), filters=Filters.dpl))
