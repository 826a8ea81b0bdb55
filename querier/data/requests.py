"""What a model reads of one dialogue: rendered text, the query's vector, the querier's history, pool neighbours.

What a prompt shows is chosen by the method, which is handed a `Reading`: the dialogue and the history that belongs to
it here, be it the true one, a swapped one, a cut one or none.

Every reader of the data (training, scoring, generation, serving) asks here, so that the leak rules are kept in one
place: whatever stands in a history is strictly earlier than the query and of another scene, or `InputError` is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol, overload

import numpy as np

from querier.choices import History
from querier.config import Config
from querier.data.compared import Beside, ItemContrast, compares, marks_of, nobody
from querier.data.history import Histories, check_neighbours, check_no_leak
from querier.data.preparation import Prepared
from querier.data.stylometry import stylometries
from querier.data.words import REMEMBERED
from querier.errors import Unanswered
from querier.types import Dialogue, EncodeTexts, Rendered, Turn

PERMUTE = 17  # marks the draws of the permuted control


@dataclass(frozen=True)
class Exchange:
    """What a querier asked and was answered, in texts.

    Args:
        query: What was asked.
        reply: What was answered.
        responder: Who answered; None for the one who answers now.
        row: Place in the corpus; −1 for texts that are in none. Equal texts are equal wherever they stand.
    """

    query: str
    reply: str
    responder: str | None = None
    row: int = field(default=-1, compare=False)


def no_vectors() -> tuple[np.ndarray, np.ndarray]:
    """Those of a reading without any, for prompts that look at texts alone."""
    return np.zeros(0, dtype=np.float32), np.zeros((0, 0), dtype=np.float32)


@dataclass(frozen=True)
class Reading:
    """What a prompt may be made of; texts and vectors are fetched when a method looks at them.

    Args:
        dialogue: What is asked; its last turn, the reply, is blank, so that no prompt can be made of it.
        name: Shown for the querier; None for the true name.
        history: What was asked and answered before in the history that is read, newest first, n items.
        vectors: Gives the embedding of the query, (E,), and those of the history's queries, (n, E).
        owner: Whose history it is; None where there is no item, or nobody's name is known.
        row: Place in the corpus; −1 for texts that are in none.
        querier: Number of who asks; −1 for one who is in no corpus.
        marks: Numbers of the vectors that stand before each item that is shown, n; empty where none does.
    """

    dialogue: Dialogue
    name: str | None = None
    history: Sequence[Exchange] = ()
    vectors: Callable[[], tuple[np.ndarray, np.ndarray]] = no_vectors
    owner: str | None = None
    row: int = -1
    querier: int = -1
    marks: Sequence[tuple[int, ...]] = ()


Render = Callable[[Reading], Rendered]
"""Turns a dialogue, and what else a method shows of its reading, into what the decoder reads."""


Wanted = tuple[int, np.ndarray, str | None]
"""A dialogue, the rows of a history, and the name that is shown, as `Requests.of` takes them."""


class Exchanges(Sequence[Exchange]):
    """Dialogues of a corpus as texts, each read when it is looked at.

    Args:
        rows: Of the corpus.
        read: Gives the texts of a row.
    """

    def __init__(self, rows: Sequence[int], read: Callable[[int], Exchange]) -> None:
        self._rows, self._read = rows, read

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Exchange: ...
    @overload
    def __getitem__(self, index: slice) -> list[Exchange]: ...
    def __getitem__(self, index: int | slice) -> Exchange | list[Exchange]:
        if isinstance(index, slice):
            return [self._read(row) for row in self._rows[index]]
        return self._read(self._rows[index])


class AssignClusters(Protocol):
    """Finds the cluster of new queries."""

    def assign(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels (n,) and distances (n,) of vectors (n, E)."""
        ...


@dataclass
class Past:
    """Dialogues as vectors, newest first.

    Args:
        inputs: Embeddings of what was asked, (n, E) float32.
        outputs: Embeddings of what was answered, (n, E) float32.
        style: Stylometry of what was answered, (n, S) float32.
        cluster: Cluster of each query, (n,) int64.
        same_responder: Whether the reader's responder answered, (n,) bool.
        beside: What contrast users were answered; None where the method does not compare.
    """

    inputs: np.ndarray
    outputs: np.ndarray
    style: np.ndarray
    cluster: np.ndarray
    same_responder: np.ndarray
    beside: Beside | None = None

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass
class Request:
    """Everything that a model reads to answer or to score one dialogue.

    Args:
        rendered: The prompt's turns and the reply.
        query: Embedding of the query, (E,) float32.
        cluster: The query's cluster.
        history: The querier's earlier dialogues.
        neighbours: Nearest earlier pool dialogues of other queriers.
        row: Place in the corpus; −1 for texts that are in none.
        querier: Querier's number; −1 for one who is in no corpus.
        scene: Scene's number; −1 for texts that are in none.
        asked: Text of the query.
        items: Texts of the history, in its order.
    """

    rendered: Rendered
    query: np.ndarray
    cluster: int
    history: Past
    neighbours: Past
    row: int = -1
    querier: int = -1
    scene: int = -1
    asked: str = ""
    items: Sequence[Exchange] = ()


