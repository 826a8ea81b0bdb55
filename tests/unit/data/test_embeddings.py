from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from querier.data.embeddings import EmbeddingStore, erase_rows, known_rows, remove_store, rows_digest
from querier.errors import InputError

TEXTS = [f"text number {i % 150}" for i in range(200)]


class FakeEncoder:
    """A vector that depends on the text alone; remembers what it was asked for."""

    def __init__(self, digest: str = "fake", stop_after: int | None = None) -> None:
        self.digest, self.size, self.stop_after = digest, 8, stop_after
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += texts
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts]
        vectors = np.stack([np.random.default_rng(seed).normal(size=8) for seed in seeds])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def check(store: EmbeddingStore, texts: Sequence[str], rows: np.ndarray) -> None:
    np.testing.assert_array_equal(store.matrix[rows], FakeEncoder()(list(texts)).astype(np.float16))


def test_one_row_for_each_distinct_text(tmp_path: Path) -> None:
    encode = FakeEncoder()
    store = EmbeddingStore(tmp_path, encode, chunk=32)
    rows = store.rows(TEXTS)
    assert store.matrix.shape == (150, 8)
    assert len(encode.asked) == 150
    check(store, TEXTS, rows)


def test_second_run_encodes_only_what_is_new(tmp_path: Path) -> None:
    first = EmbeddingStore(tmp_path, FakeEncoder()).rows(TEXTS)
    encode = FakeEncoder()
    store = EmbeddingStore(tmp_path, encode)
    rows = store.rows([*TEXTS, "a new one"])
    assert encode.asked == ["a new one"]
    np.testing.assert_array_equal(rows[:-1], first)
    check(store, [*TEXTS, "a new one"], rows)


def test_encoder_is_part_of_the_key(tmp_path: Path) -> None:
    EmbeddingStore(tmp_path, FakeEncoder()).rows(["a"])
    other = FakeEncoder("other")
    assert EmbeddingStore(tmp_path, other).rows(["a"]).tolist() == [1]
    assert other.asked == ["a"]


@pytest.mark.parametrize(("vector_bytes", "key_bytes"), [(0, 0), (7, 0), (16 * 32, 0), (16 * 32, 13)])
def test_torn_tail_is_cut_and_work_resumes(tmp_path: Path, vector_bytes: int, key_bytes: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        EmbeddingStore(tmp_path, FakeEncoder(stop_after=64), chunk=32).rows(TEXTS)
    with (tmp_path / "vectors.f16").open("ab") as file:
        file.write(b"\x01" * vector_bytes)
    with (tmp_path / "keys.bin").open("ab") as file:
        file.write(b"\x01" * key_bytes)
    encode = FakeEncoder()
    store = EmbeddingStore(tmp_path, encode, chunk=32)
    rows = store.rows(TEXTS)
    assert len(encode.asked) == 150 - 64
    check(store, TEXTS, rows)
    whole = EmbeddingStore(tmp_path / "whole", FakeEncoder(), chunk=32)
    whole_rows = whole.rows(TEXTS)
    np.testing.assert_array_equal(whole.matrix[whole_rows], store.matrix[rows])


class KilledEncoder(FakeEncoder):
    """Kills its own process, as `kill -9` would, in the middle of the third chunk."""

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        if len(self.asked) >= 32:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(texts)


def fill_and_die(folder: Path) -> None:
    EmbeddingStore(folder, KilledEncoder(), chunk=16).rows(TEXTS)


def test_killed_process_loses_one_chunk_and_frees_the_lock(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=fill_and_die, args=(tmp_path,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    encode = FakeEncoder()
    store = EmbeddingStore(tmp_path, encode, chunk=16)
    rows = store.rows(TEXTS)
    assert len(encode.asked) == 150 - 32
    check(store, TEXTS, rows)


def fill(folder: Path, texts: list[str]) -> None:
    EmbeddingStore(folder, FakeEncoder(), chunk=16).rows(texts)


def test_two_processes_share_the_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    parts = [TEXTS[:150], TEXTS[50:] + ["only here"], TEXTS[::-1]]
    workers = [context.Process(target=fill, args=(tmp_path, part)) for part in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    encode = FakeEncoder()
    store = EmbeddingStore(tmp_path, encode)
    rows = store.rows([*TEXTS, "only here"])
    assert encode.asked == []
    assert store.matrix.shape == (151, 8)
    check(store, [*TEXTS, "only here"], rows)


def test_a_store_opened_before_another_wrote_sees_its_rows(tmp_path: Path) -> None:
    late, encode = EmbeddingStore(tmp_path, FakeEncoder()), FakeEncoder()
    late.encode = encode
    EmbeddingStore(tmp_path, FakeEncoder()).rows(TEXTS)
    check(late, TEXTS, late.rows(TEXTS))
    assert encode.asked == []


def test_erased_rows_leave_no_vector_and_others_stay(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, FakeEncoder())
    rows = store.rows(TEXTS)
    kept = rows_digest(tmp_path, rows[5:10])
    assert erase_rows(tmp_path, rows[:3], 8) == 3
    assert erase_rows(tmp_path, rows[:3], 8) == 0
    assert known_rows(tmp_path).tolist() == [False] * 3 + [True] * 147
    assert (store.matrix[rows[:3]] == 0).all()
    check(store, TEXTS[3:150], rows[3:150])
    assert rows_digest(tmp_path, rows[5:10]) == kept
    encode = FakeEncoder()
    again = EmbeddingStore(tmp_path, encode)
    new = again.rows(TEXTS[:4])
    assert encode.asked == TEXTS[:3]
    assert new.tolist() == [150, 151, 152, rows[3]]
    check(again, TEXTS[:4], new)


def test_rows_digest_tells_a_missing_row(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, FakeEncoder())
    rows = store.rows(TEXTS[:10])
    digest = rows_digest(tmp_path, rows)
    erase_rows(tmp_path, rows[:1], 8)
    assert rows_digest(tmp_path, rows) != digest
    assert rows_digest(tmp_path, np.array([99])) == "missing"


def test_empty_texts_and_empty_store(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, FakeEncoder())
    assert store.rows([]).shape == (0,)
    assert store.matrix.shape == (0, 8)


def test_a_removed_store_begins_anew(tmp_path: Path) -> None:
    EmbeddingStore(tmp_path, FakeEncoder()).rows(TEXTS)
    assert remove_store(tmp_path) == 150
    assert not known_rows(tmp_path).size
    anew = EmbeddingStore(tmp_path, FakeEncoder())
    check(anew, TEXTS[7:9], anew.rows(TEXTS[7:9]))


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    EmbeddingStore(tmp_path, FakeEncoder(), chunk=100).rows(TEXTS, lambda *what: told.append(what))
    assert told == [("embeddings", 100, 150), ("embeddings", 150, 150)]


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    encode = FakeEncoder()
    store = EmbeddingStore(tmp_path, encode)
    store.encode = type("Bad", (FakeEncoder,), {"__call__": lambda self, texts: np.full((len(texts), 8), np.nan)})()
    with pytest.raises(InputError, match="not finite"):
        store.rows(["a"])
    assert store.matrix.shape == (0, 8)


def test_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write to the cache"):
        EmbeddingStore(tmp_path / "file" / "store", FakeEncoder())
