"""The bundled sample: reproducible, readable by its oracle, and learnable only through the querier."""

from __future__ import annotations

import importlib
import json
import random
import re
from collections import Counter, defaultdict
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from querier.data.sample import (
    CHANCE,
    TRAITS,
    Traits,
    admits,
    facet_of,
    fact_right,
    generate,
    query_only,
    read_traits,
    sample_folder,
    texts,
    trait_accuracy,
    traits_of,
)
from querier.data.sample.__main__ import main
from querier.data.sample.names import names
from querier.errors import InputError

SIZES = {"expertise": 3, "manner": 3, "length": 2, "domain": 6}
Record = dict[str, Any]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    with (sample_folder() / "dialogues.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def traits() -> dict[str, Traits]:
    return read_traits(sample_folder() / "traits.jsonl")


def query(record: Record) -> str:
    return str(record["turns"][-2]["text"])


def reply(record: Record) -> str:
    return str(record["turns"][-1]["text"])


def by_querier(records: list[Record]) -> dict[str, list[Record]]:
    rows: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        rows[record["querier"]].append(record)
    return rows


def unseen(records: list[Record], split: str) -> set[str]:
    return {name for name, rows in by_querier(records).items() if {row["split"] for row in rows} == {split}}


def test_the_bundled_files_are_made_anew_to_the_byte(tmp_path: Path) -> None:
    generate(tmp_path)
    for name in ("dialogues.jsonl", "traits.jsonl"):
        assert (tmp_path / name).read_bytes() == (sample_folder() / name).read_bytes()


def test_bundled_size_and_counts(records: list[Record], traits: dict[str, Traits]) -> None:
    assert sum((sample_folder() / name).stat().st_size for name in ("dialogues.jsonl", "traits.jsonl")) <= 4_000_000
    rows = by_querier(records)
    assert set(rows) == set(traits)
    assert len(rows) == 300
    assert len(records) == 5_100
    assert len(unseen(records, "validation")) == len(unseen(records, "test")) == 30
    assert all(14 <= len(own) <= 20 for own in rows.values())
    assert len({record["id"] for record in records}) == len(records)
    times = [record["time"] for record in records]
    assert all(isinstance(time, int) for time in times)
    assert all(a < b for a, b in zip(times, times[1:], strict=False))


def test_record_format(records: list[Record]) -> None:
    for record in records:
        assert list(record) == ["id", "querier", "responder", "turns", "time", "scene", "split"]
        assert record["responder"] == "tutor"
        assert len(record["turns"]) in (2, 4)
        assert [turn["speaker"] for turn in record["turns"]] == [record["querier"], "tutor"] * (
            len(record["turns"]) // 2
        )
    four = sum(len(record["turns"]) == 4 for record in records) / len(records)
    assert 0.22 < four < 0.28


def test_seen_queriers_are_split_by_time(records: list[Record]) -> None:
    order = {"train": 0, "validation": 1, "test": 2}
    held_out = unseen(records, "validation") | unseen(records, "test")
    for name, rows in by_querier(records).items():
        places = [order[row["split"]] for row in rows]
        assert places == sorted(places)
        assert name in held_out or set(places) == {0, 1, 2}
    seen = [record["split"] for record in records if record["querier"] not in held_out]
    assert 0.75 < Counter(seen)["train"] / len(seen) < 0.85


def test_oracle_reads_every_true_reply(records: list[Record], traits: dict[str, Traits]) -> None:
    replies, askers = [reply(record) for record in records], [record["querier"] for record in records]
    assert set(trait_accuracy(replies, askers, traits).values()) == {1.0}
    assert all(fact_right(query(record), reply(record), traits[record["querier"]]) for record in records)
    assert all(admits(traits[record["querier"]], query(record), reply(record)) for record in records)


def test_oracle_admits_only_equal_traits(records: list[Record], traits: dict[str, Traits]) -> None:
    everybody = list(traits)
    for place, record in enumerate(records[:600]):
        other = traits[everybody[place % len(everybody)]]
        assert admits(other, query(record), reply(record)) == (other == traits[record["querier"]])


def test_oracle_bears_tokenizer_spacing_and_case(records: list[Record]) -> None:
    for record in records[:300]:
        spaced = re.sub(r"([,.:'-])", r" \1 ", reply(record)).upper().replace(" ", "  ")
        assert traits_of(spaced) == traits_of(reply(record))
        assert facet_of(re.sub(r"([?.'-])", r" \1 ", query(record)).lower()) is facet_of(query(record))


def test_oracle_reads_nothing_into_a_contradiction() -> None:
    facet = texts.FACETS[0]
    assert traits_of(f"Fact: put simply, {facet.expert}.")["expertise"] is None
    assert traits_of(f"Fact: {facet.expert}.")["expertise"] == "expert"
    pictured = f"Fact: {facet.lay}. Picture soup simmering in a heavy pot. The library has a book on this."
    assert traits_of(pictured)["manner"] is None
    assert traits_of("like soup simmering in a heavy pot, a ship riding out the swell")["domain"] is None
    assert traits_of("") == dict.fromkeys(TRAITS)
    assert facet_of("What is the meaning of life?") is None


def test_a_facet_is_asked_at_most_once_by_a_querier(records: list[Record]) -> None:
    for rows in by_querier(records).values():
        facets = [facet_of(query(row)) for row in rows]
        assert None not in facets
        assert len({id(facet) for facet in facets}) == len(facets)


def test_histories_interleave(records: list[Record]) -> None:
    same = sum(a["querier"] == b["querier"] for a, b in zip(records, records[1:], strict=False))
    assert same < 0.02 * len(records)
    spans = [rows[-1]["time"] - rows[0]["time"] for rows in by_querier(records).values()]
    assert sum(spans) / len(spans) > 0.75 * len(records)


def test_scenes_never_cross_splits_or_queriers(records: list[Record]) -> None:
    scenes: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        scenes[record["scene"]].append(record)
    assert all(len({(row["split"], row["querier"]) for row in rows}) == 1 for rows in scenes.values())
    shared = [rows for rows in scenes.values() if len(rows) > 1]
    assert all(len(rows) == 2 for rows in shared)
    assert 0.02 < len(shared) / len(scenes) < 0.06
    rows_of = by_querier(records)
    for first, second in shared:
        own = rows_of[first["querier"]]
        assert own.index(second) == own.index(first) + 1


def test_share_of_unseen_test_texts(records: list[Record]) -> None:
    reserved = {facet.reserved for facet in texts.FACETS}
    trained = {query(record) for record in records if record["split"] == "train"}
    assert not any(wording in text for wording in reserved for text in trained)
    for split in ("validation", "test"):
        asked = [query(record) for record in records if record["split"] == split]
        assert sum(text not in trained for text in asked) / len(asked) >= 0.25
        assert sum(any(wording in text for wording in reserved) for text in asked) / len(asked) >= 0.2


def test_many_queriers_share_a_query_text(records: list[Record]) -> None:
    askers: dict[str, set[str]] = defaultdict(set)
    for record in records:
        askers[query(record)].add(record["querier"])
    assert sum(len(askers[query(record)]) >= 5 for record in records) / len(records) > 0.8


def test_hints_are_rare(records: list[Record]) -> None:
    wordings = {wording for facet in texts.FACETS for wording in facet.wordings}
    assert 0.1 < sum(query(record) not in wordings for record in records) / len(records) < 0.14


def test_sentence_counts(records: list[Record], traits: dict[str, Traits]) -> None:
    for record in records:
        text = reply(record)
        assert text.endswith(".")
        assert text.count(".") == {"one": 1, "three": 3}[traits[record["querier"]].length]
        assert not set(text) & set(";!?")


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def test_clauses_are_distinct_and_none_lies_in_another() -> None:
    clauses = [words(facet.clause(value)) for facet in texts.FACETS for value in texts.EXPERTISE]
    assert len(clauses) == 288 == len(set(clauses))
    assert not any(a != b and a in b for a in clauses for b in clauses)
    for facet in texts.FACETS:
        for clause in (facet.lay, facet.practitioner, facet.expert):
            assert 6 <= len(clause.split()) <= 11
            assert clause[0] == clause[0].lower()
            assert not set(clause) & set(".;:")


def test_wordings_and_phrases_do_not_lie_in_one_another() -> None:
    wordings = [words(wording) for facet in texts.FACETS for wording in facet.wordings]
    assert len(set(wordings)) == len(wordings) == 384
    assert not any(a != b and f" {a} " in f" {b} " for a in wordings for b in wordings)
    assert set(Counter(facet.topic for facet in texts.FACETS).values()) == {4}
    phrases = [
        words(text) for table in (texts.LEAD_INS, texts.COMPARISONS) for group in table.values() for text in group
    ]
    clauses = [words(facet.clause(value)) for facet in texts.FACETS for value in texts.EXPERTISE]
    closings = [words(text) for group in texts.CLOSINGS.values() for text in group]
    assert not any(f" {phrase} " in f" {text} " for phrase in phrases for text in clauses + closings)
    assert not any(a != b and a in b for a in phrases for b in phrases)


def test_traits_are_balanced_in_every_part(records: list[Record], traits: dict[str, Traits]) -> None:
    held_out = {split: unseen(records, split) for split in ("validation", "test")}
    seen = set(traits) - held_out["validation"] - held_out["test"]
    for part in (seen, *held_out.values()):
        for trait, size in SIZES.items():
            counts = Counter(getattr(traits[name], trait) for name in part)
            assert set(counts.values()) == {len(part) // size}


def test_query_text_does_not_tell_the_traits_of_unseen_queriers(
    records: list[Record], traits: dict[str, Traits]
) -> None:
    trained = [record for record in records if record["split"] == "train"]
    asked = [record for record in records if record["querier"] in unseen(records, "test")]
    for trait, size in SIZES.items():
        model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=500))
        model.fit([query(row) for row in trained], [getattr(traits[row["querier"]], trait) for row in trained])
        gold = [getattr(traits[row["querier"]], trait) for row in asked]
        assert abs(model.score([query(row) for row in asked], gold) - 1 / size) < 0.1


