"""What is retrieved, in which order, and that nothing comes that may not."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import pytest
from planted import dialogues, prepared_corpus, requests_of, small_config

from querier.choices import Retrieval, Source
from querier.config import PromptConfig
from querier.data.collate import TrainingBatches
from querier.data.preparation import Prepared
from querier.data.requests import Exchange, Reading
from querier.data.words import words
from querier.errors import InputError
from querier.methods.prompts import renderer
from querier.methods.retrieval import PoolItems, PoolWords, bm25, own_items, retriever
from querier.types import Dialogue, Rendered, Split, Turn

TEXTS = [
    "bread rises because of yeast",
    "yeast yeast yeast",
    "the tides rise twice a day and bread does not",
    "why does the sea taste of salt",
]


def asked(text: str, reply: str = "gold") -> Dialogue:
    return Dialogue("d", "Ann", "tutor", (Turn("Ann", text), Turn("tutor", reply)), 0, "s")


def slow_bm25(query: list[str], documents: list[list[str]]) -> list[float]:
    """The formula, document by document and word by word."""
    mean = sum(len(document) for document in documents) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in query:
            holding = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            tf = document.count(word)
            score += idf * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * len(document) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["how does yeast raise bread", "yeast yeast", "salt of the sea", "nothing known"])
def test_bm25_is_the_formula_and_the_librarys(query: str) -> None:
    documents = [words(text) for text in TEXTS]
    found = bm25(words(query), [Counter(document) for document in documents])
    assert found == pytest.approx(slow_bm25(words(query), documents))
    index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    index.index(documents, show_progress=False)
    known = [word for word in words(query) if word in index.vocab_dict]
    if known:
        assert found == pytest.approx(index.get_scores(known), rel=1e-5)
    assert bm25(words(query), []).shape == (0,)


def test_own_items_by_words_the_best_first_and_the_newer_of_equals() -> None:
    history = [
        Exchange("maps", "old maps"),
        Exchange("bread", "warm bread"),
        Exchange("tides", "x"),
        Exchange("yeast", "x"),
    ]
    reading = Reading(asked("bread and yeast"), history=history)
    assert [item.query for item in own_items(reading, 2, Retrieval.bm25)] == ["bread", "yeast"]
    assert [item.query for item in own_items(reading, 9, Retrieval.bm25)] == ["bread", "yeast", "maps", "tides"]
    assert [item.query for item in own_items(reading, 2, Retrieval.recency)] == ["maps", "bread"]
    assert own_items(Reading(asked("bread")), 4, Retrieval.bm25) == []


def test_own_items_of_chinese_are_found_by_character() -> None:
    history = [
        Exchange("潮汐怎么形成？", "月亮。"),
        Exchange("怎么做面包？", "用酵母。"),
        Exchange("天气", "很好。"),
    ]
    reading = Reading(asked("面包为什么发酵？"), history=history)
    assert own_items(reading, 1, Retrieval.bm25)[0].query == "怎么做面包？"


def test_own_items_by_vector_are_those_of_a_plain_loop(generator: np.random.Generator) -> None:
    query, inputs = generator.normal(size=8), generator.normal(size=(20, 8))
    history = [Exchange(str(place), "") for place in range(20)]
    reading = Reading(asked("q"), history=history, vectors=lambda: (query, inputs))
    cosine = [sum(float(x) * float(y) for x, y in zip(query, row, strict=True)) for row in inputs]
    wanted = sorted(range(20), key=lambda place: -cosine[place])[:5]
    assert [int(item.query) for item in own_items(reading, 5, Retrieval.dense)] == wanted
    assert own_items(Reading(asked("q")), 5, Retrieval.dense) == []


@pytest.mark.parametrize("by", list(Retrieval))
def test_the_reply_that_is_asked_for_is_not_looked_at(by: Retrieval, generator: np.random.Generator) -> None:
    vectors = generator.normal(size=8), generator.normal(size=(4, 8))
    history = [Exchange(text, "") for text in TEXTS]
    first, second = (
        own_items(Reading(asked("yeast?", reply), history=history, vectors=lambda: vectors), 2, by)
        for reply in TEXTS[2:]
    )
    assert first == second


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared")
    return prepared_corpus(dialogues(6, 12), small_config(folder), folder)


def admissible(prepared: Prepared, row: int) -> list[int]:
    """Pool rows that a dialogue may read, the latest first."""
    corpus = prepared.corpus
    return [
        int(other)
        for other in corpus.rows_in(Split.TRAIN)[np.argsort(-corpus.time[corpus.rows_in(Split.TRAIN)])]
        if corpus.time[other] < corpus.time[row]
        and corpus.scene[other] != corpus.scene[row]
        and corpus.querier[other] != corpus.querier[row]
    ]


def reading_of(prepared: Prepared, row: int) -> Reading:
    return Reading(
        prepared.corpus.dialogue(row),
        vectors=lambda: (prepared.queries([row])[0], prepared.queries([])),
        row=row,
        querier=int(prepared.corpus.querier[row]),
    )


def test_pool_dialogues_by_words_are_those_of_a_plain_loop(prepared: Prepared) -> None:
    corpus = prepared.corpus
    pool = corpus.rows_in(Split.TRAIN).tolist()
    documents = [words(f"{corpus.dialogue(row).query} {corpus.dialogue(row).reply}") for row in pool]
    find = PoolItems(prepared, 5, Retrieval.bm25)
    for row in (0, 3, 20, 45, *corpus.rows_in(Split.VALIDATION, Split.TEST).tolist()):
        scores = dict(zip(pool, slow_bm25(words(corpus.dialogue(row).query), documents), strict=True))
        wanted = sorted(admissible(prepared, row), key=lambda other: -round(scores[other], 4))[:5]
        assert find.rows(reading_of(prepared, row)).tolist() == wanted


@pytest.mark.parametrize("count", [3, 9])  # fewer, and more, than were found when the corpus was prepared
def test_pool_dialogues_by_vector_are_those_of_a_plain_loop(prepared: Prepared, count: int) -> None:
    corpus = prepared.corpus
    find = PoolItems(prepared, count, Retrieval.dense)
    for row in (0, 3, 20, *corpus.rows_in(Split.TEST).tolist()):
        query = prepared.queries([row])[0]
        cosine = {other: float(prepared.queries([other])[0] @ query) for other in admissible(prepared, row)}
        found = find.rows(reading_of(prepared, row)).tolist()
        assert set(found) <= set(cosine)
        assert len(found) == min(count, len(cosine))
        best = sorted(cosine.values(), reverse=True)[: len(found)]
        assert [cosine[other] for other in found] == pytest.approx(best, abs=2e-3)


def planted_leaks() -> tuple[list[Dialogue], str]:
    """Pool dialogues that answer the query word for word and may not be read, among some that may."""
    made = [replace(one, split="train") for one in dialogues(3, 6)]
    start = len(made)

    def say(id: str, name: str, text: str, time: int, scene: str, part: str = "train") -> Dialogue:
        turns = (Turn(name, text), Turn("tutor", f"{text} indeed"))
        return Dialogue(id, name, "tutor", turns, time, scene, split=part)

    query = "how do comets get their tails"
    made += [
        say("own", "q0", query, start, "own"),
        say("fine", "q1", "what are comets", start + 1, "fine"),
        say("scene", "q1", query, start + 2, "the scene"),
        say("asked", "q0", query, start + 3, "the scene", "train"),
        say("tie", "q2", query, start + 3, "tie"),
        say("future", "q2", query, start + 4, "future"),
        say("held out", "q2", query, start + 5, "held out", "test"),
        say("last", "q1", "why do comets have tails", start + 6, "last", "test"),
    ]
    return made, query


@pytest.mark.parametrize("by", [Retrieval.bm25, Retrieval.dense])
def test_planted_leaks_are_passed_over(by: Retrieval, tmp_path: Path) -> None:
    made, _ = planted_leaks()
    config = small_config(tmp_path, data={"split": "given"}, prompt={"source": "pool", "items": 8, "by": by.name})
    prepared = prepared_corpus(made, config, tmp_path)
    requests, find = requests_of(prepared, config), PoolItems(prepared, 8, by)
    row = {prepared.corpus.ids[row]: row for row in range(len(prepared.corpus))}
    found = find.rows(reading_of(prepared, row["asked"])).tolist()
    assert found[0] == row["fine"]
    assert not {row[name] for name in ("own", "scene", "asked", "tie", "future", "held out", "last")} & set(found)
    later = find.rows(reading_of(prepared, row["last"])).tolist()  # of a test dialogue the pool alone, whoever asked it
    assert {row["own"], row["asked"], row["tie"], row["future"]} <= set(later)
    assert not {row["held out"], row["fine"], row["scene"]} & set(later)
    # Whatever history is read instead, what comes from the pool stays, and so does who may not be read.
    time, scene = int(prepared.corpus.time[row["asked"]]), int(prepared.corpus.scene[row["asked"]])
    other = requests.histories.of_querier(1, time, scene, 0)
    assert len(other)
    swapped, empty = requests.of(row["asked"], other), requests.of(row["asked"], np.zeros(0, dtype=np.int64))
    assert swapped.rendered == empty.rendered


@pytest.mark.parametrize(("leak", "said"), [("own", "asker's own"), ("future", "not earlier"), ("scene", "same scene")])
def test_a_leak_that_was_planted_in_the_neighbours_is_found(leak: str, said: str, tmp_path: Path) -> None:
    config = small_config(tmp_path, data={"split": "given"})
    prepared = prepared_corpus(planted_leaks()[0], config, tmp_path)
    row = {prepared.corpus.ids[row]: row for row in range(len(prepared.corpus))}
    prepared.neighbours = np.array(prepared.neighbours)
    prepared.neighbours[row["asked"], 0] = row[leak]
    with pytest.raises(InputError, match=f"leak.*{said}"):
        PoolItems(prepared, 2, Retrieval.dense)(reading_of(prepared, row["asked"]))


def test_a_swap_replaces_the_own_items(prepared: Prepared, tmp_path: Path) -> None:
    config = small_config(tmp_path, prompt={"source": "own", "items": 2})
    requests = requests_of(prepared, config)
    corpus = prepared.corpus
    row = int(corpus.rows_in(Split.TEST)[-1])
    theirs = requests.histories.of_querier((int(corpus.querier[row]) + 1) % 6, int(corpus.time[row]), -1, 0, 8)
    own, swapped = requests.matched(row).rendered, requests.of(row, theirs).rendered
    shown = {text for role, text in swapped.turns[:-1] if role == "assistant"}
    assert len(own.turns) == len(swapped.turns) == 5
    assert shown <= {corpus.dialogue(int(one)).reply for one in theirs}
    assert not shown & {text for role, text in own.turns[:-1] if role == "assistant"}
    assert requests.of(row, theirs[:0]).rendered.turns == own.turns[-1:]


def test_a_lone_querier_has_nobody_to_read(tmp_path: Path) -> None:
    prepared = prepared_corpus(dialogues(1, 20), small_config(tmp_path), tmp_path)
    row = int(prepared.corpus.rows_in(Split.TEST)[0])
    for by in (Retrieval.bm25, Retrieval.dense):
        assert PoolItems(prepared, 4, by)(reading_of(prepared, row)) == []


def test_somebody_from_outside_reads_the_whole_pool(prepared: Prepared) -> None:
    query = prepared.corpus.dialogue(0).query
    reading = Reading(asked(query), vectors=lambda: (prepared.queries([0])[0], prepared.queries([])))
    for by in (Retrieval.bm25, Retrieval.dense):
        assert PoolItems(prepared, 3, by)(reading)[0].query == query
    assert PoolWords(prepared).scores("nothing known").sum() == 0


def test_a_pool_that_is_not_there_is_refused() -> None:
    config = PromptConfig(source=Source.pool, by=Retrieval.dense)
    with pytest.raises(InputError, match=r"prompt\.source=pool.*Responder\.load"):
        renderer(config)
    assert retriever(PromptConfig(), None) is None


def test_training_reads_what_is_left_of_a_history(prepared: Prepared, tmp_path: Path) -> None:
    seen: list[Rendered] = []

    def score(rendered: Any) -> Any:
        seen.extend(rendered)

    rows = prepared.corpus.rows_in(Split.TRAIN)[-8:]
    for dropout in (0.0, 1.0):
        towers = {"history_dropout": dropout}
        config = small_config(
            tmp_path, towers=towers, prompt={"source": "own", "items": 3}, conditioning={"kind": "none"}
        )
        TrainingBatches(requests_of(prepared, config), config, score, parts=False).build(rows, epoch=0, index=0)
    whole, dropped = ([len(one.turns) for one in part] for part in (seen[:8], seen[8:]))
    assert whole == [7] * 8
    assert sum(dropped) < sum(whole)
