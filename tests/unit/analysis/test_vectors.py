from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import untrained_responder
from planted import WordEncoder, dialogues, prepared_corpus, small_config, small_module

from querier.analysis.vectors import (
    Space,
    averaged,
    disjoint,
    embed_rows,
    halves,
    oldest_first,
    per_query,
    query_free,
    retrieval,
    space_numbers,
)
from querier.errors import InputError
from querier.responder import Responder
from querier.types import Split


@pytest.fixture(scope="module")
def responder(tmp_path_factory: pytest.TempPathFactory) -> Responder:
    return untrained_responder(tmp_path_factory.mktemp("vectors"))


def corpus_of(responder: Responder) -> Any:
    assert responder.prepared is not None
    return responder.prepared.corpus


def test_query_free_vectors_are_those_of_the_responder(responder: Responder) -> None:
    space = query_free(responder)
    assert space.names == [f"q{number}" for number in range(10)]
    assert np.allclose(space.vectors, responder.embed_queriers(space.names), atol=1e-2)  # texts in fp16 and fp32
    assert space.about.loc[space.about["unseen"], "querier"].tolist() == ["q9"]
    early = query_free(responder, ["q4"], items=3)
    assert early.about["items"].tolist() == [3]
    assert np.array_equal(early.vectors, embed_rows(responder, [oldest_first(responder, "q4")[:3]]))


def test_per_query_vectors_are_those_of_the_model(responder: Responder) -> None:
    rows = corpus_of(responder).rows_in(Split.TEST)[:4]
    assert responder.requests is not None
    matched = [responder.requests.matched(int(row)) for row in rows]
    slow = np.concatenate([responder.module.represent([one])["specific"] for one in matched])
    assert np.allclose(per_query(responder, rows).vectors, slow, atol=1e-5)


def test_disjoint_readings_of_a_querier_share_nothing(responder: Responder, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, read = responder.requests, {}
    assert requests is not None
    whole = requests.of

    def watched(row: int, history: np.ndarray, name: str | None = None) -> Any:
        read[row] = set(history.tolist())
        return whole(row, history, name)

    monkeypatch.setattr(requests, "of", watched)
    corpus = corpus_of(responder)
    space = disjoint(responder, np.arange(len(corpus)))
    pairs = 0
    for first, one in space.about.iterrows():
        for second, other in space.about.iterrows():
            if one["querier"] == other["querier"] and one["half"] == 0 and other["half"] == 1:
                assert not (read[one["row"]] | {one["row"]}) & (read[other["row"]] | {other["row"]}), (first, second)
                pairs += 1
    assert pairs > 100


def test_retrieval_by_hand() -> None:
    import pandas as pd

    about = pd.DataFrame(
        {
            "querier": ["a", "a", "b", "b", "c"],
            "cluster": [0, 0, 0, 0, 1],
            "half": [0, 1, 0, 1, 0],
            "unseen": [False] * 5,
        }
    )
    right = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [1.0, 1.0]])
    assert retrieval(Space(about, right)) == {"value": 1.0, "chance": 0.5, "n": 4}
    assert retrieval(Space(about, right[[0, 3, 2, 1, 4]]))["value"] == 0.0
    with pytest.raises(InputError, match="space of `disjoint`"):
        retrieval(Space(about.drop(columns="half"), right))
    assert retrieval(Space(about.iloc[4:], right[4:]))["n"] == 0


@pytest.mark.parametrize(("personal", "low", "high"), [(True, 0.6, 1.0), (False, 0.42, 0.58)])
def test_who_asks_shows_where_it_can(tmp_path: Path, personal: bool, low: float, high: float) -> None:
    """Noise must not show: shared items would bring its AUC to 1."""
    config = small_config(tmp_path)
    prepared = prepared_corpus(dialogues(60, 12, personal), config, tmp_path)
    responder = Responder(small_module(prepared, config), WordEncoder(), prepared.clusters, prepared)
    found = space_numbers(responder, prepared.corpus.rows_in(Split.TRAIN))
    assert low < found.loc["same_querier_auc", "value"] <= high
    gain = found.loc["retrieval_in_cluster", "value"] - found.loc["retrieval_in_cluster", "nothing"]
    assert gain > 0.1 if personal else abs(gain) < 0.05
    alike = found.loc["alignment", "value"] / found.loc["alignment", "nothing"]
    assert alike < 0.9 if personal else 0.9 < alike < 1.1
    assert np.isnan(found.loc["uniformity", "nothing"])  # noise spreads too: no number stands for knowing nothing


def test_averages_by_hand(responder: Responder) -> None:
    rows = corpus_of(responder).rows_in(Split.TRAIN)
    space = per_query(responder, rows)
    by_cluster = averaged(space, ("querier", "cluster"))
    line = by_cluster.about.iloc[3]
    mine = (space.about["querier"] == line["querier"]) & (space.about["cluster"] == line["cluster"])
    assert line["dialogues"] == mine.sum()
    assert np.allclose(by_cluster.vectors[3], space.vectors[mine.to_numpy()].mean(0), atol=1e-6)
    with pytest.raises(InputError, match="by needs `querier`"):
        averaged(space, ("cluster",))
    with pytest.raises(InputError, match="got querier, scene"):
        averaged(space, ("querier", "scene"))


def test_what_cannot_be_embedded_is_refused(responder: Responder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no querier 'q33' in the corpus of 10; nearest: q3"):
        query_free(responder, ["q33"])
    with pytest.raises(InputError, match=r"got the text 'q3'; give \['q3'\]"):
        query_free(responder, "q3")
    with pytest.raises(InputError, match="no querier has two scenes"):
        halves(responder, [])
    alone = Responder(responder.module, WordEncoder(), responder.clusters, None)
    with pytest.raises(InputError, match="no corpus to look at"):
        query_free(alone)
    bare = untrained_responder(tmp_path, method="ft", conditioning={"kind": "none"})
    with pytest.raises(InputError, match="method ft has no vectors"):
        query_free(bare)
