from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from querier.analysis import user_space
from querier.analysis.maps import map_2d, space_table
from querier.analysis.user_space import (
    alignment,
    nearest_places,
    nearest_queriers,
    neighbour_table,
    numbers,
    probe,
    same_querier_auc,
    silhouette,
    trustworthiness,
    uniformity,
)
from querier.errors import InputError

NAMES = [f"q{number}" for number in range(48)]
LABELS = ["warm", "terse", "neutral"] * 16


def grouped(generator: np.random.Generator, apart: float = 4.0) -> np.ndarray:
    centres = apart * generator.normal(size=(3, 12))
    return centres[np.arange(48) % 3] + generator.normal(size=(48, 12))


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_keeps_groups_together(generator: np.random.Generator, method: str) -> None:
    vectors = grouped(generator)
    places = map_2d(vectors, method)
    assert places.shape == (48, 2)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    same = np.equal.outer(np.arange(48) % 3, np.arange(48) % 3)
    assert distance[same].mean() < 0.5 * distance[~same].mean()
    assert (trustworthiness(vectors, places) or 0) > 0.7
    assert np.array_equal(places, map_2d(vectors, method))


def test_a_map_of_single_numbers_and_of_none(generator: np.random.Generator) -> None:
    assert (map_2d(generator.normal(size=(5, 1)))[:, 1] == 0).all()
    with pytest.raises(InputError, match="at least 3"):
        map_2d(np.ones((2, 4)))
    with pytest.raises(InputError, match="finite"):
        map_2d(np.full((4, 4), np.nan))


