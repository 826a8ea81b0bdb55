"""What sets replies apart from those of others in the same situation, against the formulas done by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from querier.data.requests import Exchange
from querier.data.stylometry import formality
from querier.methods.differences import (
    AXES,
    MEASURED,
    Contrasted,
    class_tf_idf,
    count_differences,
    measured,
    salient,
    spread,
    told,
)

PLAIN = ("maps show land", "land is on maps", "some maps are old")
DEVIATION = np.full(MEASURED, 0.5)


def held(own: str, *others: str) -> Contrasted:
    return Contrasted(Exchange("what of maps", own), tuple(Exchange("what of maps", other) for other in others))


def test_formality_by_hand() -> None:
    assert formality("However, it is sufficient; therefore I purchased one.") == 1
    assert formality("It's cool stuff, I don't mind") == -1
    assert formality("however it's fine") == 0  # one of each
    assert formality("maps show land") == 0


def test_what_is_alike_in_the_situation_cancels() -> None:
    """All shout here, in one situation more than in the other: nobody differs."""
    loud = [held("wow! maps!", "wow! land!", "oh! maps!"), held("maps are old", "land is old", "maps are here")]
    assert not any(count_differences(loud, DEVIATION).values())


def test_each_axis_has_its_say() -> None:
    long = "however maps are lovely! they show, please, all of the land; moreover they are sufficient, great and good!"
    found = count_differences([held(long, *PLAIN)] * 6, DEVIATION)
    assert found["writing"] == ["longer", "more exclamation marks", "more formal words"]
    assert found["emotion"] == ["a gladder tone", "more polite words"]
    other = count_differences([held(text, long, long) for text in PLAIN] * 2, DEVIATION)
    assert other["writing"] == ["shorter", "fewer exclamation marks", "less formal words"]
    assert other["emotion"] == ["a glummer tone", "fewer polite words"]
    assert tuple(found) == tuple(other) == AXES


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_difference_is_told_from_the_standard_error_on(times: int) -> None:
    """n items with 2 contrast users: the error of the mean difference is s · √(3/2 / n); `!` differs by 1 or ½."""
    gap = np.mean([1.0] + [0.5] * (times - 1))
    items = [held("maps!", "land", "maps")] + [held("maps!", "land!", "maps")] * (times - 1)
    limit = gap / (1.96 * math.sqrt(1.5 / times))
    for deviation, says in ((0.99 * limit, True), (1.01 * limit, False)):
        found = count_differences(items, np.full(MEASURED, deviation))
        assert ("more exclamation marks" in found["writing"]) is says


def test_the_spread_is_that_inside_situations() -> None:
    groups = [["maps!", "land"], ["a b c!", "a b c!", "a b c"], ["alone!"]]
    values = [np.array([measured(text)[1] for text in group]) for group in groups]
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in values)
    assert spread(groups)[1] == pytest.approx(math.sqrt(squares / (1 + 2)))
    assert np.isinf(spread([["alone"]])).all()
    assert not any(count_differences([held("wow!!", *PLAIN)], spread([]))[axis] for axis in ("writing", "emotion"))


def test_class_based_weights_by_hand() -> None:
    """Classes of 4 and 2 words: A = 3. `sea` stands 3 times in all, `ship` once."""
    own, theirs = class_tf_idf([Counter(sea=2, ship=1, map=1), Counter(sea=1, map=1)])
    assert own["sea"] == pytest.approx(2 / 4 * math.log(1 + 3 / 3))
    assert own["ship"] == pytest.approx(1 / 4 * math.log(1 + 3 / 1))
    assert theirs["sea"] == pytest.approx(1 / 2 * math.log(1 + 3 / 3))


def test_salient_words_are_more_than_chance() -> None:
    others = Counter({"maps": 20, "land": 20, "ships": 1, "the": 20})
    own = Counter({"ships": 12, "whales": 12, "the": 20, "maps": 5, "once": 1, "1984": 19})
    assert salient(own, others) == ["whales", "ships"]  # the rarer among the others first
    assert salient(own, Counter()) == []
    assert salient(Counter(maps=5, land=5), others) == []


def test_nothing_to_compare_says_nothing() -> None:
    assert told(count_differences([], DEVIATION)) == told(count_differences([held("wow!")], DEVIATION)) == ""
    line = told({"writing": ["longer", "more questions"], "emotion": [], "semantics": ['more of "sea" and "map"']})
    assert line == (
        "compared with others in the same situation, writing: longer, more questions; "
        'semantics: more of "sea" and "map".'
    )


def test_words_that_situations_share_cancel_and_the_querier_s_own_are_told() -> None:
    items = [held(f"ahoy maps land ahoy {number}", *PLAIN) for number in range(12)]
    assert count_differences(items, DEVIATION)["semantics"] == ['more of "ahoy"']
