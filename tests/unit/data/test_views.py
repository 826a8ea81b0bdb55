"""Views: two halves of a history that share nothing, so that noise tells nobody apart."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_prepared import make_prepared

from querier.data.views import (
    choose,
    coins,
    compact,
    draw_subset,
    draw_views,
    drop_history,
    history_halves,
    neighbour_halves,
    pad_rows,
    scene_places,
)

KEY = (0, 1, 2)


def test_scene_places_against_a_loop() -> None:
    corpus = make_prepared(queriers=5, each=11).corpus
    expected = np.zeros(len(corpus), dtype=int)
    for querier in range(5):
        seen: dict[int, int] = {}
        for row in corpus.rows_of(querier):
            expected[row] = seen.setdefault(int(corpus.scene[row]), len(seen))
    assert scene_places(corpus).tolist() == expected.tolist()


def test_a_scene_falls_to_one_half_and_neighbouring_scenes_to_both() -> None:
    place = np.arange(40) // 2
    querier = np.full(40, 3)
    half = history_halves(KEY, querier, place)
    assert (half[::2] == half[1::2]).all()
    scenes = half[::2]
    assert (scenes[::2] + scenes[1::2] == 1).all()
    for start in range(20):
        for end in range(start + 1, 21):
            assert abs(int((scenes[start:end] * 2 - 1).sum())) <= 2


def test_halves_are_fair_and_change_with_key_and_querier() -> None:
    place = np.zeros(4000, dtype=np.int64)
    querier = np.arange(4000)
    half = history_halves(KEY, querier, place)
    assert abs(half.mean() - 0.5) < 0.03
    assert half.tolist() == history_halves(KEY, querier, place).tolist()
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert abs((half == history_halves(other, querier, place)).mean() - 0.5) < 0.03
    pool = neighbour_halves(KEY, querier)
    assert abs(pool.mean() - 0.5) < 0.03
    assert abs((pool == half).mean() - 0.5) < 0.03


def test_coins_of_one_pair_do_not_depend_on_the_others() -> None:
    first, second = np.array([5, 6, 7]), np.array([1, 1, 2])
    assert coins(KEY, first, second)[1] == coins(KEY, first[1:2], second[1:2])[0]


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_a_subset_holds_at_least_half(count: int, generator: np.random.Generator) -> None:
    usable = np.zeros(10, dtype=bool)
    usable[:count] = True
    sizes = set()
    for _ in range(200):
        chosen = draw_subset(usable, generator.random(11))
        assert not (chosen & ~usable).any()
        sizes.add(int(chosen.sum()))
    assert sizes == set(range((count + 1) // 2, count + 1))


def test_a_view_is_empty_only_if_its_half_is(generator: np.random.Generator) -> None:
    usable, half = np.array([[True, True, False]]), np.array([[0, 0, 1]])
    views = draw_views(usable, half, generator.random((2, 1, 4)))
    assert views[0].any()
    assert not views[1].any()
    both = draw_views(usable, half, generator.random((2, 1, 4)), second_view=False)
    assert (both[0] == both[1]).all()


def test_dropout_of_a_history(generator: np.random.Generator) -> None:
    rows = np.array([[9, 7, 5, 3, -1]])
    assert drop_history(rows, 0.0, generator.random((1, 7))).tolist() == rows.tolist()
    assert drop_history(np.full((1, 3), -1), 1.0, generator.random((1, 5))).tolist() == [[-1, -1, -1]]
    many = drop_history(np.repeat(rows, 500, axis=0), 1.0, generator.random((500, 7)))
    sizes = np.bincount((many >= 0).sum(1))
    assert len(sizes) == 5
    assert sizes.min() > 60  # uniform: 100 each
    assert (np.diff(many, axis=1) <= 0).all()  # order kept, pads last
    some = drop_history(np.repeat(rows, 500, axis=0), 0.3, generator.random((500, 7)))
    assert 0.1 < ((some >= 0).sum(1) < 4).mean() < 0.4


def test_a_choice_holds_as_many_as_there_are(generator: np.random.Generator) -> None:
    usable = np.array([[True, False, True, True], [False, False, True, False]])
    chosen = choose(usable, np.array([2, 3]), generator.random((2, 4)))
    assert chosen.sum(1).tolist() == [2, 1]
    assert not (chosen & ~usable).any()


def test_pads_stand_behind() -> None:
    assert compact(np.array([[-1, 4, -1, 2]])).tolist() == [[4, 2, -1, -1]]
    assert pad_rows([np.array([3, 1]), np.zeros(0, dtype=int)]).tolist() == [[3, 1], [-1, -1]]
    assert pad_rows([np.zeros(0, dtype=int)]).tolist() == [[-1]]
    assert pad_rows([np.array([3, 1, 2])], 2).tolist() == [[3, 1]]


@pytest.mark.parametrize("overlapping", [False, True])
def test_noise_tells_queriers_apart_only_where_views_overlap(overlapping: bool, generator: np.random.Generator) -> None:
    """AUC of same against different querier between the mean vectors of views of pure noise."""
    queriers, items = 300, 8
    noise = generator.normal(size=(queriers, items, 32))
    numbers = np.repeat(np.arange(queriers)[:, None], items, axis=1)
    half = history_halves(KEY, numbers, np.repeat(np.arange(items)[None], queriers, axis=0))
    usable = np.ones((queriers, items), dtype=bool)
    masks = draw_views(usable, half, generator.random((2, queriers, 1 + items)), second_view=not overlapping)
    views = np.einsum("vqh,qhd->vqd", masks, noise)
    views /= np.linalg.norm(views, axis=-1, keepdims=True)
    scores = views[0] @ views[1].T
    same, different = np.diag(scores), scores[~np.eye(queriers, dtype=bool)]
    auc = (same[:, None] > different[None]).mean()
    assert auc > 0.99 if overlapping else 0.45 < auc < 0.55
