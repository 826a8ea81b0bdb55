"""`querier predict`: a line in, a line out; bad lines are named; nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from querier.cli import main
from querier.commands.replies import question

GOOD = [
    {"id": 7, "query": "How do bees work?", "querier": "querier 1"},
    {"query": "How do maps work?"},
    {"query": "How do bees work?", "history": [{"query": "How do maps work?", "reply": "Slowly, my friend."}]},
    {"query": "How do bees work?", "history": [["How do maps work?", "Slowly, my friend."]]},
]
WORDS = ["run=run", "max_new_tokens=4", "into=replies.jsonl", "input=queries.jsonl"]


def write(lines: list[str]) -> None:
    Path("queries.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def test_fields_stay_and_a_reply_is_added(work: Path) -> None:
    write([json.dumps(record) for record in GOOD])
    assert main(["predict", *WORDS]) == 0
    found = [json.loads(line) for line in Path("replies.jsonl").read_text().splitlines()]
    assert [{key: value for key, value in record.items() if key != "reply"} for record in found] == GOOD
    assert all(isinstance(record["reply"], str) for record in found)
    assert found[2]["reply"] == found[3]["reply"]


def test_names_that_the_run_does_not_know_are_said(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strangers = [{"query": "How do bees work?", "querier": name} for name in ("qerier 3", "qerier 3", "Zoe")]
    write([json.dumps(record) for record in [*GOOD, *strangers]])
    assert main(["predict", *WORDS]) == 0
    said = capsys.readouterr().err
    assert "3 of 7 lines name 2 queriers whom the run does not know" in said
    assert "'qerier 3'; nearest: querier 3" in said


def test_prompts_that_are_too_long_are_counted(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write([json.dumps(GOOD[0]), *(json.dumps({"query": f"{number} " + "so long " * 2000}) for number in range(2))])
    assert main(["predict", *WORDS]) == 0
    assert "2 prompts were longer than decoder.max_length of the run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "queries.jsonl:2: not JSON"),
        ("[]", "queries.jsonl:2: a JSON object"),
        ('{"querier": "x"}', "queries.jsonl:2: field `query` is missing"),
        ('{"query": " "}', "queries.jsonl:2: field `query` is empty"),
        ('{"query": 3}', "queries.jsonl:2: field `query` must be a text, got 3"),
        (r'{"query": "q", "note": "\ud83d"}', r"queries.jsonl:2: holds half of a surrogate pair, \ud83d"),
        ("[" * 100_000, "queries.jsonl:2: not JSON that can be read"),
        ('{"query": ' + "7" * 5000 + "}", "queries.jsonl:2: not JSON that can be read"),
        ('{"query": "q", "histroy": []}', "queries.jsonl:2: field `histroy`: unknown, and too close to `history`"),
        ('{"query": "q", "Querier": "x"}', "queries.jsonl:2: field `Querier`: unknown, and too close to `querier`"),
        ('{"query": "q", "responder": "tutr"}', "the run knows no responder 'tutr'; without one"),
        ('{"query": "q", "history": "x"}', "field `history` must be a list"),
        ('{"query": "q", "history": [3]}', "item 1 of `history`: a history item is an object"),
        ('{"query": "q", "history": [["a", "b"], {"reply": "c"}]}', "item 2 of `history`: field `query` is missing"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(
    work: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    write([json.dumps(GOOD[0]), line])
    assert main(["predict", *WORDS]) == 2
    assert message in capsys.readouterr().err
    assert not Path("replies.jsonl").exists()


def test_bad_lines_are_left_out_on_request_and_kept_beside(work: Path) -> None:
    write([json.dumps(GOOD[0]), "{", json.dumps(GOOD[1])])
    assert main(["predict", *WORDS, "on_error=skip"]) == 0
    assert len(Path("replies.jsonl").read_text().splitlines()) == 2
    refused = [json.loads(line) for line in Path("replies.refused.jsonl").read_text().splitlines()]
    assert [one["line"] for one in refused] == [2]


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b'{"query": "\xff"}\n', "queries.jsonl:1: not UTF-8 at byte")]
)
def test_a_file_that_is_no_text_is_refused(
    work: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    Path("queries.jsonl").write_bytes(content)
    assert main(["predict", *WORDS]) == 2
    assert message in capsys.readouterr().err


def test_an_existing_file_is_not_replaced_unasked(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write([json.dumps(GOOD[1])])
    Path("replies.jsonl").write_text("mine")
    assert main(["predict", *WORDS]) == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert Path("replies.jsonl").read_text() == "mine"
    assert main(["predict", *WORDS, "overwrite=true"]) == 0


@pytest.mark.parametrize(
    ("into", "message"),
    [("queries.jsonl/replies.jsonl", "cannot be written (Not a directory)"), ("outputs", "outputs is a folder")],
)
def test_where_nothing_can_be_written_is_found_before_the_work(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], into: str, message: str
) -> None:
    write([json.dumps(GOOD[1])])
    monkeypatch.setattr("querier.commands.predict.Responder.load", lambda *_: pytest.fail("loaded"))
    assert main(["predict", *WORDS[:2], "input=queries.jsonl", f"into={into}", "overwrite=true"]) == 2
    assert message in capsys.readouterr().err


def test_the_responder_of_a_line_is_read() -> None:
    assert question({"query": "Why?", "responder": "Tom"}).responder == "Tom"
    assert question({"query": "Why?"}).responder is None
