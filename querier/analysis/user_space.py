"""Numbers about the learned space of queriers: neighbours, and whether a label can be read from a vector.

Every function takes vectors (Q, D), as `querier.analysis.vectors` and `Responder.embed_queriers` give them; none needs
a model. A picture of such a space proves nothing by itself: `probe` says how much of a label is in the vectors and how
much a shuffled label gives, `trustworthiness` how far the map may be believed. Numbers whose cost grows with the square
of the queriers are taken on a seeded sample of `MANY` of them where there are more.

References:
    Wang, Isola: Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere, 2020, section 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from querier.analysis.extra import need
from querier.errors import InputError
from querier.neighbours.index import PoolIndex

if TYPE_CHECKING:
    from pandas import DataFrame

FOLDS = 5
PERMUTATIONS = 20
LEAST = 3  # of a kind that folds can be made of
EXACT_BELOW = 20_000  # queriers up to which each is compared with all others
MANY = 4000  # queriers beyond which a sample is measured
AT_ONCE = 512  # queriers whose neighbours' vectors are held in memory


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


def nearest_places(
    vectors: np.ndarray, count: int, newcomers: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other queriers of each by cosine, nearest first: places (n, k) and cosines (n, k).

    Among more than `EXACT_BELOW` queriers the search is approximate and misses a few of the nearest.

    Args:
        vectors: (Q, D).
        count: How many, at most Q − 1.
        newcomers: Of whom the neighbours are wanted, (n, D), none of them among the Q; None for the Q themselves.

    >>> places, cosine = nearest_places(np.array([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0]]), 1)
    >>> places[:, 0].tolist()
    [1, 0, 1]
    """
    vectors = checked(vectors, 1 if newcomers is not None else 2)
    asked = vectors if newcomers is None else checked(newcomers, 1)
    own = np.arange(len(vectors))
    count = min(count, len(vectors) - (newcomers is None))
    index = PoolIndex(vectors.astype(np.float32), own, np.zeros(len(vectors)), own, EXACT_BELOW)
    places = index.nearest(asked, count, own if newcomers is None else np.full(len(asked), -1))
    mine, unit = _unit(asked), _unit(vectors)
    parts = [slice(start, start + AT_ONCE) for start in range(0, len(places), AT_ONCE)]
    return places, np.concatenate([np.einsum("nd,nkd->nk", mine[one], unit[places[one]]) for one in parts])


def neighbour_table(names: Sequence[str], vectors: np.ndarray, count: int = 5) -> DataFrame:
    """The nearest others of every querier, also where there are very many: `querier`, `rank`, `nearest`, `cosine`.

    Args:
        names: Q.
        vectors: (Q, D).
        count: Of each querier.

    >>> neighbour_table(["Ann", "Bob", "Cid"], np.array([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0]]), 1)["nearest"].tolist()
    ['Bob', 'Ann', 'Bob']
    """
    pandas = need("pandas")
    places, cosine = nearest_places(vectors, count)
    shown = np.asarray(names, dtype=object)
    lines = {
        "querier": np.repeat(shown, places.shape[1]),
        "rank": np.tile(np.arange(1, places.shape[1] + 1), len(places)),
        "nearest": shown[places.ravel()],
        "cosine": cosine.ravel(),
    }
    table: DataFrame = pandas.DataFrame(lines)
    return table


