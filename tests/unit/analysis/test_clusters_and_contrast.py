from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import WordEncoder, dialogues, prepared_corpus, small_config

from querier.analysis.clusters import cluster_table, contrast_html, contrast_table, salient_terms
from querier.data.preparation import Prepared, prepare
from querier.data.records import Corpus
from querier.data.splits import split
from querier.data.words import words
from querier.errors import InputError
from querier.types import Dialogue, Turn


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("clusters")
    return prepared_corpus(dialogues(10, 14), small_config(folder, clusters={"n_clusters": "6"}), folder)


def test_clusters_cover_the_pool(prepared: Prepared) -> None:
    found = cluster_table(prepared)
    assert found["dialogues"].sum() == len(prepared.pool)
    assert found["dialogues"].is_monotonic_decreasing
    for _, line in found.iterrows():
        rows = prepared.pool[prepared.cluster[prepared.pool] == line["cluster"]]
        assert line["queriers"] == len(set(prepared.corpus.querier[rows]))
        assert set(line["typical"]) <= {prepared.corpus.dialogue(int(row)).query for row in rows}


def test_salient_terms_are_counted_and_said_only_where_sure(prepared: Prepared) -> None:
    found = salient_terms(prepared, most=3)
    assert not found.empty
    assert found.groupby("cluster").size().max() <= 3
    assert not set(found["term"]) & {"how", "does", "work"}  # in every query
    asked = {int(row): set(words(prepared.corpus.dialogue(int(row)).query)) for row in prepared.pool}
    for _, line in found.iterrows():
        inside = [row for row in asked if prepared.cluster[row] == line["cluster"]]
        assert line["queries"] == sum(line["term"] in asked[row] for row in inside)
        assert line["elsewhere"] == sum(line["term"] in one for one in asked.values()) - line["queries"]


def test_clusters_by_chance_have_hardly_a_salient_term(prepared: Prepared, generator: np.random.Generator) -> None:
    assert salient_terms(prepared)["cluster"].nunique() > 3
    shuffled = [replace(prepared, cluster=generator.permutation(prepared.cluster)) for _ in range(20)]
    assert sum(len(salient_terms(one)) > 0 for one in shuffled) <= 2


def test_salience_equals_the_formula(prepared: Prepared) -> None:
    found = salient_terms(prepared, most=1).iloc[0]
    sets = {int(row): set(words(prepared.corpus.dialogue(int(row)).query)) for row in prepared.pool}
    here = [one for row, one in sets.items() if prepared.cluster[row] == found["cluster"]]
    n_here, n_all = sum(map(len, here)), sum(map(len, sets.values()))
    y_here, y_all = found["queries"], found["queries"] + found["elsewhere"]
    a, a0 = 0.1 * y_all, 0.1 * n_all
    one = np.log((y_here + a) / (n_here + a0 - y_here - a))
    rest = np.log((y_all - y_here + a) / (n_all - n_here + a0 - (y_all - y_here) - a))
    assert found["z"] == pytest.approx((one - rest) / np.sqrt(1 / (y_here + a) + 1 / (y_all - y_here + a)))


def test_contrast_users_differ_from_the_anchor_in_the_words_that_are_listed(prepared: Prepared) -> None:
    found = contrast_table(prepared)
    anchor = found.iloc[0]
    assert anchor["role"] == "anchor"
    assert len(found) > 1
    for _, line in found.iloc[1:].iterrows():
        assert line["querier"] != anchor["querier"]
        assert set(line["only_here"]) == set(words(line["reply"])) - set(words(anchor["reply"]))
        assert set(line["only_anchor"]) == set(words(anchor["reply"])) - set(words(line["reply"]))
        vectors = WordEncoder()([anchor["reply"], line["reply"]])
        assert line["cosine"] == pytest.approx(float(vectors[0] @ vectors[1]), abs=2e-3)
        assert line["why"]
    assert found["cell"].iloc[1:].is_unique


def test_a_dialogue_without_contrast_users_says_so(prepared: Prepared) -> None:
    first = int(np.argmin(prepared.corpus.time))
    with pytest.raises(InputError, match="no contrast users: nobody else asked the like before"):
        contrast_table(prepared, first)
    with pytest.raises(InputError, match="row 9999 is not among the 140"):
        contrast_table(prepared, 9999)


def test_texts_of_queriers_stay_texts(tmp_path: Path) -> None:
    made: list[Any] = []
    for number in range(40):
        name = f"<q{number % 4}>"
        turns = (Turn(name, "how <i>so</i>"), Turn("tutor", f"<script>{number % 4} {number}</script>"))
        made.append(Dialogue(f"d{number}", name, "tutor", turns, number, f"s{number}"))
    config = small_config(tmp_path)
    corpus, _ = split(Corpus.build(made), config.data)
    page = contrast_html(contrast_table(prepare(corpus, WordEncoder(), config, tmp_path)))
    assert not any(tag in page for tag in ("<script", "<i>", "<q"))
