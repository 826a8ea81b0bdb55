"""Which text the decoder reads of a dialogue."""

from __future__ import annotations

from querier.config import PromptConfig
from querier.methods.prompts import render_plain, renderer
from querier.types import Dialogue, Turn


def dialogue(*turns: tuple[str, str]) -> Dialogue:
    return Dialogue("d", "Ann", "Tutor", tuple(Turn(*turn) for turn in turns), 0, "s")


ONE = dialogue(("Ann", "What is yeast?"), ("Tutor", "Tiny living things."))


def test_the_name_stands_before_the_first_words() -> None:
    rendered = renderer(PromptConfig())(ONE, None)
    assert rendered.turns == (("user", "Ann: What is yeast?"),)
    assert rendered.reply == "Tiny living things."
    assert rendered.names == ("Ann", "Tutor")


def test_another_name_can_be_shown() -> None:
    rendered = renderer(PromptConfig())(ONE, "Bob")
    assert rendered.turns == (("user", "Bob: What is yeast?"),)
    assert rendered.names[0] == "Bob"


def test_a_nameless_prompt_holds_no_name_whatever_is_to_be_shown() -> None:
    hidden = renderer(PromptConfig(name_querier=False))
    assert hidden(ONE, None) == hidden(ONE, "Bob")
    assert hidden(ONE, None).turns == (("user", "What is yeast?"),)
    assert hidden(ONE, None).names == ("User", "Tutor")


def test_a_querier_without_a_name_is_shown_without_one() -> None:
    nobody = Dialogue("d", "", "Tutor", (Turn("", "What is yeast?"), Turn("Tutor", "Things.")), 0, "s")
    assert renderer(PromptConfig())(nobody, None).turns == (("user", "What is yeast?"),)


def test_turns_of_one_role_in_a_row_are_joined_and_roles_alternate() -> None:
    long = dialogue(
        ("Ann", "Hello."),
        ("Bob", "Me too."),
        ("Tutor", "Yes?"),
        ("Tutor", "I listen."),
        ("Ann", "Why?"),
        ("Tutor", "So."),
    )
    assert render_plain(long, "Ann").turns == (
        ("user", "Ann: Hello.\nMe too."),
        ("assistant", "Yes?\nI listen."),
        ("user", "Why?"),
    )


def test_what_the_responder_said_first_is_quoted_before_the_query() -> None:
    opened = dialogue(("Tutor", "Good day."), ("Tutor", "Ask."), ("Ann", "Why?"), ("Tutor", "So."))
    assert render_plain(opened, None).turns == (("user", '"Good day.\nAsk."\nWhy?'),)
    assert render_plain(opened, "Ann").turns == (("user", '"Good day.\nAsk."\nAnn: Why?'),)


def test_the_reply_is_never_in_the_prompt() -> None:
    asked = dialogue(("Ann", "Why?"), ("Tutor", "Why what?"), ("Ann", "All."), ("Tutor", "A secret."))
    assert "secret" not in str(render_plain(asked, "Ann").turns)
