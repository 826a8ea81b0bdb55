"""The corpus gives back what was put in, row by row, and names its content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from querier.data import records
from querier.data.records import UNSPLIT, Corpus
from querier.errors import InputError
from querier.types import Dialogue, Split, Turn


def dialogues(count: int = 23, seed: int = 0) -> list[Dialogue]:
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        querier, responder = f"querier {generator.integers(4)}", f"responder {generator.integers(3)}"
        turns = [Turn(querier, f"query {number} ä")]
        for _ in range(generator.integers(3)):
            turns.insert(int(generator.integers(2)), Turn(responder, "well"))
        made.append(
            Dialogue(
                id=f"d{number}",
                querier=querier,
                responder=responder,
                turns=(*turns, Turn(responder, f"reply {number} 好")),
                time=int(generator.integers(-5, 20)),
                scene=f"scene {generator.integers(9)}",
                item=None if number % 3 else f"item {number % 2}",
                split=[None, "train", "history"][number % 3],
                extra={"number": number, "deep": {"list": [1, None]}} if number % 2 else {},
            )
        )
    return made


@pytest.fixture(params=[records.CHUNK, 4])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(records, "CHUNK", request.param)
    return int(request.param)


def test_gives_back_every_dialogue(chunk: int, tmp_path: Path) -> None:
    made = dialogues()
    built = Corpus.build(made)
    built.save(tmp_path / "corpus")
    for corpus in (built, Corpus.load(tmp_path / "corpus")):
        assert len(corpus) == len(made)
        assert [corpus.dialogue(row) for row in range(len(corpus))] == made
        assert corpus.queries() == [dialogue.query for dialogue in made]
        assert corpus.replies() == [dialogue.reply for dialogue in made]
        assert list(corpus.ids) == [dialogue.id for dialogue in made]
        assert [corpus.queriers[number] for number in corpus.querier] == [dialogue.querier for dialogue in made]
        assert [corpus.responders[number] for number in corpus.responder] == [dialogue.responder for dialogue in made]
        assert [corpus.scenes[int(number)] for number in corpus.scene] == [dialogue.scene for dialogue in made]
        assert (corpus.item == -1).tolist() == [dialogue.item is None for dialogue in made]
        assert corpus.time.tolist() == [dialogue.time for dialogue in made]
        assert (corpus.split == UNSPLIT).all()
        assert corpus.querier.dtype == np.int32
        assert corpus.time.dtype == np.int64
        assert corpus.split.dtype == np.int8


def test_rows_of_a_querier_by_time_ties_by_row() -> None:
    made = dialogues(60)
    corpus = Corpus.build(made)
    for number, name in enumerate(corpus.queriers):
        slow = sorted((d.time, row) for row, d in enumerate(made) if d.querier == name)
        assert corpus.rows_of(number).tolist() == [row for _, row in slow]


def test_another_split_shares_the_texts_and_survives_saving(tmp_path: Path) -> None:
    corpus = Corpus.build(dialogues())
    split = np.arange(len(corpus)) % 5
    unseen = np.arange(len(corpus.queriers)) == 1
    other = corpus.with_split(split, unseen)
    assert (corpus.split == UNSPLIT).all()
    other.save(tmp_path / "corpus")
    loaded = Corpus.load(tmp_path / "corpus")
    assert loaded.split.tolist() == split.tolist()
    assert loaded.unseen.tolist() == unseen.tolist()
    assert loaded.digest == other.digest != corpus.digest
    rows = loaded.rows_in(Split.TRAIN, Split.TEST)
    assert rows.tolist() == [row for row in range(len(corpus)) if row % 5 in (0, 2)]
    with pytest.raises(InputError, match="must have shapes"):
        corpus.with_split(split[1:], unseen)


def test_digest_depends_on_content_alone(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dialogues()
    digest = Corpus.build(made).digest
    assert Corpus.build(dialogues()).digest == digest
    monkeypatch.setattr(records, "CHUNK", 7)
    assert Corpus.build(made).digest == digest
    turns = (made[3].turns[0], replace(made[3].turns[-1], text="another"))
    for change in (
        {"id": "other"},
        {"querier": made[3].querier, "scene": "other"},
        {"time": 999},
        {"turns": turns},
        {"extra": {"number": 0}},
        {"split": "test"},
        {"item": "other"},
    ):
        assert Corpus.build([*made[:3], replace(made[3], **change), *made[4:]]).digest != digest  # type: ignore[arg-type]
    assert Corpus.build([*made[1:], made[0]]).digest != digest


def test_text_moved_between_neighbouring_cells_changes_the_digest() -> None:
    def of(first: str, second: str) -> str:
        return Corpus.build([Dialogue("d", "a", "b", (Turn("a", first), Turn("b", second)), 0, "s")]).digest

    assert of("xy", "z") != of("x", "yz")


def test_refuses_no_dialogues_a_wrong_row_and_a_folder_without_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs one dialogue at least"):
        Corpus.build([])
    with pytest.raises(IndexError):
        Corpus.build(dialogues(3)).dialogue(3)
    with pytest.raises(InputError, match="holds no corpus that can be read .* run `querier prepare`"):
        Corpus.load(tmp_path)


def test_refuses_a_torn_corpus_and_one_of_another_version(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    Corpus.build(dialogues()).save(folder)
    card = (folder / "corpus.json").read_text()
    (folder / "corpus.json").write_text(card.replace('"version": 1', '"version": 0'))
    with pytest.raises(InputError, match="written by another version"):
        Corpus.load(folder)
    (folder / "corpus.json").write_text(card)
    (folder / "dialogues.arrow").write_bytes((folder / "dialogues.arrow").read_bytes()[:100])
    with pytest.raises(InputError, match="holds no corpus that can be read"):
        Corpus.load(folder)
