"""The corpus: all dialogues as columns, stored as Arrow and memory-mapped.

Texts stay on disk and are read row by row; the numbers (who, whom, when, where, which split) are numpy arrays.
Names are numbered in alphabetical order, so that the numbers do not depend on the order of the records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc

from querier.errors import InputError
from querier.files import atomic_folder
from querier.types import Dialogue, Split, Turn

CHUNK = 65_536  # rows of one record batch: small enough for 32-bit offsets of long texts
UNSPLIT = -1
VERSION = 1

_TURN = pa.struct([("speaker", pa.string()), ("text", pa.string())])
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("querier", pa.int32()),
        ("responder", pa.int32()),
        ("scene", pa.int32()),
        ("item", pa.int32()),
        ("time", pa.int64()),
        ("given", pa.int8()),
        ("split", pa.int8()),
        ("turns", pa.list_(_TURN)),
        ("extra", pa.string()),
    ]
)
_NUMBERS = ("querier", "responder", "scene", "item", "time", "given")


class Texts(Sequence[str]):
    """A column of texts that are read one at a time from the memory-mapped file."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        text: str = self._column[int(index) % len(self)].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for chunk in self._column.chunks:
            yield from chunk.to_pylist()


@dataclass(frozen=True)
class _Names:
    queriers: list[str]
    responders: list[str]
    scenes: Texts
    items: Texts


