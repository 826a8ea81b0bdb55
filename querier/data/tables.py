"""Readers of tables: CSV, Parquet, and the library `datasets` (a folder or a name on the hub)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from querier.data.parsing import counted
from querier.data.sources import Source, check_exists, decode, files_of, open_bytes, other_reader
from querier.data_config import DataConfig
from querier.errors import InputError

BATCH = 4_096  # rows of a Parquet file that are held in memory at once
PARTS = {"train": "train", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test"}
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LONGEST = 2**31 - 1  # characters of a cell; the library's own limit is 131 072
OPTIONAL = ("responder", "time", "scene", "item", "split", "turns", "query", "reply")


def read_csv(config: DataConfig, notes: list[str]) -> Iterator[Source]:
    """The rows of a CSV file with a header, or of all `*.csv` of a folder, separated as the header is.

    All cells are text: `time` is read as a whole number, `turns` as JSON, and an empty cell counts as absent.
    """
    names = {config.fields.get(field, field): field for field in OPTIONAL}
    csv.field_size_limit(LONGEST)
    for path in files_of(config.path, ".csv"):
        faults: dict[int, str] = {}
        lines = _lines(path, faults)
        start = list(islice(lines, 1))
        separator = next((sign for sign in SEPARATORS if sign in "".join(start)), ",")
        if separator != ",":
            notes.append(f"{path}: separated by {SEPARATORS[separator]}, as its first line is")
        rows = csv.reader(chain(start, lines), delimiter=separator, strict=True)
        header: list[str] | None = None
        before = 0
        for row, fault in _rows(rows):
            first, before = before + 1, rows.line_num
            if fault and before > first:
                fault += f"; it was read from line {first} to {before}"
            fault = next((faults[line] for line in range(first, before + 1) if line in faults), fault)
            if header is None:
                header = _header(row, fault, path, first)
                continue
            if not row and not fault:
                continue
            text = json.dumps(row, ensure_ascii=False)
            if not fault and len(row) != len(header):
                fault = (
                    f"{counted(len(row), 'cell')}, but the header has {len(header)}; put cells with "
                    f"{SEPARATORS[separator]} into quotes"
                )
            record = {} if fault else _cells(dict(zip(header, row, strict=True)), names)
            yield Source(str(path), first, text, record, fault)


def read_parquet(config: DataConfig, notes: list[str]) -> Iterator[Source]:
    """The rows of a Parquet file, or of all `*.parquet` of a folder; columns are the fields, nulls count as absent."""
    for path in files_of(config.path, ".parquet"):
        try:
            with pa.parquet.ParquetFile(path) as file:
                rows = (row for batch in file.iter_batches(BATCH) for row in batch.to_pylist())
                yield from _records(str(path), rows)
        except (pa.ArrowInvalid, OSError) as error:
            do = other_reader(path, "parquet") or "; write it again"
            raise InputError(f"{path}: not a Parquet file that can be read ({error}){do}") from error


def read_huggingface(config: DataConfig, notes: list[str]) -> Iterator[Source]:
    """The rows of a dataset of the library `datasets`.

    `data.path` is a folder made by `save_to_disk`, a folder of data files, or `<owner>/<name>` on the hub, with
    `:<configuration>` behind it where the dataset has several. Where rows have no field `split`, the dataset's own
    parts (train, validation, test) give it.
    """
    parts = load_dataset(config.path)
    own = config.fields.get("split", "split")
    for part, rows in parts.items():
        default = {own: PARTS[part]} if part in PARTS and len(parts) > 1 and own not in rows.column_names else {}
        place = f"{config.path}[{part}]" if part else config.path
        yield from _records(place, (default | dict(row) for row in rows))


def _records(place: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[Source]:
    for number, row in enumerate(rows, start=1):
        record = {name: value for name, value in row.items() if value is not None}
        yield Source(place, number, json.dumps(record, ensure_ascii=False, default=str), record)


def load_dataset(path: str) -> dict[str, Any]:
    """The parts of a dataset of the library `datasets` by name; one that has no parts is called by the empty name.

    Raises:
        InputError: When it cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError("data.reader=huggingface needs the package datasets: pip install datasets") from error
    here = Path(path).exists()
    if not here and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        check_exists(Path(path))  # no name on the hub looks like this
    try:
        if here:
            saved = any((Path(path) / name).exists() for name in ("state.json", "dataset_dict.json"))
            loaded = datasets.load_from_disk(path) if saved else datasets.load_dataset(path)
        else:
            name, _, configuration = path.partition(":")
            loaded = datasets.load_dataset(name, configuration or None)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"data.path: the dataset {path!r} cannot be loaded ({reason}); give a folder made by save_to_disk, "
            "a folder of data files, or <owner>/<name>[:<configuration>] on the hub, and check the network"
        ) from error
    return dict(loaded) if isinstance(loaded, dict) else {"": loaded}


def _lines(path: Path, faults: dict[int, str]) -> Iterator[str]:
    with open_bytes(path) as file:
        for line, content in enumerate(file, start=1):
            text, fault = decode(content, first=line == 1)
            if fault:
                faults[line] = fault
            yield text + "\n"


def _rows(rows: Any) -> Iterator[tuple[list[str], str]]:
    """The rows of a csv reader, and what is wrong with one that it cannot take apart."""
    while True:
        try:
            yield next(rows), ""
        except StopIteration:
            return
        except csv.Error as error:
            advice = "put cells with commas, quotes or line breaks into quotes, and end each quote that begins a cell"
            yield [], f"not CSV: {error}; {advice} (a quote inside is written twice)"


def _header(row: list[str], fault: str, path: Path, line: int) -> list[str]:
    if row and row[0].lstrip().startswith("{"):
        raise InputError(f"{path}:{line}: a JSON object, where a CSV file names its fields; read it with data=jsonl")
    if fault and (do := other_reader(path, "csv")):
        raise InputError(f"{path}:{line}: {fault}{do}")
    twice = sorted({name for name in row if row.count(name) > 1})
    if fault or twice or not any(row):
        reason = fault or (f"the header names {twice} twice" if twice else "the header is empty")
        raise InputError(f"{path}:{line}: {reason}; the first line names the fields: id,querier,query,reply")
    return row


def _cells(row: dict[str, str], names: Mapping[str, str]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    spoken = any(cell and names.get(name) == "turns" for name, cell in row.items())
    for name, cell in row.items():
        field = names.get(name)
        if not cell and (spoken or field not in ("query", "reply")):
            continue
        record[name] = cell
        if field == "time":
            record[name] = _number(cell)
        elif field == "turns":
            try:
                record[name] = json.loads(cell)
            except ValueError:
                record[name] = cell  # refused as text where a list is needed
    return record


def _number(cell: str) -> Any:
    try:
        return int(cell)
    except ValueError:
        pass
    try:
        return float(cell)  # 12.0 is a whole number to whoever wrote the table
    except ValueError:
        return cell
