"""MQDialog's layout becomes dialogues with scenes, times and splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from querier.choices import OnError, Reader, SplitBy
from querier.config import DataConfig
from querier.data.readers import read
from querier.data.records import Corpus
from querier.data.splits import split
from querier.errors import InputError
from querier.types import Split


def item(identity: str, responder: str, querier: str, pair: int) -> dict[str, Any]:
    spoken = [{"from": querier, "value": f"asked {identity}"}, {"from": responder, "value": "said"}]
    return {
        "id": identity,
        "conversations": spoken,
        "target_role": responder,
        "input_role": querier,
        "role_pair_id": pair,
        "cluster_id": 4,
        "target_role_short": responder[:2],
    }


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Two queriers of Rachel: 20 training runs and 2 in `dev` each, in reverse order."""
    folder = tmp_path / "friends" / "diags_two_role_rachel_clustered"
    for pair, querier in enumerate(("Ross", "Joey"), start=1):
        place = folder / f"rachel_{querier}"
        place.mkdir(parents=True)
        for part, runs in (("train", range(20)), ("dev", range(20, 22))):
            items = [
                item(f"episode_1_chunk_{run}_index_0_part{window}", "Rachel", querier, pair)
                for run in reversed(runs)
                for window in range(2)
            ]
            (place / f"friends_diags_rachel_{querier}_rachel_response_L512_{part}.json").write_text(json.dumps(items))
        (place / f"friends_diags_rachel_{querier}_L512_train.json").write_text("not read")
    (folder / "configs").mkdir()
    (folder / "configs" / "role_pair_id.json").write_text(json.dumps({"Rachel": {"Ross": 1, "Joey": 2}}))
    return tmp_path


def config(path: Path, **more: Any) -> DataConfig:
    return DataConfig(reader=Reader.mqdialog, path=str(path), **more)


def test_reads_who_asks_and_who_answers(layout: Path) -> None:
    dialogues = read(config(layout)).dialogues
    assert len(dialogues) == 88
    assert {(d.querier, d.responder) for d in dialogues} == {("Ross", "Rachel"), ("Joey", "Rachel")}
    assert dialogues[0].extra == {"role_pair_id": 2, "cluster_id": 4, "target_role_short": "Ra"}
    assert dialogues[0].reply == "said"
    for path in (layout / "friends", layout / "friends" / "diags_two_role_rachel_clustered"):
        assert [d.query for d in read(config(path)).dialogues] == [d.query for d in dialogues]


def test_time_is_the_chunks_place_and_a_chunk_is_a_scene(layout: Path) -> None:
    dialogues = read(config(layout)).dialogues
    for dialogue in dialogues:
        chunk = int(dialogue.query.split("chunk_")[1].split("_")[0])
        assert dialogue.time == chunk
        assert dialogue.scene == f"friends/episode_1_chunk_{chunk}"


def test_published_parts(layout: Path) -> None:
    reading = read(config(layout, split=SplitBy.given))
    corpus, _ = split(Corpus.build(reading.dialogues), config(layout, split=SplitBy.given))
    parts = [len(corpus.rows_in(part)) for part in (Split.TRAIN, Split.VALIDATION, Split.TEST)]
    assert parts == [72, 8, 8]  # a tenth of 40 training runs of two windows each
    assert "MQDialog has no validation part: 4 training runs, drawn by data.split_seed, are it" in reading.notes
    again = read(config(layout, split=SplitBy.given))
    assert again.dialogues == reading.dialogues
    assert read(config(layout, split=SplitBy.given, split_seed=1)).dialogues != reading.dialogues


def test_one_validation_run_is_counted_as_one(layout: Path) -> None:
    (folder,) = layout.rglob("rachel_Joey")
    for path in folder.glob("*_response_L512_train.json"):
        path.write_text(json.dumps(json.loads(path.read_text())[:20]))  # ten runs of two windows
    notes = read(config(folder, split=SplitBy.given)).notes
    assert "MQDialog has no validation part: 1 training run, drawn by data.split_seed, is it" in notes


def change(layout: Path, **fields: Any) -> Path:
    """The first record of Joey's `dev` with other fields; None takes one away."""
    path = next(layout.rglob("*Joey*_response_L512_dev.json"))
    items = json.loads(path.read_text())
    items[0] = {name: value for name, value in (items[0] | fields).items() if value is not None}
    path.write_text(json.dumps(items))
    return layout


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conversations": None}, r"_dev\.json:1: field `conversations`: missing; the record must be \{\"id\""),
        ({"conversations": "x"}, r":1: field `conversations`: must be a list, got str"),
        ({"conversations": ["x", "y"]}, r":1: field `turns`, turn 1 of 2: must be an object"),
        ({"input_role": "Phoebe"}, r"role_pair_id\.json does not know the pair 'Rachel', 'Phoebe'"),
        (
            {"role_pair_id": 9},
            r"field `role_pair_id`: got 9, but configs/role_pair_id\.json gives 2 to 'Rachel', 'Joey'",
        ),
        ({"target_role": "Joey", "role_pair_id": 2}, r"does not know the pair 'Joey', 'Joey'"),
    ],
)
def test_refuses_faulty_records(layout: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(config(change(layout, **fields)))
    reading = read(config(layout, on_error=OnError.skip))
    assert (len(reading.dialogues), len(reading.refused)) == (87, 1)


def test_refuses_another_layout(layout: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \*_response_L512_train\.json; give MQDialog's data folder"):
        read(config(tmp_path / "empty"))
    path = next(layout.rglob("*Joey*_response_L512_dev.json"))
    path.write_text("{}")
    with pytest.raises(InputError, match="must be a JSON list of .* got dict"):
        read(config(layout))
    path.write_text("[")
    with pytest.raises(InputError, match="not JSON in UTF-8"):
        read(config(layout))