def test_nearest_by_hand() -> None:
    vectors = np.array([[1.0, 0.0], [10.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
    found = nearest_queriers(["a", "b", "c", "d"], vectors, "a", 2)
    assert found["querier"].tolist() == ["b", "c"]
    assert found["cosine"].tolist() == pytest.approx([10 / np.sqrt(101), 0.0])
    with pytest.raises(InputError, match="'x' is not among the 4"):
        nearest_queriers(["a", "b", "c", "d"], vectors, "x")


def test_same_querier_auc_equals_counting_pairs(generator: np.random.Generator) -> None:
    first, second = generator.integers(-1, 2, (9, 3)) + 0.0, generator.integers(-1, 2, (9, 3)) + 0.0

    def cosine(x: np.ndarray, y: np.ndarray) -> float:
        return float(x @ y / max(1e-12, np.linalg.norm(x)) / max(1e-12, np.linalg.norm(y)))

    wins = []
    for own in range(9):
        mine = round(cosine(first[own], second[own]), 9)
        for i in range(9):
            for j in range(9):
                if i != j:
                    other = round(cosine(first[i], second[j]), 9)
                    wins.append(1.0 if mine > other else 0.5 if mine == other else 0.0)
    assert same_querier_auc(first, second) == pytest.approx(np.mean(wins), abs=0.02)  # last bits of ties


def test_same_querier_auc_of_signal_noise_and_nothing(generator: np.random.Generator) -> None:
    own = generator.normal(size=(300, 8))
    assert same_querier_auc(own, own + 0.1 * generator.normal(size=own.shape)) > 0.99
    assert same_querier_auc(own, generator.normal(size=own.shape)) == pytest.approx(0.5, abs=0.05)
    assert same_querier_auc(np.ones((4, 2)), np.ones((4, 2))) == 0.5
    with pytest.raises(InputError, match="equal shapes"):
        same_querier_auc(own, own[:3])


def test_silhouette_of_groups_and_of_none(generator: np.random.Generator) -> None:
    assert (silhouette(grouped(generator, 20.0), LABELS) or 0) > 0.7
    assert abs(silhouette(generator.normal(size=(48, 12)), LABELS) or 0) < 0.1
    assert silhouette(grouped(generator), ["same"] * 48) is None


def test_a_probe_reads_what_is_there(generator: np.random.Generator) -> None:
    found = probe(grouped(generator), LABELS, generator, permutations=5)
    assert found.accuracy > 0.95
    assert found.low > found.permuted_high
    assert found.chance == pytest.approx(1 / 3)
    assert found.n == 48


def test_a_probe_reads_nothing_from_noise(generator: np.random.Generator) -> None:
    found = probe(generator.normal(size=(48, 12)), LABELS, generator, permutations=10)
    assert found.low < 1 / 3 < found.high
    assert found.permuted == pytest.approx(1 / 3, abs=0.1)


def test_a_frequent_value_is_no_skill(generator: np.random.Generator) -> None:
    """90 % of one value: guessing it is right in 90 % and still worth ½."""
    found = probe(generator.normal(size=(60, 4)), ["a"] * 54 + ["b"] * 6, generator, permutations=3)
    assert found.accuracy < 0.75


def test_a_probe_needs_several_of_each(generator: np.random.Generator) -> None:
    with pytest.raises(InputError, match="merge rare values"):
        probe(np.ones((4, 2)), ["a", "a", "a", "b"], generator)


def test_tables(generator: np.random.Generator) -> None:
    vectors = grouped(generator)
    table = space_table(NAMES, vectors, {"manner": LABELS})
    assert list(table.columns) == ["querier", "x", "y", "manner"]
    assert len(table) == 48
    found = numbers(vectors, table[["x", "y"]].to_numpy(), {"manner": LABELS}, generator)
    assert found.loc["manner", "accuracy"] > 0.9
    assert {"low", "high", "permuted", "silhouette", "trustworthiness", "n"} <= set(found.columns)


def test_alignment_and_uniformity_equal_the_formulas_pair_by_pair(generator: np.random.Generator) -> None:
    first, second = generator.normal(size=(2, 12, 4))
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (first, second)]
    assert alignment(first, 3 * second) == pytest.approx(
        np.mean([((x - y) ** 2).sum() for x, y in zip(*unit, strict=True)])
    )
    pairs = [np.exp(-2 * ((x - y) ** 2).sum()) for place, x in enumerate(unit[0]) for y in unit[0][:place]]
    assert uniformity(5 * first) == pytest.approx(np.log(np.mean(pairs)))
    with pytest.raises(InputError, match="equal shapes"):
        alignment(first, second[:3])


def test_neighbours_of_all_are_those_of_each(generator: np.random.Generator) -> None:
    vectors = generator.normal(size=(48, 12))
    table = neighbour_table(NAMES, vectors, 4)
    for name in NAMES[:5]:
        slow = nearest_queriers(NAMES, vectors, name, 4)
        mine = table[table["querier"] == name]
        assert mine["nearest"].tolist() == slow["querier"].tolist()
        assert mine["cosine"].tolist() == pytest.approx(slow["cosine"].tolist(), abs=1e-6)
    assert nearest_places(vectors, 99)[0].shape == (48, 47)
    places, cosine = nearest_places(vectors, 1, vectors[:3])
    assert places[:, 0].tolist() == [0, 1, 2]  # newcomers are nobody's own
    assert cosine[:, 0] == pytest.approx(1.0)


def test_neighbours_of_many_take_little_memory(generator: np.random.Generator) -> None:
    vectors = generator.normal(size=(3000, 64))
    tracemalloc.start()
    places, cosine = nearest_places(vectors, 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000  # 77 MB for all neighbours of all at once
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.array_equal(cosine, np.einsum("nd,nkd->nk", unit, unit[places]))


def test_many_queriers_are_measured_on_a_sample_and_searched_in_cells(
    generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = 4 * generator.normal(size=(20, 8))[np.arange(2000) % 20] + generator.normal(size=(2000, 8))
    whole = nearest_places(vectors, 3)[0]
    auc = same_querier_auc(vectors, vectors + generator.normal(size=vectors.shape))
    monkeypatch.setattr(user_space, "EXACT_BELOW", 1000)
    monkeypatch.setattr(user_space, "MANY", 500)
    assert (nearest_places(vectors, 3)[0] == whole).mean() > 0.9
    assert same_querier_auc(vectors, vectors + generator.normal(size=vectors.shape)) == pytest.approx(auc, abs=0.02)
    assert probe(vectors, ["a", "b"] * 1000, generator, permutations=1).n == 500
    assert trustworthiness(vectors, vectors[:, :2]) is not None


def test_a_rare_value_is_read_from_a_sample_too(
    generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_space, "MANY", 60)
    labels = ["common"] * 1997 + ["rare"] * 3
    vectors = generator.normal(size=(2000, 2)) + 20 * np.array([[label == "rare"] for label in labels])
    found = probe(vectors, labels, generator, permutations=1)
    assert 60 <= found.n <= 63
    assert found.accuracy > 0.9
    with pytest.raises(InputError, match="merge rare values"):
        probe(vectors, ["common"] * 1998 + ["rare"] * 2, generator)
