"""Root mean squared error and macro F1 against scikit-learn, their differences, and several seeds put together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from querier.evaluation.averages import as_mean, labels_of
from querier.evaluation.results import average_seeds, differences, summarise

NAMES = ["a", "b", "c"]


def records(seed: int, count: int = 60, right: float = 0.6, fail: float = 0.0) -> list[dict[str, Any]]:
    """Dialogues of 12 queriers with an error and a label each; the true labels do not depend on the seed."""
    truth, rng = np.random.default_rng(99), np.random.default_rng(seed)
    rows = []
    for place in range(count):
        true = NAMES[int(truth.choice(3, p=[0.7, 0.2, 0.1]))]
        said = true if rng.random() < right else NAMES[int(rng.integers(3))]
        failed = rng.random() < fail
        scores = (
            dict.fromkeys(("accuracy", "f1", "mae", "rmse"))
            if failed
            else {
                "accuracy": float(true == said),
                "f1": float(true == said),
                **dict.fromkeys(("mae", "rmse"), float(rng.integers(5))),
            }
        )
        rows.append(
            {
                "id": f"d{place}",
                "querier": f"q{place % 12}",
                "unseen": place % 12 > 8,
                "scores": scores,
                "labels": labels_of(true, None if failed else said),
            }
        )
    return rows


def said(row: dict[str, Any]) -> str:
    return next(iter(row["labels"]["said"]))


def macro_f1(rows: list[dict[str, Any]]) -> float:
    return float(f1_score([row["labels"]["true"] for row in rows], [said(row) for row in rows], average="macro"))


def root_mean_square(rows: list[dict[str, Any]]) -> float:
    return float(np.sqrt(np.mean([row["scores"]["rmse"] ** 2 for row in rows])))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return summarise(rows, 400, np.random.default_rng(0))


def test_values_are_those_of_the_very_dialogues() -> None:
    rows = records(0)
    found = summary(rows)
    for suffix, chosen in (("", rows), ("_seen", rows), ("_unseen", rows)):
        if suffix:
            chosen = [row for row in rows if row["unseen"] == (suffix == "_unseen")]
        assert found["f1" + suffix].value == pytest.approx(macro_f1(chosen))
        assert found["rmse" + suffix].value == pytest.approx(root_mean_square(chosen))
    assert found["f1"].low < found["f1"].value < found["f1"].high
    assert found["rmse"].low < found["rmse"].value < found["rmse"].high
    assert "mae_macro" in found
    assert not {"f1_macro", "rmse_macro"} & set(found)  # of one querier alone they mean something else


def test_what_failed_is_in_no_number_and_is_counted() -> None:
    rows = records(1, fail=0.3)
    good = [row for row in rows if row["scores"]["f1"] is not None]
    found = summary(rows)
    assert found["f1"].value == pytest.approx(macro_f1(good))
    assert found["rmse"].value == pytest.approx(root_mean_square(good))
    assert (found["f1"].n, found["f1"].n_failed) == (len(good), len(rows) - len(good))
    none = [{**row, "scores": dict.fromkeys(row["scores"])} for row in rows]
    assert summary(none)["rmse"].value is None
    assert summary(none)["f1"].n_failed == len(rows)


@pytest.mark.parametrize(("name", "metric"), [("f1", macro_f1), ("rmse", root_mean_square)])
def test_the_interval_is_to_first_order_that_of_the_jackknife(name: str, metric: Any) -> None:
    """Leaving one querier out moves the metric as that querier's numbers say."""
    rows = records(2, count=600)
    numbers = np.array(as_mean(name, rows), dtype=float)
    moved, told = [], []
    for querier in {row["querier"] for row in rows}:
        own = np.array([row["querier"] == querier for row in rows])
        moved.append(metric([row for row, mine in zip(rows, own, strict=True) if not mine]) - metric(rows))
        told.append(numbers[~own].mean() - numbers.mean())
    np.testing.assert_allclose(told, moved, atol=0.1 * np.abs(moved).max())


def test_a_metric_without_an_error_has_none() -> None:
    rows = [{**row, "scores": {"rmse": 0.0}} for row in records(0)]
    assert as_mean("rmse", rows) == [0.0] * len(rows)


def test_differences_are_of_what_both_could_answer() -> None:
    mine, theirs = records(3, fail=0.2), records(4, right=0.2, fail=0.2)
    both = zip(mine, theirs, strict=True)
    pairs = [pair for pair in both if None not in [side["scores"]["f1"] for side in pair]]
    found = differences(mine, theirs, 400, np.random.default_rng(0))
    for name, metric in (("f1", macro_f1), ("rmse", root_mean_square)):
        sides = [metric([pair[side] for pair in pairs]) for side in (0, 1)]
        assert found[name].value == pytest.approx(sides[0] - sides[1])
        assert found[name].n_failed == len(mine) - len(pairs)


def test_seeds_put_together_are_as_one_long_run() -> None:
    runs = [records(5), records(6)]
    found = summary(average_seeds(runs))
    together = [*runs[0], *runs[1]]
    assert found["rmse"].value == pytest.approx(root_mean_square(together))
    assert found["f1"].value == pytest.approx(macro_f1(together))
    assert found["mae"].value == pytest.approx(np.mean([row["scores"]["mae"] for row in together]))


def test_replies_without_history_have_labels_of_their_own() -> None:
    rows = records(7)
    for row, other in zip(rows, records(8), strict=True):
        row["scores"] = {**row["scores"], "f1_empty_history": other["scores"]["f1"]}
        row["labels_empty_history"] = other["labels"]
    assert summary(rows)["f1_empty_history"].value == pytest.approx(macro_f1(records(8)))
