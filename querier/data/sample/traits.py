"""Reads from a reply which traits it was written for, by exact rules, and scores replies by that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from querier.data.sample.facet import Facet
from querier.data.sample.texts import (
    CLOSINGS,
    COMPARISONS,
    DOMAIN,
    EXPERTISE,
    FACETS,
    HINT_SHARE,
    HINTS,
    LEAD_INS,
    LENGTH,
    MANNER,
    OPENINGS,
)
from querier.errors import InputError

TRAITS: Final[dict[str, tuple[str, ...]]] = {
    "expertise": EXPERTISE,
    "manner": MANNER,
    "length": LENGTH,
    "domain": DOMAIN,
}

CHANCE: Final[dict[str, float]] = {
    "trait_accuracy": sum(1 / len(values) for values in TRAITS.values()) / len(TRAITS),
    "fact_accuracy": 1 / len(EXPERTISE),
}
"""What a responder reaches that knows everything but the querier.

All values of a trait are equally frequent, so a guess at a trait of ``k`` values is right with 1/k: the mean of 1/3
(expertise), 1/3 (manner), 1/2 (length) and 1/6 (domain) is 1/3. The query says which facet is meant, so such a
responder picks the right facet, and its clause in the words of the right one of 3 degrees of expertise: 1/3.
"""


@dataclass(frozen=True, slots=True)
class Traits:
    """What the replies to a querier depend on.

    Attributes:
        expertise: ``lay``, ``practitioner`` or ``expert``.
        manner: ``warm``, ``neutral`` or ``terse``.
        length: ``one`` or ``three`` sentences.
        domain: Where comparisons come from.
    """

    expertise: str
    manner: str
    length: str
    domain: str


def _words(text: str) -> str:
    """Lower-case words with single spaces, one at each end; punctuation and its spacing do not matter."""
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def _table(phrases: Mapping[str, Iterable[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((_words(phrase), value) for value, group in phrases.items() for phrase in group)


_OPENINGS = _table(OPENINGS)
_CLOSINGS = _table(CLOSINGS)
_LEAD_INS = _table(LEAD_INS)
_COMPARISONS = _table(COMPARISONS)
_CLAUSES = _table({value: [facet.clause(value) for facet in FACETS] for value in EXPERTISE})
_WORDINGS = tuple((_words(wording), facet) for facet in FACETS for wording in facet.wordings)


def _one(values: Iterable[str]) -> str | None:
    """The value, where all agree and there is one."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def traits_of(reply: str) -> dict[str, str | None]:
    """Read the traits a reply was written for.

    Expertise: all lead-ins and fact clauses in it. Manner: the opening, with which a closing must agree. Length: the
    number of sentences. Domain: all comparisons in it. Case, punctuation inside sentences and spacing do not matter.

    Args:
        reply: The text of a reply, generated or true.

    Returns:
        For each trait its value, or None where the reply shows none or contradicts itself.
    """
    words = _words(reply)
    opening = {value for phrase, value in _OPENINGS if words.startswith(phrase)}
    closing = {value for phrase, value in _CLOSINGS if words.endswith(phrase)}
    sentences = len(re.findall(r"[.!?](?:\s*[.!?])*", reply))
    return {
        "expertise": _one(value for phrase, value in _LEAD_INS + _CLAUSES if phrase in words),
        "manner": _one(opening | closing) if opening else None,
        "length": {1: "one", 3: "three"}.get(sentences),
        "domain": _one(value for phrase, value in _COMPARISONS if phrase in words),
    }


def facet_of(query: str) -> Facet | None:
    """Find what is asked.

    Args:
        query: The text of a query; it may have more around the wording.

    Returns:
        The facet one of whose wordings stands in the query, the last one where there are several, or None.
    """
    words = _words(query)
    places = [(words.rfind(wording), number) for number, (wording, _) in enumerate(_WORDINGS)]
    place, number = max(places)
    return _WORDINGS[number][1] if place >= 0 else None


def fact_right(query: str, reply: str, traits: Traits) -> bool:
    """Whether the reply states the fact asked for, in the words for the querier's expertise.

    Args:
        query: The text of the query.
        reply: The text of the reply.
        traits: The traits of the querier.

    Returns:
        True only where the query's facet is known and its clause stands in the reply.
    """
    facet = facet_of(query)
    return facet is not None and _words(facet.clause(traits.expertise)) in _words(reply)


def admits(traits: Traits, query: str, reply: str) -> bool:
    """Whether a querier with these traits could have got this reply to this query.

    The ceiling of the swap accuracy follows: 1 where the true querier alone admits the true reply, 1/2 where the
    swapped one admits it as well.

    Args:
        traits: The traits of a querier.
        query: The text of the query.
        reply: A true reply.

    Returns:
        True where every trait read from the reply is the querier's and the fact is right for the querier.
    """
    return traits_of(reply) == asdict(traits) and (facet_of(query) is None or fact_right(query, reply, traits))


def trait_accuracy(replies: Sequence[str], queriers: Sequence[str], traits: Mapping[str, Traits]) -> dict[str, float]:
    """Share of replies written for the querier's own traits; an unreadable trait counts as wrong.

    Args:
        replies: Texts of replies.
        queriers: Who got each of them.
        traits: The traits of the queriers.

    Returns:
        The share for each trait, and their ``mean``.

    Raises:
        InputError: There are no replies, as many queriers as replies are not given, or a querier has no traits.
    """
    if not replies or len(replies) != len(queriers):
        raise InputError(
            f"trait_accuracy got {len(replies)} replies and {len(queriers)} queriers; it needs one querier per reply "
            "and at least one reply"
        )
    unknown = sorted(set(queriers) - set(traits))
    if unknown:
        raise InputError(f"no traits are known for {len(unknown)} queriers, {unknown[0]!r} among them; add them")
    right = dict.fromkeys(TRAITS, 0)
    for reply, querier in zip(replies, queriers, strict=True):
        read = traits_of(reply)
        for trait in TRAITS:
            right[trait] += read[trait] == getattr(traits[querier], trait)
    shares = {trait: count / len(replies) for trait, count in right.items()}
    return {**shares, "mean": sum(shares.values()) / len(shares)}


def read_traits(path: Path) -> dict[str, Traits]:
    """Read the file of traits, which only judging may open.

    Args:
        path: A ``traits.jsonl``.

    Returns:
        The traits by querier.

    Raises:
        InputError: A line is not a record of a querier with known values of all traits.
    """
    traits: dict[str, Traits] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                values = {trait: record[trait] for trait in TRAITS}
                querier = record["querier"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}, line {number}: got {line.strip()!r}, wanted a JSON record with querier, "
                    f"{', '.join(TRAITS)}; make the file anew with python -m querier.data.sample"
                ) from error
            for trait, value in values.items():
                if value not in TRAITS[trait]:
                    raise InputError(
                        f"{path}, line {number}: {trait} is {value!r}, allowed are {', '.join(TRAITS[trait])}; mend it"
                    )
            traits[querier] = Traits(**values)
    return traits


def query_only() -> dict[str, float]:
    """What a responder could reach that reads the query, hints included, and nothing else of the querier.

    Returns:
        The expected ``trait_accuracy`` and ``fact_accuracy`` under the generator's share of hints.
    """
    told = HINT_SHARE / len(HINTS)
    known = {trait: told if trait in HINTS else 0.0 for trait in TRAITS}
    accuracy = {trait: known[trait] + (1 - known[trait]) / len(values) for trait, values in TRAITS.items()}
    return {"trait_accuracy": sum(accuracy.values()) / len(accuracy), "fact_accuracy": accuracy["expertise"]}
