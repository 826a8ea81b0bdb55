from __future__ import annotations

from collections.abc import Sequence

import pytest
from tiny_court import Blind, make_prepared, make_requests

from querier.data.requests import Request
from querier.evaluation.scoring import Key, Scorer
from querier.types import Split


class Echo(Blind):
    """Answers with the question, and remembers how many were asked at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def generate(
        self, requests: Sequence[Request], max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str | None]:
        self.sizes.append(len(requests))
        return [request.rendered.turns[-1][1] for request in requests]


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_replies_come_as_they_were_asked_for_however_many_at_a_time(chunk: int) -> None:
    prepared = make_prepared()
    corpus = prepared.corpus
    said: list[tuple[str, int, int]] = []
    model = Echo()
    scorer = Scorer(
        model, make_requests(prepared), progress=lambda what, done, total: said.append((what, done, total)), chunk=chunk
    )
    rows = corpus.rows_in(Split.TEST).tolist()
    keys = [Key(row, (), None) for row in [*reversed(rows), rows[0]]]
    asked = [corpus.dialogue(key.row) for key in keys]
    assert scorer.replies(keys, 8) == [f"{dialogue.querier}: {dialogue.query}" for dialogue in asked]
    assert max(model.sizes) <= chunk
    assert sum(model.sizes) == len(keys)  # what is asked twice is answered twice: samples differ
    assert said[0] == ("answering", 0, len(keys))  # before the first answer, which may take minutes
    assert said[-1] == ("answering", len(keys), len(keys))
