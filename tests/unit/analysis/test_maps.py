from __future__ import annotations

import numpy as np
import pytest

from querier.analysis.maps import fit_map, landing, space_table
from querier.errors import InputError


def test_somebody_new_lands_where_a_pca_projects_them(generator: np.random.Generator) -> None:
    vectors, new = generator.normal(size=(30, 6)), generator.normal(size=(4, 6))
    centred = vectors - vectors.mean(0)
    plane = np.linalg.svd(centred)[2][:2]
    slow = (new - vectors.mean(0)) @ plane.T
    assert np.allclose(np.abs(fit_map(vectors).land(new)), np.abs(slow))  # a direction has no sign


def test_on_a_map_without_a_rule_they_land_on_their_likes(generator: np.random.Generator) -> None:
    centres = 20 * generator.normal(size=(3, 8))
    vectors = centres[np.arange(45) % 3] + generator.normal(size=(45, 8))
    space = fit_map(vectors, "tsne")
    placed = space.land(centres)
    for kind in range(3):
        own = space.places[np.arange(45) % 3 == kind]
        assert (
            np.linalg.norm(own - placed[kind], axis=1).max() < np.linalg.norm(space.places - placed[kind], axis=1).max()
        )
        assert np.linalg.norm(own.mean(0) - placed[kind]) == min(
            np.linalg.norm(space.places[np.arange(45) % 3 == other].mean(0) - placed[kind]) for other in range(3)
        )
    assert np.allclose(space.land(vectors[:1]), space.places[:1], atol=1e-5)  # who is there already stays there


def test_landing_says_who_is_near_and_how_strange_it_is() -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.3, 1.0]])
    found = landing(["a", "b", "c", "d"], fit_map(vectors), {"twin": vectors[0], "odd": np.array([-1.0, -1.0])})
    assert found["nearest"].tolist()[0] == "a"
    assert found["cosine"].tolist()[0] == pytest.approx(1.0)
    assert found["stranger_than"].tolist() == [0.0, 1.0]
    with pytest.raises(InputError, match="somebody who lands"):
        landing(["a", "b", "c", "d"], fit_map(vectors), {})
    with pytest.raises(InputError, match=r"vectors like the map's, \(2,\), got \(3,\)"):
        landing(["a", "b", "c", "d"], fit_map(vectors), {"wide": np.ones(3)})


def test_methods_that_are_not_there_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("querier.extra.import_module", missing)
    with pytest.raises(InputError, match=r"umap is not installed.*pip install 'querier\[umap\]'"):
        fit_map(np.eye(4), "umap")
    with pytest.raises(InputError, match="pca, tsne, umap, got 'som'"):
        fit_map(np.eye(4), "som")


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        space_table(["a", "b", "c"], np.eye(3), {"manner": ["warm"]})
