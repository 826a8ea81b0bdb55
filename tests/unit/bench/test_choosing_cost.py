"""The measurement of contrast users chooses on both sides from the same replies, and says how long each took."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.cluster import KMeans

from querier.bench import contrast_users as bench
from querier.config import Config
from querier.data.records import Corpus
from querier.errors import InputError
from querier.types import Dialogue, Turn

SIZE = 24


class Counted:
    """Texts `<way> ...` as noisy unit vectors by way, with the number of texts that were read."""

    digest, size = "ways", SIZE

    def __init__(self) -> None:
        self.read = 0

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.read += len(texts)
        seeds = [sum(ord(letter) * (place + 1) for place, letter in enumerate(text)) for text in texts]
        noise = np.stack([np.random.default_rng(seed).normal(size=SIZE) for seed in seeds])
        ways = np.array([int(text[0]) if text[0].isdigit() else 9 for text in texts])
        vectors = 3 * np.eye(10, SIZE)[ways] + 0.6 * noise
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def corpus(items: int = 30, reviewers: int = 12) -> Corpus:
    """Reviews by users in one of five ways, shuffled in time; the last item has few, and one dialogue has none."""
    rng = np.random.default_rng(0)
    pairs = [(item, user) for item in range(items) for user in rng.permutation(40)[:reviewers].tolist()]
    pairs += [(items, user) for user in range(4)]
    made = []
    for moment, place in enumerate(rng.permutation(len(pairs)).tolist()):
        item, user = pairs[place]
        turns = (Turn(f"u{user}", f"of item {item}"), Turn("a", f"{user % 5} says {user} of {item}"))
        made.append(Dialogue(str(moment), f"u{user}", "a", turns, moment, str(moment), f"i{item}"))
    made.append(Dialogue("x", "u0", "a", (Turn("u0", "hm"), Turn("a", "0 hm")), len(made), "x"))
    return Corpus.build(made)


def test_both_ways_choose_the_same_people_from_the_same_centres() -> None:
    """360 pairs of user and item, each by a k-means of its own that starts from our centres."""
    reviews, config = corpus(), Config()
    rows = bench.usable(reviews, config.contrast.k)
    assert len(rows) == 360
    same, ties = bench.same_choice(config, reviews, bench.choose_for_all(config, reviews, Counted()), rows)
    assert same == 1.0
    assert 0 < ties < 360  # in a cell of two both are equally near its centre


def test_a_tie_is_named_and_the_nearest_stands_alone() -> None:
    vectors = np.array([[0.0], [0.1], [5.0], [5.2], [9.0], [9.1], [9.3]], dtype=np.float32)
    start = np.array([[0.05], [5.1], [9.1]])
    assert bench.nearest_of_each_cell(KMeans(3, init=start, n_init=1), vectors, 0) == [[2, 3], [5]]
    assert bench.nearest_of_each_cell(KMeans(3, init=start, n_init=1), vectors, 4) == [[0, 1], [2, 3]]


def test_other_centres_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    reviews, config = corpus(), Config()
    ours = bench.choose_for_all(config, reviews, Counted())
    monkeypatch.setattr(bench, "KMeans", lambda count, init, n_init: KMeans(count, init=np.roll(init, 1, 1), n_init=1))
    same, _ = bench.same_choice(config, reviews, ours, bench.usable(reviews, config.contrast.k))
    assert same < 0.95


def test_without_its_filters_the_choice_has_one_of_each_other_cell() -> None:
    reviews, config = corpus(), Config()
    ours = bench.choose_for_all(config, reviews, Counted())
    users, n = bench.whenever_they_spoke(config, ours), len(reviews)
    querier, time = np.asarray(reviews.querier), np.asarray(reviews.time)
    later = 0
    for row in bench.usable(reviews, config.contrast.k).tolist():
        chosen = users.rows[n + row, :, 0]
        chosen = chosen[chosen >= 0]
        cells = users.cell[np.flatnonzero(users.group[:n] == users.group[row])]
        assert sorted(users.cell[chosen].tolist()) == sorted(set(cells.tolist()) - {int(users.cell[row])})
        assert (querier[chosen] != querier[row]).all()
        later += int((time[chosen] > time[row]).sum())
        kept = ours.users.rows[row, :, 0]
        assert (time[kept[kept >= 0]] < time[row]).all()  # what the library itself gives
    assert later > 100


def test_ratios_are_of_the_seconds_scaled_to_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, encode, told = itertools.count(), Counted(), []
    monkeypatch.setattr(bench.time, "perf_counter", lambda: float(next(clock)))
    found = bench.measure_contrast_users(Config(), corpus(), encode, 9, lambda what, done, of: told.append((done, of)))
    assert told == [(done, 9) for done in range(1, 10)]
    assert found["pairs"] == {"timed": 9, "all": 360}
    assert found["seconds"] == {
        "released_encoder": 360.0,
        "released_kmeans": 360.0,
        "encoder": 1.0,
        "clusters": 1.0,
        "contrast_users": 1.0,
    }
    assert found["ratio"] == {"with_encoder": 240.0, "kmeans_only": 360.0}
    assert found["same_choice"] == 1.0
    assert encode.read == 1 + 9 * 12 + 365 + 32  # the item of each pair anew; then each distinct reply and query once


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(InputError, match="no `item` has 41 queriers"):
        bench.usable(corpus(), 40)
    twice = corpus(items=1)
    assert len(bench.usable(twice, 4)) == 12
