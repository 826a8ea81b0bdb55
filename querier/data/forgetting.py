"""Removing a querier from a prepared corpus: records, rows of every index, and vectors that nobody else's text needs.

Other queriers keep their dialogues, histories, neighbours and clusters; only the places where the forgotten querier
stood are closed up. Weights that were trained on their texts are not touched: that is said by the command.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from querier.data.embeddings import EmbeddingStore, rows_digest
from querier.data.records import Corpus
from querier.errors import InputError
from querier.files import atomic_folder
from querier.types import EncodeTexts

ROWS = ("neighbours", "near", "contrast")  # arrays that hold rows of the corpus


@dataclass(frozen=True)
class Forgotten:
    """What was removed: dialogues from prepared corpora (by folder) and vectors from the store."""

    dialogues: dict[str, int]
    vectors: int


def forget(querier: str, cache: Path, encode: EncodeTexts) -> Forgotten:
    """Remove a querier from every prepared corpus of a cache, then the vectors that nobody needs any more.

    Safe to call again: a second call finishes what an interrupted one began, or finds nothing.

    Args:
        querier: The name.
        cache: The cache folder of the runs.
        encode: The encoder whose vectors are cached.
    """
    removed: dict[str, int] = {}
    texts: set[str] = set()
    kept: list[Corpus] = []
    for described in sorted((cache / "prepared").glob("*/prepared.json")):
        folder = described.parent
        corpus = Corpus.load(folder / "corpus")
        if querier in corpus.queriers:
            rows = corpus.rows_of(corpus.queriers.index(querier))
            texts.update(_texts(corpus, rows))
            removed[str(folder)] = len(rows)
        kept.append(corpus)
    # Vectors go first: while a corpus still names the querier, a second call knows which texts were theirs.
    for corpus in kept:
        if not texts:
            break
        others = [row for row in range(len(corpus)) if corpus.queriers[corpus.querier[row]] != querier]
        texts.difference_update(_texts(corpus, others))
    store = cache / "embeddings" / encode.digest[:24]
    vectors = EmbeddingStore(store, encode).remove(sorted(texts)) if texts and store.is_dir() else 0
    for name in removed:
        _prune(Path(name), querier)
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


def _prune(folder: Path, querier: str) -> None:
    """Write the prepared corpus again without the querier, in the place of the old one."""
    corpus = Corpus.load(folder / "corpus")
    keep = np.asarray(corpus.querier) != corpus.queriers.index(querier)
    stays = np.flatnonzero(keep)
    if not len(stays):
        raise InputError(f"{querier!r} is the only querier of {folder}; remove the folder, and its runs, as a whole")
    left = Corpus.build([corpus.dialogue(int(row)) for row in stays])
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
    used = np.unique(np.concatenate([arrays["query_row"], arrays["reply_row"]]))
    meta["rows"] = rows_digest((folder / meta["embeddings"]).resolve(), used)
    with atomic_folder(folder) as new:
        left.save(new / "corpus")
        for name, array in arrays.items():
            np.save(new / f"{name}.npy", array)
        (new / "prepared.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _texts(corpus: Corpus, rows: Sequence[int] | np.ndarray) -> set[str]:
    found: set[str] = set()
    for row in rows:
        dialogue = corpus.dialogue(int(row))
        found.update((dialogue.query, dialogue.reply))
    return found
