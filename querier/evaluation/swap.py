"""Swaps: the true querier of a dialogue against another one, under equal conditions.

Both histories are cut to before the query, lose the items whose normalised query equals the one that is scored (else
the answer could be copied), and are cut to the same number of items. They keep the order in which a model reads them,
this responder's newest first, so that the newest stay. Seen queriers are swapped with seen ones, unseen with unseen.

The pairs of a dialogue depend on the seed, the swap, the dialogue, and the clusters and contrast users of the
preparation alone: methods that share one are judged on the same pairs. So is the permuted control, true histories
against others: it has learned nothing of any querier, so that whatever it wins by is not personal, but the age of a
history, who answered, or a leak. Two permuted histories would win half of the time whatever was wrong. A decoder that
reads items as text may have learned from anybody's to follow them, and then wins by the person all the same: there the
control's replies and likelihoods, which are of permuted histories, say what is not personal.

What is read of the pool is on both sides what is read for the true querier, so it holds no dialogue of theirs but may
hold one of the other's: swaps of a method that shows them are no measure of what is personal.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

import numpy as np

from querier.data.history import READABLE
from querier.data.preparation import Prepared
from querier.data.records import Corpus
from querier.data.requests import Requests
from querier.data.words import words
from querier.types import Split

NAME = re.compile(r"[^\W\d_]+")
SHORTEST = 3  # letters of a part of a name; shorter ones are initials and titles
TRIES = 64  # queriers drawn for one dialogue, until enough of them have a history
EMPTY = np.zeros(0, dtype=np.int64)


class SwapKind(Enum):
    """Where the other querier comes from; the value marks the draws."""

    RANDOM = 0
    CLUSTER = 1  # who asked something of the query's cluster before
    CONTRAST = 2  # contrast users, for seen queriers only
    MATCHED = 3  # as CLUSTER, the two histories alike in who answered and when


@dataclass(frozen=True)
class SwapPair:
    """One dialogue under two queriers.

    Attributes:
        row: The dialogue.
        own: Rows of the true querier's history, newest first, (n,).
        other: Rows of the other querier's history, newest first, (n,).
        querier: The other querier.
        draw: Which of the draws.
    """

    row: int
    own: np.ndarray
    other: np.ndarray
    querier: int
    draw: int


@dataclass
class SwapSet:
    """All pairs of one swap, and how many dialogues have none, by reason."""

    pairs: list[SwapPair] = field(default_factory=list)
    excluded: Counter[str] = field(default_factory=Counter)


class Swaps:
    """Finds the pairs.

    Args:
        requests: Knows the histories.
        prepared: Knows clusters and contrast users.
        seed: Of the draws.
    """

    def __init__(self, requests: Requests, prepared: Prepared, seed: int) -> None:
        self.requests = requests
        self.prepared = prepared
        self.corpus = prepared.corpus
        self.seed = seed

    def pairs(self, kind: SwapKind, rows: Sequence[int] | np.ndarray, draws: int, limit: int | None = None) -> SwapSet:
        """The pairs of these dialogues, at most `draws` each, every one with another querier.

        Args:
            kind: Where the other queriers come from.
            rows: The dialogues.
            draws: Other queriers of each.
            limit: Items at most; None for as many as the model reads. With a number, pairs with fewer are left out.
        """
        found = SwapSet()
        for row in np.asarray(rows, dtype=np.int64).tolist():
            reason = self._add(found.pairs, kind, row, draws, limit)
            if reason:
                found.excluded[reason] += 1
        return found

    def own(self, row: int) -> np.ndarray:
        """The true querier's history, all of it."""
        return self._without_query(row, self.requests.histories.of(row, None))

    def other(self, row: int, querier: int) -> np.ndarray:
        """What another querier had said and been answered before the dialogue's query, all of it."""
        corpus = self.corpus
        time, scene, responder = int(corpus.time[row]), int(corpus.scene[row]), int(corpus.responder[row])
        held_out = corpus.split[row] in (Split.VALIDATION.value, Split.TEST.value)  # or nothing held out is read
        history = self.requests.histories.of_querier(querier, time, scene, responder, None, training=not held_out)
        return self._without_query(row, history)

    def candidates(self, kind: SwapKind, row: int) -> np.ndarray:
        """Numbers of the queriers that a swap may draw for a dialogue, with or without a history, (n,)."""
        corpus = self.corpus
        querier = int(corpus.querier[row])
        if kind is SwapKind.RANDOM:
            found = self._readable[bool(corpus.unseen[querier])]
        elif kind in (SwapKind.CLUSTER, SwapKind.MATCHED):
            rows = self._by_cluster.get(int(self.prepared.cluster[row]), EMPTY)
            rows = rows[(corpus.time[rows] < corpus.time[row]) & (corpus.scene[rows] != corpus.scene[row])]
            found = np.unique(corpus.querier[rows])
            found = found[corpus.unseen[found] == corpus.unseen[querier]]
        else:
            users = np.asarray(self.prepared.contrast[row][:, 0], dtype=np.int64)
            found = np.unique(corpus.querier[users[users >= 0]])
            found = found[~corpus.unseen[found]]
        return np.asarray(found[found != querier], dtype=np.int64)

    def _add(self, pairs: list[SwapPair], kind: SwapKind, row: int, draws: int, limit: int | None) -> str | None:
        """Append the pairs of one dialogue, or say why there are none."""
        if kind is SwapKind.CONTRAST and self.corpus.unseen[self.corpus.querier[row]]:
            return "unseen querier"
        own = self.own(row)
        if not len(own):
            return "own history empty"
        most = self.requests.limit if limit is None else limit
        if limit is not None and len(own) < limit:
            return "own history too short"
        candidates = self.candidates(kind, row)
        if not len(candidates):
            return "nobody to swap with"
        generator = np.random.default_rng([self.seed, kind.value, row])
        drawn = generator.choice(candidates, size=min(TRIES, len(candidates)), replace=False).tolist()
        count = 0
        for querier in drawn:
            mine, theirs = own, self.other(row, querier)
            if kind is SwapKind.MATCHED:
                mine, theirs = matched(self.corpus, row, mine, theirs, most)
            length = min(len(mine), len(theirs), most)
            if length == 0 or (limit is not None and length < limit):
                continue
            pairs.append(SwapPair(row, mine[:length], theirs[:length], querier, count))
            count += 1
            if count == draws:
                break
        return None if count else "nobody with a long enough history to swap with"

    def _without_query(self, row: int, history: np.ndarray) -> np.ndarray:
        kept: np.ndarray = history[self._query[history] != self._query[row]]
        return kept

    @cached_property
    def _query(self) -> np.ndarray:
        """A number for each dialogue's normalised query, (N,)."""
        numbers: dict[str, int] = {}
        normal = (" ".join(words(text)) for text in self.corpus.queries())
        return np.array([numbers.setdefault(text, len(numbers)) for text in normal], dtype=np.int64)

    @cached_property
    def _readable(self) -> dict[bool, np.ndarray]:
        """Queriers with something to read, by whether they are unseen."""
        queriers = np.unique(self.corpus.querier[self.corpus.rows_in(*READABLE)])
        return {unseen: queriers[self.corpus.unseen[queriers] == unseen] for unseen in (False, True)}

    @cached_property
    def _by_cluster(self) -> dict[int, np.ndarray]:
        rows = self.corpus.rows_in(*READABLE)
        rows = rows[np.argsort(self.prepared.cluster[rows], kind="stable")]
        clusters, start = np.unique(self.prepared.cluster[rows], return_index=True)
        return dict(zip(clusters.tolist(), np.split(rows, start[1:]), strict=True))


