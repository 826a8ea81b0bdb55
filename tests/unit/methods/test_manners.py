"""What is counted of how somebody talks, and what of it is worth telling."""

from __future__ import annotations

import math

import pytest

from querier.data.stylometry import traits
from querier.methods.manners import Others, certainty, sentence

PLAIN = ["how do maps work", "tell me of rust", "what is snow", "how do bees live"]
LOUD = ["wow! rockets! again!", "rockets fly! how great!", "more on rockets please!", "rockets! rockets!"]


def test_traits_by_hand() -> None:
    """Words, then `!`, `?`, a pause, politeness, and mood."""
    assert traits("Please, what a lovely day!") == pytest.approx([math.log(6), 1, 0, 0, 1, 1])
    assert traits("Is this ... awful?") == pytest.approx([math.log(4), 0, 1, 1, 0, -1])
    assert traits("good and bad") == pytest.approx([math.log(4), 0, 0, 0, 0, 0])
    assert traits("请告诉我！") == pytest.approx([math.log(5), 1, 0, 0, 1, 0])


def test_only_what_stands_out_is_told() -> None:
    others = Others([PLAIN, PLAIN, PLAIN, LOUD])
    found = others.standing_out(LOUD)
    assert found[1] == "many exclamation marks"
    assert found[2] is None  # nobody asks with a question mark
    assert others.standing_out(PLAIN)[1] is None  # like most people
    assert others.standing_out([]) == [None] * 6


def test_a_single_text_says_less_than_several() -> None:
    """Half of the people exclaim: mean and deviation are ½. One text counts ½ of a deviation, four count 4/5."""
    others = Others([PLAIN, LOUD])
    assert others.standing_out(LOUD[:1])[1] is None
    assert others.standing_out(LOUD)[1] == "many exclamation marks"
    assert others.standing_out(PLAIN)[1] == "few exclamation marks"


def test_nobody_stands_out_alone() -> None:
    assert Others([LOUD]).standing_out(LOUD) == [None] * 6
    assert Others([]).standing_out(LOUD) == [None] * 6
    assert sentence("writes", "messages", LOUD, Others([LOUD])) == ""


def test_salient_words_are_said_more_than_by_others() -> None:
    others = Others([PLAIN * 5, ["rockets once"], ["the sea the sea"] * 10])
    assert others.salient(LOUD) == ["rockets"]
    assert others.salient(PLAIN) == []  # `how` and `do` tell of nobody
    assert others.salient([]) == []


def test_the_certainty_of_a_word_by_hand() -> None:
    """One said it 4 times in 10 words, the others 2 times in 23: the prior is 100 · 3/24 = 12.5 words."""
    here, there = 4 + 12.5, 2 + 12.5
    odds = math.log(here / (110 - here)) - math.log(there / (123 - there))
    assert certainty(4, 10, 2, 23) == pytest.approx(odds / math.sqrt(1 / here + 1 / there))
    assert certainty(2, 20, 10, 100) == pytest.approx(0.0, abs=0.1)  # as often as the others


def test_ones_own_texts_are_not_the_others() -> None:
    """Counted among the others, half of all `rockets` would be theirs."""
    others = Others([PLAIN * 5, LOUD])
    assert others.salient(LOUD) == ["rockets"]
    assert Others([LOUD]).salient(LOUD) == []  # nobody is left


def test_salient_characters_of_chinese() -> None:
    others = Others([["今天天气很好"] * 8, ["我们去公园"] * 8])
    assert "猫" in others.salient(["猫在睡觉", "猫很可爱", "看那只猫", "猫！", "小猫", "大猫"])


def test_a_sentence_reads_well() -> None:
    long = [f"{text} and whatever else there may be to say of it" for text in PLAIN]
    others = Others([long, long, PLAIN * 3, LOUD])
    assert sentence("writes", "messages", LOUD, others) == (
        'writes short messages with many exclamation marks, many polite words, a glad tone, the word "rockets"'
    )
    assert sentence("writes", "messages", long, others) == "writes long messages"