def test_names_do_not_tell_the_traits(traits: dict[str, Traits]) -> None:
    for trait, size in SIZES.items():
        model = make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(1, 3)), LogisticRegression(max_iter=500))
        scores = cross_val_score(model, list(traits), [getattr(own, trait) for own in traits.values()], cv=5)
        assert abs(float(scores.mean()) - 1 / size) < 0.1


def test_chance_values_by_counting(records: list[Record], traits: dict[str, Traits]) -> None:
    exact = sum(Fraction(1, size) for size in SIZES.values()) / 4
    assert CHANCE == {"trait_accuracy": pytest.approx(float(exact)), "fact_accuracy": pytest.approx(1 / 3)}
    askers = sorted(unseen(records, "test"))
    one = {record["querier"]: record for record in records}
    rows = [(asker, reply(one[other])) for asker in askers for other in askers]
    swapped = trait_accuracy([text for _, text in rows], [asker for asker, _ in rows], traits)
    assert swapped["mean"] == pytest.approx(CHANCE["trait_accuracy"])
    right = [fact_right(query(one[other]), reply(one[other]), traits[asker]) for asker in askers for other in askers]
    assert sum(right) / len(right) == pytest.approx(CHANCE["fact_accuracy"])
    assert CHANCE["trait_accuracy"] < query_only()["trait_accuracy"] < CHANCE["trait_accuracy"] + 0.03


