"""A corpus whose replies show the querier's style, requests over it, and models that are judged on it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from querier.config import Config, from_plain
from querier.data.history import Histories
from querier.data.records import Corpus
from querier.data.requests import Reading, Request, Requests
from querier.data.stylometry import stylometries
from querier.types import Dialogue, Rendered, Scored, Split, Turn

STYLES = 2
CLUSTERS = 3
SIZE = 4


def style_of(name: str) -> int:
    return int(name[1:]) % STYLES


def make_prepared(queriers: int = 8, unseen: int = 2, each: int = 8, texts: int = 40, seed: int = 0) -> Any:
    """Queriers q0, q1, … of two styles; the last `unseen` are unseen; the last three dialogues of the others are test.

    A history item's output vector is one-hot in its style, so that a model can read it.
    """
    rng = np.random.default_rng(seed)
    dialogues, split = [], []
    for moment in range(each):
        for number in rng.permutation(queriers):
            name, text = f"q{number}", int(rng.integers(texts))
            turns = (Turn(name, f"Question {text}?"), Turn("court", f"answer {text} in style {style_of(name)}"))
            place = len(dialogues)
            dialogues.append(Dialogue(f"d{place}", name, "court", turns, place, f"s{place}"))
            test = number >= queriers - unseen or moment >= each - 3
            split.append(Split.TEST if test else Split.TRAIN)
    corpus = Corpus.build(dialogues)
    held_out = np.array([int(name[1:]) >= queriers - unseen for name in corpus.queriers])
    corpus = corpus.with_split(np.array([part.value for part in split]), held_out)
    count = len(corpus)
    asked = np.array([int(text[9:-1]) for text in corpus.queries()])
    style = np.array([style_of(corpus.queriers[number]) for number in corpus.querier])
    counted = stylometries(corpus.replies())
    contrast = np.full((count, 3, 2), -1)
    pool = corpus.rows_in(Split.TRAIN)
    for row in range(count):
        earlier = pool[(corpus.time[pool] < corpus.time[row]) & (corpus.querier[pool] != corpus.querier[row])]
        chosen = earlier[style[earlier] != style[row]][-3:]
        contrast[row, : len(chosen), 0] = chosen
    return SimpleNamespace(
        corpus=corpus,
        queries=lambda rows: np.eye(SIZE, dtype=np.float32)[asked[rows] % SIZE],
        replies=lambda rows: np.eye(SIZE, dtype=np.float32)[style[rows]],
        styles=lambda rows: counted[rows],
        cluster=asked % CLUSTERS,
        neighbours=np.full((count, 2), -1),
        contrast=contrast,
        shared=True,
    )


def make_requests(prepared: Any, name_querier: bool = False, **changes: Any) -> Requests:
    plain = {"towers": {"history": 4}, "prompt": {"name_querier": name_querier}, **changes}
    return Requests(prepared, Histories(prepared.corpus), from_plain(Config, plain), render)


def render(reading: Reading) -> Rendered:
    dialogue = reading.dialogue
    shown = reading.name or dialogue.querier
    return Rendered((("user", f"{shown}: {dialogue.query}"),), dialogue.reply, (shown, dialogue.responder))


def history_style(request: Request) -> int | None:
    return int(request.history.outputs.sum(0).argmax()) if len(request.history) else None


class Reader:
    """Reads the style from the history: 1 nat a token where it is the reply's, 3 where it is not, 2 without history."""

    def __init__(self) -> None:
        self.scored: list[Request] = []
        self.answered: list[Request] = []

    def score(self, requests: Sequence[Request]) -> list[Scored | None]:
        self.scored += requests
        return [self.one(request) for request in requests]

    def one(self, request: Request) -> Scored | None:
        style, reply = history_style(request), request.rendered.reply
        nats = 2.0 if style is None else 1.0 if style == int(reply[-1]) else 3.0
        tokens = len(reply.split())
        return Scored(-nats * tokens, tokens, len(reply.encode()))

    def generate(
        self, requests: Sequence[Request], max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str | None]:
        self.answered += requests
        return [self.answer(request) for request in requests]

    def answer(self, request: Request) -> str | None:
        text = request.rendered.turns[0][1].split("Question ")[1][:-1]
        return f"answer {text} in style {history_style(request)}"


class Blind(Reader):
    """Reads nothing of the querier; its arithmetic differs a little from call to call."""

    def one(self, request: Request) -> Scored | None:
        tokens = len(request.rendered.reply.split())
        return Scored(-2.0 * tokens + 1e-7 * len(self.scored), tokens, len(request.rendered.reply.encode()))

    def answer(self, request: Request) -> str | None:
        return "answer"
