"""A comparison: seeds averaged first, differences paired, one table of data only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from querier.errors import InputError
from querier.evaluation.comparison import Difference, compare
from querier.evaluation.results import Record
from querier.evaluation.statistics import Value


def rows(shift: float, seed: int, queriers: int = 8, each: int = 5, **changes: Any) -> list[Record]:
    """Scores that vary by querier and dialogue in the same way in every run, plus a shift and a little noise."""
    shared, noise = np.random.default_rng(7), np.random.default_rng(seed)
    made = []
    for number in range(queriers):
        level = shared.normal()
        for place in range(each):
            score = level + shared.normal() + shift + 0.01 * noise.normal()
            record = {"id": f"{number}-{place}", "querier": f"q{number}", "unseen": number % 2 == 0, "tokens": 3}
            made.append({**record, "bytes": 9, "scores": {"rouge_l": score}, "error": None, **changes})
    return made


def test_seeds_are_averaged_and_differences_paired() -> None:
    runs = {"ft": [rows(0, 1), rows(0, 2), rows(0, 5)], "querier": [rows(0.3, 3), rows(0.5, 4), rows(0.4, 6)]}
    found = compare(runs, "ft", 500)
    difference = found.differences["querier"]["rouge_l"]
    assert difference.value.value == pytest.approx(0.4, abs=0.02)
    assert difference.by_seed == pytest.approx([0.3, 0.5, 0.4], abs=0.02)
    assert difference.same_sign
    assert difference.sure
    assert difference.value.n == 40
    assert difference.value.low is not None
    assert found.methods["querier"]["rouge_l"].low is not None
    # Pairing takes away what the two have in common: the interval is much narrower than that of either.
    wide = found.methods["querier"]["rouge_l"]
    assert difference.value.high - difference.value.low < 0.1 * (wide.high - wide.low)  # type: ignore[operator]
    assert "ft" not in found.differences


def test_seen_and_unseen_queriers_have_differences_of_their_own() -> None:
    better = rows(0.0, 3)
    for row in better:
        row["scores"]["rouge_l"] += 1.0 if row["unseen"] else 0.0
    found = compare({"ft": [rows(0, 1)], "querier": [better]}, "ft", 200).differences["querier"]
    values = {name: difference.value.value for name, difference in found.items() if "macro" not in name}
    assert values == pytest.approx({"rouge_l": 0.5, "rouge_l_seen": 0.0, "rouge_l_unseen": 1.0}, abs=0.02)
    assert found["rouge_l_unseen"].by_seed == pytest.approx([1.0], abs=0.02)


def test_what_trains_nothing_stands_against_each_seed() -> None:
    found = compare({"zero_shot": [rows(0, 1)], "ft": [rows(0.2, 2), rows(-0.1, 3), rows(0.3, 4)]}, "zero_shot", 200)
    assert found.differences["ft"]["rouge_l"].by_seed == pytest.approx([0.2, -0.1, 0.3], abs=0.02)
    assert not found.differences["ft"]["rouge_l"].same_sign


@pytest.mark.parametrize(
    ("each", "same"),
    [
        ([0.1, 0.2, 0.1], True),
        ([0.1, 0.2], False),  # of two a third of all noise agrees
        ([0.1, 0.2, -0.1], False),
        ([0.1], False),
        ([0.1, 0.1, None], False),
        ([0.1, 0.1, 0.0], False),
    ],
)
def test_a_sign_counts_only_where_all_seeds_share_it(each: list[float | None], same: bool) -> None:
    assert Difference(Value(0.1, 0.0, 0.2, 9), each).same_sign is same


@pytest.mark.parametrize(
    ("low", "high", "p", "by_seed", "sure"),
    [
        (0.1, 0.3, 0.01, [0.1, 0.2, 0.1], True),
        (-0.3, -0.1, 0.01, [-0.1, -0.2, -0.1], True),
        (-0.1, 0.3, 0.2, [0.1, 0.2, 0.1], False),
        (0.1, 0.3, 0.06, [0.1, 0.2, 0.1], False),
        (0.1, 0.3, None, [0.1, 0.2, 0.1], False),
        (0.1, 0.3, 0.01, [0.3, -0.1, 0.1], False),
        (0.1, 0.3, 0.01, [0.3, 0.1], False),
        (None, None, None, [0.1, 0.2, 0.1], False),
    ],
    ids=["above", "below", "wide", "one of many metrics", "not tested", "seeds", "two seeds", "no interval"],
)
def test_a_difference_is_sure_with_an_interval_without_zero_a_small_p_and_one_sign(
    low: float | None, high: float | None, p: float | None, by_seed: list[float | None], sure: bool
) -> None:
    found = Difference(Value(0.1, low, high, 9, p=p), by_seed)
    assert found.sure is sure
    assert found.to_json()["sure"] is sure


def test_a_difference_over_queriers_counts_each_the_same() -> None:
    """Nine dialogues of one querier gain 1, one of each of the three others gains 0."""

    def of(shift: float) -> list[Record]:
        owners = ["often"] * 9 + ["a", "b", "c"]
        gained = [shift if name == "often" else 0.0 for name in owners]
        return [
            {"id": f"{place}", "querier": name, "unseen": False, "tokens": 1, "bytes": 1, "scores": {"chrf": gain}}
            for place, (name, gain) in enumerate(zip(owners, gained, strict=True))
        ]

    found = compare({"ft": [of(0.0)], "querier": [of(1.0)]}, "ft", 200).differences["querier"]
    assert found["chrf"].value.value == pytest.approx(9 / 12)
    assert found["chrf_macro"].value.value == pytest.approx(1 / 4)
    assert found["chrf_macro"].value.p is None


def likelihoods(matched: float, swap: float, seed: int) -> list[Record]:
    """Nats per token with the history, 3 without it, and a swap accuracy."""
    noise = np.random.default_rng(seed)
    return [
        {
            **row,
            "scores": {
                "nll_per_token": matched + 0.01 * noise.normal(),
                "nll_empty": 3.0,
                "swap_accuracy_cluster": float(noise.random() < swap),
            },
        }
        for row in rows(0, seed, each=40)
    ]


def test_what_the_permuted_control_keeps_is_not_personal_and_is_subtracted() -> None:
    """A gain of .5 nats, of which .2 come with anybody's history."""
    runs = {
        "ft": [likelihoods(3.0, 0.5, 1)],
        "querier+name_blind": [likelihoods(2.5, 0.9, 2)],
        "querier": [likelihoods(2.4, 0.9, 3)],
        "querier+permuted_control": [likelihoods(2.8, 0.5, 4)],
    }
    control = "querier+permuted_control"
    found = compare(runs, "ft", 300, blind=["querier+name_blind"], permuted={control: "querier+name_blind"})
    assert found.methods["querier+name_blind"]["gain"].value == pytest.approx(0.5, abs=0.01)
    assert found.differences["querier+name_blind"]["gain"].value.value == pytest.approx(0.5, abs=0.01)
    assert list(found.controls) == [control]
    controlled, left = found.controls[control]
    assert controlled == "querier+name_blind"
    assert left["gain"].value.value == pytest.approx(0.3, abs=0.01)
    assert left["swap_accuracy_cluster"].value.value == pytest.approx(0.4, abs=0.1)
    assert not found.leaking
    assert found.to_json()["controls"][control]["of"] == controlled
    del runs["querier+name_blind"]
    _, left = compare(runs, "ft", 300, permuted={control: "querier"}).controls[control]
    assert "gain" in left
    assert "swap_accuracy_cluster" not in left  # the row reads the name, and the control does not
    _, left = compare(runs, "ft", 300, blind=list(runs), permuted={control: "querier"}).controls[control]
    assert "swap_accuracy_cluster" in left  # where no row reads it, whatever they are called
    leaks = likelihoods(2.8, 0.8, 4)
    for row in leaks:
        row["scores"]["swap_accuracy_random"] = row["scores"]["swap_accuracy_cluster"]
    alone = compare({"ft": runs["ft"], control: [leaks]}, "ft", 300, permuted={control: None})
    assert alone.leaking == [control]  # though nothing of it is controlled
    assert not alone.controls


