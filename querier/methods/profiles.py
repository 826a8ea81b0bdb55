"""Descriptions of queriers and responders that stand in a prompt: written by hand, counted, or by a text LLM.

A querier is described from the history that is read, so that a swapped history brings its own description and an empty
one none; a responder from what they answer in the training pool. What is counted is held against the other queriers
(responders) of the pool: like the query clusters, these statistics are of the pool as a whole. A description that was
written by hand belongs to a name: of whose history is read or, without one, of who is shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from querier.choices import Distil, Profile
from querier.config import PromptConfig
from querier.data.preparation import Prepared
from querier.data.records import Corpus
from querier.data.requests import Exchange, Reading
from querier.errors import InputError, Unanswered
from querier.llm import Completes
from querier.methods.dpl import Describe, difference_profiles
from querier.methods.manners import Others, sentence
from querier.methods.remembered import Remembered
from querier.methods.retrieval import shared_pool
from querier.types import Split

PEOPLE = 2000  # whom somebody is held against, at most, evenly spread
REPLIES = 2000  # of a responder that are counted, at most, evenly spread
SAMPLE = 20  # exchanges that a text LLM is shown

ASK_QUERIER = (
    "Below is what one person asked an assistant before, newest first, and what they were answered. In one or two "
    "short sentences describe how this person writes and which answers they are given: style, tone, length, interests. "
    "Say only what can be seen here, and do not name the person.\n\n{texts}"
)
ASK_RESPONDER = (
    "Below is what several people asked and how one and the same person answered. In one or two short sentences "
    "describe how this person answers: style, tone, length. Say only what can be seen here, and do not name the "
    "person.\n\n{texts}"
)


def profiler(config: PromptConfig, prepared: Prepared | None, llm: Completes | None = None) -> Describe | None:
    """What describes somebody in a prompt; None where nobody is described.

    Args:
        config: Reads `profile`, `profiles` and `distil`.
        prepared: The corpus whose training split is the pool.
        llm: Writes descriptions for `distil=llm`.

    Raises:
        InputError: A file that cannot be used, no pool to compare with, or no LLM.
    """
    if config.profile is Profile.none:
        return None
    of_querier = config.profile is not Profile.responder
    if config.profiles:
        known = read_profiles(config.profiles)
        if prepared is not None:
            check_names(config, known, prepared.corpus.queriers if of_querier else prepared.corpus.responders)
        return lambda reading: known.get(_whose(reading) if of_querier else reading.dialogue.responder, "")
    if config.distil is Distil.llm and llm is None:
        raise InputError(
            "prompt.distil=llm needs a text LLM, and none was handed over: renderer(..., llm=Llm(LlmConfig(...))); or "
            "write the descriptions beforehand and give prompt.profiles=<file.json>, or use prompt.distil=counting"
        )
    if config.profile is Profile.differences:
        return difference_profiles(config, shared_pool(prepared, "prompt.profile=differences"), llm)
    if of_querier and llm is not None and config.distil is Distil.llm:
        return QuerierProfiles(lambda history: _asked(llm, ASK_QUERIER, history[:SAMPLE]))
    pool = shared_pool(prepared, f"prompt.profile={config.profile}")
    if of_querier:
        return QuerierProfiles(Counted(pool.corpus).of_history)
    return ResponderProfiles(pool.corpus, llm if config.distil is Distil.llm else None)


def read_profiles(path: str) -> dict[str, str]:
    """Descriptions by name, each on one line.

    Raises:
        InputError: The file is not there, or is not a JSON object of texts.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"prompt.profiles: no file {path}; give a JSON object of names and descriptions")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"prompt.profiles: {path} is not JSON ({error}); write one object") from error
    if not isinstance(found, dict) or not found:
        raise InputError(f"prompt.profiles: {path} must hold an object of names and descriptions, got {found!r:.60}")
    for name, text in found.items():
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"prompt.profiles: {path}: the description of {name!r} must be a text, got {text!r:.60}")
    return {name: " ".join(text.split()) for name, text in found.items()}


def check_names(config: PromptConfig, known: dict[str, str], names: Sequence[str]) -> None:
    """Refuse a file that describes nobody of the corpus.

    Raises:
        InputError: With one name of each.
    """
    if not set(known) & set(names):
        whom = "responder" if config.profile is Profile.responder else "querier"
        raise InputError(
            f"prompt.profiles: {config.profiles} describes no {whom} of the corpus: it has "
            f"{next(iter(known))!r}, the corpus {names[0]!r}; give their names as they stand in the data"
        )


