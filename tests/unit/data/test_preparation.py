from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from querier.choices import Contrast, Pool
from querier.config import ClustersConfig, Config, ContrastConfig, DataConfig, TowersConfig
from querier.data.describing import describe_clusters, example_anchor, explain_contrast
from querier.data.embeddings import erase_rows
from querier.data.preparation import Prepared, prepare
from querier.data.records import Corpus
from querier.errors import InputError
from querier.types import Dialogue, Split, Turn

QUERIERS, EACH, TOPICS = 12, 20, 5


class WordEncoder:
    """A text's vector is the sum of the vectors of its words, so that like texts are near."""

    digest, size = "words", 32

    def __init__(self) -> None:
        self.texts = 0

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += len(texts)
        vectors = np.stack([sum(word_vector(word) for word in text.split()) for text in texts])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def word_vector(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=32)


def dialogues(changed: int | None = None) -> list[Dialogue]:
    """`changed`: the row whose reply is another one."""
    rng = np.random.default_rng(0)
    made: list[Dialogue] = []
    for number in range(QUERIERS * EACH):
        querier = int(rng.integers(QUERIERS))
        topic = int(rng.integers(TOPICS))
        query = f"topic{topic} question{int(rng.integers(4))}"
        reply = f"manner{querier % 3} topic{topic} word{int(rng.integers(6))}"
        if number == changed:
            reply = "something else altogether"
        turns = (Turn(f"q{querier}", query), Turn("tutor", reply))
        made.append(Dialogue(f"d{number}", f"q{querier}", "tutor", turns, number // 2, f"s{number // 2}"))
    return made


def corpus(changed: int | None = None) -> Corpus:
    built = Corpus.build(dialogues(changed))
    split = np.full(len(built), Split.TRAIN.value)
    split[-60:-30], split[-30:] = Split.VALIDATION.value, Split.TEST.value
    unseen = np.array([name == "q7" for name in built.queriers])
    split[unseen[built.querier]] = Split.TEST.value
    return built.with_split(split, unseen)


def config(**changes: object) -> Config:
    base = Config(
        clusters=ClustersConfig(n_clusters="5"),
        contrast=ContrastConfig(k=3, nearest=2),
        towers=TowersConfig(neighbours=4),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


ARRAYS = ("query_row", "reply_row", "style", "cluster", "far", "neighbours", "contrast", "near")


def test_shapes_and_rules(tmp_path: Path) -> None:
    prepared = prepare(corpus(), WordEncoder(), config(), tmp_path)
    c, n = prepared.corpus, QUERIERS * EACH
    shapes = {name: getattr(prepared, name).shape for name in ARRAYS}
    assert shapes["neighbours"] == (n, 4)
    assert shapes["contrast"] == (n, 3, 2)
    assert shapes["near"] == (n, 5)
    for name in ("neighbours", "contrast"):
        chosen = getattr(prepared, name).reshape(n, -1)
        anchor, _ = np.nonzero(chosen >= 0)
        rows = chosen[chosen >= 0]
        assert len(rows) > n
        assert (c.split[rows] == Split.TRAIN.value).all()
        assert (c.querier[rows] != c.querier[anchor]).all()
        assert (c.time[rows] < c.time[anchor]).all()
        assert (c.scene[rows] != c.scene[anchor]).all()
    anchor, _ = np.nonzero(prepared.near >= 0)
    assert (c.querier[prepared.near[prepared.near >= 0]] != c.querier[anchor]).all()
    assert (prepared.near[c.split != Split.TRAIN.value] == -1).all()


def test_vectors_are_those_of_the_texts(tmp_path: Path) -> None:
    prepared = prepare(corpus(), WordEncoder(), config(), tmp_path)
    rows = np.array([0, 17, 200])
    encode = WordEncoder()
    for vectors, texts in ((prepared.queries(rows), corpus().queries()), (prepared.replies(rows), corpus().replies())):
        np.testing.assert_allclose(vectors, encode([texts[row] for row in rows]), atol=1e-3)
        assert vectors.dtype == np.float32


def test_neighbours_are_the_nearest_admissible_queries(tmp_path: Path) -> None:
    prepared = prepare(corpus(), WordEncoder(), config(), tmp_path)
    c = prepared.corpus
    vectors = prepared.queries(np.arange(len(c)))
    for row in (50, 150, 239):
        allowed = prepared.pool
        allowed = allowed[(c.querier[allowed] != c.querier[row]) & (c.time[allowed] < c.time[row])]
        allowed = allowed[c.scene[allowed] != c.scene[row]]
        wanted = np.sort(-(vectors[allowed] @ vectors[row]))[:4]
        np.testing.assert_allclose(-(vectors[prepared.neighbours[row]] @ vectors[row]), wanted, atol=1e-3)


def test_second_time_nothing_is_computed_and_all_is_equal(tmp_path: Path) -> None:
    first = prepare(corpus(), WordEncoder(), config(), tmp_path)
    encode = WordEncoder()
    again = prepare(corpus(), encode, config(), tmp_path)
    assert encode.texts == 0
    assert any("nothing to do" in note for note in again.notes)
    loaded = Prepared.load(first.folder)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        np.testing.assert_array_equal(getattr(first, name), getattr(loaded, name))
    assert loaded.corpus.digest == first.corpus.digest
    assert loaded.notes == first.notes
    assert loaded.digest == first.digest


def test_notes_say_what_was_counted(tmp_path: Path) -> None:
    notes = " ".join(prepare(corpus(), WordEncoder(), config(), tmp_path).notes)
    for words in ("clusters of queries", "share their cluster", "dropped as false negatives", "far from every cluster"):
        assert words in notes


def test_reply_of_a_test_dialogue_changes_nothing_but_its_own_vector_and_stylometry(tmp_path: Path) -> None:
    row = QUERIERS * EACH - 5
    one = prepare(corpus(), WordEncoder(), config(), tmp_path)
    two = prepare(corpus(changed=row), WordEncoder(), config(), tmp_path)
    assert one.digest != two.digest
    for name in set(ARRAYS) - {"reply_row", "query_row", "style"}:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert np.flatnonzero((one.style != two.style).any(1)).tolist() == [row]


def test_preparation_elsewhere_gives_the_same_bits(tmp_path: Path) -> None:
    one, two = (prepare(corpus(), WordEncoder(), config(), tmp_path / name) for name in ("a", "b"))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize(
    "changes",
    [
        {"clusters": ClustersConfig(n_clusters="4")},
        {"contrast": ContrastConfig(k=2, nearest=2)},
        {"towers": TowersConfig(neighbours=3)},
        {"data": DataConfig(pool=Pool.none)},
    ],
)
def test_another_setting_is_another_preparation(tmp_path: Path, changes: dict[str, object]) -> None:
    one = prepare(corpus(), WordEncoder(), config(), tmp_path)
    encode = WordEncoder()
    two = prepare(corpus(), encode, config(**changes), tmp_path)
    assert one.folder != two.folder
    assert encode.texts == 0  # the vectors are shared


def test_setting_that_it_does_not_read_changes_nothing(tmp_path: Path) -> None:
    one = prepare(corpus(), WordEncoder(), config(), tmp_path)
    two = prepare(corpus(), WordEncoder(), config(seed=7, contrast=ContrastConfig(k=3, nearest=2, history=9)), tmp_path)
    assert one.folder == two.folder


def test_without_a_pool_nothing_is_shared(tmp_path: Path) -> None:
    prepared = prepare(corpus(), WordEncoder(), config(data=DataConfig(pool=Pool.none)), tmp_path)
    assert (prepared.neighbours == -1).all()
    assert (prepared.contrast == -1).all()
    assert (prepared.near == -1).all()
    assert len(prepared.nearest(prepared.queries([3])[0], 0)) == 0


def test_nearest_for_a_new_query(tmp_path: Path) -> None:
    prepared = prepare(corpus(), WordEncoder(), config(), tmp_path)
    c, query = prepared.corpus, prepared.queries([100])[0]
    own = int(c.querier[100])
    found = prepared.nearest(query, own, int(c.time[100]))
    assert (c.querier[found] != own).all()
    assert (c.time[found] < c.time[100]).all()
    np.testing.assert_allclose(
        prepared.queries(found) @ query, prepared.queries(prepared.neighbours[100]) @ query, atol=1e-3
    )
    assert len(prepared.nearest(query, -1)) == 4


def test_interrupted_preparation_leaves_no_folder_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("querier.data.preparation.fit_clusters", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(corpus(), WordEncoder(), config(), tmp_path)
    assert not list((tmp_path / "prepared").rglob("prepared.json"))
    killed = next((tmp_path / "prepared").glob("*.lock")).stem
    (tmp_path / "prepared" / f".{killed}.x.part").mkdir()
    encode = WordEncoder()
    resumed = prepare(corpus(), encode, config(), tmp_path)
    assert encode.texts == 0
    whole = prepare(corpus(), WordEncoder(), config(), tmp_path / "whole")
    np.testing.assert_array_equal(resumed.contrast, whole.contrast)
    assert not list((tmp_path / "prepared").glob(".*.part"))


def test_removed_vectors_are_noticed(tmp_path: Path) -> None:
    prepared = prepare(corpus(), WordEncoder(), config(), tmp_path)
    erase_rows(next((tmp_path / "embeddings").iterdir()), prepared.reply_row[:1], WordEncoder.size)
    with pytest.raises(InputError, match="run `querier prepare` again"):
        Prepared.load(prepared.folder)
    encode = WordEncoder()
    again = prepare(corpus(), encode, config(), tmp_path)
    assert encode.texts == 1
    np.testing.assert_array_equal(again.contrast, prepared.contrast)


def test_folder_without_a_preparation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no prepared corpus"):
        Prepared.load(tmp_path)


def test_folder_of_another_format_is_refused_and_made_anew(tmp_path: Path) -> None:
    prepared = prepare(corpus(), WordEncoder(), config(), tmp_path)
    path = prepared.folder / "prepared.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, "format": 0}))
    with pytest.raises(InputError, match="format 0"):
        Prepared.load(prepared.folder)
    assert prepare(corpus(), WordEncoder(), config(), tmp_path).digest == prepared.digest


def test_the_whole_cache_can_be_moved(tmp_path: Path) -> None:
    prepared = prepare(corpus(), WordEncoder(), config(), tmp_path / "here")
    rows = prepared.queries([1, 2])
    (tmp_path / "here").rename(tmp_path / "there")
    loaded = Prepared.load(tmp_path / "there" / "prepared" / prepared.folder.name)
    np.testing.assert_array_equal(loaded.queries([1, 2]), rows)


def test_describing_clusters(tmp_path: Path) -> None:
    prepared = prepare(corpus(), WordEncoder(), config(), tmp_path)
    described = describe_clusters(prepared, examples=2)
    assert sum(entry.size for entry in described) == len(prepared.pool)
    assert [entry.size for entry in described] == sorted((entry.size for entry in described), reverse=True)
    for entry in described:
        assert 1 <= len(set(entry.examples)) == len(entry.examples) <= 2


def test_explaining_contrast_users(tmp_path: Path) -> None:
    prepared = prepare(corpus(), WordEncoder(), config(), tmp_path)
    row = example_anchor(prepared)
    explained = explain_contrast(prepared, row)
    assert len(explained) == 3
    own = int(prepared.contrast_users.own_cell[row])
    for entry in explained:
        dialogue = prepared.corpus.dialogue(entry.row)
        assert (entry.querier, entry.query, entry.reply) == (dialogue.querier, dialogue.query, dialogue.reply)
        assert entry.cell != own
        assert f"cell {entry.cell}" in entry.why
        assert f"in cell {own}" in entry.why
    assert len({entry.querier for entry in explained}) == 3
    drawn = prepare(corpus(), WordEncoder(), config(contrast=ContrastConfig(source=Contrast.random, k=3)), tmp_path)
    assert {entry.why for entry in explain_contrast(drawn, example_anchor(drawn))} == {
        "drawn at random among the admissible entries"
    }


def test_unseen_querier_is_explained_without_a_cell(tmp_path: Path) -> None:
    prepared = prepare(corpus(), WordEncoder(), config(), tmp_path)
    c = prepared.corpus
    rows = np.flatnonzero(c.unseen[c.querier] & (c.time > 60))
    explained = [entry for row in rows for entry in explain_contrast(prepared, int(row))]
    assert explained
    assert all("not known" in entry.why for entry in explained)
