"""Asks a model for log-probabilities and replies; what was asked once is not asked again.

The swaps ask many times for the same thing (one dialogue, one history, one name), so scores are kept by that key. The
model never sees the true reply of a dialogue that it is to answer, nor does what makes its prompt (`data/requests.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from querier.data.embeddings import Progress
from querier.data.requests import Request, Requests
from querier.errors import InputError, Unanswered
from querier.types import Scored

BUILT = 1024  # requests that are built at a time: bounds the memory
CHUNK = 128  # of these, how many the model gets at a time: bounds how long nothing is heard


class Model(Protocol):
    """What is judged: a `QuerierModule`, or anything else that scores and answers."""

    def score(self, requests: Sequence[Request]) -> Sequence[Scored | None]:
        """How likely each true reply is; None where that could not be found out."""
        ...

    def generate(
        self, requests: Sequence[Request], max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> Sequence[str | None]:
        """A reply to each request, the likeliest at temperature 0; None where there is none."""
        ...


class Key(NamedTuple):
    """What a score depends on: the dialogue, the rows read as history, and the name shown (None: the true one)."""

    row: int
    history: tuple[int, ...]
    name: str | None


@dataclass(frozen=True)
class Reads:
    """What a method reads of a querier; what it does not read makes no difference and is not scored twice.

    Attributes:
        history: The items.
        name: The name in the prompt.
    """

    history: bool = True
    name: bool = True


class Scorer:
    """Scores with a memory.

    Args:
        model: What is judged.
        requests: Builds what it reads.
        reads: What the method reads of a querier.
        progress: Called with what is done, how much of it, of how much.
        chunk: Requests that the model gets at a time; of like length, so that it pads little.
    """

    def __init__(
        self,
        model: Model,
        requests: Requests,
        reads: Reads | None = None,
        progress: Progress | None = None,
        chunk: int = CHUNK,
    ) -> None:
        self.model = model
        self.requests = requests
        self.reads = reads or Reads()
        self.progress = progress
        self.chunk = chunk
        self.reasons: dict[Key, str] = {}  # why a method has no answer
        self._known: dict[Key, Scored | None] = {}

    def key(self, row: int, history: np.ndarray, querier: int | None = None) -> Key:
        """The key of a dialogue with any history.

        Args:
            row: The dialogue.
            history: Rows, newest first, (n,).
            querier: Whose name is shown; None for the true one.
        """
        corpus, row = self.requests.corpus, int(row)
        items = tuple(np.asarray(history)[: self.requests.limit].tolist()) if self.reads.history else ()
        same = querier is None or querier == int(corpus.querier[row]) or not self.reads.name
        return Key(row, items, None if same or querier is None else corpus.queriers[querier])

    def add(self, keys: Iterable[Key], what: str = "scoring") -> None:
        """Score what is not known yet, in chunks of like length."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._known]
        self._known.update(dict.fromkeys(missing))
        for part in self._parts(missing, what):
            scored = self.model.score([request for _, request in part])
            for (place, _), one in zip(part, scored, strict=True):
                self._known[missing[place]] = usable(one)

    def __getitem__(self, key: Key) -> Scored | None:
        """What was found for a key that was added; None where scoring failed."""
        return self._known[key]

    def replies(
        self, keys: Sequence[Key], max_new_tokens: int, temperature: float = 0.0, seed: int = 0, what: str = "answering"
    ) -> list[str | None]:
        """Replies of the model, which is not shown the true ones; None where there is none.

        Raises:
            InputError: The model gave more or fewer than it was asked for.
        """
        replies: dict[int, str | None] = {}
        for part in self._parts(keys, what):
            requests = [blinded(request) for _, request in part]
            found = self.model.generate(requests, max_new_tokens, temperature=temperature, seed=seed)
            if len(found) != len(requests):
                raise InputError(
                    f"the model gave {len(found)} replies to {len(requests)} requests; it must give one to each"
                )
            for (place, _), text in zip(part, found, strict=True):
                replies[place] = text if isinstance(text, str) else None
        return [replies.get(place) for place in range(len(keys))]

    def _parts(self, keys: Sequence[Key], what: str) -> Iterator[list[tuple[int, Request]]]:
        """What the model reads for the keys' places, of like length, so many at a time; says how far it is.

        A key that stands twice is asked twice; one that the method has no answer to is left out.
        """
        turns = {row: self.requests.corpus.dialogue(row).turns for row in {key.row for key in keys}}
        length = {row: sum(len(turn.text) for turn in each) for row, each in turns.items()}
        order = sorted(range(len(keys)), key=lambda place: (-length[keys[place].row], keys[place].row))
        for start in range(0, len(order), BUILT):
            places = order[start : start + BUILT]
            built = self._built(keys[place] for place in places)
            asked = [(place, built[keys[place]]) for place in places if keys[place] in built]
            asked.sort(key=lambda one: -one[1].rendered.characters)  # with what the method shows besides
            for begin in range(0, len(asked), self.chunk):
                self._say(what, start + begin, len(order))
                yield asked[begin : begin + self.chunk]
        if order:
            self._say(what, len(order), len(order))

    def _say(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)

    def _built(self, keys: Iterable[Key]) -> dict[Key, Request]:
        """What the model reads for each key; those that the method has no answer to are left out, with the reason."""
        distinct = list(dict.fromkeys(keys))
        found = self.requests.each([(key.row, np.array(key.history, dtype=np.int64), key.name) for key in distinct])
        built: dict[Key, Request] = {}
        for key, request in zip(distinct, found, strict=True):
            if isinstance(request, Unanswered):
                self.reasons[key] = str(request)
            else:
                built[key] = request
        return built


def blinded(request: Request) -> Request:
    """The same request without the true reply."""
    return replace(request, rendered=replace(request.rendered, reply=""))


def usable(scored: Scored | None) -> Scored | None:
    """None in place of a score that is no number or rests on no token."""
    good = scored is not None and scored.tokens > 0 and math.isfinite(scored.log_prob)
    return scored if good else None
