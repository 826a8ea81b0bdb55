"""Vectors of queriers from a trained run: per query, per cluster, averaged, or query-free; and what makes them.

The querier-specific tower reads a history in the light of a query, or, query-free, without one. Two vectors may only be
compared for who they are of when they share no history item: with overlap the shared items alone tell whose they are.
`disjoint` and `halves` see to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from querier.analysis.extra import need
from querier.analysis.user_space import alignment, same_querier_auc, uniformity
from querier.data.collate import pad
from querier.data.history import READABLE
from querier.data.requests import Requests
from querier.data.views import history_halves, scene_places
from querier.errors import InputError
from querier.responder import Responder
from querier.types import move

if TYPE_CHECKING:
    from pandas import DataFrame

CHUNK = 256  # histories that are read at a time


@dataclass(frozen=True)
class Space:
    """Vectors, and of each what it is of.

    Attributes:
        about: A line for each vector: `querier`, `unseen`, and what the maker of the space adds.
        vectors: (n, D).
    """

    about: DataFrame
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def names(self) -> list[str]:
        """The querier of each vector."""
        return [str(name) for name in self.about["querier"]]

    def centred(self) -> Space:
        """The vectors less their mean: what all have in common says nothing of anybody, and hides angles."""
        return Space(self.about, self.vectors - self.vectors.mean(0))


def requests_of(responder: Responder) -> Requests:
    """What builds the requests of a run from its corpus.

    Args:
        responder: A run with its corpus.

    Raises:
        InputError: A model that was handed on without one.

    >>> requests_of(responder).limit == responder.config.towers.history
    True
    """
    if responder.requests is None:
        raise InputError("this model has no corpus to look at; open a run with Responder.load(<its folder>)")
    return responder.requests


def oldest_first(responder: Responder, querier: str) -> np.ndarray:
    """Rows of all that a querier said and was answered, in the order in which it happened, (n,) int64.

    Args:
        responder: A run with its corpus.
        querier: A name of the corpus.

    >>> len(oldest_first(responder, "q3"))
    12
    """
    return _past(responder, _numbers(responder, [querier])[0])


@torch.no_grad()
def embed_rows(responder: Responder, histories: Sequence[np.ndarray]) -> np.ndarray:
    """Query-free vectors of histories, (n, D) float32.

    They are read as the model reads them: what the newest item's responder answered first, the newest items of it
    first, and no more than `towers.history`.

    Args:
        responder: A run of a method with vectors of queriers.
        histories: Rows of the corpus, oldest first, each (n,) and maybe empty.

    Raises:
        InputError: A method without vectors of queriers, or a run without its corpus.

    >>> embed_rows(responder, [np.array([], dtype=np.int64), oldest_first(responder, "q3")]).shape[0]
    2
    """
    requests, model = requests_of(responder), responder.module.conditioner
    if model is None:
        raise InputError(f"method {responder.config.method} has no vectors of queriers; use a run of method querier")
    read = np.asarray(requests.corpus.responder)
    parts = [np.zeros((0, responder.config.towers.width), dtype=np.float32)]
    for start in range(0, len(histories), CHUNK):
        pasts = []
        for rows in histories[start : start + CHUNK]:
            newest = rows[::-1]
            answers = int(read[newest[0]]) if len(newest) else -1
            ordered = newest[np.argsort(read[newest] != answers, kind="stable")]
            pasts.append(requests.past(ordered[: requests.limit], answers))
        parts.append(model.embed(move(pad(pasts, requests.limit), responder.module.device)).cpu().numpy())
    return np.concatenate(parts)


def query_free(responder: Responder, names: Sequence[str] | None = None, items: int | None = None) -> Space:
    """One vector of each querier after all of their history, whatever is asked.

    As `Responder.embed_queriers`, from the prepared vectors, so that many queriers take no sentence encoder.

    Args:
        responder: A run of a method with vectors of queriers.
        names: Whose; None for all who have dialogues.
        items: Read no more than so many of the oldest dialogues; None for all.

    Raises:
        InputError: A name that the corpus does not know, a run without its corpus, or a method without such vectors.

    >>> space = query_free(responder, ["q1", "q2"])
    >>> space.vectors.shape == (2, responder.config.towers.width), space.about["items"].tolist()
    (True, [12, 12])
    """
    numbers = _numbers(responder, names)
    rows = [_past(responder, number)[:items] for number in numbers]
    about = _about(responder, numbers, {"items": [len(one) for one in rows]})
    return Space(about, embed_rows(responder, rows))


def halves(responder: Responder, names: Sequence[str] | None = None) -> tuple[Space, Space]:
    """Two query-free vectors of each querier, from two halves of the history that share no scene.

    Args:
        responder: As in `query_free`.
        names: As in `query_free`; queriers with an empty half are left out.

    >>> first, second = halves(responder)
    >>> first.names == second.names
    True
    """
    numbers = _numbers(responder, names)
    half = _half(requests_of(responder))
    parts = [[rows[half[rows] == side] for side in (0, 1)] for rows in (_past(responder, one) for one in numbers)]
    kept = [place for place, pair in enumerate(parts) if min(len(pair[0]), len(pair[1])) > 0]
    if not kept:
        raise InputError("no querier has two scenes of history; halves need them")
    about = _about(responder, [numbers[place] for place in kept], {})
    first, second = (embed_rows(responder, [parts[place][side] for place in kept]) for side in (0, 1))
    return Space(about, first), Space(about, second)


def per_query(responder: Responder, rows: Sequence[int] | np.ndarray) -> Space:
    """What the querier-specific tower makes of each dialogue: the history before it, in the light of its query.

    Args:
        responder: A run of a method with towers.
        rows: Of the corpus.

    >>> space = per_query(responder, responder.prepared.corpus.rows_of(3)[-2:])
    >>> space.names, {"row", "cluster", "items"} <= set(space.about.columns)
    (['q3', 'q3'], True)
    """
    requests = requests_of(responder)
    return _of_rows(responder, np.asarray(rows, dtype=np.int64), [requests.history_rows(int(row)) for row in rows])


def disjoint(responder: Responder, rows: Sequence[int] | np.ndarray) -> Space:
    """As `per_query`, for comparing: a dialogue of one half of a querier's scenes reads that half alone.

    The column `half` says which; two vectors of one querier and different halves share no item, and neither dialogue is
    an item of the other. Dialogues whose half is empty before them are left out.

    Args:
        responder: A run of a method with towers.
        rows: Of the corpus.

    >>> space = disjoint(responder, responder.prepared.corpus.rows_of(3))
    >>> sorted(set(space.about["half"]))
    [0, 1]
    """
    requests, rows = requests_of(responder), np.asarray(rows, dtype=np.int64)
    half = _half(requests)
    histories = [requests.histories.of(int(row), None) for row in rows]
    histories = [past[half[past] == half[row]] for row, past in zip(rows, histories, strict=True)]
    kept = [place for place, past in enumerate(histories) if len(past)]
    if not kept:
        raise InputError("none of these dialogues has a history in its half; give rows of queriers with more dialogues")
    space = _of_rows(responder, rows[kept], [histories[place] for place in kept])
    return Space(space.about.assign(half=half[rows[kept]]), space.vectors)


def averaged(space: Space, by: Sequence[str] = ("querier",)) -> Space:
    """The mean vector of each group: `("querier",)` for one a querier, `("querier", "cluster")` for one each cluster.

    Args:
        space: As `per_query` gives it.
        by: Columns of `space.about`, `querier` among them.

    Raises:
        InputError: On a column that is not there.

    >>> space = per_query(responder, responder.prepared.corpus.rows_in(Split.TEST))
    >>> averaged(space).about["querier"].is_unique
    True
    """
    absent = [name for name in ("querier", *by) if name not in space.about.columns or name not in by]
    if absent:
        raise InputError(f"by needs `querier` and columns of {', '.join(space.about.columns)}; got {', '.join(by)}")
    groups = space.about.groupby(list(by), sort=True)
    vectors = np.stack([space.vectors[places].mean(0) for places in groups.indices.values()])
    about = groups.agg(unseen=("unseen", "first"), dialogues=("querier", "size")).reset_index()
    return Space(about, vectors)


def retrieval(space: Space) -> dict[str, float]:
    """Whether the nearest dialogue of the same cluster and the other half is of the same querier.

    Args:
        space: As `disjoint` gives it, best `centred()`.

    Returns:
        `value`, the share of dialogues of which it is; `chance`, what a draw among the same candidates comes to; and
        `n`, the dialogues with candidates of their own querier and of others.

    >>> found = retrieval(disjoint(responder, responder.prepared.corpus.rows_in(Split.TRAIN)))
    >>> found["n"] > 0, 0 < found["chance"] < 1
    (True, True)
    """
    if "half" not in space.about.columns:
        raise InputError("retrieval needs a space of `disjoint`: elsewhere shared items say whose a vector is")
    unit = space.vectors / np.maximum(np.linalg.norm(space.vectors, axis=1, keepdims=True), 1e-12)
    querier, cluster, half = (space.about[name].to_numpy() for name in ("querier", "cluster", "half"))
    hits: list[np.ndarray] = []
    chances: list[np.ndarray] = []
    for group in np.unique(cluster):
        for side in (0, 1):
            anchors = np.flatnonzero((cluster == group) & (half == side))
            others = np.flatnonzero((cluster == group) & (half != side))
            if not len(anchors) or not len(others):
                continue
            same = querier[anchors][:, None] == querier[others][None]
            mixed = same.any(1) & ~same.all(1)
            found = (unit[anchors] @ unit[others].T).argmax(1)
            hits.append(same[np.arange(len(anchors)), found][mixed])
            chances.append(same.mean(1)[mixed])
    hit = np.concatenate([np.zeros(0, dtype=bool), *hits])
    if not len(hit):
        return {"value": float("nan"), "chance": float("nan"), "n": 0}
    return {"value": float(hit.mean()), "chance": float(np.concatenate(chances).mean()), "n": len(hit)}


def space_numbers(
    responder: Responder, rows: Sequence[int] | np.ndarray, names: Sequence[str] | None = None
) -> DataFrame:
    """How far the vectors tell queriers apart: one line for each measure, with `value`, `nothing` and `n`.

    `nothing` is what vectors that know nothing of the querier come to: chance, or the same measure between vectors of
    different queriers; of uniformity it is missing, as noise spreads no less than what is known. `n` counts queriers,
    for the retrieval dialogues.

    Args:
        responder: A run of the method `querier`.
        rows: Dialogues for the retrieval inside clusters.
        names: Queriers for the other measures; None for all.

    >>> found = space_numbers(responder, responder.prepared.corpus.rows_in(Split.TRAIN))
    >>> found.loc["same_querier_auc", "nothing"].item()
    0.5
    """
    pandas = need("pandas")
    views = [view.centred() for view in halves(responder, names)]
    first, second = views[0].vectors, views[1].vectors
    count = len(first)
    found = retrieval(disjoint(responder, rows).centred())
    lines = {
        "same_querier_auc": (same_querier_auc(first, second), 0.5, count),
        "alignment": (alignment(first, second), alignment(first, np.roll(second, 1, 0)), count),
        "uniformity": (uniformity(first), np.nan, count),
        "retrieval_in_cluster": (found["value"], found["chance"], found["n"]),
    }
    table: DataFrame = pandas.DataFrame.from_dict(lines, orient="index", columns=["value", "nothing", "n"])
    return table.astype({"n": int}).rename_axis("measure")


def _of_rows(responder: Responder, rows: np.ndarray, histories: Sequence[np.ndarray]) -> Space:
    """Vectors of dialogues with these histories, newest first."""
    requests = requests_of(responder)
    parts = []
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        asked = [requests.of(int(row), past) for row, past in zip(rows[part], histories[part], strict=True)]
        parts.append(responder.module.represent(asked)["specific"])
    vectors = np.concatenate([np.zeros((0, responder.config.towers.width), dtype=np.float32), *parts])
    more = {
        "row": rows,
        "cluster": np.asarray(requests.prepared.cluster[rows]),
        "items": [min(len(past), requests.limit) for past in histories],
    }
    return Space(_about(responder, np.asarray(requests.corpus.querier[rows]), more), vectors)


def _numbers(responder: Responder, names: Sequence[str] | None) -> list[int]:
    corpus = requests_of(responder).corpus
    if names is None:
        return [int(number) for number in np.unique(corpus.querier[corpus.rows_in(*READABLE)])]
    if isinstance(names, str):
        raise InputError(f"names is a list of names, got the text {names!r}; give [{names!r}]")
    known = {name: number for number, name in enumerate(corpus.queriers)}
    absent = [name for name in names if name not in known]
    if absent:
        near = get_close_matches(absent[0], known, n=3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise InputError(f"no querier {absent[0]!r} in the corpus of {len(known)}{hint}")
    return [known[name] for name in names]


def _past(responder: Responder, number: int) -> np.ndarray:
    corpus = requests_of(responder).corpus
    rows = corpus.rows_of(number)
    kept: np.ndarray = rows[np.isin(corpus.split[rows], [part.value for part in READABLE])]
    return kept


def _half(requests: Requests) -> np.ndarray:
    """0 or 1 for each dialogue: scenes that follow each other stand on different sides, (N,)."""
    corpus = requests.corpus
    return history_halves((0,), np.asarray(corpus.querier, dtype=np.int64), scene_places(corpus))


def _about(responder: Responder, numbers: Sequence[int] | np.ndarray, more: dict[str, Any]) -> DataFrame:
    corpus = requests_of(responder).corpus
    names = [corpus.queriers[int(number)] for number in numbers]
    unseen = [bool(corpus.unseen[int(number)]) for number in numbers]
    table: DataFrame = need("pandas").DataFrame({"querier": names, "unseen": unseen, **more})
    return table
