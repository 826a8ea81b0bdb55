"""Reader of MQDialog's published layout.

A folder per pair of responder and querier under `<show>/diags_two_role_<responder>_clustered/`, in it
`*_response_L512_train.json` and `*_response_L512_dev.json`, and beside the pairs `configs/role_pair_id.json`. Each
file is a list of `{"id", "conversations": [{"from", "value"}], "target_role", "input_role", "role_pair_id",
"cluster_id"}`; the target role answers and the input role asks.

The lists are shuffled and carry no time, but their ids name episode, chunk and run: `episode_2_chunk_7_index_0_part3`.
Time is the chunk's place in the show, so nothing of one chunk is history of another dialogue of it. A chunk is a
scene, but for `data.split=given`, where it is a run: the published parts cut chunks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from querier.choices import SplitBy
from querier.data.parsing import counted
from querier.data.sources import Source, check_exists, natural, read_json
from querier.data_config import DataConfig
from querier.errors import InputError

SHARE_OF_VALIDATION = 0.1  # of the published training runs: the layout has no validation part
PARTS = {"train": "train", "dev": "test"}
FORM = '{"id", "conversations": [{"from", "value"}, ...], "target_role", "input_role", "role_pair_id", "cluster_id"}'


@dataclass
class _Item:
    source: Source
    show: str
    chunk: str = ""
    run: str = ""


def read_mqdialog(config: DataConfig, notes: list[str]) -> Iterator[Source]:
    """The dialogues of all pairs under `data.path`: the data folder, a show, or one responder's folder.

    The published `dev` is the test part; a seeded tenth of the published training runs is validation.

    Raises:
        InputError: When no file of the layout is found, or one is no JSON list.
    """
    items = [item for path, part in _files(Path(config.path)) for item in _read(path, part)]
    good = [item for item in items if not item.source.fault]
    order = {
        key: time
        for time, key in enumerate(
            sorted({(item.show, item.chunk) for item in good}, key=lambda chunk: natural(*chunk))
        )
    }
    held = _validation(good, config.split_seed)
    given = config.split is SplitBy.given
    for item in good:
        record = item.source.record
        record["time"] = order[item.show, item.chunk]
        record["scene"] = item.run if given else f"{item.show}/{item.chunk}"
        if item.run in held and record["split"] == "train":
            record["split"] = "validation"
    if given:
        runs, are = counted(len(held), "training run"), "is" if len(held) == 1 else "are"
        notes.append(f"MQDialog has no validation part: {runs}, drawn by data.split_seed, {are} it")
    yield from (item.source for item in items)


def _files(root: Path) -> list[tuple[Path, str]]:
    check_exists(root)
    found = [(path, part) for part in PARTS for path in root.rglob(f"*_response_L512_{part}.json")]
    if not found:
        raise InputError(
            f"data.path: {root} holds no *_response_L512_train.json; give MQDialog's data folder, a show in it, "
            "or one diags_two_role_<responder>_clustered"
        )
    return sorted(found)


def _read(path: Path, part: str) -> Iterator[_Item]:
    pairs = _pairs(path.parent.parent / "configs" / "role_pair_id.json")
    show = path.parent.parent.parent.name
    records = read_json(path)
    if not isinstance(records, list):
        raise InputError(f"{path}: must be a JSON list of {FORM}, got {type(records).__name__}")
    for number, record in enumerate(records, start=1):
        text = json.dumps(record, ensure_ascii=False)
        try:
            translated, chunk, run = _translate(
                record, pairs, part, f"{show}/{path.parent.parent.name}/{path.parent.name}"
            )
            yield _Item(Source(str(path), number, text, translated), show, chunk, run)
        except InputError as error:
            yield _Item(Source(str(path), number, text, fault=str(error)), show)


def _translate(
    record: Any, pairs: dict[str, dict[str, Any]] | None, part: str, folder: str
) -> tuple[dict[str, Any], str, str]:
    if not isinstance(record, dict):
        raise InputError(f"a record must be {FORM}, got {type(record).__name__}")
    for name in ("id", "conversations", "target_role", "input_role"):
        if name not in record:
            raise InputError(f"field `{name}`: missing; the record must be {FORM}")
    rest = dict(record)
    identity, conversation = rest.pop("id"), rest.pop("conversations")
    responder, querier = rest.pop("target_role"), rest.pop("input_role")
    if pairs is not None:
        _check_pair(record, pairs)
    if not isinstance(conversation, list):
        raise InputError(f"field `conversations`: must be a list, got {type(conversation).__name__}")
    turns = [
        {{"from": "speaker", "value": "text"}.get(name, name): value for name, value in turn.items()}
        if isinstance(turn, dict)
        else turn
        for turn in conversation
    ]
    run = re.sub(r"_part\d+$", "", str(identity))
    chunk = re.sub(r"_index_\d+$", "", run)
    translated = {
        "id": f"{folder}/{identity}",
        "querier": querier,
        "responder": responder,
        "turns": turns,
        "split": PARTS[part],
    }
    return (
        translated | {name: value for name, value in rest.items() if name not in translated},
        chunk,
        f"{folder}/{run}",
    )


def _check_pair(record: dict[str, Any], pairs: dict[str, dict[str, Any]]) -> None:
    responder, querier = str(record["target_role"]), str(record["input_role"])
    number = pairs.get(responder, {}).get(querier)
    if number is None:
        raise InputError(f"configs/role_pair_id.json does not know the pair {responder!r}, {querier!r}; add it there")
    if record.get("role_pair_id", number) != number:
        raise InputError(
            f"field `role_pair_id`: got {record['role_pair_id']!r}, but configs/role_pair_id.json gives {number!r} to "
            f"{responder!r}, {querier!r}; correct one of them"
        )


def _pairs(path: Path) -> dict[str, dict[str, Any]] | None:
    if not path.exists():
        return None
    table = read_json(path)
    if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
        raise InputError(f"{path}: must be {{responder: {{querier: number}}}}; take the published file")
    return table


def _validation(items: list[_Item], seed: int) -> set[str]:
    runs = sorted({item.run for item in items if item.source.record["split"] == "train"})
    count = round(SHARE_OF_VALIDATION * len(runs))
    return {runs[place] for place in np.random.default_rng(seed).permutation(len(runs))[:count]}
