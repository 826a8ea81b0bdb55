from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from tiny_court import Blind, Reader, make_prepared, make_requests, render, style_of

from querier.config import EvaluationConfig
from querier.data.requests import Reading, Request
from querier.errors import InputError
from querier.evaluation.evaluate import Options, check_split, evaluate, sample_rows
from querier.evaluation.metrics import embedding_similarity
from querier.evaluation.results import Result, average_seeds, differences
from querier.evaluation.scoring import Reads
from querier.types import Dialogue, Rendered, Scored, Split

CONFIG = EvaluationConfig(bootstrap=200, generate=8)


@pytest.fixture(scope="module")
def prepared() -> Any:
    return make_prepared()


def judge(model: Any, prepared: Any, config: EvaluationConfig = CONFIG, **options: Any) -> Result:
    return evaluate(model, make_requests(prepared), prepared, config, Options(**options))


def number(result: Result, name: str) -> float:
    value = result[name]
    assert value is not None
    return value


def test_a_model_that_reads_the_history_has_the_swap_accuracy_of_the_oracle(prepared: Any) -> None:
    """It wins where styles differ and ties where they are equal."""
    corpus, result = prepared.corpus, judge(Reader(), prepared)
    for kind in ("random", "cluster", "contrast"):
        by_row: dict[int, list[float]] = {}
        for pair in result.pairs[kind]:
            styles = [style_of(corpus.queriers[one]) for one in (corpus.querier[pair.row], pair.querier)]
            by_row.setdefault(pair.row, []).append(0.5 if styles[0] == styles[1] else 1.0)
        expected = np.mean([np.mean(values) for values in by_row.values()])
        assert number(result, f"swap_accuracy_{kind}") == pytest.approx(expected)
    assert number(result, "swap_accuracy_contrast") == 1
    assert 0.5 < number(result, "swap_accuracy_random") < 1


def test_the_likelihoods_by_hand(prepared: Any) -> None:
    """1 nat a token with the own history, 2 without, 1 or 3 with another one, all of 5 tokens."""
    corpus = prepared.corpus
    result = judge(Reader(), prepared)
    bare = [row["history"] == 0 for row in result.rows]
    assert number(result, "nll_per_token") == pytest.approx(np.where(bare, 2, 1).mean())
    assert number(result, "nll_empty") == 2
    assert number(result, "nll_swapped_own") == 1
    assert 1 < number(result, "nll_swapped") < 3
    length = np.array([len(row["gold"].encode()) for row in result.rows])
    nats = np.where(bare, 2, 1) * 5
    assert number(result, "nll_per_byte") == pytest.approx(nats.sum() / length.sum())
    by_querier = [
        np.mean([row["scores"]["nll_per_token"] for row in result.rows if row["querier"] == name])
        for name in {row["querier"] for row in result.rows}
    ]
    assert number(result, "nll_per_token_macro") == pytest.approx(np.mean(by_querier))
    assert len(by_querier) == len(corpus.queriers) == result.counts["queriers"]


def test_a_blind_model_ties_everywhere(prepared: Any) -> None:
    result = judge(Blind(), prepared)
    for kind in ("random", "cluster", "contrast"):
        found = result.metrics[f"swap_accuracy_{kind}"]
        assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_what_a_method_does_not_read_is_scored_once(prepared: Any) -> None:
    model = Blind()
    result = judge(model, prepared, reads=Reads(history=False, name=False))
    assert len(model.scored) == result.counts["n"]
    assert result["swap_accuracy_random"] == 0.5


def test_identical_requests_are_scored_once(prepared: Any) -> None:
    model = Reader()
    judge(model, prepared)
    asked = [(one.row, one.history.inputs.tobytes(), one.history.outputs.tobytes()) for one in model.scored]
    assert len(asked) < 15 * len(prepared.corpus.rows_in(Split.TEST))
    rows = [one.row for one in model.scored if not len(one.history)]
    assert len(rows) == len(set(rows))


def test_a_swap_shows_the_other_queriers_name(prepared: Any) -> None:
    model = Reader()
    result = evaluate(model, make_requests(prepared, name_querier=True), prepared, CONFIG)
    shown = {(one.row, one.rendered.names[0]) for one in model.scored}
    queriers = prepared.corpus.queriers
    assert {(pair.row, queriers[pair.querier]) for pairs in result.pairs.values() for pair in pairs} < shown