@pytest.mark.parametrize("dialogues", [1_000, 2_345, 10_007])
def test_other_sizes(tmp_path: Path, dialogues: int) -> None:
    statistics = generate(tmp_path, dialogues, seed=3)
    assert sum(statistics.dialogues.values()) == dialogues
    with (tmp_path / "dialogues.jsonl").open(encoding="utf-8") as lines:
        rows = by_querier([json.loads(line) for line in lines])
    assert all(14 <= len(own) <= 20 for own in rows.values())
    assert set(rows) == set(read_traits(tmp_path / "traits.jsonl"))
    assert abs(statistics.queriers["seen"] / len(rows) - 0.8) < 0.05


def test_a_crowd_smaller_than_the_cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("querier.data.sample.generate")  # the package exports a function of that name
    monkeypatch.setattr(module, "CROWD", 40)
    assert sum(generate(tmp_path, 3_000).queriers.values()) == len(read_traits(tmp_path / "traits.jsonl")) == 176


def test_names_stay_unique_beyond_all_pairs() -> None:
    drawn = list(islice(names(random.Random(0)), 6_000))
    assert len(set(drawn)) == len(drawn)
    assert any(name.endswith(" 3") for name in drawn)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--dialogues", "1000", "--seed", "1"]) == 0
    assert sum(json.loads(capsys.readouterr().out)["dialogues"].values()) == 1_000
    assert main(["--out", str(tmp_path), "--dialogues", "9"]) == 2
    assert "9" in capsys.readouterr().err


def test_bad_input_is_named(tmp_path: Path, traits: dict[str, Traits]) -> None:
    path = tmp_path / "traits.jsonl"
    path.write_text('{"querier": "A", "expertise": "guru", "manner": "warm", "length": "one", "domain": "sea"}\n')
    with pytest.raises(InputError, match="guru"):
        read_traits(path)
    path.write_text("[]\n")
    with pytest.raises(InputError, match="line 1"):
        read_traits(path)
    with pytest.raises(InputError, match="0 replies"):
        trait_accuracy([], [], traits)
    with pytest.raises(InputError, match="Nobody"):
        trait_accuracy(["Fact: x."], ["Nobody"], traits)
