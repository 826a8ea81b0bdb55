"""Contrast users of history items: those of the items that are read, and nobody whom the query may not know."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_prepared import SIZE, make_config, make_prepared, make_requests, render, score

from querier.data.collate import TrainingBatches, collate
from querier.data.requests import Exchange, Requests, outside_request
from querier.errors import InputError
from querier.types import ComparedItems, Items, Split

DEP: dict[str, Any] = {"conditioning": {"model": "dep", "kind": "soft_prompt"}, "prompt": {"source": "own"}}
STILL = {"history": 6, "history_dropout": 0.0}


def compared(prepared: Any, **changes: Any) -> Requests:
    return make_requests(prepared, make_config(towers=STILL, **DEP, **changes))


def last(prepared: Any, split: Split = Split.TEST) -> int:
    return int(prepared.corpus.rows_in(split)[-1])


def encode(texts: list[str]) -> np.ndarray:
    rows = [np.random.default_rng(list(text.encode())).normal(size=SIZE) for text in texts]
    return np.array(rows, dtype=np.float32).reshape(len(texts), SIZE)


CLUSTERS = SimpleNamespace(assign=lambda vectors: (np.zeros(len(vectors), dtype=np.int64), np.zeros(len(vectors))))


def slow_mean(prepared: Any, querier: int, before: int, scene: int, limit: int) -> np.ndarray:
    corpus = prepared.corpus
    rows = [
        row
        for row in range(len(corpus))
        if corpus.querier[row] == querier
        and corpus.time[row] < before
        and corpus.scene[row] != scene
        and corpus.split[row] == Split.TRAIN.value
    ]
    newest = sorted(rows, key=lambda row: corpus.time[row])[-limit:]
    return sum(prepared.replies([row])[0] for row in newest) / len(newest)


@pytest.mark.parametrize("split", [Split.TRAIN, Split.TEST])
def test_each_item_brings_the_contrast_users_of_its_own_dialogue(split: Split) -> None:
    prepared = make_prepared()
    requests, row, corpus = compared(prepared), last(prepared, split), prepared.corpus
    items = requests.history_rows(row)
    beside = requests.matched(row).history.beside
    assert beside is not None
    own = sum(prepared.replies([item])[0] for item in items) / len(items)
    for place, item in enumerate(items):
        for cell in range(3):
            user = int(prepared.contrast[item, cell, 0])
            assert beside.stands[place, cell] == (user >= 0)
            if user < 0:
                assert not beside.others[place, cell].any()
                continue
            np.testing.assert_array_equal(beside.others[place, cell], prepared.replies([user])[0])
            mean = slow_mean(prepared, corpus.querier[user], corpus.time[row], corpus.scene[row], 6)
            assert beside.distance[place, cell] == pytest.approx(float(np.linalg.norm(own - mean)), rel=1e-4)
    assert beside.stands.sum() > 6


def test_a_history_that_is_cut_or_swapped_brings_those_of_its_own_items() -> None:
    prepared = make_prepared()
    requests, row, corpus = compared(prepared), last(prepared), prepared.corpus
    items = requests.history_rows(row)
    whole, cut = (requests.of(row, items[:count]).history.beside for count in (6, 2))
    assert whole is not None
    assert cut is not None
    np.testing.assert_array_equal(cut.others, whole.others[:2])
    other = requests.histories.of_querier((int(corpus.querier[row]) + 1) % 8, int(corpus.time[row]), -1, 0, 6, False)
    swapped = requests.of(row, other).history.beside
    assert swapped is not None
    passed_over = 0
    for place, item in enumerate(other.tolist()):
        for cell in range(3):
            entries = [int(entry) for entry in prepared.contrast[item, cell] if entry >= 0]
            admissible = [entry for entry in entries if corpus.querier[entry] != corpus.querier[row]]
            passed_over += entries[:1] != admissible[:1]
            assert swapped.stands[place, cell] == bool(admissible)
            if admissible:
                np.testing.assert_array_equal(swapped.others[place, cell], prepared.replies(admissible[:1])[0])
    assert passed_over  # the asker is among the contrast users of the others' items


def test_what_is_of_the_scene_of_the_query_is_left_out() -> None:
    prepared = make_prepared()
    row, corpus = last(prepared), prepared.corpus
    config = make_config(towers={**STILL, "neighbours": 0}, **DEP)
    requests = make_requests(prepared, config)
    items = requests.history_rows(row)
    users = requests.contrast.users(row, items)  # type: ignore[union-attr]  # dep compares
    place, cell = np.argwhere(users >= 0)[0]
    corpus.scene = np.array(corpus.scene)
    corpus.scene[users[place, cell]] = corpus.scene[row]
    querier = corpus.querier[users[-1, -1]]
    theirs = np.flatnonzero((corpus.querier == querier) & ~np.isin(np.arange(len(corpus)), users))
    corpus.scene[theirs[:-3]] = corpus.scene[row]
    beside = make_requests(prepared, config).of(row, items).history.beside
    assert beside is not None
    assert not beside.stands[place, cell]
    assert beside.stands.sum() == (users >= 0).sum() - (users == users[place, cell]).sum()
    own = prepared.replies(items).mean(0)
    mean = slow_mean(prepared, querier, corpus.time[row], corpus.scene[row], 6)
    assert beside.distance[-1, -1] == pytest.approx(float(np.linalg.norm(own - mean)), rel=1e-4)


@pytest.mark.parametrize(
    ("leak", "said"), [("later", "is not earlier than its query"), ("own", "querier whose history")]
)
def test_a_planted_leak_is_refused(leak: str, said: str) -> None:
    prepared = make_prepared()
    row, corpus = last(prepared), prepared.corpus
    asker = corpus.querier[row]
    owner = (int(asker) + 1) % 8
    mine = np.flatnonzero(corpus.querier == owner)
    item = int(mine[-3])
    others = np.flatnonzero((corpus.querier != owner) & (corpus.querier != asker) & (corpus.time > corpus.time[item]))
    prepared.contrast[item, 0, 0] = {"later": int(others[0]), "own": int(mine[0])}[leak]
    with pytest.raises(InputError, match=said):
        compared(prepared).of(row, np.array([item]))


def test_training_reads_what_a_request_reads() -> None:
    prepared = make_prepared()
    config = make_config(towers=STILL, loss={"specific": 0.0, "general": 0.0, "swap": 0.0}, **DEP)
    requests = make_requests(prepared, config)
    rows = np.array([0, *prepared.corpus.rows_in(Split.TRAIN)[-4:]])
    trained = TrainingBatches(requests, config, score).build(rows, 0, 0).history
    matched = [requests.matched(int(row)) for row in rows]
    asked = collate(matched, score([one.rendered for one in matched]), 6).history
    assert isinstance(trained, ComparedItems)
    for name, value in vars(trained).items():
        kept = trained.mask if name == "cluster" else torch.ones_like(trained.mask)
        assert torch.equal(value[kept], vars(asked)[name][kept]), name
    assert trained.stands.any()
    assert not trained.stands[~trained.mask].any()


def test_other_methods_read_nothing_of_it() -> None:
    prepared = make_prepared()
    for changes in ({}, {"conditioning": {"model": "dep", "kind": "none"}}):
        requests = make_requests(prepared, make_config(**changes))
        request = requests.matched(last(prepared))
        assert requests.contrast is None
        assert request.history.beside is None
        assert type(collate([request], score([request.rendered]), 6).history) is Items


def test_without_sharing_nobody_is_compared() -> None:
    prepared = make_prepared()
    prepared.contrast = np.full_like(prepared.contrast, -1)
    beside = compared(prepared).matched(last(prepared)).history.beside
    assert beside is not None
    assert not beside.stands.any()
    assert not beside.others.any()


def test_texts_from_outside_have_no_contrast_users_and_rows_of_the_corpus_have_theirs() -> None:
    prepared = make_prepared()
    prepared.nearest = lambda query, querier, before: np.zeros(0, dtype=np.int64)
    requests, corpus = compared(prepared), prepared.corpus
    querier = int(corpus.querier[last(prepared)])
    row = int(np.flatnonzero(corpus.querier == querier)[-1])
    history = [Exchange("text 1", "answer", "tutor", row), Exchange("said elsewhere", "answer")]
    name = corpus.queriers[querier]
    for contrast, known in ((requests.contrast, 3), (None, 0)):
        found = outside_request(
            "q", name, history, encode, CLUSTERS, render, requests.config, prepared, contrast=contrast
        ).history.beside
        assert found is not None
        assert not found.stands[0].any()  # the newest first: the text
        assert found.stands[1].sum() == known
    empty = outside_request(
        "q", name, [], encode, CLUSTERS, render, requests.config, prepared, contrast=requests.contrast
    )
    assert empty.history.beside is not None
    assert empty.history.beside.stands.shape[0] == 0
