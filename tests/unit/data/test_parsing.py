"""Each fault of a record is refused with its field, what was got and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from querier.data.parsing import Parser, counted, near_miss, nearest_first
from querier.errors import InputError
from querier.types import Turn


def record(**changes: Any) -> dict[str, Any]:
    """A record without fault, changed; a field of None is left out."""
    turns = [{"speaker": "Ann", "text": "Why?"}, {"speaker": "Bob", "text": "Because."}]
    full = {"id": "d1", "querier": "Ann", "responder": "Bob", "turns": turns, "time": 3} | changes
    return {name: value for name, value in full.items() if value is not None}


def turns(*spoken: tuple[str, str]) -> list[dict[str, str]]:
    return [{"speaker": speaker, "text": text} for speaker, text in spoken]


def test_reads_every_field_and_keeps_the_unknown_ones() -> None:
    dialogue = Parser()(record(scene="s", item="guitar", split="test", mood="glad", stars=[1]), 9)
    assert (dialogue.id, dialogue.querier, dialogue.responder, dialogue.time) == ("d1", "Ann", "Bob", 3)
    assert (dialogue.scene, dialogue.item, dialogue.split) == ("s", "guitar", "test")
    assert dialogue.turns == (Turn("Ann", "Why?"), Turn("Bob", "Because."))
    assert (dialogue.query, dialogue.reply) == ("Why?", "Because.")
    assert dialogue.extra == {"mood": "glad", "stars": [1]}


def test_defaults() -> None:
    dialogue = Parser()({"id": "d1", "querier": "Ann", "query": "Why?", "reply": "Because.", "item": None}, 9)
    assert dialogue.responder == "assistant"
    assert dialogue.turns == (Turn("Ann", "Why?"), Turn("assistant", "Because."))
    assert (dialogue.time, dialogue.scene, dialogue.item, dialogue.split) == (9, "d1", None, None)


def test_the_query_is_the_queriers_last_turn_even_when_the_responder_began() -> None:
    spoken = turns(("Bob", "Hello."), ("Ann", "Why?"), ("Bob", "Well."), ("Bob", "Because."))
    assert Parser()(record(turns=spoken), 0).query == "Why?"


def test_renames_fields_and_keeps_the_files_own_one_of_that_name() -> None:
    dialogue = Parser({"time": "order", "querier": "customer"})(
        record(querier=None, customer="Ann", order=7, time="yesterday"), 0
    )
    assert (dialogue.time, dialogue.querier, dialogue.extra) == (7, "Ann", {"time": "yesterday"})


def test_what_a_turn_holds_besides_speaker_and_text_is_kept() -> None:
    spoken = turns(("Ann", "Why?"), ("Bob", "Because."))
    spoken[0]["tone"] = "cross"
    assert Parser()(record(turns=spoken), 0).extra == {"turns": [{"tone": "cross"}, {}]}


def test_names_may_be_whole_numbers() -> None:
    spoken = turns(("7", "Why?"), ("8", "Because."))
    read = Parser()(record(id=17, querier=7, responder=8, scene=3, item=0, turns=spoken), 0)
    assert (read.id, read.querier, read.responder, read.scene, read.item) == ("17", "7", "8", "3", "0")


def test_a_whole_number_written_as_a_float_is_a_time() -> None:
    assert Parser()(record(time=12.0), 0).time == 12


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1], r"must be a JSON object .* got \[1\] \(list\)"),
        (
            record(id=None),
            r"field `id`: missing; the record has `querier`, .*; write it, or .* data.fields.id=<its name>",
        ),
        (record(querier=None), r"field `querier`: missing"),
        (record(turns=None), r"field `turns`: missing \(as are `query` and `reply`\)"),
        (record(turns=None, query="Why?"), r"field `reply`: missing"),
        (record(query="Why?", reply="No."), r"field `query`: given beside `turns`"),
        (record(id=1.5), r"field `id`: must be text, got 1.5 \(float\); write it as text"),
        (record(id=True), r"field `id`: must be text, got True \(bool\)"),
        (record(querier=["Ann"]), r"field `querier`: must be text, got \['Ann'\] \(list\)"),
        (record(scene=[4]), r"field `scene`: must be text"),
        (record(item=4.0), r"field `item`: must be text"),
        (record(querier="  "), r"field `querier`: must not be empty"),
        (record(querier="Bob"), r"field `responder`: 'Bob' is the querier too"),
        (record(time="noon"), r"field `time`: must be a whole number, got 'noon' \(str\); .*Unix seconds"),
        (record(time=True), r"field `time`: must be a whole number, got True \(bool\)"),
        (record(time=1.5), r"field `time`: must be a whole number, got 1.5 \(float\)"),
        (record(time=2**63), r"field `time`: must fit 64 bits, got 9223372036854775808"),
        (record(split="tests"), r"field `split`: must be one of train, .* got 'tests' \(did you mean `test`\?\)"),
        (record(split=1), r"field `split`: must be text"),
        (record(turns="Why?"), r"field `turns`: must be a list like .* got 'Why\?' \(str\)"),
        (record(turns=[]), r"field `turns`: must hold two turns at least, .* got 0"),
        (record(turns=turns(("Bob", "Hi"))), r"must hold two turns at least, a query and the reply, got 1"),
        (record(turns=["a", "b"]), r"turn 1 of 2: must be an object like .* got 'a' \(str\)"),
        (record(turns=[{"role": "user"}, {}]), r"turn 1 of 2: `speaker` is missing; the turn has `role`"),
        (record(turns=turns(("Ann", "Why?"), ("Bob", " \n"))), r"turn 2 of 2, the reply's text: must not be empty"),
        (record(turns=turns(("Ann", ""), ("Bob", "No."))), r"turn 1 of 2, text: must not be empty"),
        (record(turns=turns(("Ann", 3), ("Bob", "No."))), r"turn 1 of 2, text: must be text, got 3"),  # type: ignore[arg-type]
        (record(turns=turns(("Ann", "\ud800"), ("Bob", "No."))), r"text: holds half of a surrogate pair"),
        (
            record(turns=turns(("Bob", "Hi"), ("Ann", "Why?"))),
            r"last turn must be the responder's \('Bob'\), got 'Ann'",
        ),
        (record(turns=turns(("Bob", "Hi"), ("Bob", "So."))), r"no turn before the reply is the querier's \('Ann'\)"),
        (record(turns=turns(("Anne", "Hi"), ("Bob", "So."))), r"speaker 'Anne' is neither .*did you mean `Ann`\?"),
        (record(turns=None, query="Why?", reply=""), r"field `reply`: must not be empty"),
    ],
)
def test_refuses(bad: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Parser()(bad, 0)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("responer", "responder"),
        ("Time", "time"),
        ("queriers", "querier"),
        ("turn", "turns"),
        ("splt", "split"),
        ("ID", "id"),
    ],
)
def test_refuses_a_near_miss_of_a_known_field(name: str, meant: str) -> None:
    with pytest.raises(InputError, match=rf"field `{name}`: unknown, and too close to `{meant}`"):
        Parser()(record(**{meant: None, name: "x"}), 0)


@pytest.mark.parametrize("name", ["responder_id", "times", "queriers", "turn", "reply_to", "query_id", "ID"])
def test_a_name_near_a_field_that_the_record_has_is_one_of_its_own(name: str) -> None:
    assert Parser()(record(**{name: "x"}), 0).extra == {name: "x"}
    spoken = record(turns=None, query="Why?", reply="So.", **{name: "x"})
    assert Parser()(spoken, 0).extra == {name: "x"}


@pytest.mark.parametrize("name", ["title", "rating", "uid", "pid", "order", "cluster_id", "timestamp", "score", "text"])
def test_takes_other_names_for_names_of_their_own(name: str) -> None:
    assert Parser()(record(**{name: "x"}), 0).extra == {name: "x"}


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [
        ({}, {"querier": None, "user": "Ann"}, r"field `querier`: missing; .* say data.fields.querier=user$"),
        ({}, {"querier": None, "Author": "Ann"}, r"; say data.fields.querier=Author$"),
        ({"querier": "who"}, {"querier": None, "user": "Ann"}, r"\(read from `who`\): missing; .*querier=user$"),
        ({"item": "user"}, {"querier": None, "user": "Ann"}, r"; write it, or .* data.fields.querier=<its name>$"),
        ({}, {"querier": None, "nick": "Ann"}, r"the record has `id`, `nick`, .* say data.fields.querier=<its name>$"),
        (
            {},
            {"turns": None, "prompt": "Why?", "output": "So."},
            r"field `turns`: missing \(as are `query` and `reply`\); the record has .*"
            r"; say data.fields.query=prompt data.fields.reply=output$",
        ),
        ({}, {"turns": None, "query": "Why?", "answer": "So."}, r"field `reply`: missing; .*data.fields.reply=answer$"),
        ({}, {"turns": None}, r"say data.fields.query=<its name> data.fields.reply=<its name>$"),
    ],
)
def test_a_missing_field_comes_with_the_mapping_that_may_be_meant(
    fields: dict[str, str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Parser(fields)(record(**changes), 0)


def test_a_field_that_only_one_record_lacks_is_to_be_written_there() -> None:
    parser = Parser()
    parser(record(user="a7"), 0)
    with pytest.raises(InputError, match=r"field `querier`: missing; .*; write it, or leave the dialogue out$"):
        parser(record(querier=None, user="a7"), 1)


def test_a_mapping_may_not_take_a_needed_field_away() -> None:
    with pytest.raises(InputError, match=r"data.fields.time=id: every record needs `id` for itself; name another"):
        Parser({"time": "id"})
    short = record(turns=None, id=None, key="k", query="Why?", time=None)
    assert Parser({"scene": "id", "id": "key"})(short | {"id": "s1", "reply": "So."}, 0).scene == "s1"
    with pytest.raises(InputError, match=r"`query`: missing, for data.fields.reply=query reads it as `reply`; name an"):
        Parser({"reply": "query"})(record(turns=None, query="Why?"), 0)


@pytest.mark.parametrize("when", ["2024-01-05", "2024-01-05T10:00:00Z", "2024-01-05 10:00:00.5+01:00"])
def test_a_date_as_text_tells_how_it_becomes_a_number(when: str) -> None:
    message = (
        r"got '2024.*; write any number .* int\(datetime\.fromisoformat\(text\)\.timestamp\(\)\); .*their order is"
    )
    with pytest.raises(InputError, match=message):
        Parser()(record(time=when), 0)


def test_a_number_in_quotes_is_to_be_written_without() -> None:
    with pytest.raises(InputError, match=r"field `time`: .* got '1700000000' \(str\); write it without quotes; "):
        Parser()(record(time="1700000000"), 0)


def test_counts_have_a_singular() -> None:
    assert (counted(1, "record"), counted(0, "record"), counted(2, "record")) == ("1 record", "0 records", "2 records")


def test_a_mapped_name_is_no_near_miss() -> None:
    assert Parser({"time": "times"})(record(time=None, times=5), 0).time == 5


def test_a_missing_field_tells_where_it_was_to_be_read_from() -> None:
    with pytest.raises(InputError, match=r"field `time` \(read from `when`\): must be a whole number, got 'x'"):
        Parser({"time": "when"})(record(when="x"), 0)


def test_refuses_to_map_a_field_that_does_not_exist() -> None:
    with pytest.raises(InputError, match=r"data.fields.tiem: there is no field `tiem` \(did you mean `time`\?\)"):
        Parser({"tiem": "order"})
    with pytest.raises(InputError, match=r"data.fields.time must be a name in the file, got ''"):
        Parser({"time": ""})


def test_refuses_a_mapped_name_that_no_record_has() -> None:
    parser = Parser({"time": "ordre"})
    parser(record(order=1), 0)
    with pytest.raises(InputError, match=r"data.fields.time=ordre: no record has a field `ordre`; they have `order`"):
        parser.check_fields_used()


def test_what_most_records_do_decides_whether_times_are_given() -> None:
    parser = Parser()
    assert [parser.timed(one) for one in (record(), record(time=None), record(time=float("nan")))] == [
        True,
        False,
        False,
    ]
    assert parser(record(time=None), 1).time == 1  # nothing is expected yet
    parser.expect_times(199, 1)
    assert parser(record(), 0).time == 3
    with pytest.raises(InputError, match="`time`: missing, but 199 of 200 records have it; give it in all records or"):
        parser(record(time=None), 1)
    parser.expect_times(1, 199)
    assert parser(record(time=None), 1).time == 1
    with pytest.raises(InputError, match="`time`: given, but 199 of 200 records have none; give it in all records or"):
        parser(record(), 1)
    parser.expect_times(2, 2)
    with pytest.raises(InputError, match="missing, but 2 of 4 records have it"):
        parser(record(time=None), 1)


def test_nearest_names() -> None:
    assert near_miss("validaton", ("train", "validation")) == "validation"
    assert near_miss("xyz", ("train", "validation")) is None
    assert nearest_first("Jon", ["Zoe", "John", "Joan"])[-1] == "Zoe"
