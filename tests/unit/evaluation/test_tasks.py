"""Replies that are labels or numbers: what is scored, what fails, and where the task comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_court import Reader, make_prepared, make_requests

from querier.config import EvaluationConfig
from querier.data.records import Corpus
from querier.data_config import DataConfig, TaskConfig
from querier.errors import InputError
from querier.evaluation.evaluate import Options, evaluate
from querier.evaluation.results import Result
from querier.evaluation.tasks import label_reader, task_metrics, task_of
from querier.types import Dialogue, Split, Turn

STARS = TaskConfig(low=1, high=5)
STYLES = TaskConfig(labels=["style 0", "style 1"])
CONFIG = EvaluationConfig(bootstrap=100, generate=100, swaps=[])


def corpus(tasks: list[str]) -> Corpus:
    dialogues = [
        Dialogue(f"d{n}", "A", "B", (Turn("A", "?"), Turn("B", "5")), n, f"s{n}", extra={"task": name} if name else {})
        for n, name in enumerate(tasks)
    ]
    made = Corpus.build(dialogues)
    return made.with_split(np.full(len(made), Split.TEST.value), np.zeros(1, dtype=bool))


def judged(task: TaskConfig, reply: Any = None) -> Result:
    """The tiny court, whose true replies are `answer <text> in style <0 or 1>`."""

    class Said(Reader):
        def answer(self, request: Any) -> str | None:
            return str(reply(request)) if reply else super().answer(request)

    prepared = make_prepared(unseen=0)
    options = Options(reply_metrics=task_metrics(task), read_label=label_reader(task))
    return evaluate(Said(), make_requests(prepared), prepared, CONFIG, options)


def test_the_task_is_the_one_that_the_records_name() -> None:
    data = DataConfig(tasks={"stars": STARS, "styles": STYLES})
    assert task_of(corpus(["stars"] * 3), data) is STARS
    assert task_of(corpus(["", ""]), data) is None
    assert task_of(corpus(["stars"]), DataConfig()) is None
    assert task_of(corpus([""]), DataConfig(task="styles", tasks=data.tasks)) is STYLES
    with pytest.raises(InputError, match="the dialogues are of several tasks: stars, styles; say data.task=<one>"):
        task_of(corpus(["stars", "styles"]), data)


def test_a_task_without_labels_and_numbers_has_no_scores_of_its_own() -> None:
    assert task_metrics(None) == task_metrics(TaskConfig()) == {}
    assert label_reader(None) is label_reader(STARS) is None


def test_labels_are_judged_by_accuracy_and_f1() -> None:
    result = judged(STYLES)  # the reader answers in the style of the history
    rows = [row for row in result.rows if row["history"]]
    assert {row["scores"]["accuracy"] for row in rows} == {1.0}
    assert result["accuracy"] == result["f1"] == 1.0
    wrong = judged(STYLES, lambda request: f"style {1 - request.querier % 2}")
    assert (wrong["accuracy"], wrong["f1"]) == (0.0, 0.0)
    always = judged(STYLES, lambda request: "style 1")
    share = always["accuracy"]
    assert share is not None
    assert always["f1"] == pytest.approx(share / (1 + share))  # F1 of one label is 2s/(1+s), of the other 0


def test_an_unreadable_reply_fails_loudly_and_is_no_number() -> None:
    result = judged(STYLES, lambda request: "style 0 or style 1" if request.querier % 2 else "style 0")
    failed = [row for row in result.rows if row["error"]]
    assert 0 < len(failed) < len(result.rows)
    assert result.counts["n_failed"] == result.metrics["accuracy"].n_failed == len(failed)
    assert {row["error"] for row in failed} == {"the reply could not be read for accuracy, f1"}
    assert all(row["scores"]["accuracy"] is None and row["scores"]["rouge_l"] is not None for row in failed)
    assert result["accuracy"] == 1.0
    nothing = judged(STYLES, lambda request: "")
    assert nothing["accuracy"] is nothing["f1"] is None


def test_numbers_are_judged_by_their_distance() -> None:
    dialogue = Dialogue("d", "A", "B", (Turn("A", "?"), Turn("B", "4")), 0, "s")
    metrics = task_metrics(STARS)
    assert {name: metric(dialogue, "2.0") for name, metric in metrics.items()} == {"mae": 2.0, "rmse": 2.0}
    unreadable = ("", "17", "2 or 3", "two")
    assert all(np.isnan(metric(dialogue, reply)) for metric in metrics.values() for reply in unreadable)
