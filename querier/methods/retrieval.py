"""Earlier dialogues that stand in a prompt: of the history that is read, or of the training pool.

From the own history only what was handed in is taken, so that a swapped history brings its own items. From the pool
come only training dialogues that are strictly earlier than the query, of another scene and never of who asks it,
whatever history is read. The reply that is asked for is never looked at.

A dialogue's words are those of its query and reply; dense vectors are those of the queries. BM25 is Lucene's:
`Σ ln(1 + (N − n + ½)/(n + ½)) · tf / (tf + k₁(1 − b + b·length/mean length))` over the words of the query.

References:
    Robertson and Zaragoza: The probabilistic relevance framework: BM25 and beyond, 2009.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from querier.choices import Retrieval, Source
from querier.config import PromptConfig
from querier.data.history import check_no_leak
from querier.data.preparation import Prepared
from querier.data.requests import Exchange, Reading
from querier.data.words import REMEMBERED, words
from querier.errors import InputError
from querier.types import Split

K1, B = 1.5, 0.75  # of BM25


@dataclass(frozen=True)
class Item:
    """An earlier dialogue that is shown.

    Args:
        query: What was asked.
        reply: What was answered.
        querier: Who asked; None for the one under whose name the prompt is.
        marks: Numbers of the vectors that stand before it.
    """

    query: str
    reply: str
    querier: str | None = None
    marks: tuple[int, ...] = ()


Retrieve = Callable[[Reading], list[Item]]
"""The items of a reading, the most relevant first."""


def retriever(config: PromptConfig, prepared: Prepared | None) -> Retrieve | None:
    """What finds the items of a prompt; None where it shows none.

    Args:
        config: Reads `source`, `items` and `by`.
        prepared: The corpus whose training split is the pool.

    Raises:
        InputError: The pool is wanted and there is none.
    """
    if config.source is Source.none:
        return None
    if config.source is Source.own:
        return lambda reading: own_items(reading, config.items, config.by)
    return PoolItems(shared_pool(prepared, "prompt.source=pool"), config.items, config.by)


def shared_pool(prepared: Prepared | None, setting: str) -> Prepared:
    """The corpus whose training split everybody reads; a configuration with `data.pool=none` asks for none.

    Raises:
        InputError: Naming the setting that needs it.
    """
    if prepared is None:
        raise InputError(
            f"{setting} reads the training pool, which no saved model holds; load the run itself: Responder.load(run)"
        )
    return prepared


def own_items(reading: Reading, count: int, by: Retrieval) -> list[Item]:
    """The items of the history that is read, at most `count`, the most relevant first; among equals the newer first."""
    history = reading.history
    match by:
        case Retrieval.recency:
            places = np.arange(len(history))
        case Retrieval.dense:
            query, inputs = reading.vectors()
            places = np.argsort(-(inputs @ query), kind="stable") if len(history) else np.arange(0)
        case Retrieval.bm25:
            places = np.argsort(-relevance(reading.dialogue.query, history), kind="stable")
    chosen = places[:count].tolist()
    marks = reading.marks or [()] * len(history)
    return [Item(history[place].query, history[place].reply, marks=marks[place]) for place in chosen]


def relevance(query: str, items: Sequence[Exchange]) -> np.ndarray:
    """BM25 of some exchanges for a query, (n,)."""
    return bm25(words(query), [_counted(item) for item in items])


def bm25(query: Sequence[str], documents: Sequence[Mapping[str, int]]) -> np.ndarray:
    """Scores of some documents, each against the statistics of all of them, (n,).

    A history has few items and is another one for each query, so that an index would cost more than it saves.

    Args:
        query: Words; one that is said twice counts twice.
        documents: How often each word stands in each, n.
    """
    scores = np.zeros(len(documents))
    lengths = np.array([sum(document.values()) for document in documents], dtype=float)
    norm = K1 * (1 - B + B * lengths / max(1.0, lengths.mean() if len(lengths) else 1.0))
    for word, times in Counter(query).items():
        found = np.array([document.get(word, 0) for document in documents], dtype=float)
        holding = np.count_nonzero(found)
        if holding:
            rarity = np.log1p((len(documents) - holding + 0.5) / (holding + 0.5))
            scores += times * rarity * found / (found + norm)
    return scores


class PoolItems:
    """Finds dialogues of the training pool for a query.

    Args:
        prepared: The corpus.
        count: Dialogues at most.
        by: `bm25` or `dense`.
    """

    def __init__(self, prepared: Prepared, count: int, by: Retrieval) -> None:
        self.prepared, self.corpus = prepared, prepared.corpus
        self.count, self.by = count, by
        self._texts: PoolWords | None = None
        self._lock = Lock()  # batches may be built by several threads

    def __call__(self, reading: Reading) -> list[Item]:
        """The items of a reading, the most relevant first."""
        dialogues = [self.corpus.dialogue(int(row)) for row in self.rows(reading)]
        return [Item(one.query, one.reply, one.querier) for one in dialogues]

    def rows(self, reading: Reading) -> np.ndarray:
        """Pool rows, the most relevant first, (≤ count,) int64.

        Raises:
            InputError: Where one of them is not strictly earlier, of the query's scene, or the asker's own.
        """
        rows = self._dense(reading) if self.by is Retrieval.dense else self._words().best(reading, self.count)
        if reading.row >= 0:
            check_no_leak(self.corpus, reading.row, rows, own=False)
        own = rows[np.asarray(self.corpus.querier)[rows] == reading.querier]
        if len(own):
            raise InputError(f"leak: {self.corpus.ids[int(own[0])]!r}, read from the pool, is the asker's own")
        return rows

    def _dense(self, reading: Reading) -> np.ndarray:
        prepared, corpus, row = self.prepared, self.corpus, reading.row
        if row >= 0 and self.count <= prepared.neighbours.shape[1]:  # found when the corpus was prepared
            known = np.asarray(prepared.neighbours[row], dtype=np.int64)
            return np.asarray(known[known >= 0][: self.count])
        before, scene = (int(corpus.time[row]), int(corpus.scene[row])) if row >= 0 else (None, None)
        found = prepared.nearest(reading.vectors()[0], reading.querier, before, scene, self.count)
        return np.asarray(found, dtype=np.int64)

    def _words(self) -> PoolWords:
        with self._lock:
            if self._texts is None:
                self._texts = PoolWords(self.prepared)
            return self._texts


class PoolWords:
    """BM25 over all dialogues of the training pool: one index, sorted by time, filtered for each query.

    Args:
        prepared: The corpus.
    """

    def __init__(self, prepared: Prepared) -> None:
        import bm25s  # type: ignore[import-untyped]  # imported where it is asked for

        corpus = self.corpus = prepared.corpus
        pool = corpus.rows_in(Split.TRAIN)
        self.rows = pool[np.argsort(corpus.time[pool], kind="stable")]
        self.time, self.querier, self.scene = (
            np.asarray(column)[self.rows] for column in (corpus.time, corpus.querier, corpus.scene)
        )
        queries, replies = corpus.queries(), corpus.replies()
        self._number: dict[str, int] = {}
        documents = [
            [self._number.setdefault(word, len(self._number)) for word in words(f"{queries[row]} {replies[row]}")]
            for row in self.rows.tolist()
        ]
        self._index: Any = bm25s.BM25(k1=K1, b=B, method="lucene")
        if self._number:
            self._index.index((documents, self._number), create_empty_token=False, show_progress=False)

    def scores(self, query: str) -> np.ndarray:
        """The score of each pool dialogue, in the order of `rows`, (P,)."""
        known = [self._number[word] for word in words(query) if word in self._number]
        if not known:
            return np.zeros(len(self.rows), dtype=np.float32)
        scores: np.ndarray = self._index.get_scores(known)
        return scores

    def best(self, reading: Reading, count: int) -> np.ndarray:
        """Admissible rows with the highest scores, highest first, among equals the latest first, (≤ count,) int64."""
        row, earlier = reading.row, len(self.rows)
        allowed = self.querier != reading.querier
        if row >= 0:
            earlier = int(np.searchsorted(self.time, self.corpus.time[row], side="left"))
            allowed &= self.scene != self.corpus.scene[row]
        places = np.flatnonzero(allowed[:earlier])[::-1]
        scores = self.scores(reading.dialogue.query)[places]
        if len(places) > count:  # only what reaches the last place is sorted
            kept = scores >= np.partition(scores, -count)[-count]
            places, scores = places[kept], scores[kept]
        chosen = places[np.argsort(-scores, kind="stable")[:count]]
        return np.asarray(self.rows[chosen], dtype=np.int64)


@lru_cache(maxsize=REMEMBERED)
def _counted(item: Exchange) -> Mapping[str, int]:
    return Counter(words(f"{item.query} {item.reply}"))