def test_first_words_of_unseen_queriers_count_under_cold_start_only(prepared: Any) -> None:
    result = judge(Reader(), prepared, cold_start=True)
    assert result.excluded["main"] == {"unseen querier without history": 2}
    assert not any(row["unseen"] and row["history"] == 0 for row in result.rows)
    curve = result.cold_start["unseen"]
    assert list(curve) == ["0", "1", "2", "4", "8", "16", "all"]
    assert curve["0"]["nll_per_token"].n == result.metrics["nll_per_token_unseen"].n + 2
    assert curve["0"]["nll_per_token"].value == 2
    assert curve["0"]["gain"].value == 0
    assert (curve["1"]["nll_per_token"].value, curve["1"]["gain"].value) == (1, 1)
    assert curve["8"]["nll_per_token"].value is None  # towers.history is 4


def test_replies_are_scored_on_a_sample_of_each_kind(prepared: Any) -> None:
    result = judge(Reader(), prepared, CONFIG, empty_replies=True)
    assert result.counts["n_generated"] == 16
    for kind in ("seen", "unseen"):
        assert result.metrics[f"rouge_l_{kind}"].n == 8
        assert result.metrics[f"rouge_l_{kind}"].value == 1
    assert number(result, "rouge_l_empty_history") < 1
    assert result["repeat_rate"] == 0


def test_the_permuted_control_is_judged_on_the_same_dialogues(prepared: Any) -> None:
    control = make_requests(prepared, data={"history": "permuted"})
    found = evaluate(Reader(), control, prepared, CONFIG, Options())
    assert [row["id"] for row in found.rows] == [row["id"] for row in judge(Reader(), prepared).rows]


def test_a_control_that_wins_by_what_is_not_personal_is_seen(prepared: Any) -> None:
    """A leak on the true side, planted in the swaps alone, shows in the control as it does in the method."""

    def leaking(data: str) -> Result:
        requests = make_requests(prepared, data={"history": data})
        honest = requests.histories.of
        corpus = prepared.corpus

        def of(row: int, limit: int | None = None, permuted: Any = None) -> np.ndarray:
            if limit is not None or permuted is not None:
                return honest(row, limit, permuted)
            found = honest(row, None)
            alike = corpus.rows_in(Split.TRAIN)  # items of anybody that are in the style of the reply to come
            alike = alike[
                [
                    style_of(corpus.queriers[one]) == style_of(corpus.queriers[corpus.querier[row]])
                    for one in corpus.querier[alike]
                ]
            ]
            return alike[corpus.time[alike] < corpus.time[row]][::-1][: len(found)]

        requests.histories.of = of  # type: ignore[method-assign]
        return evaluate(Reader(), requests, prepared, CONFIG, Options())

    assert (
        number(leaking("permuted"), "swap_accuracy_contrast") == number(leaking("own"), "swap_accuracy_contrast") == 1
    )


def test_more_scores_of_a_reply(prepared: Any) -> None:
    def style_right(dialogue: Dialogue, reply: str) -> float:
        return float(reply[-1] == str(style_of(dialogue.querier)))

    def encode(texts: Sequence[str]) -> np.ndarray:
        vectors = {"0": [1.0, 0.0], "1": [0.0, 1.0]}
        return np.array([vectors[text[-1]] for text in texts])

    result = judge(
        Reader(),
        prepared,
        reply_metrics={"style": style_right},
        pair_metrics={"embedding_similarity": partial(embedding_similarity, encode=encode)},
    )
    assert (result["style_seen"], result["style_unseen"], result["embedding_similarity"]) == (1, 1, 1)


def test_the_swaps_that_are_asked_for_and_no_other(prepared: Any) -> None:
    whole = judge(Reader(), prepared)
    chosen = judge(Reader(), prepared, EvaluationConfig(bootstrap=200, generate=8, swaps=["cluster"]))
    assert set(chosen.pairs) == {"cluster"}
    assert set(whole.metrics) - set(chosen.metrics) == {
        f"swap_accuracy_{kind}{group}"
        for kind in ("random", "contrast")
        for group in ("", "_macro", "_seen", "_unseen")
    } & set(whole.metrics)
    for name in ("nll_per_token", "nll_swapped", "nll_swapped_own", "swap_accuracy_cluster", "rouge_l"):
        assert chosen[name] == whole[name]
    with pytest.raises(InputError, match="evaluation.swaps: each of random, cluster, contrast"):
        EvaluationConfig(swaps=["cluster", "neighbour"])


