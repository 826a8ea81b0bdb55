"""Scores of replies that are labels or numbers, as in LaMP's tasks of classification and rating.

A reply must name exactly one label, or hold exactly one number of the scale. Any other reply fails: it is in no number,
is counted in `n_failed`, and `querier test` ends with an error unless `allow_failed=true`. LaMP's own scorer takes an
unreadable label for a wrong one and an unreadable number for the farther end of the scale; where `n_failed` is 0 both
give the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from querier.data.labels import read_label, read_rating
from querier.data.records import Corpus
from querier.data_config import DataConfig, TaskConfig
from querier.errors import InputError
from querier.evaluation.averages import F1, RMSE
from querier.types import Dialogue, Split

Rule = Callable[[Dialogue, str], float]
"""Scores a reply to a dialogue; NaN where it cannot be read."""


def task_of(corpus: Corpus, data: DataConfig) -> TaskConfig | None:
    """What the replies of a corpus are: as `data.task` says, else as its records' own field `task` does.

    Raises:
        InputError: The records that are scored are of several tasks.
    """
    if data.task:
        return data.tasks.get(data.task)
    if not data.tasks:
        return None
    rows = corpus.rows_in(Split.VALIDATION, Split.TEST)
    names = {str(corpus.dialogue(int(row)).extra.get("task", "")) for row in rows}
    if len(names) > 1:
        raise InputError(f"the dialogues are of several tasks: {', '.join(sorted(names))}; say data.task=<one>")
    return data.tasks.get(names.pop()) if names else None


def task_metrics(task: TaskConfig | None) -> dict[str, Rule]:
    """`accuracy` and `f1` of a task with labels, `mae` and `rmse` of one with numbers, by name; else none."""
    if task is None:
        return {}
    if task.labels:
        right = partial(_right, task)
        return {"accuracy": right, F1: right}
    if task.low is not None and task.high is not None:
        distance = partial(_distance, task.low, task.high)
        return {"mae": distance, RMSE: distance}
    return {}


def label_reader(task: TaskConfig | None) -> Callable[[str], str | None] | None:
    """Reads the label of a reply; None for a task without labels."""
    return partial(read_label, labels=task.labels) if task is not None and task.labels else None


def _right(task: TaskConfig, dialogue: Dialogue, reply: str) -> float:
    true, said = (read_label(text, task.labels) for text in (dialogue.reply, reply))
    return np.nan if true is None or said is None else float(true == said)


def _distance(low: float, high: float, dialogue: Dialogue, reply: str) -> float:
    true, said = (read_rating(text, low, high) for text in (dialogue.reply, reply))
    return np.nan if true is None or said is None else abs(true - said)
