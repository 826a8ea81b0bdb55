"""Removing a querier from a prepared corpus: records, rows of every index, and vectors that nobody else's text needs.

Other queriers keep their dialogues, histories, neighbours and clusters; only the places where the forgotten querier
stood are closed up. What killed preparations left behind goes as a whole, whoever's it is. Weights that were trained on
their texts are not touched: that is said by the command.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from querier.data.embeddings import erase_rows, known_rows, remove_store, rows_digest
from querier.data.records import Corpus
from querier.errors import InputError
from querier.files import atomic_folder, locked

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
    """Remove a querier from every prepared corpus of the caches, and all vectors that no corpus needs any more.

    Safe to call again: a second call finishes what an interrupted one began, or finds nothing. Preparations of other
    processes are waited for.

    Args:
        querier: The name.
        caches: The cache folders of the runs.

    Raises:
        InputError: A corpus has no other querier; nothing is removed then.
    """
    with _alone(caches):
        held = [_hold(folder, querier) for cache in caches for folder in prepared_folders(cache)]
        for one in held:
            if one.mine.all():
                raise InputError(
                    f"{querier!r} is the only querier of {one.folder}, nothing was removed; "
                    "remove that folder and the runs that were trained on it as a whole, then forget again"
                )
        for leftover in (path for cache in caches for path in _leftovers(cache)):
            shutil.rmtree(leftover)
        # Vectors go first: while a corpus still names the querier, a second call knows which texts were theirs.
        stores = {path.parent.resolve() for cache in caches for path in (cache / "embeddings").glob("*/keys.bin")}
        vectors = sum(
            _erase_unneeded(store, [one for one in held if one.store == store and one.sound])
            for store in sorted(stores | {one.store for one in held})
        )
        removed = {str(one.folder): int(one.mine.sum()) for one in held if one.mine.any()}
        for one in held:
            if one.mine.any():
                _prune(one)
        return Forgotten(removed, vectors)


def prepared_folders(cache: Path) -> list[Path]:
    """The finished preparations of a cache."""
    return [path.parent for path in sorted((cache / "prepared").glob("[!.]*/prepared.json"))]


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


@contextmanager
def _alone(caches: Sequence[Path]) -> Iterator[None]:
    """No preparation of these caches goes on or begins meanwhile."""
    with ExitStack() as stack:
        for folder in sorted({cache.resolve() / "prepared" for cache in caches}):
            if folder.is_dir():
                stack.enter_context(locked(folder / "lock"))
        yield


def _leftovers(cache: Path) -> list[Path]:
    """What killed processes left: folders that were to become preparations, and old ones that had stepped aside."""
    found = [path for pattern in (".*.part", ".*.part.old") for path in (cache / "prepared").glob(pattern)]
    return sorted(path for path in found if path.is_dir())


def _hold(folder: Path, querier: str) -> _Held:
    corpus = Corpus.load(folder / "corpus")
    number = corpus.queriers.index(querier) if querier in corpus.queriers else -1
    mine = np.asarray(corpus.querier) == number
    rows = np.stack([np.load(folder / "query_row.npy"), np.load(folder / "reply_row.npy")], axis=1)
    meta = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    store = (folder / meta["embeddings"]).resolve()
    used = np.unique(rows)
    # An interrupted call has removed keys already: then the digest differs although the rows are right.
    sound = rows_digest(store, used) == meta["rows"] or _some_removed(store, used)
    return _Held(folder, mine, rows, store, meta["size"], sound)


def _some_removed(store: Path, rows: np.ndarray) -> bool:
    """Whether the text of any of these rows of a store was removed; rows that the store does not have were not."""
    known = known_rows(store)
    return not known[rows[rows < len(known)]].all()


def _erase_unneeded(store: Path, sound: Sequence[_Held]) -> int:
    """Erase the vectors of a store that nobody's text of these corpora but the querier's needs; how many there were."""
    if not (store / "keys.bin").is_file():
        return 0
    needed = np.zeros(len(known_rows(store)), dtype=bool)
    for one in sound:
        needed[one.rows[~one.mine]] = True
    if not needed.any():
        return remove_store(store)
    return erase_rows(store, np.flatnonzero(~needed), sound[0].size)


def _prune(held: _Held) -> None:
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
    if held.sound and not _some_removed(held.store, used):  # otherwise its vectors are missed, and it is prepared anew
        meta["rows"] = rows_digest(held.store, used)
    with atomic_folder(folder) as new:
        left.save(new / "corpus")
        for name, array in arrays.items():
            np.save(new / f"{name}.npy", array)
        (new / "prepared.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
