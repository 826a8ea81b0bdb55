"""Stylometry: what a text shows of how its writer writes, whatever it is about, as counts.

A sentence embedding tells mostly what a text is about, and hides how long it is, how it is punctuated and how formal or
friendly it sounds. These are the features by which authors have long been told apart, and a history whose items carry
them tells far more of the replies to come.

References:
    Stamatatos: A survey of modern authorship attribution methods, JASIST 2009, sections 2.1 and 2.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from querier.data.words import REMEMBERED, apart, words
from querier.types import STYLE

PAUSE = re.compile(r"\.\.\.|…|—|–| - |--")
POLITE = frozenset("please thanks thank sorry kindly pardon welcome appreciate grateful regards 请 谢 您".split())
GLAD = frozenset(
    "amazing awesome beautiful best brilliant cheerful dear delighted enjoy excellent excited fantastic fine friend "
    "fun glad good gorgeous great happy hope hurray joy kind love lovely marvellous nice perfect pleasant pleased "
    "pleasure pretty proud super sweet terrific warm well wonderful yay yes 好 爱 喜 乐".split()
)
GLUM = frozenset(
    "afraid angry annoyed annoying awful bad boring broken cruel damn dead dreadful dull fail failed fault hate "
    "horrible hurt idiot ill lonely lost mad miserable mess nasty pain poor problem sad scared shame sick stupid "
    "terrible trouble ugly unhappy upset useless weird worried worse worst wrong 坏 恨 哭 怒".split()
)
CONTRACTION = re.compile(
    r"\b(?:\w+(?:n['’]t|['’](?:m|re|ve|ll|d))|(?:he|here|it|let|she|that|there|what|who)['’]s)\b", re.IGNORECASE
)
INFORMAL = frozenset(
    "awesome bit bucks bunch cool crap damn dude folks gonna gotta guess guys haha hey hi kid kids kinda lol lot lots "
    "ok okay pretty sorta stuff super sure thing things wanna wow yay yeah yep yup".split()
)
FORMAL = frozenset(
    "accordingly additionally albeit although approximately consequently considerable despite due furthermore hence "
    "however indeed merely moreover nevertheless nonetheless obtain overall particularly purchase purchased regarding "
    "require required respectively shall subsequently sufficient therefore thus upon whereas whilst whom".split()
)
COMMA, STOP, BRACKET = re.compile(r"[,，、]"), re.compile(r"[.。]"), re.compile(r"[(（]")
APOSTROPHE, DIGIT = re.compile(r"['’]"), re.compile(r"\d")
CROWDED = re.compile(r"[.!?][A-Z]")
FIRST_PERSON = re.compile(r"\bI\b|我")


@lru_cache(maxsize=REMEMBERED)
def traits(text: str) -> np.ndarray:
    """Words of a text on a logarithmic scale, then 1 or 0 for each mark and politeness, and the mood, −1 to 1; (6,)."""
    said = words(text)
    mood = sum((word in GLAD) - (word in GLUM) for word in said)
    marks = ("!" in text or "！" in text, "?" in text or "？" in text, PAUSE.search(text) is not None)
    polite = any(word in POLITE for word in said)
    return np.array([np.log1p(len(said)), *marks, polite, np.sign(mood)], dtype=float)


@lru_cache(maxsize=REMEMBERED)
def formality(text: str) -> float:
    """1 where formal words outnumber informal ones and contractions, −1 the other way round, else 0; English alone."""
    score = sum((word in FORMAL) - (word in INFORMAL) for word in words(text)) - len(CONTRACTION.findall(text))
    return float(np.sign(score))


def stylometry(text: str) -> np.ndarray:
    """The S features of one text, (S,) float32.

    In this order: words and characters, logarithmic; mood, politeness, formality; whether there are exclamation marks,
    questions, pauses; commas and full stops per word; whether a sentence begins without a space; apostrophes per word;
    whether there are digits; pauses and opening brackets per word; share of capitals; whether it begins in lower case;
    characters per word; first persons per word. A word stands between spaces, of Chinese and Japanese it is a letter.
    """
    size, said = max(1, len(text)), max(1, len(apart(text).split()))
    length, exclaims, asks, pauses, polite, mood = traits(text)
    return np.array(
        [
            length,
            np.log1p(len(text)),
            mood,
            polite,
            formality(text),
            exclaims,
            asks,
            pauses,
            len(COMMA.findall(text)) / said,
            len(STOP.findall(text)) / said,
            CROWDED.search(text) is not None,
            len(APOSTROPHE.findall(text)) / said,
            DIGIT.search(text) is not None,
            len(PAUSE.findall(text)) / said,
            len(BRACKET.findall(text)) / said,
            sum(map(str.isupper, text)) / size,
            text[:1].islower(),
            size / said,
            len(FIRST_PERSON.findall(text)) / said,
        ],
        dtype=np.float32,
    )


def stylometries(texts: Sequence[str]) -> np.ndarray:
    """The features of each text, (n, S) float32."""
    found = np.zeros((len(texts), STYLE), dtype=np.float32)
    for place, text in enumerate(texts):
        found[place] = stylometry(text)
    return found
