"""Texts as words, in every language."""

from __future__ import annotations

from querier.data.words import apart, words


def test_chinese_and_japanese_are_cut_into_characters_and_others_into_words() -> None:
    assert words("我喜欢Python3，好") == ["我", "喜", "欢", "python3", "好"]
    assert words("コーヒー") == ["コ", "ー", "ヒ", "ー"]
    assert words("Où est-ce?") == ["où", "est", "ce"]
    assert words("cafe\u0301") == ["café"]  # composed and decomposed letters are the same
    assert words("?!") == ["?", "!"]
    assert words("  ") == []


def test_characters_are_set_apart_and_the_rest_stays() -> None:
    assert apart("我 say 好!").split() == ["我", "say", "好", "!"]
    assert apart("As it is. ") == "As it is. "
