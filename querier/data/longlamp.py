"""Reader of LongLaMP's published rows, for both of its settings, by user and by time.

A row is `{<user>, "input", "output", "profile": [{...}, ...]}`; the user is `reviewerId` (product reviews), `name`
(abstracts) or `author` (topics). Rows lie in files whose names begin with their part (`train`, `val`, `test`), as
Parquet, JSON Lines or one JSON list, in a folder that `datasets` saved, or on the hub. A row does not say its task: it
is told from the fields of the profiles. What becomes of the rows is told in `querier/data/questions.py`.

References:
    Kumar et al.: LongLaMP: A benchmark for personalized long-form text generation, 2024.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from querier.data.questions import Question, check_split, choose_task, fields_of, form_fault, records_of
from querier.data.sources import Source, decode, open_bytes, read_json
from querier.data.tables import load_dataset
from querier.data_config import DataConfig
from querier.errors import InputError

USERS = ("reviewerId", "reviewerID", "user_id", "author", "name")
FORM = '{"reviewerId" or "name" or "author", "input", "output", "profile": [{...}, ...]}'
FILE = re.compile(r"(train|val|valid|validation|dev|test)(?![a-z]).*\.(parquet|jsonl|json)")
PARTS = {"val": "validation", "valid": "validation", "dev": "validation"}  # the others go by their own names
SAVED = ("state.json", "dataset_dict.json")
Row = tuple[str, int, Any, str]
"""Where it stands: file and number; what it holds; what is wrong with it."""


def read_longlamp(config: DataConfig, notes: list[str]) -> Iterator[Source]:
    """The questions and profiles of a task: of a folder of its files, a folder that `datasets` saved, or the hub.

    Raises:
        InputError: When no file of the layout is found, or the task cannot be told.
    """
    check_split(config)
    root = Path(config.path)
    if root.is_file():
        raise InputError(f"data.path: {root} is one file; give the folder that holds the parts, train and test")
    published = root.is_dir() and not any((root / name).exists() for name in SAVED)
    parts = _from_files(root) if published else _from_datasets(config.path)
    questions = [
        _question(*row, part=PARTS.get(part, part), number=number)
        for part, rows in parts
        for number, row in enumerate(rows)
    ]
    yield from records_of(questions, choose_task("", fields_of(questions), config), config, notes)


def _from_files(root: Path) -> Iterator[tuple[str, Iterable[Row]]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        match = FILE.fullmatch(path.name)
        if match is not None and path.is_file():
            found.setdefault(match[1], []).append(path)
    folders = sorted({str(path.parent) for paths in found.values() for path in paths})
    if not found:
        raise InputError(
            f"data.path: {root} holds no train*.parquet, train*.jsonl or train*.json; give the folder of one task, "
            "such as topic_writing_user"
        )
    if len(folders) > 1:
        raise InputError(f"data.path: {root} holds several tasks ({', '.join(folders)}); give the folder of one")
    for part, paths in found.items():
        yield part, (row for path in paths for row in _rows(path))


def _from_datasets(path: str) -> Iterator[tuple[str, Iterable[Row]]]:
    for part, rows in load_dataset(path).items():
        if part not in PARTS and part not in PARTS.values() and part not in ("train", "test"):
            raise InputError(f"data.path: {path} has the part {part!r}; LongLaMP's are train, val and test")
        yield part, ((f"{path}[{part}]", number, dict(row), "") for number, row in enumerate(rows, start=1))


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".parquet":
        try:
            table = pa.parquet.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: not a readable Parquet file ({error}); take the published one") from error
        yield from ((str(path), number, row, "") for number, row in enumerate(table.to_pylist(), start=1))
    elif path.suffix == ".json":
        content = read_json(path)
        if not isinstance(content, list):
            raise InputError(f"{path}: must be a JSON list of {FORM}, got {type(content).__name__}")
        yield from ((str(path), number, row, "") for number, row in enumerate(content, start=1))
    else:
        with open_bytes(path) as file:
            for line, content in enumerate(file, start=1):
                text, fault = decode(content, first=line == 1)
                if text.strip():
                    yield (str(path), line, *(_parsed(text) if not fault else (None, fault)))


def _parsed(text: str) -> tuple[Any, str]:
    try:
        return json.loads(text), ""
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}; write one object in braces on each line"


def _question(file: str, line: int, row: Any, fault: str, part: str, number: int) -> Question:
    shown = {name: row[name] for name in row if name != "profile"} if isinstance(row, dict) else row
    text = json.dumps(shown, ensure_ascii=False, default=str)
    fault = fault or _fault(row)
    if fault:
        return Question(Source(file, line, text, fault=fault))
    user = next(str(row[name]) for name in USERS if row.get(name) is not None)
    return Question(Source(file, line, text), str(number), user, part, row["input"], row["output"], row["profile"])


def _fault(row: Any) -> str:
    wanted = f"a row must be {FORM}"
    if isinstance(row, dict) and all(row.get(name) is None for name in USERS):
        return f"none of {', '.join(USERS)} says who asks; {wanted}"
    return form_fault(row, ("input", "output", "profile"), wanted)