class Requests:
    """Builds requests from a prepared corpus.

    Args:
        prepared: Corpus, vectors, clusters and neighbours.
        histories: Finds each querier's earlier dialogues.
        config: Reads `seed`, `data.history`, `towers.history` and `towers.neighbours`.
        render: Turns a reading into what the decoder reads.
    """

    def __init__(self, prepared: Prepared, histories: Histories, config: Config, render: Render) -> None:
        self.prepared = prepared
        self.corpus = prepared.corpus
        self.histories = histories
        self.config = config
        self.own = config.data.history is not History.permuted  # the querier's own history is read
        self.render = render
        self.limit = config.towers.history
        self.contrast = ItemContrast(prepared, config) if compares(config) else None
        waits = config.prompt.asks_llm and config.llm.base_url  # for an endpoint, which answers several at a time
        self.together = config.llm.concurrency if waits else 1
        self._exchange = lru_cache(maxsize=REMEMBERED)(self._read_exchange)

    def history_rows(self, row: int, epoch: int = 0) -> np.ndarray:
        """Rows of the history that belongs to `row`, newest first, at most `towers.history`.

        Under `data.history=permuted` it is another querier's, drawn anew for every dialogue and epoch.
        """
        permuted = None
        if not self.own:
            permuted = np.random.default_rng([self.config.seed, epoch, PERMUTE, row])
        return self.histories.of(row, self.limit, permuted=permuted)

    def matched(self, row: int, epoch: int = 0) -> Request:
        """The request of a dialogue with its own querier's history."""
        return self.of(row, self.history_rows(row, epoch), own=self.own)

    def each(self, wanted: Sequence[Wanted]) -> list[Request | Unanswered]:
        """The requests of many dialogues as `of` builds them, or why there is none.

        Several are built at a time where an LLM's answers are waited for.
        """

        def build(one: Wanted) -> Request | Unanswered:
            try:
                return self.of(*one)
            except Unanswered as error:
                return error

        if self.together == 1:
            return [build(one) for one in wanted]
        with ThreadPoolExecutor(self.together) as pool:
            return list(pool.map(build, wanted))

    def of(self, row: int, history: np.ndarray, name: str | None = None, own: bool = False) -> Request:
        """The request of a dialogue with any history: swapped, cut or empty.

        Args:
            row: The dialogue.
            history: Rows, newest first, (n,) int64.
            name: Shown for the querier; None for the true name.
            own: Whether the history must be the querier's own.

        Raises:
            InputError: An item or a neighbour is not strictly earlier than the query, or is of its scene; a neighbour
                is the asker's own, or not of the pool.
        """
        prepared, corpus = self.prepared, self.corpus
        history = np.asarray(history, dtype=np.int64)[: self.limit]
        neighbours = self.neighbour_rows(row)
        check_no_leak(corpus, row, history, own)
        check_neighbours(corpus, row, neighbours)
        responder = int(corpus.responder[row])
        return Request(
            rendered=self.rendered(row, history, name),
            query=prepared.queries(np.array([row]))[0],
            cluster=int(prepared.cluster[row]),
            history=replace(self.past(history, responder), beside=self.beside(row, history)),
            neighbours=self.past(neighbours, responder),
            row=row,
            querier=int(corpus.querier[row]),
            scene=int(corpus.scene[row]),
            asked=self.asked(row),
            items=Exchanges(history.tolist(), self._exchange),
        )

    def rendered(self, row: int, history: np.ndarray, name: str | None = None) -> Rendered:
        """What the decoder reads of a dialogue.

        Args:
            row: The dialogue.
            history: Rows that may be read and leak nothing, newest first, (n,) int64.
            name: Shown for the querier; None for the true name.
        """
        corpus, prepared = self.corpus, self.prepared
        owner = corpus.queriers[int(corpus.querier[history[0]])] if len(history) else None
        dialogue = corpus.dialogue(row)
        rendered = self.render(
            Reading(
                dialogue=dialogue.unanswered,
                name=name,
                history=Exchanges(history.tolist(), self._exchange),
                vectors=lambda: (prepared.queries(np.array([row]))[0], prepared.queries(history)),
                owner=owner,
                row=row,
                querier=int(corpus.querier[row]),
                marks=() if self.contrast is None else self.contrast.marks(row, history),
            )
        )
        return replace(rendered, reply=dialogue.reply)

    def beside(self, row: int, history: np.ndarray) -> Beside | None:
        """What contrast users of the history's items were answered; None where the method does not compare."""
        return None if self.contrast is None else self.contrast.of(row, history)

    def asked(self, row: int) -> str:
        """Text of the dialogue's query."""
        return self._exchange(row).query

    def neighbour_rows(self, row: int) -> np.ndarray:
        """Pool rows nearest to the dialogue's query, nearest first; at most `towers.neighbours`."""
        rows = np.asarray(self.prepared.neighbours[row])
        known: np.ndarray = rows[rows >= 0]
        return known[: self.config.towers.neighbours]

    def past(self, rows: np.ndarray, responder: int) -> Past:
        """The rows as vectors, in the order given."""
        return gather_past(self.prepared, np.asarray(rows, dtype=np.int64), responder)

    def _read_exchange(self, row: int) -> Exchange:
        dialogue = self.corpus.dialogue(row)
        return Exchange(dialogue.query, dialogue.reply, dialogue.responder, row)