def nearest_queriers(names: Sequence[str], vectors: np.ndarray, querier: str, count: int = 5) -> DataFrame:
    """The queriers nearest to one by cosine, nearest first: `querier`, `cosine`.

    Raises:
        InputError: Where the querier is not among the names.

    >>> nearest_queriers(["Ann", "Bob", "Cid"], np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 1.0]]), "Ann", 1)
      querier  cosine
    0     Bob     0.6
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


def same_querier_auc(first: np.ndarray, second: np.ndarray, seed: int = 0) -> float:
    """How often a querier's two vectors are nearer to each other than to another querier's; ties count ½, chance is ½.

    Args:
        first: A vector of each querier from one half of their history, (Q, D).
        second: From the other half, (Q, D).
        seed: Of the sample of queriers.

    Raises:
        InputError: Where the shapes differ, or there are fewer than two queriers.

    >>> same_querier_auc(np.eye(3), np.eye(3))
    1.0
    """
    if first.shape != second.shape:
        raise InputError(f"two views need equal shapes, got {first.shape} and {second.shape}")
    kept = _sample(len(checked(first, 2)), seed)
    similarity = _unit(first[kept]) @ _unit(checked(second, 2)[kept]).T
    same = np.eye(len(similarity), dtype=bool)
    own, other = similarity[same], np.sort(similarity[~same])
    below, not_above = (np.searchsorted(other, own, side) for side in ("left", "right"))
    return float(((below + not_above) / 2 / len(other)).mean())


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """Mean squared distance of two vectors of one querier on the unit sphere, in [0, 4]; 0 where they agree.

    Args:
        first: (n, D).
        second: Of the same queriers, (n, D).

    Raises:
        InputError: Where the shapes differ.

    >>> alignment(np.eye(2), -np.eye(2))
    4.0
    """
    if first.shape != second.shape:
        raise InputError(f"two views need equal shapes, got {first.shape} and {second.shape}")
    gap = _unit(checked(first, 1)) - _unit(checked(second, 1))
    return float((gap * gap).sum(1).mean())


def uniformity(vectors: np.ndarray, seed: int = 0) -> float:
    """How far vectors spread on the unit sphere: log mean exp(−2 d²) over pairs, 0 at one place, lower where apart.

    Args:
        vectors: (Q, D).
        seed: Of the sample of queriers.

    >>> round(uniformity(np.ones((3, 2))), 6) + 0.0
    0.0
    """
    vectors = checked(vectors, 2)
    unit = _unit(vectors[_sample(len(vectors), seed)])
    distance = np.maximum(2 - 2 * unit @ unit.T, 0.0)[np.triu_indices(len(unit), 1)]
    return float(np.log(np.exp(-2 * distance).mean()))


def silhouette(vectors: np.ndarray, labels: Sequence[str], seed: int = 0) -> float | None:
    """Mean silhouette of a label's groups by cosine, in [−1, 1]; None where all or none share a value.

    Args:
        vectors: (Q, D).
        labels: A value for each querier.
        seed: Of the sample of queriers.

    >>> round(silhouette(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), list("aabb")), 2)
    0.99
    """
    from sklearn.metrics import silhouette_score

    vectors, values = checked(vectors, 3), np.asarray(labels)
    kept = _sample(len(vectors), seed)
    kinds = len(set(values[kept].tolist()))
    if not 2 <= kinds < len(kept):
        return None
    return float(silhouette_score(_unit(vectors[kept]), values[kept], metric="cosine"))


def trustworthiness(vectors: np.ndarray, places: np.ndarray, neighbours: int = 5, seed: int = 0) -> float | None:
    """How far neighbours on the map are neighbours in the space, in [0, 1]; None with too few queriers to say.

    Args:
        vectors: (Q, D).
        places: On the map, (Q, 2).
        neighbours: How many of each querier are looked at.
        seed: Of the sample of queriers.

    >>> plane = np.random.default_rng(0).normal(size=(20, 2))
    >>> trustworthiness(plane, plane)
    1.0
    """
    from sklearn.manifold import trustworthiness as measure

    vectors = checked(vectors, 1)
    kept = _sample(len(vectors), seed)
    count = min(neighbours, (len(kept) - 1) // 2)
    return float(measure(vectors[kept], places[kept], n_neighbors=count)) if count >= 1 else None


def probe(
    vectors: np.ndarray,
    labels: Sequence[str],
    generator: np.random.Generator,
    permutations: int = PERMUTATIONS,
    bootstrap: int = 2000,
) -> Probe:
    """Read a label by logistic regression, cross-validated over queriers, beside the same with shuffled labels.

    Of more than `MANY` queriers a sample is read, with three of each value that so many have; `n` says how many.

    Args:
        vectors: (Q, D).
        labels: A value for each querier.
        generator: Makes folds, permutations and the bootstrap.
        permutations: How often the label is shuffled.
        bootstrap: Draws of the interval.

    Raises:
        InputError: With one value only, or a value with fewer than three queriers.

    >>> found = probe(np.repeat(np.eye(2), 9, 0), list("a" * 9 + "b" * 9), np.random.default_rng(0), permutations=2)
    >>> found.accuracy, found.chance
    (1.0, 0.5)
    """
    vectors = checked(vectors, len(labels))
    kept = _with_rare(_sample(len(labels), generator), np.asarray(labels), generator)
    vectors, values = vectors[kept], np.asarray(labels)[kept]
    values, wanted = np.unique(values, return_inverse=True)
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
    vectors: np.ndarray, places: np.ndarray, labels: Mapping[str, Sequence[str | None]], generator: np.random.Generator
) -> DataFrame:
    """One line per label: probe with interval, the same shuffled, chance, silhouette; and the map's trustworthiness.

    Args:
        vectors: (Q, D).
        places: On the map, (Q, 2).
        labels: For each label its value for each querier; whose value is None is not judged by it.
        generator: As in `probe`.

    >>> vectors = np.random.default_rng(0).normal(size=(12, 3))
    >>> found = numbers(vectors, vectors[:, :2], {"sign": list("ab" * 6)}, np.random.default_rng(0))
    >>> found.index.tolist(), int(found.loc["sign", "n"])
    (['sign'], 12)
    """
    pandas = need("pandas")
    trust = trustworthiness(vectors, places)
    lines: list[dict[str, Any]] = []
    for label, values in labels.items():
        kept = np.array([value is not None for value in values])
        known, given = vectors[kept], [value for value in values if value is not None]
        read = vars(probe(known, given, generator))
        lines.append({"label": label, **read, "silhouette": silhouette(known, given), "trustworthiness": trust})
    columns = ["label", *(entry.name for entry in fields(Probe)), "silhouette", "trustworthiness"]
    table: DataFrame = pandas.DataFrame(lines, columns=columns).set_index("label")
    return table


def why_no_probe(labels: Sequence[str | None]) -> str:
    """Why no probe can be made of a label, in words; empty where one can.

    Args:
        labels: A value for each querier, None where it is not known.

    >>> why_no_probe(["a", "a", "a", "b"])
    'a probe needs 3 queriers of each value, b has 1'
    >>> why_no_probe(["a", "a", "a", "b", "b", "b", None])
    ''
    """
    counts = Counter(value for value in labels if value is not None)
    if not counts:
        return "nobody on the map has this label"
    if len(counts) < 2:
        return f"all who have this label have {next(iter(counts))}"
    rarest, count = min(counts.items(), key=lambda pair: (pair[1], pair[0]))
    if count >= LEAST:
        return ""
    return f"a probe needs {LEAST} queriers of each value, {rarest} has {count}"


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


def checked(vectors: np.ndarray, least: int) -> np.ndarray:
    """The vectors as float64.

    Args:
        vectors: (Q, D).
        least: Queriers that there must be.

    Raises:
        InputError: With fewer, of another shape, or not finite.

    >>> checked(np.eye(2), 1).dtype
    dtype('float64')
    """
    vectors = np.asarray(vectors, dtype=float)
    if vectors.ndim != 2 or len(vectors) < least or not np.isfinite(vectors).all():
        raise InputError(f"vectors must be finite, of shape (Q, D) with at least {least} queriers, got {vectors.shape}")
    return vectors


def _sample(count: int, seed: int | np.random.Generator) -> np.ndarray:
    """Places in ascending order: all of them, or a seeded sample of `MANY`."""
    if count <= MANY:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, size=MANY, replace=False))


def _with_rare(kept: np.ndarray, values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The sample with as many more of a value as `LEAST` asks for and the sample lacks."""
    for value in np.unique(values) if len(kept) < len(values) else ():
        own = np.flatnonzero(values == value)
        lacking = min(LEAST, len(own)) - int(np.isin(own, kept).sum())
        if lacking > 0:
            kept = np.append(kept, generator.choice(np.setdiff1d(own, kept), size=lacking, replace=False))
    return np.sort(kept)


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=float)
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
