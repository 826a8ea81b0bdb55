"""How somebody's replies differ from those of contrast users in the same situations, by counting.

Three axes, as in DPL: writing (length, marks, formality), emotion (mood, politeness) and semantics (words). Each item
of the history is held against its own contrast users, and what is alike in the situation cancels; a difference is told
only where, over all items, it is more than chance makes of people in one situation. Words are ranked by their
class-based TF-IDF, the one class being the own replies, the other those of the contrast users:
tf(t, c)/|c| · ln(1 + A/f(t)), A the mean size of a class and f(t) how often the word stands in both.

References:
    Grootendorst: BERTopic: Neural topic modeling with a class-based TF-IDF procedure, arXiv 2203.05794, section 3.3.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from querier.data.requests import Exchange
from querier.data.stylometry import formality, traits
from querier.methods.manners import CERTAIN, FUNCTION_WORDS, SAID, SHOWN, certainty, counts

AXES = ("writing", "emotion", "semantics")
MEASURED = 7  # traits of a reply: six of `manners.traits`, and formality

# By axis and trait what is said of more of it, and of less.
SAYINGS = {
    "writing": (
        (0, "longer", "shorter"),
        (1, "more exclamation marks", "fewer exclamation marks"),
        (2, "more questions", "fewer questions"),
        (3, "more pauses and dashes", "fewer pauses and dashes"),
        (6, "more formal words", "less formal words"),
    ),
    "emotion": ((5, "a gladder tone", "a glummer tone"), (4, "more polite words", "fewer polite words")),
}

Differences = Mapping[str, Sequence[str]]
"""Short phrases by axis."""


@dataclass(frozen=True)
class Contrasted:
    """An item of a history beside what others were asked and answered in the same situation.

    Args:
        item: The querier's own.
        others: Of contrast users, one each, K at most.
    """

    item: Exchange
    others: tuple[Exchange, ...]


def measured(text: str) -> np.ndarray:
    """The traits of a reply, (7,)."""
    return np.append(traits(text), formality(text))


def spread(situations: Sequence[Sequence[str]]) -> np.ndarray:
    """How far replies to different people lie apart in one situation: the standard deviation of each trait, (7,).

    Args:
        situations: In each what several people were answered.

    Returns:
        Infinite where no situation has two replies, so that nothing can be told.
    """
    squares, free = np.zeros(MEASURED), 0
    for replies in situations:
        if len(replies) > 1:
            found = np.stack([measured(reply) for reply in replies])
            squares += ((found - found.mean(0)) ** 2).sum(0)
            free += len(replies) - 1
    return np.sqrt(squares / free) if free else np.full(MEASURED, np.inf)


def count_differences(items: Sequence[Contrasted], deviation: np.ndarray) -> Differences:
    """What sets the replies of some items apart from those of their contrast users.

    With k_i contrast users beside item i and the deviation s of a trait, the mean difference of n items has the
    standard error s/n · √Σ(1 + 1/k_i); it is told from 1.96 of them on.

    Args:
        items: Those without contrast users say nothing.
        deviation: Of each trait in one situation, (7,).
    """
    held = [one for one in items if one.others]
    found: dict[str, list[str]] = {axis: [] for axis in AXES}
    if not held:
        return found
    gaps = [measured(one.item.reply) - np.mean([measured(other.reply) for other in one.others], 0) for one in held]
    gap = np.mean(gaps, axis=0)
    error = deviation / len(held) * math.sqrt(sum(1 + 1 / len(one.others) for one in held))
    far = (np.abs(gap) > CERTAIN * error) & (np.abs(gap) > 1e-6)
    for axis, sayings in SAYINGS.items():
        found[axis] = [more if gap[trait] > 0 else less for trait, more, less in sayings if far[trait]]
    own = _added([one.item.reply for one in held])
    theirs = _added([other.reply for one in held for other in one.others])
    if words := salient(own, theirs):
        found["semantics"] = ["more of " + " and ".join(f'"{word}"' for word in words)]
    return found


def salient(own: Mapping[str, int], theirs: Mapping[str, int]) -> list[str]:
    """Words that are said more than by the others, beyond chance, by falling class-based TF-IDF; at most `SHOWN`."""
    total, their_total = sum(own.values()), sum(theirs.values())
    if not their_total:
        return []
    weight = class_tf_idf([own, theirs])[0]
    sure = [
        word
        for word, count in own.items()
        if count >= SAID
        and word not in FUNCTION_WORDS
        and not word.isdecimal()
        and certainty(count, total, theirs.get(word, 0), their_total) > CERTAIN
    ]
    return sorted(sure, key=lambda word: (-weight[word], word))[:SHOWN]


def class_tf_idf(classes: Sequence[Mapping[str, int]]) -> list[dict[str, float]]:
    """The weight of each word in each class.

    Args:
        classes: How often each word stands in each.
    """
    sizes = [sum(one.values()) for one in classes]
    mean = sum(sizes) / len(sizes)
    often: Counter[str] = Counter()
    for one in classes:
        often.update(one)
    return [
        {word: count / size * math.log1p(mean / often[word]) for word, count in one.items()}
        for one, size in zip(classes, sizes, strict=True)
    ]


def told(found: Differences) -> str:
    """The differences on one line; empty where there are none."""
    axes = [f"{axis}: {', '.join(found[axis])}" for axis in AXES if found[axis]]
    return f"compared with others in the same situation, {'; '.join(axes)}." if axes else ""


def _added(texts: Sequence[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for text in texts:
        found.update(counts(text))
    return found