def outside_request(
    query: str,
    querier: str | None,
    history: Sequence[Exchange],
    encode: EncodeTexts,
    clusters: AssignClusters,
    render: Render,
    config: Config,
    prepared: Prepared | None = None,
    responder: str | None = None,
    turns: Sequence[Turn] = (),
    contrast: ItemContrast | None = None,
) -> Request:
    """A request for texts that are in no corpus.

    Args:
        query: What is asked.
        querier: Name of who asks, known to the corpus or not; None for nobody in particular.
        history: What the querier asked and was answered, oldest first.
        encode: The sentence encoder that the model was trained with.
        clusters: The query clusters of the pool.
        render: Turns a reading into what the decoder reads.
        config: Reads `towers.history` and `towers.neighbours`.
        prepared: Where pool neighbours are looked up; None for none.
        responder: Who answers; None for the one who answered last, else the first one, of those trained for.
        turns: What was said in this dialogue before the query.
        contrast: Finds contrast users of those items that are in the corpus; None for nobody.
    """
    answers = responder or _last_responder(history, prepared)
    newest = list(history[::-1])
    newest.sort(key=lambda item: item.responder not in (None, answers))  # stable: newest first among each
    newest = newest[: config.towers.history]
    vectors = encode([query, *(item.query for item in newest), *(item.reply for item in newest)])
    asked = vectors[: 1 + len(newest)]
    cluster = np.asarray(clusters.assign(asked)[0], dtype=np.int64)
    past = Past(
        inputs=asked[1:],
        outputs=vectors[1 + len(newest) :],
        style=stylometries([item.reply for item in newest]),
        cluster=cluster[1:],
        same_responder=np.array([item.responder in (None, answers) for item in newest], dtype=bool),
    )
    number = -1 if prepared is None or querier is None else prepared.corpus.numbers.get(querier, -1)
    if compares(config):
        rows = np.array([item.row for item in newest], dtype=np.int64)
        past.beside = nobody(past.outputs) if contrast is None else contrast.outside(number, rows, past.outputs)
    marks = () if past.beside is None else marks_of(past.beside.stands, config)
    said = (*turns, Turn(querier or "", query), Turn(answers, ""))
    dialogue = Dialogue(id="", querier=querier or "", responder=answers, turns=said, time=0, scene="")
    reading = Reading(dialogue, history=newest, vectors=lambda: (vectors[0], asked[1:]), querier=number, marks=marks)
    return Request(
        rendered=render(reading),
        query=vectors[0],
        cluster=int(cluster[0]),
        history=past,
        neighbours=_outside_neighbours(vectors[0], number, answers, config, prepared),
        querier=number,
        asked=query,
        items=newest,
    )


def gather_past(prepared: Prepared, rows: np.ndarray, responder: int) -> Past:
    """Dialogues of the corpus as vectors, in the order given; `responder` is the number of who answers now."""
    return Past(
        inputs=prepared.queries(rows),
        outputs=prepared.replies(rows),
        style=prepared.styles(rows),
        cluster=np.asarray(prepared.cluster[rows], dtype=np.int64),
        same_responder=np.asarray(prepared.corpus.responder[rows] == responder),
    )


def _outside_neighbours(
    query: np.ndarray, querier: int, responder: str, config: Config, prepared: Prepared | None
) -> Past:
    """Pool dialogues nearest to a new query; none without a corpus."""
    if prepared is None or not config.towers.neighbours:
        none = np.zeros((0, len(query)), dtype=np.float32)
        return Past(none, none, stylometries([]), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool))
    rows = np.asarray(prepared.nearest(query, querier, None), dtype=np.int64)[: config.towers.neighbours]
    responders = prepared.corpus.responders
    return gather_past(prepared, rows, responders.index(responder) if responder in responders else -1)


def _last_responder(history: Sequence[Exchange], prepared: Prepared | None) -> str:
    """Who answered last of those whom the model was trained for, else the first of them; without a corpus who did."""
    named = [item.responder for item in history[::-1] if item.responder is not None]
    if prepared is None:
        return named[0] if named else "assistant"
    trained = prepared.corpus.answering
    return next((name for name in named if name in trained), trained[0])
