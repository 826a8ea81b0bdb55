"""How somebody talks, counted: length, punctuation, politeness, mood, and words that they use more than others.

Everything is relative to what others of the same corpus say: a trait is told only where it stands out among the means
of the others, a word only where its weighted log-odds against the others' words are unlikely by chance.

References:
    Monroe, Colaresi and Quinn: Fightin' words, Political Analysis 2008, section 3.5.1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from querier.data.stylometry import traits
from querier.data.words import REMEMBERED, words

STANDS_OUT = 0.75  # standard deviations; where half of the people are of one kind, each is at most 1 from the mean
CERTAIN = 1.96  # standard errors of a word's log-odds
SAID = 2  # times that a word must have been said
SHOWN = 3  # words
PRIOR = 100.0  # words that the others' usage counts for

FUNCTION_WORDS = frozenset(  # they tell of grammar more than of a person
    "a an and are as at be been but by can could did do does for from had has have he her his how i if in into is it "
    "its me my no not of on or our she so than that the their them there they this to up was we were what when where "
    "which who why will with would you your".split()
)

# Of each trait what is said where there is much of it, and where there is little.
TRAITS = (
    ("long", "short"),
    ("many exclamation marks", "few exclamation marks"),
    ("many questions", "few questions"),
    ("many pauses and dashes", "few pauses and dashes"),
    ("many polite words", "few polite words"),
    ("a glad tone", "a glum tone"),
)


@lru_cache(maxsize=REMEMBERED)
def counts(text: str) -> Mapping[str, int]:
    """How often each word stands in a text."""
    return Counter(words(text))


class Others:
    """What people say, to hold somebody against.

    Args:
        texts: What each of them said, n people.
        background: What words are held against; None for all that they said.
    """

    def __init__(self, texts: Sequence[Sequence[str]], background: Sequence[str] | None = None) -> None:
        means = [np.mean([traits(text) for text in each], axis=0) for each in texts if each]
        self.people = len(means)
        self.mean = np.mean(means, axis=0) if means else np.zeros(len(TRAITS))
        self.deviation = np.std(means, axis=0) if means else np.zeros(len(TRAITS))
        said = [text for each in texts for text in each] if background is None else background
        self.words = _added(said)
        self.total = self.words.total()
        self._texts = frozenset(said)

    def standing_out(self, texts: Sequence[str]) -> list[str | None]:
        """What is to be said of each trait, None where there is nothing.

        With n texts a deviation counts n/(n + 1) of itself: one text says little of who wrote it.
        """
        if not texts or self.people < 2:
            return [None] * len(TRAITS)
        share = len(texts) / (len(texts) + 1)
        gap = share * (np.mean([traits(text) for text in texts], axis=0) - self.mean)
        far = (np.abs(gap) > STANDS_OUT * self.deviation) & (np.abs(gap) > 1e-6)
        return [
            (much if value > 0 else little) if out else None
            for (much, little), value, out in zip(TRAITS, gap, far, strict=True)
        ]

    def salient(self, texts: Sequence[str]) -> list[str]:
        """Words that these texts use more than the others do, the surest first, at most `SHOWN`.

        Texts that are among the others' are taken out there, or few people would drown each other's words.
        """
        said, own = _added(texts), _added([text for text in texts if text in self._texts])
        total = self.total - own.total()
        if total <= 0:
            return []
        often = {word: count for word, count in said.items() if count >= SAID and word not in FUNCTION_WORDS}
        scores = {
            word: certainty(count, said.total(), max(0, self.words[word] - own[word]), total)
            for word, count in often.items()
        }
        sure = [word for word, score in scores.items() if score > CERTAIN and not word.isdecimal()]
        return sorted(sure, key=lambda word: (-scores[word], word))[:SHOWN]


def certainty(count: int, total: int, theirs: int, their_total: int) -> float:
    """How many standard errors the log-odds of a word lie above the others', under a Dirichlet prior of their usage.

    Args:
        count: Times that somebody said it.
        total: All words that they said.
        theirs: Times that the others said it.
        their_total: All words that the others said.
    """
    prior = PRIOR * (theirs + 1) / (their_total + 1)
    here, there = count + prior, theirs + prior
    odds = np.log(here / (total + PRIOR - here)) - np.log(there / (their_total + PRIOR - there))
    return float(odds / np.sqrt(1 / here + 1 / there))


def sentence(verb: str, noun: str, texts: Sequence[str], others: Others) -> str:
    """What stands out in somebody's texts, e.g. `writes short messages with many questions`; empty if nothing does.

    Args:
        verb: `writes`.
        noun: `messages`.
        texts: Theirs.
        others: Whom they are held against.
    """
    length, *rest = others.standing_out(texts)
    features = [feature for feature in rest if feature is not None]
    salient = others.salient(texts)
    if salient:
        plural = "s" if len(salient) > 1 else ""
        features.append(f"the word{plural} " + ", ".join(f'"{word}"' for word in salient))
    if length is None and not features:
        return ""
    told = f"{length} {noun}" if length else noun
    return f"{verb} {told}" + (f" with {', '.join(features)}" if features else "")


def _added(texts: Sequence[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for text in texts:
        found.update(counts(text))
    return found
