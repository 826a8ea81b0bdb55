from __future__ import annotations

import pytest

from querier.data.templates import Template
from querier.errors import InputError


def test_a_line_without_its_field_is_left_out() -> None:
    template = Template("Review this.\nItem: {item}\nStars: {stars} of {most}", "x")
    assert template({"item": "A {brace}", "stars": 4.0, "most": 5}) == "Review this.\nItem: A {brace}\nStars: 4 of 5"
    assert template({"item": " ", "stars": 4.5, "most": None}) == "Review this."
    assert Template("{text}", "x")({}) == ""
    assert Template("{{as it is}} {a}", "x")({"a": ["one", "", None, "two"]}) == "{as it is} one two"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"data\.tasks\.a\.query is empty; write a text"),
        ("{text", r"data\.tasks\.a\.query: .* in '\{text'; a brace that is meant as such is written twice"),
        ("{}", r"\{\} in '\{\}' is no name of a field"),
        ("{a.b}", r"\{a\.b\} in '\{a\.b\}' is no name of a field"),
    ],
)
def test_refuses_what_cannot_be_filled(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Template(text, "data.tasks.a.query")


def test_refuses_a_name_that_no_record_has() -> None:
    with pytest.raises(InputError, match=r"x names \{txet\} \(did you mean \{text\}\?\), which no record has; they ha"):
        Template("{txet}", "x").check({"text", "id"})
