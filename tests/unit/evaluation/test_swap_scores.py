from __future__ import annotations

from querier.evaluation.swap_scores import add_unnamed, wins


def test_replies_that_name_the_querier_are_set_apart() -> None:
    """Of four dialogues one names who asks; the metric stands on the other three, and nowhere without a name."""
    gold = {"a": "Yes, Ann.", "b": "Yes, Bob.", "c": "Yes.", "d": "Yes."}
    records = [
        {"gold": text, "querier": "Ann", "scores": {"swap_accuracy_cluster": value}}
        for text, value in zip(gold.values(), (1.0, 0.0, 1.0, None), strict=True)
    ]
    del records[2]["scores"]["swap_accuracy_cluster"]  # it had no pair
    add_unnamed(records)
    assert [row["scores"].get("swap_accuracy_cluster_unnamed", "absent") for row in records] == [
        "absent",
        0.0,
        "absent",
        None,
    ]
    add_unnamed(others := [{**row, "scores": {"swap_accuracy_cluster": 1.0}} for row in records[1:]])
    assert all(row["scores"] == {"swap_accuracy_cluster": 1.0} for row in others)


def test_ties_are_half() -> None:
    assert [wins(1.0, 2.0), wins(2.0, 1.0), wins(1.0, 1.0), wins(1.0, 1.0 + 1e-7)] == [1.0, 0.0, 0.5, 0.5]