def test_no_generation(prepared: Any) -> None:
    result = judge(Reader(), prepared, EvaluationConfig(bootstrap=100, generate=0))
    assert result.counts["n_generated"] == 0
    assert "rouge_l" not in result.metrics


def test_the_result_is_json_without_any_text(prepared: Any) -> None:
    plain = judge(Reader(), prepared, cold_start=True).to_json()
    text = json.dumps(plain, allow_nan=False)
    assert "style" not in text
    assert set(plain["metrics"]["nll_per_token"]) == {"value", "low", "high", "n", "n_failed", "queriers", "mde"}
    assert plain["settings"]["temperature"] == 0


def test_the_same_seed_gives_the_same_result(prepared: Any) -> None:
    first, again = (judge(Reader(), prepared).to_json() for _ in range(2))
    assert first == again


def test_a_sample_is_spread_over_queriers(generator: np.random.Generator) -> None:
    querier = np.array([0] * 50 + [1] * 3 + [2] * 4)
    chosen = sample_rows(np.arange(57), querier, 9, generator)
    assert np.bincount(querier[chosen]).tolist() == [3, 3, 3]
    larger = sample_rows(np.arange(57), querier, 12, generator)
    assert np.bincount(querier[larger]).tolist() == [5, 3, 4]
    assert len(set(larger.tolist())) == 12
    assert sample_rows(np.array([3, 1]), querier, None, generator).tolist() == [1, 3]


# comparing runs


def test_paired_differences_and_seeds(prepared: Any) -> None:
    reader, blind = judge(Reader(), prepared).rows, judge(Blind(), prepared).rows
    found = differences(reader, blind, 200, np.random.default_rng(0))
    bare = np.mean([row["history"] == 0 for row in reader])
    assert found["nll_per_token"].value == pytest.approx(bare - 1, abs=1e-4)
    assert found["nll_per_token"].p is not None
    averaged = average_seeds([reader, blind])
    values = [row["scores"]["nll_per_token"] for row in averaged if row["history"]]
    assert values == pytest.approx([1.5] * len(values), abs=1e-4)
    with pytest.raises(InputError, match="no dialogue in common"):
        differences(reader, [], 200, np.random.default_rng(0))
    with pytest.raises(InputError, match="no dialogue in common"):
        average_seeds([])


# planted cheats


class HidesFailures(Reader):
    """Scores and answers only where it does well: not for style 1."""

    def one(self, request: Request) -> Scored | None:
        bad = request.rendered.reply.endswith("1")
        return (None if request.row % 2 else Scored(float("nan"), 5, 9)) if bad else super().one(request)

    def answer(self, request: Request) -> str | None:
        return None if history_is_one(request) else super().answer(request)


def history_is_one(request: Request) -> bool:
    return bool(len(request.history)) and bool(request.history.outputs[0][1])


def test_hidden_failures_are_seen(prepared: Any) -> None:
    result = judge(HidesFailures(), prepared)
    odd = sum(style_of(row["querier"]) for row in result.rows)
    for name in ("nll_per_token", "nll_per_byte", "nll_empty"):
        assert (result.metrics[name].n, result.metrics[name].n_failed) == (len(result.rows) - odd, odd)
    assert result.metrics["rouge_l"].n_failed > 0
    assert result.metrics["rouge_l"].n + result.metrics["rouge_l"].n_failed == 16
    assert result.metrics["swap_accuracy_random"].n_failed > 0
    assert result.counts["n_failed"] == sum(row["error"] is not None for row in result.rows) >= odd
    found = judge(HidesFailures(), prepared, dependence=True)
    for name in ("retrieval_first", "retrieval_auc"):
        asked = [row for row in found.rows if "rouge_l" in row["scores"] and not row["unseen"]]
        silent = sum(row["reply"] is None for row in asked)
        assert (found.metrics[name].n, found.metrics[name].n_failed) == (len(asked) - silent, silent)
        assert silent > 0
    assert found.metrics["diversity"].n_failed > 0
    against = differences(result.rows, judge(Reader(), prepared).rows, 200, np.random.default_rng(0))
    assert against["nll_per_token"].n_failed == odd  # nor do they help in a comparison


class LosesItsHistory(Reader):
    """Answers and scores nothing that comes with a history, and everything without."""

    def one(self, request: Request) -> Scored | None:
        return None if len(request.history) else super().one(request)


