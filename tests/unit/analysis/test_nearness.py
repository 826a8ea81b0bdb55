from __future__ import annotations

import numpy as np
import pytest
from fitted import untrained_responder

from querier.analysis.maps import fit_map
from querier.analysis.nearness import nearest_with_dialogues, shared_ground, trajectory
from querier.analysis.vectors import embed_rows, oldest_first, query_free
from querier.errors import InputError
from querier.responder import Responder


@pytest.fixture(scope="module")
def responder(tmp_path_factory: pytest.TempPathFactory) -> Responder:
    return untrained_responder(tmp_path_factory.mktemp("nearness"))


def test_a_pull_is_what_the_cosine_loses_without_the_dialogue(responder: Responder) -> None:
    centre = query_free(responder).vectors.mean(0)
    found = shared_ground(responder, "q1", "q2", centre, dialogues=3)
    assert found["whose"].tolist() == ["q1"] * 3 + ["q2"] * 3
    assert found.groupby("whose")["pull"].apply(lambda pull: pull.is_monotonic_decreasing).all()

    def cosine(first: np.ndarray, second: np.ndarray) -> float:
        one, other = (embed_rows(responder, [rows])[0] - centre for rows in (first, second))
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    mine, theirs = (oldest_first(responder, name)[-responder.config.towers.history :] for name in ("q1", "q2"))
    slow = [cosine(mine, theirs) - cosine(np.delete(mine, place), theirs) for place in range(len(mine))]
    assert found["pull"].iloc[0] == pytest.approx(max(slow), abs=1e-5)
    assert responder.prepared is not None
    assert found["query"].iloc[0] == responder.prepared.corpus.dialogue(int(mine[int(np.argmax(slow))])).query


def test_neighbours_come_with_dialogues_of_both(responder: Responder) -> None:
    found = nearest_with_dialogues(responder, query_free(responder), "q3", count=2, dialogues=2)
    assert len(found) == 8
    assert "q3" not in found["nearest"].tolist()
    assert found["cosine"].is_monotonic_decreasing
    for _, rows in found.groupby("nearest"):
        assert rows["whose"].tolist() == ["q3"] * 2 + [rows["nearest"].iloc[0]] * 2
    with pytest.raises(InputError, match="'x' is not among the 10"):
        nearest_with_dialogues(responder, query_free(responder), "x")


def test_a_path_leads_from_nobody_to_the_querier(responder: Responder) -> None:
    space = fit_map(query_free(responder).vectors)
    found = trajectory(responder, ["q1", "q2"], space=space)
    one = found[found["querier"] == "q1"]
    assert one["items"].tolist() == [0, 1, 2, 4, 8, 12]
    assert one["left"].iloc[0] == 1
    assert one["left"].iloc[-1] == 0
    assert one["moved"].iloc[0] == 0
    assert (one["moved"].iloc[1:] > 0).all()
    start = found[found["items"] == 0][["x", "y"]].to_numpy()
    assert np.allclose(start[0], start[1])  # nobody is known yet
    assert np.allclose(one[["x", "y"]].to_numpy()[-1], space.places[1], atol=1e-4)
    assert trajectory(responder, ["q1"], counts=[3, 99])["items"].tolist() == [3, 12]
    with pytest.raises(InputError, match="from 0"):
        trajectory(responder, ["q1"], counts=[-1])
