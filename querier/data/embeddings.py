"""The store of text vectors: one fp16 row for each distinct text, kept between runs and shared by processes.

Two append-only files lie in its folder: `vectors.f16` with the rows and `keys.bin` with a 32-byte key for each. The
vectors of a chunk reach the disk before its keys do, so that a key always has its row; whatever stands behind the last
whole key is the torn tail of a killed process, and the next writer cuts it off. Work resumes at the next chunk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from querier.errors import InputError
from querier.files import locked
from querier.types import EncodeTexts

KEY_BYTES = 32
GONE = bytes(KEY_BYTES)  # the key of a row whose text was removed

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much


class EmbeddingStore:
    """Vectors of texts by content.

    Args:
        folder: Where the store of this encoder lies or shall lie.
        encode: Turns texts into unit vectors, (n, E).
        chunk: Texts that are encoded between two writes; a killed process loses at most so many.
    """

    def __init__(self, folder: Path, encode: EncodeTexts, chunk: int = 2048) -> None:
        self.folder = folder
        self.encode = encode
        self.chunk = chunk
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "lock").touch()
        except OSError as error:
            message = f"cannot write to the cache {folder}: {error.strerror}; choose another with cache=<folder>"
            raise InputError(message) from error
        self._vectors, self._keys = folder / "vectors.f16", folder / "keys.bin"
        self._read_keys()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def matrix(self) -> np.ndarray:
        """All vectors, memory-mapped, (M, E) float16."""
        return open_matrix(self.folder, self.encode.size)

    def rows(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """The row of each text in `matrix`, (n,) int64; what is missing is encoded first."""
        keys, inverse = self._distinct(texts)
        found = self._find(keys)
        if (found < 0).any():
            first = np.full(len(keys), -1)
            first[inverse[::-1]] = np.arange(len(texts))[::-1]
            with locked(self.folder / "lock"):
                self._read_keys()  # another process may have encoded them meanwhile
                missing = np.flatnonzero(self._find(keys) < 0)
                self._add(keys[missing], [texts[i] for i in first[missing]], progress)
            found = self._find(keys)
        rows: np.ndarray = found[inverse]
        return rows

    def _distinct(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Keys of the distinct texts in order of appearance, (m, 4) uint64, and the place of each text in them."""
        start = hashlib.sha256(self.encode.digest.encode())
        place: dict[bytes, int] = {}
        inverse = np.empty(len(texts), dtype=np.int64)
        for i, text in enumerate(texts):
            digest = start.copy()
            digest.update(text.encode("utf-8", "surrogatepass"))
            inverse[i] = place.setdefault(digest.digest(), len(place))
        return _as_keys(b"".join(place)), inverse

    def _find(self, keys: np.ndarray) -> np.ndarray:
        """Row of each key, −1 where it is unknown, (m,) int64."""
        found = np.full(len(keys), -1, dtype=np.int64)
        if not len(self._known):
            return found
        place = np.searchsorted(self._sorted, keys[:, 0])
        open_ = np.arange(len(keys))
        while len(open_):  # more than one round only if two keys share their first eight bytes
            inside = place[open_] < len(self._sorted)
            open_ = open_[inside]
            open_ = open_[self._sorted[place[open_]] == keys[open_, 0]]
            rows = self._order[place[open_]]
            same = (self._known[rows] == keys[open_]).all(1)
            found[open_[same]] = rows[same]
            open_ = open_[~same]
            place[open_] += 1
        return found

    def _add(self, keys: np.ndarray, texts: list[str], progress: Progress | None) -> None:
        self._cut_torn_tail()
        with self._vectors.open("ab") as vectors, self._keys.open("ab") as names:
            for start in range(0, len(texts), self.chunk):
                part = texts[start : start + self.chunk]
                rows = np.asarray(self.encode(part))
                if rows.shape != (len(part), self.encode.size) or not np.isfinite(rows).all():
                    raise InputError(
                        f"the encoder gave {rows.shape} for {len(part)} texts, or values that are not finite; "
                        f"expected finite ({len(part)}, {self.encode.size})"
                    )
                for file, data in ((vectors, rows.astype(np.float16)), (names, keys[start : start + self.chunk])):
                    file.write(np.ascontiguousarray(data).tobytes())
                    file.flush()
                    _flush(file.fileno())
                if progress is not None:
                    progress("embeddings", start + len(part), len(texts))
        self._read_keys()

    def _cut_torn_tail(self) -> None:
        for path, size in ((self._vectors, 2 * self.encode.size), (self._keys, KEY_BYTES)):
            with path.open("ab") as file:
                file.truncate(len(self._known) * size)

    def _read_keys(self) -> None:
        count = _whole_rows(self.folder, self.encode.size)
        self._known = _as_keys(_read(self._keys, count * KEY_BYTES))
        self._order = np.argsort(self._known[:, 0], kind="stable")
        self._sorted = self._known[self._order, 0]


def open_matrix(folder: Path, size: int) -> np.ndarray:
    """The vectors of a store, memory-mapped, (M, E) float16.

    Args:
        folder: Of the store.
        size: E.
    """
    rows = _whole_rows(folder, size)
    if rows == 0:
        return np.zeros((0, size), dtype=np.float16)
    return np.memmap(folder / "vectors.f16", dtype=np.float16, mode="r", shape=(rows, size))


def rows_digest(folder: Path, rows: np.ndarray) -> str:
    """Names the texts that stand in `rows` of a store; it changes when one of them was removed or moved."""
    keys = _as_keys(_read(folder / "keys.bin", -1))
    if len(rows) and int(rows.max()) >= len(keys):
        return "missing"
    return hashlib.sha256(np.ascontiguousarray(keys[rows]).tobytes()).hexdigest()


def known_rows(folder: Path) -> np.ndarray:
    """Whether each row of a store still has its text's key, (M,) bool."""
    known: np.ndarray = (_as_keys(_read(folder / "keys.bin", -1)) != 0).any(1)
    return known


def erase_rows(folder: Path, rows: np.ndarray, size: int) -> int:
    """Overwrite rows of a store with zeros, keys first, so that a second call finishes what a killed one began.

    The other rows stay where they are. A store that is open elsewhere reads its keys no second time: see to it that
    no preparation goes on.

    Args:
        folder: Of the store.
        rows: (n,) int64.
        size: E.

    Returns:
        How many of them still had their key.
    """
    with locked(folder / "lock"):
        left = int(known_rows(folder)[rows].sum())
        for name, width in (("keys.bin", KEY_BYTES), ("vectors.f16", 2 * size)):
            with (folder / name).open("r+b") as file:
                for row in rows.tolist():
                    file.seek(row * width)
                    file.write(bytes(width))
                file.flush()
                _flush(file.fileno())
    return left


def remove_store(folder: Path) -> int:
    """Remove all of a store, and say how many texts had a vector there."""
    with locked(folder / "lock"):
        left = int(known_rows(folder).sum())
        for name in ("keys.bin", "vectors.f16"):
            (folder / name).unlink(missing_ok=True)
    return left


def _whole_rows(folder: Path, size: int) -> int:
    vectors, keys = folder / "vectors.f16", folder / "keys.bin"
    if not (vectors.exists() and keys.exists()):
        return 0
    return min(vectors.stat().st_size // (2 * size), keys.stat().st_size // KEY_BYTES)


def _read(path: Path, count: int) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        data = file.read(count)
    return data[: len(data) // KEY_BYTES * KEY_BYTES]


def _as_keys(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint64).reshape(-1, KEY_BYTES // 8)


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)