def test_what_is_known_without_a_history_stays_where_the_history_fails(prepared: Any) -> None:
    result = judge(LosesItsHistory(), prepared)
    bare = sum(row["history"] == 0 for row in result.rows)
    empty, matched = result.metrics["nll_empty"], result.metrics["nll_per_token"]
    assert (empty.n, empty.n_failed) == (len(result.rows), 0)
    assert (matched.n, matched.n_failed) == (bare, len(result.rows) - bare)


class Peeks(Reader):
    """Answers with the true reply if it is shown it."""

    def answer(self, request: Request) -> str | None:
        return request.rendered.reply


def test_the_true_reply_is_not_there_to_peek_at(prepared: Any) -> None:
    model = Peeks()
    assert judge(model, prepared)["rouge_l"] == 0
    assert all(request.rendered.reply == "" for request in model.answered)


def test_a_prompt_cannot_be_made_of_the_true_reply(prepared: Any) -> None:
    seen: list[str] = []

    def peeking(reading: Reading) -> Rendered:
        seen.append(reading.dialogue.reply)
        return replace(render(reading), turns=(("user", f"Say: {reading.dialogue.reply}"),))

    requests = make_requests(prepared)
    requests.render = peeking
    row = int(prepared.corpus.rows_in(Split.TEST)[0])
    request = requests.matched(row)
    assert request.rendered.turns == (("user", "Say: "),)
    assert request.rendered.reply == prepared.corpus.dialogue(row).reply  # it is scored all the same
    model = Blind()
    evaluate(model, requests, prepared, CONFIG)
    assert set(seen) == {""}
    assert {one.rendered.turns[0][1] for one in (*model.scored, *model.answered)} == {"Say: "}


class Copies(Reader):
    """Likes a reply that its history holds word by word, as an answer to the same query."""

    def one(self, request: Request) -> Scored | None:
        copied = any((vector == request.query).all() for vector in request.history.inputs)
        return Scored(-1.0 if copied else -5.0, 5, 9)


def test_a_history_cannot_hold_the_scored_query() -> None:
    """Every query is asked by all and always: only items with other queries may tell queriers apart."""
    prepared = make_prepared(texts=1)
    result = judge(Copies(), prepared)
    assert result.metrics["swap_accuracy_random"].n == 0
    assert result.excluded["random"] == {"own history empty": result.counts["n"]}


def test_a_history_with_the_future_in_it_is_refused(prepared: Any) -> None:
    requests = make_requests(prepared)
    honest = requests.histories.of
    corpus = prepared.corpus

    def cheating(row: int, limit: int | None = None, permuted: Any = None) -> np.ndarray:
        mine = corpus.rows_of(int(corpus.querier[row]))
        return np.concatenate([mine[corpus.time[mine] > corpus.time[row]][:1], honest(row, limit)])

    requests.histories.of = cheating  # type: ignore[method-assign]
    with pytest.raises(InputError, match="leak"):
        evaluate(Reader(), requests, prepared, CONFIG)


def test_a_swap_with_the_scored_dialogues_scene_is_refused(prepared: Any) -> None:
    requests = make_requests(prepared)

    def cheating(*args: Any, **kwargs: Any) -> Any:
        return prepared.corpus.rows_in(Split.TEST)[-5:]

    requests.histories.of_querier = cheating  # type: ignore[method-assign]
    with pytest.raises(InputError, match="leak"):
        evaluate(Reader(), requests, prepared, CONFIG)


def test_a_split_that_cuts_a_scene_is_refused() -> None:
    prepared = make_prepared()
    corpus = prepared.corpus
    train, test = corpus.rows_in(Split.TRAIN)[0], corpus.rows_in(Split.TEST)
    seen = test[~corpus.unseen[corpus.querier[test]]][0]
    corpus.scene = corpus.scene.copy()
    corpus.scene[train] = corpus.scene[seen]
    with pytest.raises(InputError, match="never cut a scene"):
        judge(Reader(), prepared)


def test_an_unseen_querier_in_training_is_refused() -> None:
    corpus = make_prepared().corpus
    corpus.unseen = ~corpus.unseen
    with pytest.raises(InputError, match="counts as unseen"):
        check_split(corpus, "test")


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(InputError, match="no validation dialogue"):
        check_split(make_prepared().corpus, "validation")


class LosesReplies(Reader):
    def generate(
        self, requests: Sequence[Request], max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str | None]:
        return super().generate(requests, max_new_tokens)[:-1]


def test_a_model_that_loses_replies_is_refused(prepared: Any) -> None:
    with pytest.raises(InputError, match="15 replies to 16 requests"):
        judge(LosesReplies(), prepared)
