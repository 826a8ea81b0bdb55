"""Records as users write them to files, for tests of the readers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from querier.config import DataConfig
from querier.data.readers import read
from querier.types import Dialogue

Row = dict[str, Any]


def rows(count: int = 6) -> list[Row]:
    return [
        {
            "id": f"d{number}",
            "querier": f"querier {number % 2}",
            "responder": "Bob",
            "turns": [
                {"speaker": f"querier {number % 2}", "text": f'Was, "{number}"?\nÄh'},
                {"speaker": "Bob", "text": "Nun."},
            ],
            "time": number,
            "scene": f"s{number}",
        }
        for number in range(count)
    ]


def write_jsonl(path: Path, records: list[Row]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_csv(path: Path, records: list[Row]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        for record in records:
            writer.writerow(record | ({"turns": json.dumps(record["turns"])} if "turns" in record else {}))
    return path


def write_parquet(path: Path, records: list[Row]) -> Path:
    pyarrow.parquet.write_table(pa.Table.from_pylist(records), path)
    return path


def write_datasets(path: Path, records: list[Row]) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(records).save_to_disk(str(path))
    return path


def config(path: Path, **more: Any) -> DataConfig:
    return DataConfig(path=str(path), **more)


def dialogues(path: Path, **more: Any) -> list[Dialogue]:
    return read(config(path, **more)).dialogues
