"""Texts as words, the same for metrics, retrieval and descriptions."""

from __future__ import annotations

import re
import unicodedata

REMEMBERED = 2**16  # texts of which something is kept, so that a history that is read again costs nothing

_CJK = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_CHARACTER = re.compile(f"([{_CJK}])")
_ASCII = re.compile(r"[a-z0-9]+")


def words(text: str) -> list[str]:
    """Lower-cased words; Chinese and Japanese by character; the visible characters of a text without any word."""
    if text.isascii():
        found = _ASCII.findall(text.lower())
    else:
        text = apart(unicodedata.normalize("NFKC", text).lower())
        # Marks belong to words: without them the syllables of Hindi or Thai fall apart.
        found = "".join(letter if unicodedata.category(letter)[0] in "LNM" else " " for letter in text).split()
    return found or [letter for letter in text if not letter.isspace()]


def apart(text: str) -> str:
    """The text with a space around each Chinese and Japanese character."""
    return _CHARACTER.sub(r" \1 ", text)
