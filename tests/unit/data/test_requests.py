"""Requests: vectors of the right rows, texts from outside, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from tiny_prepared import SIZE, make_config, make_prepared, make_requests, render

from querier.data.requests import Exchange, outside_request
from querier.types import Split, Turn


class Encode:
    """A vector that depends on the text alone."""

    digest = "fake"
    size = SIZE

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        rows = [np.random.default_rng(list(text.encode())).normal(size=SIZE) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), SIZE)


CLUSTERS = SimpleNamespace(assign=lambda vectors: (np.arange(len(vectors)), np.zeros(len(vectors))))


def test_a_matched_request_holds_the_vectors_of_its_rows() -> None:
    prepared = make_prepared()
    requests = make_requests(prepared, make_config())
    row = int(prepared.corpus.rows_in(Split.TEST)[-1])
    found = requests.matched(row)
    items = requests.history_rows(row)
    assert len(items) == 6  # towers.history
    assert found.history.inputs.dtype == np.float32
    np.testing.assert_array_equal(found.history.outputs, prepared.replies(items))
    np.testing.assert_array_equal(found.history.cluster, prepared.cluster[items])
    np.testing.assert_array_equal(found.query, prepared.queries([row])[0])
    np.testing.assert_array_equal(found.neighbours.inputs, prepared.queries(prepared.neighbours[row]))
    assert found.history.same_responder.all()
    assert (found.row, found.querier, found.scene) == (row, prepared.corpus.querier[row], prepared.corpus.scene[row])
    assert found.rendered.reply == prepared.corpus.dialogue(row).reply


def test_another_name_changes_the_text_alone() -> None:
    prepared = make_prepared()
    requests = make_requests(prepared, make_config())
    row = int(prepared.corpus.rows_in(Split.TEST)[-1])
    one, other = requests.matched(row), requests.of(row, requests.history_rows(row), "somebody")
    assert one.rendered != other.rendered
    np.testing.assert_array_equal(one.history.inputs, other.history.inputs)


def test_texts_from_outside_newest_first_and_this_responders_before_others() -> None:
    encode = Encode()
    history = [Exchange("a", "A", "x"), Exchange("b", "B"), Exchange("c", "C", "y"), Exchange("d", "D", "x")]
    found = outside_request("q", "me", history, encode, CLUSTERS, render, make_config(), responder="x")
    np.testing.assert_array_equal(found.history.inputs, encode(["d", "b", "a", "c"]))
    np.testing.assert_array_equal(found.history.outputs, encode(["D", "B", "A", "C"]))
    assert found.history.same_responder.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(found.query, encode(["q"])[0])
    assert found.cluster == 0
    assert found.history.cluster.tolist() == [1, 2, 3, 4]
    assert len(found.neighbours) == 0
    assert (found.row, found.querier) == (-1, -1)
    assert found.rendered.names == ("me", "x")


def test_only_the_newest_items_from_outside_are_read() -> None:
    history = [Exchange(str(number), "") for number in range(9)]
    found = outside_request("q", None, history, Encode(), CLUSTERS, render, make_config())
    np.testing.assert_array_equal(found.history.inputs, Encode()([str(number) for number in range(8, 2, -1)]))
    empty = outside_request("q", None, [], Encode(), CLUSTERS, render, make_config())
    assert len(empty.history) == 0
    assert empty.history.inputs.shape == (0, SIZE)


def test_who_answers_is_who_answered_last_or_the_corpus_says_so() -> None:
    prepared = make_prepared()
    prepared.nearest = lambda query, querier, before: np.array([3, 1])
    asked = [Exchange("a", "A", "x")]
    config = make_config()
    assert outside_request("q", None, asked, Encode(), CLUSTERS, render, config).rendered.names[1] == "x"
    assert outside_request("q", None, [], Encode(), CLUSTERS, render, config).rendered.names[1] == "assistant"
    found = outside_request("q", "q3", [], Encode(), CLUSTERS, render, config, prepared, turns=[Turn("q3", "first")])
    assert found.rendered.names[1] == "tutor"
    assert found.querier == prepared.corpus.queriers.index("q3")
    np.testing.assert_array_equal(found.neighbours.inputs, prepared.queries([3, 1]))
    assert found.neighbours.same_responder.all()
