"""A prepared corpus in memory for the tests of batches: some queriers ask from few texts, vectors are noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from querier.config import Config, from_plain
from querier.data.history import Histories
from querier.data.records import Corpus
from querier.data.requests import Reading, Requests
from querier.data.stylometry import stylometries
from querier.types import Dialogue, Rendered, Split, Tokens, Turn

SIZE = 16


def make_config(**changes: Any) -> Config:
    """A configuration with small towers; `changes` by group, e.g. `loader={"batch_size": 8}`."""
    plain: dict[str, Any] = {"towers": {"width": 8, "heads": 2, "history": 6, "neighbours": 4}}
    plain["towers"].update(changes.pop("towers", {}))
    plain.setdefault("contrast", {}).update({"k": 3, "nearest": 2, "history": 4, **changes.pop("contrast", {})})
    return from_plain(Config, {**plain, **changes})


def make_prepared(queriers: int = 8, each: int = 10, texts: int = 6, clusters: int = 3, seed: int = 0) -> Any:
    """Something with the fields of `Prepared`; every querier's last two dialogues are validation and test."""
    rng = np.random.default_rng(seed)
    dialogues, split = [], []
    for moment in range(each):
        for querier in rng.permutation(queriers):
            number = int(rng.integers(texts))
            name = f"q{querier}"
            reply = f"answer {number} for {querier % 3}"
            scene = f"{querier}-{moment // 2}"  # two dialogues share a scene
            turns = (Turn(name, f"text {number}"), Turn("tutor", reply))
            dialogues.append(Dialogue(f"{len(dialogues)}", name, "tutor", turns, len(dialogues), scene))
            split.append(Split.TRAIN if moment < each - 2 else Split.VALIDATION if moment < each - 1 else Split.TEST)
    corpus = Corpus.build(dialogues)
    corpus = corpus.with_split(np.array([part.value for part in split]), np.zeros(queriers, dtype=bool))
    names = sorted({*corpus.queries(), *corpus.replies()})
    matrix = rng.normal(size=(len(names), SIZE))
    matrix = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float16)
    place = {name: row for row, name in enumerate(names)}
    query_row = np.array([place[text] for text in corpus.queries()])
    reply_row = np.array([place[text] for text in corpus.replies()])
    prepared = SimpleNamespace(corpus=corpus, matrix=matrix, query_row=query_row, reply_row=reply_row, shared=True)
    prepared.queries = lambda rows: matrix[query_row[rows]].astype(np.float32)
    prepared.replies = lambda rows: matrix[reply_row[rows]].astype(np.float32)
    style = stylometries(corpus.replies())
    prepared.styles = lambda rows: style[rows]
    prepared.cluster = query_row % clusters
    prepared.clusters = SimpleNamespace(assign=lambda vectors: (np.zeros(len(vectors), np.int64), None))
    _link(prepared, rng)
    prepared.folder = Path("nowhere")
    return prepared


def _link(prepared: Any, rng: np.random.Generator, neighbours: int = 4, users: int = 3, nearest: int = 2) -> None:
    corpus = prepared.corpus
    count = len(corpus)
    pool = corpus.rows_in(Split.TRAIN)
    prepared.neighbours = np.full((count, neighbours), -1)
    prepared.contrast = np.full((count, users, nearest), -1)
    prepared.near = np.full((count, 5), -1)
    vectors = prepared.queries(np.arange(count))
    for row in range(count):
        other = pool[(corpus.querier[pool] != corpus.querier[row]) & (corpus.scene[pool] != corpus.scene[row])]
        order = other[np.argsort(-(vectors[other] @ vectors[row]), kind="stable")]
        earlier = order[corpus.time[order] < corpus.time[row]]
        prepared.neighbours[row, : len(earlier[:neighbours])] = earlier[:neighbours]
        prepared.near[row, : len(order[:5])] = order[:5]
        drawn = rng.permutation(earlier)[: users * nearest]
        prepared.contrast[row].reshape(-1)[: len(drawn)] = drawn


def render(reading: Reading) -> Rendered:
    """The query under the querier's name."""
    dialogue = reading.dialogue
    shown = reading.name or dialogue.querier
    return Rendered((("user", f"{shown}: {dialogue.query}"),), dialogue.reply, (shown, dialogue.responder))


def score(rendered: Sequence[Rendered]) -> Tokens:
    """One token for each character of the reply."""
    length = max(len(each.reply) for each in rendered)
    ids = torch.zeros(len(rendered), length, dtype=torch.int64)
    for place, each in enumerate(rendered):
        ids[place, : len(each.reply)] = torch.tensor([ord(char) for char in each.reply])
    return Tokens(ids, (ids > 0).long(), torch.where(ids > 0, ids, -100))


def make_requests(prepared: Any, config: Config) -> Requests:
    """Requests over a prepared corpus."""
    return Requests(prepared, Histories(prepared.corpus), config, render)