def matched(corpus: Corpus, row: int, own: np.ndarray, other: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Items of two histories that tell neither who answered nor when, newest first, both of one length.

    Who asks this responder less has older items, and more of other responders'; a reader that only knew how people
    wrote at a time, or how one responder talks, would win a swap by that. Here only what the dialogue's responder
    answered stands, the newest of the shorter history (of two equally long ones that which ends first), each beside the
    item of the other one that is nearest in time.

    Args:
        corpus: Knows responders and times.
        row: The dialogue.
        own: Rows of one history, newest first, (n,).
        other: Rows of the other, newest first, (m,).
        most: Items at most.
    """
    own, other = (side[corpus.responder[side] == corpus.responder[row]] for side in (own, other))
    if not len(own) or not len(other):
        return EMPTY, EMPTY
    longer = (len(own), corpus.time[own[0]]) > (len(other), corpus.time[other[0]])  # of equals the later one
    few, many = (other, own) if longer else (own, other)
    few, free = few[:most], np.ones(len(many), dtype=bool)
    for item in few.tolist():
        gap = np.abs(corpus.time[many] - corpus.time[item])
        free[np.flatnonzero(free)[gap[free].argmin()]] = False
    found = many[~free]
    return (found, few) if longer else (few, found)


def outcomes(pairs: Sequence[SwapPair], outcome: Callable[[SwapPair], float | None]) -> dict[int, float | None]:
    """The mean of something over the pairs of each dialogue, by row; None where it failed for one of them."""
    found: dict[int, list[float | None]] = {}
    for pair in pairs:
        found.setdefault(pair.row, []).append(outcome(pair))
    means: dict[int, float | None] = {}
    for row, values in found.items():
        numbers = [value for value in values if value is not None]
        means[row] = float(np.mean(numbers)) if len(numbers) == len(values) else None
    return means


def swap_ceiling(pairs: Sequence[SwapPair], admits: Callable[[int, int], bool]) -> float | None:
    """Swap accuracy on these pairs of an oracle that knows who could have got which reply; None without pairs.

    Args:
        pairs: Of one swap.
        admits: Whether a querier, the second argument, could have got the true reply of a dialogue, the first.
            It is 1 where the true querier alone could, ½ where the other one could as well.
    """
    found = outcomes(pairs, lambda pair: 0.5 if admits(pair.row, pair.querier) else 1.0)
    values = [value for value in found.values() if value is not None]
    return float(np.mean(values)) if values else None


def names_querier(text: str, querier: str) -> bool:
    """Whether a text holds a part of a querier's name: a capitalised word, or a name in a script without capitals.

    Args:
        text: A reply.
        querier: The name.
    """
    for part in NAME.findall(querier):
        if part[0].islower():
            continue
        caseless = part.lower() == part.upper()
        if caseless and part in text:
            return True
        if not caseless and len(part) >= SHORTEST and re.search(rf"(?<![^\W\d_]){part}(?![^\W\d_])", text):
            return True
    return False
