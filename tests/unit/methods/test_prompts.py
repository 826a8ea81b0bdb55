"""Which text the decoder reads of a dialogue."""

from __future__ import annotations

from tiny import tiny_tokenizer

from querier.choices import Retrieval, Source
from querier.config import PromptConfig
from querier.data.requests import Exchange, Reading
from querier.methods.prompts import render_plain, renderer
from querier.methods.retrieval import Item
from querier.models.tokens import Tokenizer
from querier.types import Dialogue, Turn


def dialogue(*turns: tuple[str, str]) -> Dialogue:
    return Dialogue("d", "Ann", "Tutor", tuple(Turn(*turn) for turn in turns), 0, "s")


ONE = dialogue(("Ann", "What is yeast?"), ("Tutor", "Tiny living things."))


def test_the_name_stands_before_the_first_words() -> None:
    rendered = renderer(PromptConfig())(Reading(ONE))
    assert rendered.turns == (("user", "Ann: What is yeast?"),)
    assert rendered.reply == "Tiny living things."
    assert rendered.names == ("Ann", "Tutor")


def test_another_name_can_be_shown() -> None:
    rendered = renderer(PromptConfig())(Reading(ONE, "Bob"))
    assert rendered.turns == (("user", "Bob: What is yeast?"),)
    assert rendered.names[0] == "Bob"


def test_a_nameless_prompt_holds_no_name_whatever_is_to_be_shown() -> None:
    hidden = renderer(PromptConfig(name_querier=False))
    assert hidden(Reading(ONE)) == hidden(Reading(ONE, "Bob"))
    assert hidden(Reading(ONE)).turns == (("user", "What is yeast?"),)
    assert hidden(Reading(ONE)).names == ("User", "Tutor")


def test_a_querier_without_a_name_is_shown_without_one() -> None:
    nobody = Dialogue("d", "", "Tutor", (Turn("", "What is yeast?"), Turn("Tutor", "Things.")), 0, "s")
    assert renderer(PromptConfig())(Reading(nobody)).turns == (("user", "What is yeast?"),)


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


ITEMS = [("Bob", Item("What is salt?", "A crystal.", "Bob")), ("Ann", Item("What is rust?", "Old iron."))]


def test_earlier_dialogues_stand_before_the_own_turns_the_most_relevant_last() -> None:
    opened = dialogue(
        ("Tutor", "Good day."), ("Ann", "Why?"), ("Tutor", "Why what?"), ("Ann", "All."), ("Tutor", "So.")
    )
    rendered = render_plain(opened, "Ann", ITEMS, "[About Ann: asks much.]")
    assert rendered.turns == (
        ("user", "Ann: What is rust?"),
        ("assistant", "Old iron."),
        ("user", "Bob: What is salt?"),
        ("assistant", "A crystal."),
        ("user", '[About Ann: asks much.]\n"Good day."\nAnn: Why?'),
        ("assistant", "Why what?"),
        ("user", "All."),
    )
    assert rendered.reply == "So."


def test_without_a_template_each_earlier_dialogue_is_by_who_asked_it() -> None:
    tokenizer = Tokenizer(tiny_tokenizer(chat=False), False, 192)
    ids = tokenizer.prompt([render_plain(ONE, "Ann", ITEMS, "[About Ann: asks much.]")]).input_ids[0]
    assert tokenizer.tokenizer.decode(ids) == (
        "Ann: What is rust?\nTutor: Old iron.\nBob: What is salt?\nTutor: A crystal.\n"
        "[About Ann: asks much.]\nAnn: What is yeast?\nTutor:"
    )
    blind = [(None, item) for _, item in ITEMS]
    ids = tokenizer.prompt([render_plain(ONE, None, blind)]).input_ids[0]
    assert "Ann" not in tokenizer.tokenizer.decode(ids)
    assert "Bob" not in tokenizer.tokenizer.decode(ids)


def test_own_items_bear_the_name_that_is_shown() -> None:
    render = renderer(PromptConfig(source=Source.own, items=2, by=Retrieval.recency))
    history = [Exchange("Newest?", "1"), Exchange("Newer?", "2"), Exchange("Old?", "3")]
    rendered = render(Reading(ONE, "Bob", history))
    assert rendered.turns[::2] == (("user", "Bob: Newer?"), ("user", "Bob: Newest?"), ("user", "Bob: What is yeast?"))
    assert rendered.named == (0, 2, 4)
    hidden = renderer(PromptConfig(name_querier=False, source=Source.own, items=2, by=Retrieval.recency))
    assert hidden(Reading(ONE, "Bob", history)) == hidden(Reading(ONE, None, history))
    assert hidden(Reading(ONE, None, history)).turns[0] == ("user", "Newer?")
    assert hidden(Reading(ONE)).turns == (("user", "What is yeast?"),)


def test_a_prompt_that_is_too_long_loses_the_least_relevant_first() -> None:
    tokenizer = Tokenizer(tiny_tokenizer(), False, 120)
    ids = tokenizer.prompt([render_plain(ONE, "Ann", ITEMS * 8)]).input_ids[0]
    text = tokenizer.tokenizer.decode(ids)
    assert len(ids) == 120
    assert text.endswith("Ann: What is yeast?</s><assistant>")
    assert "A crystal." in text
    assert text.count("A crystal.") < 8