def test_likelihoods_under_other_histories_are_no_claims() -> None:
    """They are not tested, and so do not weigh on those that are."""
    found = compare({"ft": [likelihoods(3.0, 0.5, 1)], "querier": [likelihoods(2.9, 0.5, 2)]}, "ft", 300)
    tested = {name for name, one in found.differences["querier"].items() if one.value.p is not None}
    assert {"nll_per_token", "gain", "swap_accuracy_cluster"} <= tested
    assert not tested & {"nll_empty", "nll_empty_seen"}


def test_a_failed_dialogue_is_in_no_number_and_counted() -> None:
    broken = rows(0.2, 3)
    broken[0]["scores"]["rouge_l"] = None
    found = compare({"ft": [rows(0, 1)], "querier": [broken]}, "ft", 200)
    assert found.methods["querier"]["rouge_l"].n_failed == 1
    assert found.methods["querier"]["rouge_l"].n == 39
    assert found.differences["querier"]["rouge_l"].value.n_failed == 1


def test_other_dialogues_are_refused() -> None:
    with pytest.raises(InputError, match="tested on different dialogues"):
        compare({"ft": [rows(0, 1)], "querier": [rows(0, 1, queriers=7)]}, "ft", 100)


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(InputError, match="baseline=qar is not among the methods ft"):
        compare({"ft": [rows(0, 1)]}, "qar", 100)
