"""Difference-aware personalization (DPL): a description of what sets a querier apart from others in the same situation.

Qiu et al., "Measuring What Makes You Unique: Difference-Aware User Modeling for Enhancing LLM Personalization", arXiv
2503.02450, section 3. For each of 8 items of the history, found by BM25, up to K other people stand for the ways of
acting in its situation; an LLM lists how the querier differs from them in writing, emotion and semantics; a summary of
these lists and the past items then stand in the prompt of a frozen decoder.

As published (`prompt.faithful=true`, which needs `prompt.distil=llm`) each answer takes one call for each of the 8
items and one for the summary, and where fewer than 8 items have K contrast users there is no answer: the released code
breaks off with an index error, here the dialogue counts as failed. Mended (default) any number of items will do, none
included, and the description is of the history, not of the query: it is counted, item by item, or, with
`prompt.distil=llm`, takes one call that reads the newest 8 items, and none where these were read for an earlier answer.

Two faults of the released code are reproduced in neither. Its other people may have spoken later than the query; here
whoever is held against an item spoke strictly before it. And it fits a k-means for each user and item; here the
preparation fits one for each item (`querier/neighbours/contrast_users.py`), which from the same centres chooses the
same people. Words are split as everywhere in the library, not at blanks alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from querier.choices import Distil
from querier.config import PromptConfig
from querier.data.compared import users_of
from querier.data.history import check_no_leak
from querier.data.preparation import Prepared
from querier.data.requests import Exchange, Reading
from querier.data.words import REMEMBERED
from querier.errors import InputError, Unanswered
from querier.llm import Completes
from querier.methods.differences import AXES, Contrasted, Differences, count_differences, spread, told
from querier.methods.remembered import Remembered
from querier.methods.retrieval import relevance

Describe = Callable[[Reading], str]
"""A description of a reading's querier or responder; empty where there is nothing to say."""

ITEMS = 8  # that an LLM reads
SITUATIONS = 2000  # that the spread of replies is taken from, at most, evenly spread over the pool
WIDER = 4  # times K pool dialogues are searched for K different people
TRIES = 3  # for an answer in the form that was asked for

ASK_DIFFERENCES = (
    "Below are replies that one person was given and, beside each, replies that others were given in the same "
    "situation. List how this person's replies differ from those of the others: in writing (length, punctuation, "
    "wording, formality), in emotion (mood, warmth, strength of feeling) and in semantics (what they dwell on, what "
    "they leave out). Use short phrases, say only what can be seen here, and name nobody. Answer with one JSON object "
    'and nothing else, of the form {"writing": ["..."], "emotion": ["..."], "semantics": ["..."]}; a list may be empty.'
)
ASK_SUMMARY = (
    "Below are replies that one person was given, and how each of them differs from what others were given in the same "
    "situation. In two or three short sentences sum up what is particular to this person: writing, emotion, semantics. "
    "Say only what can be seen here, and do not name the person."
)
ASK_AGAIN = "\n\nAn earlier answer could not be read ({why}; try {number}). Answer with the JSON object alone."


def difference_profiles(config: PromptConfig, prepared: Prepared, llm: Completes | None) -> Describe:
    """What describes a querier by what sets them apart.

    Args:
        config: Reads `distil` and `faithful`.
        prepared: Its training split is the pool, which may be read.
        llm: For `distil=llm`.
    """
    situations = Situations(prepared)
    if config.distil is Distil.llm and llm is not None:
        if config.faithful:
            return Published(situations, llm)
        return Mended(situations, lambda items: told(ask_differences(llm, [shown(items)])[0]), ITEMS)
    counting = Counting(situations)
    return Mended(situations, lambda items: told(counting(items)))


