"""Numbers about the learned space of queriers: maps, neighbours, and whether a label can be read from a vector.

Every function takes vectors (Q, D), as `Responder.embed_queriers` gives them; none needs a model. A picture of such a
space proves nothing by itself: `probe` says how much of a label is in the vectors and how much a shuffled label gives,
`trustworthiness` how far the map may be believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from querier.analysis.extra import need
from querier.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

FOLDS = 5
PERMUTATIONS = 20
LEAST = 3  # of a kind that folds can be made of
MAPS = ("pca", "tsne")


@dataclass(frozen=True)
class Probe:
    """How well a linear probe reads a label from vectors of queriers that it was not fitted on.

    Attributes:
        accuracy: Balanced over the label's values: chance is one over their number.
        low: Lower end of the 95 % bootstrap interval over queriers.
        high: Upper end.
        permuted: Mean of the same with the label shuffled.
        permuted_high: The largest of the shuffled ones.
        chance: One over the number of values.
        n: Queriers.
    """

    accuracy: float
    low: float
    high: float
    permuted: float
    permuted_high: float
    chance: float
    n: int


def map_2d(vectors: np.ndarray, method: str = "pca", seed: int = 0) -> np.ndarray:
    """Places of queriers on a plane, (Q, 2).

    Args:
        vectors: One each querier, (Q, D).
        method: `pca` keeps distances as far as a plane can; `tsne` keeps neighbourhoods and nothing else.
        seed: Of t-SNE.

    Raises:
        InputError: On an unknown method, or fewer than three queriers.
    """
    vectors = _checked(vectors, 3)
    if method == "pca":
        from sklearn.decomposition import PCA

        return _array(PCA(min(2, *vectors.shape), random_state=seed).fit_transform(vectors), 2)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(vectors) - 1) / 3)
        return _array(TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors), 2)
    raise InputError(f"method must be one of {', '.join(MAPS)}, got {method!r}")


def space_table(
    names: Sequence[str], vectors: np.ndarray, labels: Mapping[str, Sequence[str]], method: str = "pca", seed: int = 0
) -> DataFrame:
    """One line per querier: `querier`, `x`, `y` and a column for each label.

    Args:
        names: Of the queriers, Q.
        vectors: (Q, D).
        labels: For each label its value for each querier.
        method: As in `map_2d`.
        seed: As in `map_2d`.
    """
    pandas = need("pandas")
    places = map_2d(vectors, method, seed)
    table: DataFrame = pandas.DataFrame({"querier": list(names), "x": places[:, 0], "y": places[:, 1], **labels})
    return table


def nearest_queriers(names: Sequence[str], vectors: np.ndarray, querier: str, count: int = 5) -> DataFrame:
    """The queriers nearest to one by cosine, nearest first: `querier`, `cosine`.

    Raises:
        InputError: Where the querier is not among the names.
    """
    pandas = need("pandas")
    if querier not in names:
        raise InputError(f"querier {querier!r} is not among the {len(names)} embedded ones; embed them as well")
    unit = _unit(vectors)
    place = list(names).index(querier)
    cosine = unit @ unit[place]
    order = [other for other in np.argsort(-cosine, kind="stable") if other != place][:count]
    table: DataFrame = pandas.DataFrame({"querier": [names[other] for other in order], "cosine": cosine[order]})
    return table


def same_querier_auc(first: np.ndarray, second: np.ndarray) -> float:
    """How often a querier's two vectors are nearer to each other than to another querier's; ties count ½, chance is ½.

    Args:
        first: A vector of each querier from one half of their history, (Q, D).
        second: From the other half, (Q, D).

    Raises:
        InputError: Where the shapes differ, or there are fewer than two queriers.
    """
    if first.shape != second.shape:
        raise InputError(f"two views need equal shapes, got {first.shape} and {second.shape}")
    similarity = _unit(_checked(first, 2)) @ _unit(_checked(second, 2)).T
    same = np.eye(len(similarity), dtype=bool)
    own, other = similarity[same], np.sort(similarity[~same])
    below, not_above = (np.searchsorted(other, own, side) for side in ("left", "right"))
    return float(((below + not_above) / 2 / len(other)).mean())


def silhouette(vectors: np.ndarray, labels: Sequence[str]) -> float | None:
    """Mean silhouette of a label's groups by cosine, in [−1, 1]; None where all or none share a value."""
    from sklearn.metrics import silhouette_score

    kinds = len(set(labels))
    if not 2 <= kinds < len(labels):
        return None
    return float(silhouette_score(_unit(_checked(vectors, 3)), list(labels), metric="cosine"))


