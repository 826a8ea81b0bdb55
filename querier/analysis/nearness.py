"""Who is near whom and why, and how a querier's vector moves as the history grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from querier.analysis.extra import need
from querier.analysis.maps import Map
from querier.analysis.user_space import nearest_queriers
from querier.analysis.vectors import Space, embed_rows, oldest_first, requests_of
from querier.errors import InputError
from querier.responder import Responder

if TYPE_CHECKING:
    from pandas import DataFrame


def nearest_with_dialogues(
    responder: Responder, space: Space, querier: str, count: int = 3, dialogues: int = 2
) -> DataFrame:
    """The nearest queriers, each with the dialogues of both that make them near.

    A dialogue makes two queriers near as far as their cosine falls when the vector is computed without it (`pull`).
    Angles are those from the mean of the space, as the vectors of all have much in common.

    Args:
        responder: A run of a method with vectors of queriers.
        space: As `query_free` gives it.
        querier: Whose neighbours, one of the space.
        count: Neighbours.
        dialogues: Of each of the two.

    Returns:
        `nearest`, `cosine`, `whose`, `query`, `reply`, `pull`; the strongest pull first.

    Raises:
        InputError: Where the querier is not in the space.

    >>> found = nearest_with_dialogues(responder, query_free(responder), "q1", count=1, dialogues=1)
    >>> found["nearest"].nunique(), found["whose"].tolist()[0]
    (1, 'q1')
    """
    near = nearest_queriers(space.names, space.centred().vectors, querier, count)
    centre = space.vectors.mean(0)
    parts = []
    for other, cosine in zip(near["querier"], near["cosine"], strict=True):
        ground = shared_ground(responder, querier, other, centre, dialogues)
        parts.append(ground.assign(nearest=other, cosine=cosine))
    table: DataFrame = need("pandas").concat(parts, ignore_index=True)
    return table[["nearest", "cosine", "whose", "query", "reply", "pull"]]


def shared_ground(responder: Responder, querier: str, other: str, centre: np.ndarray, dialogues: int = 2) -> DataFrame:
    """The dialogues of two queriers that pull their vectors together most.

    Args:
        responder: A run of a method with vectors of queriers.
        querier: The one.
        other: The other.
        centre: From where angles are measured, (D,), such as the mean of all vectors.
        dialogues: Of each of the two.

    Returns:
        `whose`, `query`, `reply` and `pull`: the cosine of the two as it is, less what it is without the dialogue.

    >>> found = shared_ground(responder, "q1", "q2", np.zeros(responder.config.towers.width), dialogues=1)
    >>> found["whose"].tolist()
    ['q1', 'q2']
    """
    corpus = requests_of(responder).corpus
    pasts = {name: oldest_first(responder, name)[-responder.config.towers.history :] for name in (querier, other)}
    whole = dict(zip(pasts, embed_rows(responder, list(pasts.values())) - centre, strict=True))
    lines: list[dict[str, Any]] = []
    for name, partner in ((querier, other), (other, querier)):
        rows = pasts[name]
        without = embed_rows(responder, [np.delete(rows, place) for place in range(len(rows))]) - centre
        pull = _cosine(whole[name][None], whole[partner])[0] - _cosine(without, whole[partner])
        for place in np.argsort(-pull, kind="stable")[:dialogues].tolist():
            told = corpus.dialogue(int(rows[place]))
            lines.append({"whose": name, "query": told.query, "reply": told.reply, "pull": float(pull[place])})
    table: DataFrame = need("pandas").DataFrame(lines, columns=["whose", "query", "reply", "pull"])
    return table


def trajectory(
    responder: Responder, names: Sequence[str], counts: Sequence[int] | None = None, space: Map | None = None
) -> DataFrame:
    """How queriers move as their histories grow, from nothing known to all of it.

    Args:
        responder: A run of a method with vectors of queriers.
        names: Whose.
        counts: Numbers of dialogues, oldest first, after which they are looked at; None for 0, 1, 2, 4 and so on.
        space: A map on which they move; None for none.

    Returns:
        `querier`, `items`, `moved` (distance from the line before), `left` (distance to the vector after all history
        over that of nobody: 1 at the start, 0 at the end; NaN where the two are one), and with a map `x` and `y`.

    Raises:
        InputError: A name that the corpus does not know, or a count below 0.

    >>> trajectory(responder, ["q1"])[["items", "left"]].iloc[[0, -1]].values.tolist()
    [[0.0, 1.0], [12.0, 0.0]]
    """
    if counts is not None and min(counts, default=0) < 0:
        raise InputError(f"counts are numbers of dialogues from 0, got {list(counts)}")
    pandas, parts = need("pandas"), []
    for name in names:
        rows = oldest_first(responder, name)
        wanted = _doubling(len(rows)) if counts is None else sorted({min(count, len(rows)) for count in counts})
        vectors = embed_rows(responder, [rows[:count] for count in wanted] + [rows[:0], rows])
        path, nobody, end = vectors[:-2], vectors[-2], vectors[-1]
        whole = float(np.linalg.norm(end - nobody))
        left = np.linalg.norm(path - end, axis=1)
        lines = {
            "querier": [name] * len(wanted),
            "items": wanted,
            "moved": np.linalg.norm(np.diff(path, axis=0, prepend=path[:1]), axis=1),
            "left": left / whole if whole > 0 else np.full(len(left), np.nan),
        }
        places = None if space is None else space.land(path)
        parts.append(pandas.DataFrame({**lines, **({} if places is None else {"x": places[:, 0], "y": places[:, 1]})}))
    table: DataFrame = pandas.concat(parts, ignore_index=True)
    return table


def _doubling(count: int) -> list[int]:
    """0, 1, 2, 4 and so on up to a number, which comes last."""
    found = [0, *(2**power for power in range(max(0, count).bit_length()))]
    return sorted({*(number for number in found if number < count), count})


def _cosine(vectors: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of vectors (n, D) and one (D,), (n,)."""
    length = np.linalg.norm(vectors, axis=1) * np.linalg.norm(other)
    cosine: np.ndarray = vectors @ other / np.maximum(length, 1e-12)
    return cosine