class QuerierProfiles:
    """Describes whose history is read; what was described once is remembered.

    Args:
        describe: Makes a description of a history with one item or more.
    """

    def __init__(self, describe: Callable[[tuple[Exchange, ...]], str]) -> None:
        self._describe = Remembered(describe)

    def __call__(self, reading: Reading) -> str:
        """The description; empty without a history."""
        return self._describe(tuple(reading.history)) if len(reading.history) else ""


class Counted:
    """Descriptions of histories by counting, held against the queriers of the training pool.

    Args:
        corpus: After the split.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._others: tuple[Others, Others] | None = None
        self._lock = Lock()  # batches may be built by several threads

    def of_history(self, history: tuple[Exchange, ...]) -> str:
        """What stands out in what somebody asks and is answered; empty if nothing does."""
        asking, answered = self._compared()
        found = [
            sentence("writes", "messages", [item.query for item in history], asking),
            sentence("is given", "replies", [item.reply for item in history], answered),
        ]
        return _compared_with_others([one for one in found if one])

    def _compared(self) -> tuple[Others, Others]:
        with self._lock:
            if self._others is None:
                rows = _by_person(self._corpus, self._corpus.querier, PEOPLE)
                queries, replies = self._corpus.queries(), self._corpus.replies()
                asked = [[queries[row] for row in each] for each in rows.values()]
                answered = [[replies[row] for row in each] for each in rows.values()]
                self._others = Others(asked), Others(answered)
            return self._others


class ResponderProfiles:
    """Describes who answers, from what they answer in the training pool; each of them once.

    Args:
        corpus: After the split.
        llm: Writes the descriptions; None counts.
    """

    def __init__(self, corpus: Corpus, llm: Completes | None = None) -> None:
        self._corpus, self._llm = corpus, llm
        self._known = Remembered(self._all)  # threads that wait for the same descriptions share a failure too

    def __call__(self, reading: Reading) -> str:
        """The description; empty for somebody who answers nothing in the pool."""
        return self._known(None).get(reading.dialogue.responder, "")

    def _all(self, _: None) -> dict[str, str]:
        rows = _by_person(self._corpus, self._corpus.responder, PEOPLE)
        queries, replies = self._corpus.queries(), self._corpus.replies()
        names = self._corpus.responders
        if self._llm is not None:
            llm = self._llm
            shown = {
                number: [Exchange(queries[row], replies[row]) for row in _spread(own, SAMPLE)]
                for number, own in rows.items()
            }
            try:
                return {names[number]: _asked(llm, ASK_RESPONDER, items) for number, items in shown.items()}
            except Unanswered as error:  # of all their dialogues, not of one
                raise InputError(str(error)) from error
        said = {number: [replies[row] for row in _spread(own, REPLIES)] for number, own in rows.items()}
        # Who answers alone is held against those who ask: something can be said of their words, not of their traits.
        alone = [queries[row] for own in rows.values() for row in _spread(own, REPLIES)] if len(rows) == 1 else None
        others = Others(list(said.values()), alone)
        told = {names[number]: sentence("gives", "replies", texts, others) for number, texts in said.items()}
        return {name: _compared_with_others([text] if text else []) for name, text in told.items()}


def _compared_with_others(found: Sequence[str]) -> str:
    return f"compared with others, {'; '.join(found)}." if found else ""


def _asked(llm: Completes, prompt: str, items: Sequence[Exchange]) -> str:
    """A text LLM's description.

    Raises:
        Unanswered: It gave none.
    """
    texts = "\n\n".join(f"Asked: {item.query}\nAnswered: {item.reply}" for item in items)
    answer = llm.complete_all([prompt.format(texts=texts)])[0]
    if answer.text is None:
        raise Unanswered(f"the text LLM gave no description: {answer.error}; what it did give is kept, run again")
    return " ".join(answer.text.split())


def _whose(reading: Reading) -> str:
    return reading.owner or reading.name or reading.dialogue.querier


def _by_person(corpus: Corpus, person: np.ndarray, most: int) -> dict[int, list[int]]:
    """Pool rows of each person by number, of at most so many people."""
    pool = corpus.rows_in(Split.TRAIN)
    numbers = np.asarray(person)[pool]
    chosen = _spread(np.unique(numbers).tolist(), most)
    rows: dict[int, list[int]] = {number: [] for number in chosen}
    for row, number in zip(pool.tolist(), numbers.tolist(), strict=True):
        if number in rows:
            rows[number].append(row)
    return rows


def _spread(values: Sequence[int], most: int) -> list[int]:
    """At most so many of the values, evenly spread."""
    if len(values) <= most:
        return list(values)
    return [values[int(place)] for place in np.linspace(0, len(values) - 1, most).round()]