class Corpus:
    """N dialogues as columns; use `Corpus.build` or `Corpus.load`.

    Attributes:
        ids: Each dialogue's id, N texts.
        queriers: Names by number, Q.
        responders: Names by number.
        scenes: Names by number.
        items: Names by number.
        querier: Who asks, (N,) int32.
        responder: Who answers, (N,) int32.
        scene: Indivisible group, (N,) int32.
        item: What it is about, −1 for nothing, (N,) int32.
        time: (N,) int64.
        given: The record's own field `split` as a value of `Split`, −1 without, (N,) int8.
        split: Values of `Split`, −1 before the corpus is split, (N,) int8.
        unseen: Whether a querier is held out of training altogether, (Q,) bool.
    """

    def __init__(
        self, table: Any, names: _Names, split: np.ndarray, unseen: np.ndarray, content: str | None = None
    ) -> None:
        self._table = table
        self._names = names
        self._known_content = content
        self.ids = Texts(table.column("id"))
        self.queriers, self.responders = names.queriers, names.responders
        self.scenes, self.items = names.scenes, names.items
        self.querier, self.responder, self.scene, self.item, self.time, self.given = (
            table.column(name).to_numpy() for name in _NUMBERS
        )
        self.split = split
        self.unseen = unseen

    def __len__(self) -> int:
        return len(self.split)

    @classmethod
    def build(cls, dialogues: Sequence[Dialogue]) -> Corpus:
        """A corpus of these dialogues in this order, not split yet.

        Raises:
            InputError: When there are none.
        """
        if not dialogues:
            raise InputError("a corpus needs one dialogue at least, got none; check data.path")
        queriers = _number(dialogue.querier for dialogue in dialogues)
        responders = _number(dialogue.responder for dialogue in dialogues)
        scenes = _number(dialogue.scene for dialogue in dialogues)
        items = _number(dialogue.item for dialogue in dialogues if dialogue.item is not None)
        batches = [
            _batch(dialogues[start : start + CHUNK], queriers, responders, scenes, items)
            for start in range(0, len(dialogues), CHUNK)
        ]
        names = _Names(list(queriers), list(responders), _texts(scenes), _texts(items))
        split = np.full(len(dialogues), UNSPLIT, dtype=np.int8)
        return cls(pa.Table.from_batches(batches, _SCHEMA), names, split, np.zeros(len(queriers), dtype=bool))

    def with_split(self, split: np.ndarray, unseen: np.ndarray) -> Corpus:
        """The same dialogues with another split; texts are shared, not copied.

        Args:
            split: Values of `Split`, (N,).
            unseen: Whether a querier is held out of training, (Q,) bool.
        """
        if split.shape != self.split.shape or unseen.shape != self.unseen.shape:
            raise InputError(
                f"split and unseen must have shapes {self.split.shape} and {self.unseen.shape}, "
                f"got {split.shape} and {unseen.shape}"
            )
        return Corpus(self._table, self._names, split.astype(np.int8), unseen.astype(bool), self._known_content)

    def dialogue(self, row: int) -> Dialogue:
        """The dialogue in a row, as it was read."""
        row = int(row)
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        item, given = int(self.item[row]), int(self.given[row])
        extra = self._table.column("extra")[row].as_py()
        return Dialogue(
            id=self.ids[row],
            querier=self.queriers[self.querier[row]],
            responder=self.responders[self.responder[row]],
            turns=tuple(Turn(turn["speaker"], turn["text"]) for turn in self._table.column("turns")[row].as_py()),
            time=int(self.time[row]),
            scene=self.scenes[int(self.scene[row])],
            item=self.items[item] if item >= 0 else None,
            split=Split(given).name.lower() if given >= 0 else None,
            extra=json.loads(extra) if extra else {},
        )

    def queries(self) -> list[str]:
        """The query of each row, N texts."""
        return [text for query, _ in self._queries_and_replies() for text in query]

    def replies(self) -> list[str]:
        """The reply of each row, N texts."""
        return [text for _, reply in self._queries_and_replies() for text in reply]

    def rows_of(self, querier: int) -> np.ndarray:
        """All rows of a querier by number, sorted by time, ties by row, (n,) int64."""
        order, start = self._by_querier
        return order[start[querier] : start[querier + 1]]

    def rows_in(self, *splits: Split) -> np.ndarray:
        """All rows of one or several splits in ascending order, (n,) int64."""
        return np.flatnonzero(np.isin(self.split, [split.value for split in splits]))

    @cached_property
    def digest(self) -> str:
        """Names the content: every field of every dialogue, their order, the split and the unseen queriers."""
        hashed = hashlib.sha256(self._content.encode())
        hashed.update(np.ascontiguousarray(self.split).tobytes())
        hashed.update(np.ascontiguousarray(self.unseen).tobytes())
        return hashed.hexdigest()[:32]

    def save(self, folder: Path) -> None:
        """Write the corpus; the folder is replaced as a whole or not at all.

        Raises:
            InputError: When the folder cannot be written.
        """
        place = self._table.schema.get_field_index("split")
        table = self._table.set_column(place, _SCHEMA.field("split"), pa.array(self.split))
        with atomic_folder(folder) as new:
            _write(new / "dialogues.arrow", table)
            _write(new / "queriers.arrow", pa.table({"name": self.queriers, "unseen": self.unseen}))
            for name, texts in (("scenes", self.scenes), ("items", self.items)):
                _write(new / f"{name}.arrow", pa.table({"name": pa.array(texts, pa.string())}))
            card = {"version": VERSION, "content": self._content, "responders": self.responders}
            (new / "corpus.json").write_text(json.dumps(card, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Corpus:
        """Open a saved corpus; texts are memory-mapped.

        Raises:
            InputError: When the folder holds no corpus that this version can read.
        """
        folder = Path(folder)
        try:
            card = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
            table, queriers = _read(folder / "dialogues.arrow"), _read(folder / "queriers.arrow")
            scenes, items = (Texts(_read(folder / f"{name}.arrow").column("name")) for name in ("scenes", "items"))
        except (OSError, ValueError, pa.ArrowInvalid) as error:
            raise InputError(f"{folder}: holds no corpus that can be read ({error}); run `querier prepare`") from error
        if card.get("version") != VERSION or table.schema != _SCHEMA:
            raise InputError(f"{folder}: was written by another version; delete it and run `querier prepare`")
        names = _Names(queriers.column("name").to_pylist(), card["responders"], scenes, items)
        unseen = np.asarray(queriers.column("unseen").to_pylist(), dtype=bool)
        return cls(table, names, table.column("split").to_numpy(), unseen, card["content"])

    @cached_property
    def answering(self) -> list[str]:
        """Responders of the training split, or of all before there is one, in their order: whom a model speaks for."""
        pool = self.rows_in(Split.TRAIN)
        numbers = np.unique(self.responder[pool] if len(pool) else self.responder)
        return [self.responders[number] for number in numbers.tolist()]

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each querier by name."""
        return {name: number for number, name in enumerate(self.queriers)}

    @cached_property
    def _by_querier(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.lexsort((self.time, self.querier))  # stable: ties stay in the order of the rows
        count = np.bincount(self.querier, minlength=len(self.queriers))
        return order, np.concatenate([[0], np.cumsum(count)])

    @cached_property
    def _content(self) -> str:
        if self._known_content is not None:
            return self._known_content
        hashed = hashlib.sha256(json.dumps([self.queriers, self.responders, VERSION]).encode())
        for texts in (self.scenes, self.items):
            hashed.update(json.dumps(list(texts)).encode())
        for name in _NUMBERS:
            hashed.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        for name in ("id", "extra"):
            _hash_texts(hashed, self._table.column(name).chunks)
        turns = self._table.column("turns").chunks
        for chunk in turns:
            hashed.update(np.diff(chunk.offsets.to_numpy()).astype(np.int32).tobytes())
        for name in ("speaker", "text"):
            _hash_texts(hashed, [chunk.flatten().field(name) for chunk in turns])
        return hashed.hexdigest()

    def _queries_and_replies(self) -> Iterator[tuple[list[str], list[str]]]:
        responders = pa.array(self.responders)
        start = 0
        for chunk in self._table.column("turns").chunks:
            offsets = chunk.offsets.to_numpy().astype(np.int64)
            offsets = offsets - offsets[0]
            speakers, texts = (chunk.flatten().field(name) for name in ("speaker", "text"))
            numbers = np.repeat(self.responder[start : start + len(chunk)], np.diff(offsets))
            asks = pa.compute.not_equal(speakers, responders.take(pa.array(numbers))).to_numpy(zero_copy_only=False)
            last = np.maximum.accumulate(np.where(asks, np.arange(len(asks)), -1))
            query, reply = last[offsets[1:] - 2], offsets[1:] - 1
            yield texts.take(pa.array(query)).to_pylist(), texts.take(pa.array(reply)).to_pylist()
            start += len(chunk)


def _number(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(set(names)))}


def _texts(names: Mapping[str, int]) -> Texts:
    return Texts(pa.chunked_array([pa.array(list(names), pa.string())]))


def _batch(
    dialogues: Sequence[Dialogue],
    queriers: Mapping[str, int],
    responders: Mapping[str, int],
    scenes: Mapping[str, int],
    items: Mapping[str, int],
) -> Any:
    turns = [turn for dialogue in dialogues for turn in dialogue.turns]
    offsets = np.concatenate([[0], np.cumsum([len(dialogue.turns) for dialogue in dialogues])]).astype(np.int32)
    texts = [
        pa.array([turn.speaker for turn in turns], pa.string()),
        pa.array([turn.text for turn in turns], pa.string()),
    ]
    columns = [
        [dialogue.id for dialogue in dialogues],
        [queriers[dialogue.querier] for dialogue in dialogues],
        [responders[dialogue.responder] for dialogue in dialogues],
        [scenes[dialogue.scene] for dialogue in dialogues],
        [-1 if dialogue.item is None else items[dialogue.item] for dialogue in dialogues],
        [dialogue.time for dialogue in dialogues],
        [UNSPLIT if dialogue.split is None else Split[dialogue.split.upper()].value for dialogue in dialogues],
        [UNSPLIT] * len(dialogues),
        pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(texts, fields=list(_TURN))),
        [_json(dialogue.extra) for dialogue in dialogues],
    ]
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, _SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)


def _json(extra: Mapping[str, Any]) -> str:
    # `default=str`: columns of other formats hold dates and decimals, which JSON does not know.
    return json.dumps(dict(extra), default=str, sort_keys=True) if extra else ""


def _write(path: Path, table: Any) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _read(path: Path) -> Any:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _hash_texts(hashed: Any, chunks: Iterable[Any]) -> None:
    # Lengths and bytes are hashed apart, so that the result does not depend on where a chunk ends.
    lengths, content = hashlib.sha256(), hashlib.sha256()
    for chunk in chunks:
        size = pa.compute.binary_length(chunk).to_numpy(zero_copy_only=False).astype(np.int32)
        lengths.update(size.tobytes())
        offsets = np.frombuffer(chunk.buffers()[1], dtype=np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        if chunk.buffers()[2] is not None:
            content.update(memoryview(chunk.buffers()[2])[int(offsets[0]) : int(offsets[-1])])
    hashed.update(lengths.digest() + content.digest())
