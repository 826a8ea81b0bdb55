"""The judge: judges with a known taste, answers that cannot be read, and the arm with somebody else's history."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tiny_court import Reader, make_prepared, make_requests, style_of

from querier.data.requests import Exchange
from querier.evaluation.judge import (
    HISTORY,
    NO_REPLY,
    UNREADABLE,
    Arm,
    Match,
    judge,
    prompts,
    question,
    run_matches,
    shown,
    swapped_matches,
    verdict,
)
from querier.evaluation.scoring import Reads, Scorer
from querier.evaluation.swap import SwapKind, Swaps
from querier.llm import Answer, Progress
from querier.types import Split

KIND = [Exchange("What is yeast?", "Tiny living things, friend.")]
CURT = [Exchange("What is yeast?", "A fungus.")]


class Judge:
    """Answers with what a function says of (history, message, reply A, reply B)."""

    def __init__(self, decide: Callable[[str, str, str, str], str | None]) -> None:
        self.decide = decide
        self.asked: list[str] = []

    def complete_all(self, prompts: Sequence[str], progress: Progress | None = None) -> list[Answer]:
        self.asked += prompts
        found = [self.decide(*(part(prompt, tag) for tag in TAGS)) for prompt in prompts]
        return [Answer(None, "HTTP 500") if text is None else Answer(text) for text in found]


TAGS = ("history", "message", "reply_a", "reply_b")


def part(prompt: str, tag: str) -> str:
    return prompt.partition(f"<{tag}>\n")[2].partition(f"\n</{tag}>")[0]


def match(number: int, first: str | None, second: str | None, history: Sequence[Exchange] | None = None) -> Match:
    return Match(f"d{number}", f"q{number % 6}", f"Why {number}?", first, second, history)


def held(matches: Sequence[Match], decide: Callable[[str, str, str, str], str | None]) -> Arm:
    return judge({"arm": matches}, Judge(decide), 200, np.random.default_rng(0))["arm"]


def overlap(text: str, other: str) -> int:
    return len(set(text.lower().split()) & set(other.lower().split()))


def always_a(*parts: str) -> str:
    return "Verdict: A"


def prefers_longer(history: str, message: str, a: str, b: str) -> str:
    return f"Verdict: {'A' if len(a) > len(b) else 'B'}"


def prefers_history(history: str, message: str, a: str, b: str) -> str:
    shared = overlap(a, history), overlap(b, history)
    return "Verdict: tie" if shared[0] == shared[1] else f"Verdict: {'A' if shared[0] > shared[1] else 'B'}"


def test_a_judge_that_looks_at_the_order_alone_gives_one_half() -> None:
    for decide in (always_a, lambda *parts: "Verdict: B"):
        arm = held([match(number, f"one {number}", "two, longer") for number in range(10)], decide)
        rate = arm.values["win_rate"]
        assert (rate.value, rate.low, rate.high) == (0.5, 0.5, 0.5)
        assert (rate.n, rate.n_failed, rate.queriers) == (10, 0, 6)
        assert arm.counts["n_inconsistent"] == arm.counts["n_tied"] == 10
        assert arm.values["longer_wins"].n == 0


def test_a_judge_that_likes_length_is_found_out() -> None:
    lengths = [(9, 3), (3, 9), (5, 5), (8, 2), (7, 1)]
    arm = held([match(n, "x" * one, "y" * other) for n, (one, other) in enumerate(lengths)], prefers_longer)
    # 1, 0, a tie (B in both orders), 1, 1
    assert arm.values["win_rate"].value == pytest.approx(3.5 / 5)
    assert arm.values["longer_wins"].value == 1
    assert (arm.values["win_rate_longer"].value, arm.values["win_rate_longer"].n) == (0.75, 4)
    assert arm.values["win_rate_shorter"].n == 0
    assert arm.values["bytes_first"].value == pytest.approx(np.mean([one for one, _ in lengths]))
    assert arm.values["bytes_second"].value == pytest.approx(np.mean([other for _, other in lengths]))


def test_a_judge_that_reads_the_history_prefers_what_fits_it() -> None:
    friendly, curt = "Gas in the dough, friend.", "A gas."
    matches = [match(0, friendly, curt, KIND), match(1, curt, friendly, CURT), match(2, friendly, curt, CURT)]
    arm = held(matches, prefers_history)
    assert [one.outcome for one in arm.judgements] == [1, 1, 0]
    assert arm.values["win_rate"].value == pytest.approx(2 / 3)
    unknown = held([match(0, friendly, curt, None), match(1, friendly, curt, [])], prefers_history)
    assert unknown.values["win_rate"].value == 0.5


def test_lengths_are_bytes_and_the_shorter_may_win() -> None:
    arm = held([match(0, "短い", "longer by far")], lambda h, m, a, b: f"Verdict: {'A' if a == '短い' else 'B'}")
    assert (arm.values["bytes_first"].value, arm.values["longer_wins"].value) == (6, 0)
    assert arm.values["win_rate_shorter"].value == 1


# failures


def test_what_cannot_be_read_or_was_not_answered_is_in_no_number() -> None:
    def decide(history: str, message: str, a: str, b: str) -> str | None:
        number = int(message[4:-1])
        if number == 0:
            return "Both are good."
        if number == 1:
            return None
        if number == 2:  # one order only
            return "Verdict: A" if a == "one" else "Verdict: A or B"
        return f"Verdict: {'A' if a == 'one' else 'B'}"

    matches = [match(number, "one", "two") for number in range(6)] + [match(6, None, "two"), match(7, "one", None)]
    arm = held(matches, decide)
    assert (arm.values["win_rate"].value, arm.values["win_rate"].n, arm.values["win_rate"].n_failed) == (1, 3, 5)
    assert arm.values["bytes_first"].n == 3
    found = [one.error for one in arm.judgements]
    assert found == [UNREADABLE, "HTTP 500", UNREADABLE, None, None, None, NO_REPLY, NO_REPLY]
    counts = {name: arm.counts[name] for name in ("n", "n_failed", "n_unparsable", "n_unanswered", "n_without_reply")}
    assert counts == {"n": 3, "n_failed": 5, "n_unparsable": 2, "n_unanswered": 1, "n_without_reply": 2}


def test_where_everything_fails_there_is_no_number() -> None:
    arm = held([match(number, "one", "two") for number in range(4)], lambda *parts: None)
    assert (arm.values["win_rate"].value, arm.values["win_rate"].n_failed) == (None, 4)
    assert held([], always_a).values["win_rate"].value is None


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Verdict: A", 1.0),
        ("Verdict: B", 0.0),
        ("verdict: TIE", 0.5),
        ("**Verdict: B**", 0.0),
        ("A is kinder.\nB is shorter.\n\nVerdict: A.\n```\n", 1.0),
        ('{"verdict": "B"}', 0.0),
        ('```json\n{\n  "verdict": "tie"\n}\n```', 0.5),
        ("Verdict: A\nVerdict: B", 0.0),
        ("", None),
        ("A", None),
        ("Verdict:", None),
        ("Verdict: C", None),
        ("Verdict: A or B", None),
        ("Verdict: A/B", None),
        ("Verdict: Both", None),
        ("Verdict: A\nBut I am not sure.", None),
        ("The verdict: A", None),
    ],
)
def test_a_verdict_is_the_last_line_and_nothing_else(text: str, score: float | None) -> None:
    assert verdict(text) == score


# what is asked


def test_both_orders_are_asked_once_and_equal_replies_not_at_all() -> None:
    asking = Judge(always_a)
    pairs = [match(0, "one", "two"), match(0, "one", "two"), match(1, "same", " same\n"), match(2, None, "two")]
    found = judge({"x": pairs, "y": pairs[:1]}, asking, 100, np.random.default_rng(0))
    assert len(asking.asked) == 2
    assert {(part(text, "reply_a"), part(text, "reply_b")) for text in asking.asked} == {("one", "two"), ("two", "one")}
    assert asking.asked == prompts({"x": pairs})
    assert found["x"].counts["n_identical"] == 1
    assert [one.outcome for one in found["x"].judgements] == [0.5, 0.5, 0.5, None]


def test_the_history_is_cut_and_the_newest_is_kept() -> None:
    history = [Exchange(f"Question {number}?", "word " * 60) for number in range(40)]
    text = shown(history)
    assert len(text) <= HISTORY
    assert "Question 0?" in text
    assert "Question 39?" not in text
    assert text.index("Question 1?") < text.index("Question 0?")  # oldest first
    assert len(shown([Exchange("x" * 10_000, "y" * 10_000)])) < 1000
    asked = question(match(0, None, None, history), "{braces}", "%s")
    assert "{braces}" in asked
    assert "nothing is known" not in asked.lower()
    assert "nothing is known" in question(match(0, None, None, None), "a", "b").lower()
    assert "q0" not in asked  # the judge learns no name


def test_lines_hold_no_text_of_anybody() -> None:
    arm = held([match(0, "secret one", "secret two", KIND)], always_a)
    text = json.dumps([arm.judgements[0].to_json(), arm.to_json()], allow_nan=False)
    assert "secret" not in text
    assert "yeast" not in text


# the arm with somebody else's history


@pytest.fixture(scope="module")
def prepared() -> Any:
    return make_prepared(queriers=10, each=10)


def test_own_replies_win_where_the_judge_knows_the_querier_and_tie_where_it_does_not(prepared: Any) -> None:
    """`Reader` answers in the style of the history that it reads; the judge looks for the style of the one it reads."""
    requests = make_requests(prepared)
    swaps = Swaps(requests, prepared, seed=0)
    corpus = prepared.corpus
    rows = corpus.rows_in(Split.TEST).tolist()
    arms, excluded = swapped_matches(Scorer(Reader(), requests), swaps, rows, 8)

    def decide(history: str, message: str, a: str, b: str) -> str:
        fits = [bool(history) and history.count(text[-7:]) > 0 for text in (a, b)]
        return "Verdict: tie" if fits[0] == fits[1] else f"Verdict: {'A' if fits[0] else 'B'}"

    found = judge(arms, Judge(decide), 200, np.random.default_rng(0))
    known, unknown = found["own_over_swapped"], found["own_over_swapped_unknown"]
    pairs = swaps.pairs(SwapKind.CLUSTER, rows, 1).pairs
    styles = [
        style_of(corpus.queriers[corpus.querier[pair.row]]) != style_of(corpus.queriers[pair.querier]) for pair in pairs
    ]
    assert known.values["win_rate"].value == pytest.approx(np.where(styles, 1, 0.5).mean())
    assert unknown.values["win_rate"].value == 0.5
    assert unknown.counts["n_inconsistent"] == 0
    assert known.counts["n_identical"] == len(styles) - sum(styles)
    assert known.counts["n"] + sum(excluded.values()) == len(rows)


def test_a_method_that_reads_nothing_of_the_querier_costs_no_call(prepared: Any) -> None:
    requests = make_requests(prepared)
    model = Reader()
    rows = prepared.corpus.rows_in(Split.TEST).tolist()
    scorer = Scorer(model, requests, Reads(history=False, name=False))
    arms, _ = swapped_matches(scorer, Swaps(requests, prepared, seed=0), rows, 8)
    assert prompts(arms) == []
    assert len(model.answered) <= len(rows)
    assert all(request.rendered.reply == "" for request in model.answered)


def test_runs_are_judged_on_the_true_queriers_earlier_exchanges(prepared: Any) -> None:
    requests = make_requests(prepared)
    corpus = prepared.corpus
    rows = corpus.rows_in(Split.TEST).tolist()
    found = run_matches(Swaps(requests, prepared, seed=0), rows, ["a"] * len(rows), [None] * len(rows))
    for row, one in zip(rows, found, strict=True):
        dialogue = corpus.dialogue(row)
        assert (one.id, one.querier, one.query) == (dialogue.id, dialogue.querier, dialogue.query)
        assert one.history is not None
        earlier = [other for other in corpus.rows_of(corpus.querier[row]) if corpus.time[other] < corpus.time[row]]
        kept = [corpus.dialogue(other) for other in earlier[::-1]]
        texts = [(past.query, past.reply) for past in kept if past.query != dialogue.query]
        assert [(past.query, past.reply) for past in one.history] == texts
