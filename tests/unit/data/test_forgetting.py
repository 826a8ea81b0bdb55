"""Forgetting removes all of one querier and nothing of another."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from querier.config import Config, TowersConfig
from querier.data.embeddings import EmbeddingStore, remove_store
from querier.data.forgetting import forget, without
from querier.data.preparation import Prepared, prepare
from querier.data.records import Corpus
from querier.errors import InputError
from querier.files import locked
from querier.types import Dialogue, Split, Turn

ROOT = Path(__file__).parents[3]


class WordEncoder:
    size = 16

    def __init__(self, digest: str = "words-of-the-test") -> None:
        self.digest = digest

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts]
        vectors = np.stack([np.random.default_rng(seed).normal(size=16) for seed in seeds])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def made(cache: Path, encode: WordEncoder | None = None, queriers: int = 6, first: int = 0) -> Prepared:
    dialogues = []
    for number in range(60):
        name = f"q{first + number % queriers}" if queriers > 1 else "q1"
        reply = f"private word {name}" if number % 2 else "shared word"
        turns = (Turn(name, f"question {number % 7}"), Turn("tutor", reply))
        dialogues.append(Dialogue(f"d{number}", name, "tutor", turns, number, f"s{number}"))
    corpus = Corpus.build(dialogues)
    split = np.full(60, Split.TRAIN.value)
    split[50:] = Split.TEST.value
    corpus = corpus.with_split(split, np.zeros(queriers, dtype=bool))
    return prepare(corpus, encode or WordEncoder(), Config(towers=TowersConfig(neighbours=4)), cache)


def test_all_of_one_querier_goes_and_the_others_stay_as_they_were(tmp_path: Path) -> None:
    before = made(tmp_path)
    replies = {before.corpus.ids[row]: before.replies([row])[0].copy() for row in range(60)}
    neighbours = {
        before.corpus.ids[row]: [before.corpus.ids[int(near)] for near in before.neighbours[row] if near >= 0]
        for row in range(60)
    }
    names = {before.corpus.ids[row]: before.corpus.dialogue(row).querier for row in range(60)}
    done = forget("q1", [tmp_path])
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
    store = tmp_path / "embeddings" / WordEncoder().digest[:24]
    count = len(EmbeddingStore(store, WordEncoder()))
    done = forget("q1", [tmp_path])
    assert done.vectors == 1  # their private reply; questions and the shared reply are others' too
    matrix = np.array(EmbeddingStore(store, WordEncoder()).matrix)
    assert len(matrix) == count
    assert (np.abs(matrix.astype(np.float32)).sum(1) == 0).sum() == 1


def zeros(cache: Path, encode: WordEncoder) -> int:
    matrix = np.array(EmbeddingStore(cache / "embeddings" / encode.digest[:24], encode).matrix)
    return int((np.abs(matrix.astype(np.float32)).sum(1) == 0).sum())


def test_vectors_go_from_the_store_of_every_encoder_and_cache(tmp_path: Path) -> None:
    places = [(tmp_path / "a", "one"), (tmp_path / "a", "two"), (tmp_path / "b", "one")]
    folders = [made(cache, WordEncoder(digest)).folder for cache, digest in places]
    done = forget("q1", [tmp_path / "a", tmp_path / "b"])
    assert sorted(done.dialogues) == sorted(str(folder) for folder in folders)
    assert done.vectors == 3
    assert [zeros(cache, WordEncoder(digest)) for cache, digest in places] == [1, 1, 1]
    assert all("q1" not in Prepared.load(folder).corpus.queriers for folder in folders)


def test_a_sole_querier_is_refused_before_anything_is_removed(tmp_path: Path) -> None:
    several, alone = made(tmp_path), made(tmp_path, queriers=1)
    with pytest.raises(InputError, match="only querier of .*nothing was removed"):
        forget("q1", [tmp_path])
    assert zeros(tmp_path, WordEncoder()) == 0
    assert all("q1" in Prepared.load(one.folder).corpus.queriers for one in (several, alone))


def test_a_store_that_was_made_anew_loses_nothing_of_others(tmp_path: Path) -> None:
    stale = made(tmp_path).folder
    shutil.rmtree(tmp_path / "embeddings")
    others = EmbeddingStore(tmp_path / "embeddings" / WordEncoder().digest[:24], WordEncoder())
    others.rows([f"another text {number}" for number in range(50)])  # rows that the stale one takes for its own
    sound = made(tmp_path, first=6).folder
    assert forget("q1", [tmp_path]).vectors == 50
    assert zeros(tmp_path, WordEncoder()) == 50
    assert Prepared.load(sound).corpus.queriers == sorted(f"q{number}" for number in range(6, 12))
    assert "q1" not in Corpus.load(stale / "corpus").queriers
    with pytest.raises(InputError, match="no longer in"):
        Prepared.load(stale)


def test_forgetting_twice_is_forgetting_once(tmp_path: Path) -> None:
    folder = made(tmp_path).folder
    forget("q1", [tmp_path])
    first = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = forget("q1", [tmp_path])
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
            forget("q1", [tmp_path])
    assert forget("q1", [tmp_path]).dialogues == {str(folder): 10}
    assert "q1" not in Prepared.load(folder).corpus.queriers


def test_what_a_killed_preparation_left_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = made(tmp_path).folder

    def killed(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if not (child := os.fork()):
        monkeypatch.setattr("querier.data.preparation.fit_clusters", killed)
        made(tmp_path, first=6)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert any(b"private word q7" in path.read_bytes() for path in tmp_path.rglob("*.arrow"))
    held = made(tmp_path).replies(range(60)).copy()
    done = forget("q7", [tmp_path])
    assert done.dialogues == {}
    assert done.vectors == 3  # private replies of q7, q9 and q11; all other texts are the sound one's as well
    assert not any(b"private word q7" in path.read_bytes() for path in tmp_path.rglob("*.arrow"))
    assert [path for path in (tmp_path / "prepared").iterdir() if path.is_dir()] == [sound]
    np.testing.assert_array_equal(Prepared.load(sound).replies(range(60)), held)


def test_a_preparation_that_waited_for_forget_misses_no_vector(tmp_path: Path) -> None:
    folder = made(tmp_path).folder
    shutil.rmtree(folder)  # the same is prepared again while its vectors, which nobody needs now, are erased
    script = f"from pathlib import Path; from {__name__} import made; made(Path({str(tmp_path)!r}))"
    path = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
    with locked(tmp_path / "prepared" / "lock"):
        waiting = subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": path})
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(8)
        remove_store(tmp_path / "embeddings" / WordEncoder().digest[:24])
    assert waiting.wait(60) == 0
    assert np.abs(Prepared.load(folder).replies(range(60))).sum(1).min() > 0


def test_rows_are_renumbered_and_holes_closed() -> None:
    keep = np.array([True, False, True, True])
    rows = np.array([[1, 2, -1], [3, 1, 0], [-1, -1, -1]])
    np.testing.assert_array_equal(without(rows, keep), [[1, -1, -1], [2, 0, -1], [-1, -1, -1]])
