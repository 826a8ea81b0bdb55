"""Queries and replies from their parts."""

from __future__ import annotations

import random

from querier.data.sample.facet import Facet
from querier.data.sample.texts import (
    ACKNOWLEDGEMENTS,
    CLOSINGS,
    COMPARISONS,
    HINT_SHARE,
    HINTS,
    LEAD_INS,
    LIKENESS_AS_SENTENCE,
    LIKENESS_IN_SENTENCE,
    OPENINGS,
    SMALL_QUESTIONS,
)
from querier.data.sample.traits import Traits

RESERVED_SHARE = 0.24
EARLIER_SHARE = 0.25
RESPONDER = "tutor"


def query(rng: random.Random, facet: Facet, traits: Traits, split: str) -> str:
    """Word a question.

    Args:
        rng: Picks the wording, and now and then a sentence that hints at one trait.
        facet: What is asked.
        traits: The traits of the querier; nearly all queries do not depend on them.
        split: The reserved wording is used outside ``train`` only.

    Returns:
        The text of the query.
    """
    reserved = split != "train" and rng.random() < RESERVED_SHARE
    text = facet.reserved if reserved else rng.choice(facet.common)
    if rng.random() >= HINT_SHARE:
        return text
    trait = rng.choice(tuple(HINTS))
    hint = rng.choice(HINTS[trait][getattr(traits, trait)])
    return f"{hint} {text}" if rng.random() < 0.5 else f"{text} {hint}"


def reply(rng: random.Random, facet: Facet, traits: Traits) -> str:
    """Word an answer; what it says depends on the facet and the traits, how it is phrased also on ``rng``.

    Args:
        rng: Picks among paraphrases.
        facet: What was asked.
        traits: The traits of the querier.

    Returns:
        The text of the reply, of one or three sentences.
    """
    opening = rng.choice(OPENINGS[traits.manner])
    lead_in = rng.choice(LEAD_INS[traits.expertise])
    likeness = rng.choice(COMPARISONS[traits.domain])
    head = f"{opening} {lead_in} {facet.clause(traits.expertise)}"
    if traits.length == "one":
        return f"{head}, {rng.choice(LIKENESS_IN_SENTENCE)} {likeness}."
    return f"{head}. {rng.choice(LIKENESS_AS_SENTENCE)} {likeness}. {rng.choice(CLOSINGS[traits.manner])}"


def turns(rng: random.Random, facet: Facet, querier: str, traits: Traits, split: str) -> list[dict[str, str]]:
    """Put a dialogue together.

    Args:
        rng: The source of every draw.
        facet: What is asked.
        querier: Who asks.
        traits: The traits of the querier.
        split: The split the dialogue belongs to.

    Returns:
        Two turns, or four where a short neutral exchange comes first; the last one is the tutor's.
    """
    texts: list[str] = []
    if rng.random() < EARLIER_SHARE:
        texts += [rng.choice(SMALL_QUESTIONS), rng.choice(ACKNOWLEDGEMENTS)]
    texts += [query(rng, facet, traits, split), reply(rng, facet, traits)]
    return [{"speaker": (querier, RESPONDER)[place % 2], "text": text} for place, text in enumerate(texts)]