def trustworthiness(vectors: np.ndarray, places: np.ndarray, neighbours: int = 5) -> float | None:
    """How far neighbours on the map are neighbours in the space, in [0, 1]; None with too few queriers to say."""
    from sklearn.manifold import trustworthiness as measure

    vectors = _checked(vectors, 1)
    count = min(neighbours, (len(vectors) - 1) // 2)
    return float(measure(vectors, places, n_neighbors=count)) if count >= 1 else None


def probe(
    vectors: np.ndarray,
    labels: Sequence[str],
    generator: np.random.Generator,
    permutations: int = PERMUTATIONS,
    bootstrap: int = 2000,
) -> Probe:
    """Read a label by logistic regression, cross-validated over queriers, beside the same with shuffled labels.

    Args:
        vectors: (Q, D).
        labels: A value for each querier.
        generator: Makes folds, permutations and the bootstrap.
        permutations: How often the label is shuffled.
        bootstrap: Draws of the interval.

    Raises:
        InputError: With one value only, or a value with fewer than three queriers.
    """
    values, wanted = np.unique(np.asarray(labels), return_inverse=True)
    vectors = _checked(vectors, len(wanted))
    counts = np.bincount(wanted)
    if len(values) < 2 or counts.min() < LEAST:
        raise InputError(
            f"a probe needs at least two values with {LEAST} queriers each, got "
            f"{dict(zip(values.tolist(), counts.tolist(), strict=True))}; merge rare values or leave them out"
        )
    right = _predict(vectors, wanted, generator) == wanted
    shuffled = []
    for _ in range(permutations):
        other = generator.permutation(wanted)
        shuffled.append(_balanced(_predict(vectors, other, generator) == other, other))
    drawn = generator.integers(len(wanted), size=(bootstrap, len(wanted)))
    scores = [_balanced(right[rows], wanted[rows]) for rows in drawn]
    low, high = np.quantile(scores, [0.025, 0.975])
    return Probe(
        accuracy=_balanced(right, wanted),
        low=float(low),
        high=float(high),
        permuted=float(np.mean(shuffled)) if shuffled else float("nan"),
        permuted_high=float(np.max(shuffled, initial=0.0)),
        chance=1 / len(values),
        n=len(wanted),
    )


def numbers(
    vectors: np.ndarray, places: np.ndarray, labels: Mapping[str, Sequence[str]], generator: np.random.Generator
) -> DataFrame:
    """One line per label: probe with interval, the same shuffled, chance, silhouette; and the map's trustworthiness.

    Args:
        vectors: (Q, D).
        places: On the map, (Q, 2).
        labels: For each label its value for each querier.
        generator: As in `probe`.
    """
    pandas = need("pandas")
    trust = trustworthiness(vectors, places)
    lines: list[dict[str, Any]] = []
    for label, values in labels.items():
        read = vars(probe(vectors, values, generator))
        lines.append({"label": label, **read, "silhouette": silhouette(vectors, values), "trustworthiness": trust})
    table: DataFrame = pandas.DataFrame(lines).set_index("label")
    return table


def _predict(vectors: np.ndarray, wanted: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A prediction for each querier from those of the other folds, (Q,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(
        min(FOLDS, int(np.bincount(wanted).min())), shuffle=True, random_state=int(generator.integers(2**31))
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))
    predicted: np.ndarray = cross_val_predict(model, vectors, wanted, cv=folds)
    return predicted


def _balanced(right: np.ndarray, wanted: np.ndarray) -> float:
    """Mean over the values of the share that is right."""
    count = np.bincount(wanted)
    share = np.bincount(wanted, right)[count > 0] / count[count > 0]
    return float(share.mean())


def _checked(vectors: np.ndarray, least: int) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=float)
    if vectors.ndim != 2 or len(vectors) < least or not np.isfinite(vectors).all():
        raise InputError(f"vectors must be finite, of shape (Q, D) with at least {least} queriers, got {vectors.shape}")
    return vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=float)
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def _array(places: Any, width: int) -> np.ndarray:
    """As float64 with so many columns; vectors of one number leave the second column 0."""
    found = np.zeros((len(places), width))
    found[:, : np.shape(places)[1]] = places
    return found
