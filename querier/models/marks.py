"""Places for vectors inside a prompt, found in its text and put among its tokens.

A place is told to the template by a short text, chosen so that it occurs nowhere in the prompt: what a querier wrote
can neither feign a place nor move one. The tokens of the text itself stay those of the prompt without places.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from querier.errors import InputError
from querier.types import Rendered

OPEN, CLOSE = "\ue000", "\ue001"  # of the area of Unicode that means nothing
NONE = -1  # the mark of a token of the text

Place = tuple[int, tuple[int, ...]]
"""A character of the prompt's text, and the numbers of the vectors that stand before it."""


def find_places(rendered: Rendered, plain: str, prompt_text: Callable[[Rendered], str]) -> list[Place]:
    """Where the vectors of a rendered dialogue stand in its text.

    Args:
        rendered: With marks.
        plain: Its text.
        prompt_text: The text of a prompt, as its template makes it of the turns.

    Raises:
        InputError: The template changes the words of a turn that has marks.
    """
    number = next(number for number in count() if f"{OPEN}{number}:" not in plain)
    turns = list(rendered.turns)
    for place, (turn, _) in enumerate(rendered.marks):
        role, text = turns[turn]
        blank = len(text) - len(text.lstrip())  # which a template may take away
        turns[turn] = (role, f"{text[:blank]}{OPEN}{number}:{place}{CLOSE}{text[blank:]}")
    parts = re.split(f"{OPEN}{number}:(\\d+){CLOSE}", prompt_text(replace(rendered, turns=tuple(turns))))
    texts, found = parts[::2], [int(place) for place in parts[1::2]]
    if "".join(texts) != plain:
        raise InputError(
            "the decoder's chat template changes the words of a turn, so that no vector can be put before them; "
            "use a decoder with another template"
        )
    ends = [sum(map(len, texts[: number + 1])) for number in range(len(found))]
    return [(end, rendered.marks[place][1]) for end, place in zip(ends, found, strict=True)]


def insert(
    ids: Sequence[int], ends: Sequence[int], places: Sequence[Place], filler: int
) -> tuple[list[int], list[int]]:
    """Token ids with a filler for each vector, and the number of the vector or `NONE` for each of them.

    Args:
        ids: Of the text.
        ends: One past the last character of each token.
        places: In ascending order; vectors stand before the token that holds their character.
        filler: The id of a token whose embedding is not read.
    """
    filled, marks, done = [], [], 0
    for character, vectors in places:
        token = bisect_right(ends, character)
        filled += [*ids[done:token], *[filler] * len(vectors)]
        marks += [*[NONE] * (token - done), *vectors]
        done = token
    return [*filled, *ids[done:]], [*marks, *[NONE] * (len(ids) - done)]