class Situations:
    """Finds for each item of a history what contrast users were asked and answered in its situation.

    An item of the corpus has the contrast users that the preparation chose for it: strictly earlier than the item, of
    other queriers and of other scenes. Who asks now, and the scene of the query, are passed over, whatever history is
    read. An item that was given as text is in no comparison group; the pool dialogues with the nearest queries stand
    in, one of each querier.

    Args:
        prepared: The corpus with its contrast users.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.prepared, self.corpus = prepared, prepared.corpus
        self.most = prepared.contrast.shape[1]  # K
        self._exchange = lru_cache(maxsize=REMEMBERED)(self._read_exchange)

    def __call__(self, reading: Reading) -> list[Contrasted]:
        """The items of the history, in its order."""
        rows = self.rows(reading)
        return [
            Contrasted(item, tuple(self._exchange(row) for row in chosen.tolist() if row >= 0))
            for item, chosen in zip(reading.history, rows, strict=True)
        ]

    def rows(self, reading: Reading) -> np.ndarray:
        """Pool rows of each item's contrast users, −1 where there are no more, (n, K) int64.

        Raises:
            InputError: One of them is not strictly earlier than its item and the query, is of the scene of either, or
                is who asks.
        """
        corpus, items = self.corpus, np.array([item.row for item in reading.history], dtype=np.int64)
        scene = int(corpus.scene[reading.row]) if reading.row >= 0 else -1
        found, known = users_of(self.prepared, items, reading.querier, scene), np.flatnonzero(items >= 0)
        check_no_leak(corpus, items[known], found[known], own=False)
        for place in np.flatnonzero(items < 0).tolist():
            near = self._nearest(reading, place)
            found[place, : len(near)] = near
        chosen = found[found >= 0]
        if reading.row >= 0:
            check_no_leak(corpus, reading.row, chosen, own=False)
        own = chosen[corpus.querier[chosen] == reading.querier]
        if len(own):
            raise InputError(f"leak: {corpus.ids[int(own[0])]!r}, a contrast user of the history, is the asker's own")
        return found

    def in_pool(self) -> list[list[str]]:
        """What contrast users were answered in some situations of the pool."""
        pool = self.prepared.pool
        places = np.unique(np.linspace(0, max(0, len(pool) - 1), min(SITUATIONS, len(pool))).round().astype(np.int64))
        rows = np.asarray(self.prepared.contrast[pool[places]], dtype=np.int64)[:, :, 0]
        return [[self._exchange(row).reply for row in chosen[chosen >= 0].tolist()] for chosen in rows]

    def _nearest(self, reading: Reading, place: int) -> list[int]:
        vector = reading.vectors()[1][place]
        before, scene = None, None
        if reading.row >= 0:
            before, scene = int(self.corpus.time[reading.row]), int(self.corpus.scene[reading.row])
        rows = self.prepared.nearest(vector, reading.querier, before, scene, WIDER * self.most)
        people = {int(self.corpus.querier[row]): int(row) for row in rows[::-1].tolist()}  # the nearest of each stays
        kept = set(people.values())
        return [row for row in rows.tolist() if row in kept][: self.most]

    def _read_exchange(self, row: int) -> Exchange:
        dialogue = self.corpus.dialogue(row)
        return Exchange(dialogue.query, dialogue.reply, dialogue.responder, row)


class Mended:
    """Describes whose history is read, any number of items; what was described once is remembered.

    Args:
        situations: Finds contrast users.
        distil: Makes a description of items of which each has a contrast user.
        most: It is handed so many at most, the newest; None for all.
    """

    def __init__(
        self, situations: Situations, distil: Callable[[tuple[Contrasted, ...]], str], most: int | None = None
    ) -> None:
        self._situations, self._most = situations, most
        self._distil = Remembered(distil)

    def __call__(self, reading: Reading) -> str:
        """The description; empty where nothing can be compared."""
        held = tuple(one for one in self._situations(reading) if one.others)[: self._most]
        return self._distil(held) if held else ""


class Counting:
    """Differences by counting, in the structure in which an LLM gives them.

    Args:
        situations: Say how far replies in one situation lie apart.
    """

    def __init__(self, situations: Situations) -> None:
        self._situations = situations
        self._deviation: np.ndarray | None = None
        self._lock = Lock()  # batches may be built by several threads

    def __call__(self, items: Sequence[Contrasted]) -> Differences:
        """What sets the items apart."""
        with self._lock:
            if self._deviation is None:
                self._deviation = spread(self._situations.in_pool())
        return count_differences(items, self._deviation)


class Published:
    """As published: 8 items by BM25, a call for each, one for the summary.

    Args:
        situations: Finds contrast users.
        llm: Is asked.
    """

    def __init__(self, situations: Situations, llm: Completes) -> None:
        self._situations, self._llm = situations, llm
        self._distil = Remembered(self._ask)

    def __call__(self, reading: Reading) -> str:
        """The summary.

        Raises:
            Unanswered: Fewer than 8 items have K contrast users, or the LLM gave no usable answer.
        """
        situations = self._situations
        full = [one for one in situations(reading) if len(one.others) == situations.most]
        if len(full) < ITEMS:
            raise Unanswered(
                f"prompt.faithful=true needs {ITEMS} items of the history with {situations.most} contrast users each, "
                f"got {len(full)} for a query of {reading.dialogue.querier!r}; prompt.faithful=false takes any number"
            )
        scores = relevance(reading.dialogue.query, [one.item for one in full])
        return self._distil(tuple(full[place] for place in np.argsort(-scores, kind="stable")[:ITEMS].tolist()))

    def _ask(self, items: tuple[Contrasted, ...]) -> str:
        found = ask_differences(self._llm, [shown([one]) for one in items])
        texts = [
            f"{_own(number, one)}\nDifferences: {json.dumps(dict(differences), ensure_ascii=False)}"
            for number, (one, differences) in enumerate(zip(items, found, strict=True), start=1)
        ]
        answer = self._llm.complete_all(["\n\n".join([ASK_SUMMARY, *texts])])[0]
        if answer.text is None:
            raise _failed("no summary", answer.error)
        return " ".join(answer.text.split())


def ask_differences(llm: Completes, texts: Sequence[str]) -> list[Differences]:
    """Differences of each text, asked for together; what cannot be read is asked for again, and kept apart from it.

    Raises:
        Unanswered: There is no answer, or none in the right form after `TRIES`.
    """
    prompts = [f"{ASK_DIFFERENCES}\n\n{text}" for text in texts]
    found: dict[int, Differences] = {}
    why: dict[int, str] = {}
    for number in range(1, TRIES + 1):
        missing = [place for place in range(len(prompts)) if place not in found]
        again = [ASK_AGAIN.format(why=why[place], number=number) if place in why else "" for place in missing]
        answers = llm.complete_all([prompts[place] + more for place, more in zip(missing, again, strict=True)])
        for place, answer in zip(missing, answers, strict=True):
            if answer.text is None:
                raise _failed("no differences", answer.error)
            try:
                found[place] = read_differences(answer.text)
            except ValueError as error:
                why[place] = str(error)
        if len(found) == len(prompts):
            return [found[place] for place in range(len(prompts))]
    raise _failed("no differences", f"{next(why[place] for place in why if place not in found)}, {TRIES} times")


def read_differences(text: str) -> Differences:
    """The lists in an answer, which may stand between other words.

    Raises:
        ValueError: It holds no JSON object, or one of another form.
    """
    begin, end = text.find("{"), text.rfind("}")
    try:
        found: Any = json.loads(text[begin : end + 1]) if begin >= 0 else None
    except ValueError:
        raise ValueError("no JSON object") from None
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    for axis in AXES:
        phrases = found.get(axis)
        if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
            raise ValueError(f"`{axis}` is no list of texts")
    return {axis: [" ".join(phrase.split()) for phrase in found[axis] if phrase.strip()] for axis in AXES}


def shown(items: Sequence[Contrasted]) -> str:
    """Items beside their contrast users, as an LLM reads them."""
    return "\n\n".join(
        "\n".join([_own(number, one), *(f"Another person was given: {other.reply}" for other in one.others)])
        for number, one in enumerate(items, start=1)
    )


def _own(number: int, one: Contrasted) -> str:
    return f"{number}. Asked: {one.item.query}\nThis person was given: {one.item.reply}"


def _failed(what: str, error: str | None) -> Unanswered:
    return Unanswered(f"the text LLM gave {what}: {error}; what it did give is kept, run again")
