"""Forgetting removes all of one querier and nothing of another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from querier.config import Config, TowersConfig
from querier.data.embeddings import EmbeddingStore
from querier.data.forgetting import forget, without
from querier.data.preparation import Prepared, prepare
from querier.data.records import Corpus
from querier.types import Dialogue, Split, Turn


class WordEncoder:
    digest, size = "words-of-the-test", 16

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts]
        vectors = np.stack([np.random.default_rng(seed).normal(size=16) for seed in seeds])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def made(cache: Path) -> Prepared:
    dialogues = []
    for number in range(60):
        name = f"q{number % 6}"
        reply = f"private word {name}" if number % 2 else "shared word"
        turns = (Turn(name, f"question {number % 7}"), Turn("tutor", reply))
        dialogues.append(Dialogue(f"d{number}", name, "tutor", turns, number, f"s{number}"))
    corpus = Corpus.build(dialogues)
    split = np.full(60, Split.TRAIN.value)
    split[50:] = Split.TEST.value
    corpus = corpus.with_split(split, np.zeros(6, dtype=bool))
    return prepare(corpus, WordEncoder(), Config(towers=TowersConfig(neighbours=4)), cache)


def test_all_of_one_querier_goes_and_the_others_stay_as_they_were(tmp_path: Path) -> None:
    before = made(tmp_path)
    replies = {before.corpus.ids[row]: before.replies([row])[0].copy() for row in range(60)}
    neighbours = {
        before.corpus.ids[row]: [before.corpus.ids[int(near)] for near in before.neighbours[row] if near >= 0]
        for row in range(60)
    }
    names = {before.corpus.ids[row]: before.corpus.dialogue(row).querier for row in range(60)}
    done = forget("q1", tmp_path, WordEncoder())
    after = Prepared.load(before.folder)
    assert done.dialogues == {str(before.folder): 10}
    assert "q1" not in after.corpus.queriers
    assert len(after.corpus) == 50
    for row in range(50):
        name = after.corpus.ids[row]
        np.testing.assert_array_equal(after.replies([row])[0], replies[name])
        near = [after.corpus.ids[int(place)] for place in after.neighbours[row] if place >= 0]
        assert near == [other for other in neighbours[name] if names[other] != "q1"]
    assert not any("q1" in path.read_text(errors="replace") for path in before.folder.rglob("*") if path.is_file())


def test_vectors_go_unless_somebody_else_said_the_same(tmp_path: Path) -> None:
    made(tmp_path)
    store = tmp_path / "embeddings" / WordEncoder.digest[:24]
    count = len(EmbeddingStore(store, WordEncoder()))
    done = forget("q1", tmp_path, WordEncoder())
    assert done.vectors == 1  # their private reply; questions and the shared reply are others' too
    matrix = np.array(EmbeddingStore(store, WordEncoder()).matrix)
    assert len(matrix) == count
    assert (np.abs(matrix.astype(np.float32)).sum(1) == 0).sum() == 1


def test_forgetting_twice_is_forgetting_once(tmp_path: Path) -> None:
    folder = made(tmp_path).folder
    forget("q1", tmp_path, WordEncoder())
    first = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = forget("q1", tmp_path, WordEncoder())
    assert done.dialogues == {}
    assert done.vectors == 0
    assert first == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_kill_between_the_steps_is_mended_by_the_same_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path).folder

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("querier.data.forgetting._prune", killed)
        with pytest.raises(KeyboardInterrupt):
            forget("q1", tmp_path, WordEncoder())
    assert forget("q1", tmp_path, WordEncoder()).dialogues == {str(folder): 10}
    assert "q1" not in Prepared.load(folder).corpus.queriers


def test_rows_are_renumbered_and_holes_closed() -> None:
    keep = np.array([True, False, True, True])
    rows = np.array([[1, 2, -1], [3, 1, 0], [-1, -1, -1]])
    np.testing.assert_array_equal(without(rows, keep), [[1, -1, -1], [2, 0, -1], [-1, -1, -1]])
