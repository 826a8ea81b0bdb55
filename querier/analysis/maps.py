"""Maps of the queriers: a plane to look at, and the place on it of somebody who came later.

A map is made of vectors (Q, D), as `querier.analysis.vectors` and `Responder.embed_queriers` give them. No plane shows
all of a space: `user_space.trustworthiness` says how far one may be believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from querier import extra
from querier.analysis.extra import need
from querier.analysis.user_space import checked, nearest_places
from querier.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

MAPS = ("pca", "tsne", "umap")
LANDED = 5  # nearest queriers among whom a newcomer is placed, where a map cannot be extended


@dataclass(frozen=True)
class Map:
    """Places of queriers on a plane.

    Attributes:
        vectors: What it was made of, (Q, D).
        places: (Q, 2).
        method: One of `MAPS`.
        mean: Of the vectors, (D,); for `pca`.
        directions: The plane, (2, D); for `pca`.
    """

    vectors: np.ndarray
    places: np.ndarray
    method: str
    mean: np.ndarray | None = None
    directions: np.ndarray | None = None

    def land(self, vectors: np.ndarray) -> np.ndarray:
        """Places of vectors that the map was not made of, (n, D) to (n, 2).

        A PCA is a projection, so they are projected. The other maps know no rule for new vectors: there they stand
        among the five nearest queriers, nearer to the nearer ones.

        >>> corners = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> bool(np.allclose(fit_map(corners).land(corners), fit_map(corners).places))
        True
        """
        vectors = checked(vectors, 0)
        if self.mean is not None and self.directions is not None:
            projected: np.ndarray = (vectors - self.mean) @ self.directions.T
            return projected
        placed = np.zeros((len(vectors), 2))
        for row, vector in enumerate(vectors):
            distance = np.linalg.norm(self.vectors - vector, axis=1)
            near = np.argsort(distance, kind="stable")[:LANDED]
            weight = 1 / np.maximum(distance[near], 1e-9)
            placed[row] = weight @ self.places[near] / weight.sum()
        return placed


def fit_map(vectors: np.ndarray, method: str = "pca", seed: int = 0) -> Map:
    """Place queriers on a plane.

    Args:
        vectors: One each querier, (Q, D).
        method: `pca` keeps distances as far as a plane can, takes newcomers, and is the one for many queriers; `tsne`
            keeps neighbourhoods and nothing else; `umap` needs the extra `umap`.
        seed: Of t-SNE and UMAP.

    Raises:
        InputError: On an unknown method, or fewer than three queriers.

    >>> fit_map(np.eye(4), "pca").places.shape
    (4, 2)
    """
    vectors = checked(vectors, 3)
    if method == "pca":
        return _pca(vectors)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(vectors) - 1) / 3)
        placed = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)
        return Map(vectors, _plane(placed), method)
    if method == "umap":
        umap = extra.need("umap", "umap")
        neighbours = min(15, len(vectors) - 1)
        placed = umap.UMAP(n_components=2, n_neighbors=neighbours, random_state=seed).fit_transform(vectors)
        return Map(vectors, _plane(placed), method)
    raise InputError(f"method must be one of {', '.join(MAPS)}, got {method!r}")


def map_2d(vectors: np.ndarray, method: str = "pca", seed: int = 0) -> np.ndarray:
    """Places of queriers on a plane, (Q, 2); the arguments as in `fit_map`.

    >>> map_2d(np.array([[1.0], [2.0], [4.0]]))[:, 1].tolist()
    [0.0, 0.0, 0.0]
    """
    return fit_map(vectors, method, seed).places


def space_table(
    names: Sequence[str],
    vectors: np.ndarray,
    labels: Mapping[str, Sequence[Any]],
    method: str = "pca",
    seed: int = 0,
) -> DataFrame:
    """One line per querier: `querier`, `x`, `y` and a column for each label.

    Args:
        names: Of the queriers, Q.
        vectors: (Q, D).
        labels: For each label its value for each querier, a text or a number.
        method: As in `fit_map`.
        seed: As in `fit_map`.

    >>> table = space_table(["Ann", "Bob", "Cid"], np.eye(3), {"manner": ["warm", "terse", "warm"]})
    >>> table.columns.tolist(), len(table)
    (['querier', 'x', 'y', 'manner'], 3)
    """
    return placed(names, fit_map(vectors, method, seed), labels)


def placed(names: Sequence[str], space: Map, labels: Mapping[str, Sequence[Any]]) -> DataFrame:
    """The table of `space_table` for a map that was fitted before; `table.attrs` names its method, for figures to say.

    Args:
        names: Of the queriers, Q.
        space: Their map.
        labels: For each label its value for each querier.

    >>> table = placed(["Ann", "Bob", "Cid"], fit_map(np.eye(3)), {"manner": ["warm", "terse", "warm"]})
    >>> table["manner"].tolist(), table.attrs
    (['warm', 'terse', 'warm'], {'map': 'pca'})
    """
    pandas, places = need("pandas"), space.places
    table: DataFrame = pandas.DataFrame({"querier": list(names), "x": places[:, 0], "y": places[:, 1], **labels})
    table.attrs["map"] = space.method
    return table


def landing(names: Sequence[str], space: Map, newcomers: Mapping[str, np.ndarray]) -> DataFrame:
    """Where those land of whom the map was not made.

    Args:
        names: Of the map's queriers, Q.
        space: Their map.
        newcomers: A vector (D,) for each name.

    Returns:
        `querier`, `x`, `y`, `nearest` of the map's queriers, `cosine` to them, and `stranger_than`: the share of the
        map's queriers who have somebody nearer to them than the newcomer has.

    Raises:
        InputError: Without newcomers, or with vectors of another width.

    >>> known = fit_map(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]))
    >>> found = landing(["Ann", "Bob", "Cid", "Dan"], known, {"Eve": np.array([1.0, -1.0])})
    >>> found["nearest"].item(), found["stranger_than"].item()
    ('Ann', 1.0)
    """
    pandas = need("pandas")
    if not newcomers:
        raise InputError("landing needs somebody who lands: newcomers={name: vector}")
    vectors = np.stack([np.asarray(vector, dtype=float) for vector in newcomers.values()])
    if vectors.shape[1:] != space.vectors.shape[1:]:
        raise InputError(f"newcomers need vectors like the map's, ({space.vectors.shape[1]},), got {vectors.shape[1:]}")
    places = space.land(vectors)
    nearest, cosine = nearest_places(space.vectors, 1, vectors)
    _, usual = nearest_places(space.vectors, 1)
    lines = {
        "querier": list(newcomers),
        "x": places[:, 0],
        "y": places[:, 1],
        "nearest": [names[int(place)] for place in nearest[:, 0]],
        "cosine": cosine[:, 0],
        "stranger_than": (usual[:, 0][None] > cosine).mean(1),
    }
    table: DataFrame = pandas.DataFrame(lines)
    return table


def _pca(vectors: np.ndarray) -> Map:
    from sklearn.decomposition import PCA

    found = PCA(min(2, *vectors.shape), random_state=0).fit(vectors)
    directions = np.zeros((2, vectors.shape[1]))
    directions[: len(found.components_)] = found.components_
    return Map(vectors, (vectors - found.mean_) @ directions.T, "pca", found.mean_, directions)


def _plane(placed: Any) -> np.ndarray:
    return np.asarray(placed, dtype=float)
