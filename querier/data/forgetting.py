"""Removing a querier from a prepared corpus: records, rows of every index, and vectors that nobody else's text needs.

Other queriers keep their dialogues, histories, neighbours and clusters; only the places where the forgotten querier
stood are closed up. Weights that were trained on their texts are not touched: that is said by the command.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from querier.data.embeddings import GONE, KEY_BYTES, locked, rows_digest
from querier.data.records import Corpus
from querier.errors import InputError
from querier.files import atomic_folder

ROWS = ("neighbours", "near", "contrast")  # arrays that hold rows of the corpus


@dataclass(frozen=True)
class Forgotten:
    """What was removed: dialogues from prepared corpora (by folder) and vectors from the stores."""

    dialogues: dict[str, int]
    vectors: int


@dataclass(frozen=True)
class _Held:
    """A prepared corpus: which of its dialogues are the querier's, and where its vectors lie.

    Args:
        folder: Of the prepared corpus.
        mine: True for the querier's dialogues, (N,) bool.
        rows: Of each query and reply in the store, (N, 2) int64.
        store: The folder of the embeddings.
        size: E.
        sound: Whether the rows still mean this corpus's texts; not so where the store was removed and made anew.
    """

    folder: Path
    mine: np.ndarray
    rows: np.ndarray
    store: Path
    size: int
    sound: bool


def forget(querier: str, caches: Sequence[Path]) -> Forgotten:
    """Remove a querier from every prepared corpus of the caches, then the vectors that nobody needs any more.

    Safe to call again: a second call finishes what an interrupted one began, or finds nothing.

    Args:
        querier: The name.
        caches: The cache folders of the runs.

    Raises:
        InputError: A corpus has no other querier; nothing is removed then.
    """
    described = [path for cache in caches for path in sorted((cache / "prepared").glob("*/prepared.json"))]
    held = [_hold(path.parent, querier) for path in described]
    for one in held:
        if one.mine.all():
            raise InputError(
                f"{querier!r} is the only querier of {one.folder}, nothing was removed; "
                "remove that folder and the runs that were trained on it as a whole, then forget again"
            )
    # Vectors go first: while a corpus still names the querier, a second call knows which texts were theirs.
    vectors = 0
    for store, size in dict.fromkeys((one.store, one.size) for one in held):
        sound = [one for one in held if one.store == store and one.sound]
        theirs = {row for one in sound for row in one.rows[one.mine].ravel().tolist()}
        needed = {row for one in sound for row in one.rows[~one.mine].ravel().tolist()} if theirs else set()
        vectors += _erase(store, np.array(sorted(theirs - needed), dtype=np.int64), size)
    removed = {str(one.folder): int(one.mine.sum()) for one in held if one.mine.any()}
    for one in held:
        if one.mine.any():
            _prune(one, querier)
    return Forgotten(removed, vectors)


def without(prepared_rows: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Rows of a corpus after some were removed: renumbered, the removed ones gone, −1 at the end.

    Args:
        prepared_rows: Rows, −1 for none, (..., n) int64.
        keep: True for the rows that stay, (N,) bool.

    Returns:
        The same shape.
    """
    number = np.where(keep, np.cumsum(keep) - 1, -1)
    moved = np.where(prepared_rows >= 0, number[np.maximum(prepared_rows, 0)], -1)
    order = np.argsort(moved < 0, axis=-1, kind="stable")
    return np.take_along_axis(moved, order, axis=-1)


def _hold(folder: Path, querier: str) -> _Held:
    corpus = Corpus.load(folder / "corpus")
    number = corpus.queriers.index(querier) if querier in corpus.queriers else -1
    mine = np.asarray(corpus.querier) == number
    rows = np.stack([np.load(folder / "query_row.npy"), np.load(folder / "reply_row.npy")], axis=1)
    meta = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    store = (folder / meta["embeddings"]).resolve()
    used = np.unique(rows)
    # An interrupted call has removed keys already: then the digest differs although the rows are right.
    sound = rows_digest(store, used) == meta["rows"] or bool(_removed(store, used).any())
    return _Held(folder, mine, rows, store, meta["size"], sound)


def _removed(store: Path, rows: np.ndarray) -> np.ndarray:
    """Whether the key of each row of a store was removed, (n,) bool; False for rows that the store does not have."""
    path = store / "keys.bin"
    data = path.read_bytes() if path.is_file() else b""
    return np.array([data[row * KEY_BYTES : (row + 1) * KEY_BYTES] == GONE for row in rows], dtype=bool)


def _erase(store: Path, rows: np.ndarray, size: int) -> int:
    """Overwrite keys, then vectors, of rows of a store with zeros; returns how many keys were still there."""
    if not len(rows):
        return 0
    with locked(store / "lock"):
        left = int((~_removed(store, rows)).sum())
        for name, width in (("keys.bin", KEY_BYTES), ("vectors.f16", 2 * size)):
            with (store / name).open("r+b") as file:
                for row in rows.tolist():
                    file.seek(row * width)
                    file.write(bytes(width))
                file.flush()
                os.fsync(file.fileno())
    return left


def _prune(held: _Held, querier: str) -> None:
    """Write the prepared corpus again without the querier, in the place of the old one."""
    folder, keep = held.folder, ~held.mine
    corpus = Corpus.load(folder / "corpus")
    left = Corpus.build([corpus.dialogue(int(row)) for row in np.flatnonzero(keep)])
    names = {name: bool(flag) for name, flag in zip(corpus.queriers, corpus.unseen, strict=True)}
    left = left.with_split(np.asarray(corpus.split)[keep], np.array([names[name] for name in left.queriers]))
    arrays = {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}
    meta = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    for name, array in arrays.items():
        if name == "centroids":
            continue
        arrays[name] = array[keep]
        if name in ROWS:
            arrays[name] = without(array[keep], keep)
    used = np.unique(held.rows[keep])
    if held.sound and not _removed(held.store, used).any():  # otherwise its vectors are missed, and it is prepared anew
        meta["rows"] = rows_digest(held.store, used)
    with atomic_folder(folder) as new:
        left.save(new / "corpus")
        for name, array in arrays.items():
            np.save(new / f"{name}.npy", array)
        (new / "prepared.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
