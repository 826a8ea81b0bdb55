"""Clusters of queries and contrast users: what is asked, and who was answered otherwise where the same was asked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from scipy.special import ndtr  # type: ignore[import-untyped]  # scipy has no types

from querier.analysis.extra import need
from querier.analysis.figures import COLOURS, finished, plain
from querier.analysis.html_pieces import Html, isolated, side_by_side
from querier.data.describing import describe_clusters, example_anchor, explain_contrast
from querier.data.preparation import Prepared
from querier.data.words import words
from querier.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

PRIOR = 0.1  # of each word's count in the whole pool that both sides are given, so that no word has none
SURE = 0.05  # chance that any term is listed where clusters are drawn by lot
LETTERS = 60


def cluster_table(prepared: Prepared, examples: int = 3, terms: int = 5) -> DataFrame:
    """Every cluster of the pool, the largest first.

    Args:
        prepared: With its clusters.
        examples: Typical queries, those nearest the centre.
        terms: Salient ones at most, as `salient_terms` gives them.

    Returns:
        `cluster`, `dialogues`, `share`, `queriers`, `typical` (texts) and `terms` (words), a line for each cluster.

    >>> found = cluster_table(responder.prepared)
    >>> round(float(found["share"].sum()), 6), len(found["typical"][0]) <= 3
    (1.0, True)
    """
    described = describe_clusters(prepared, examples)
    salient = salient_terms(prepared, terms)
    listed = {one.cluster: salient.loc[salient["cluster"] == one.cluster, "term"].tolist() for one in described}
    whole = sum(one.size for one in described)
    lines = [
        {
            "cluster": one.cluster,
            "dialogues": one.size,
            "share": one.size / whole,
            "queriers": one.queriers,
            "typical": list(one.examples),
            "terms": listed[one.cluster],
        }
        for one in described
    ]
    table: DataFrame = need("pandas").DataFrame(lines)
    return table


def salient_terms(prepared: Prepared, most: int = 5) -> DataFrame:
    """Words that a cluster's queries use more than the others do: `cluster`, `term`, `queries`, `elsewhere`, `z`, `p`.

    `queries` and `elsewhere` count the queries with the word inside and outside; `z` is the log-odds ratio, with an
    informative prior, over its standard error, and `p` its one-sided p by Holm over all words of all clusters. Only
    words with a p below .05 are listed.

    Args:
        prepared: With its clusters.
        most: Words of each cluster.

    References:
        Monroe, Colaresi, Quinn: Fightin' words: lexical feature selection and evaluation for identifying the content
        of political conflict, 2008, equations 15, 16, 22.

    >>> found = salient_terms(responder.prepared)
    >>> bool((found["p"] < 0.05).all())
    True
    """
    pool = prepared.pool
    inside: dict[int, Counter[str]] = {}
    for row, cluster in zip(pool.tolist(), np.asarray(prepared.cluster[pool]).tolist(), strict=True):
        inside.setdefault(cluster, Counter()).update(set(words(prepared.corpus.dialogue(row).query)))
    whole: Counter[str] = sum(inside.values(), Counter())
    lines = [
        {"cluster": cluster, "term": term, "queries": count, "elsewhere": whole[term] - count}
        | {"z": _salience(counts, whole, term)}
        for cluster, counts in inside.items()
        for term, count in counts.items()
    ]
    table: DataFrame = need("pandas").DataFrame(lines, columns=["cluster", "term", "queries", "elsewhere", "z"])
    table = table.sort_values(["z", "term"], ascending=[False, True], kind="stable")
    table["p"] = _holm(table["z"].to_numpy(dtype=float), len(inside) * len(whole))
    found: DataFrame = table[table["p"] < SURE].groupby("cluster").head(most)
    return found.sort_values("cluster", kind="stable", ignore_index=True)


def contrast_table(prepared: Prepared, row: int | None = None) -> DataFrame:
    """A dialogue and its contrast users: who was answered otherwise where the same was asked.

    Args:
        prepared: With its contrast users.
        row: The dialogue; None for the first one with the most contrast users.

    Returns:
        The anchor first, then a line for each contrast user: `querier`, `role`, `query`, `reply`, `cell`, `cosine` of
        the reply to the anchor's, `only_here` and `only_anchor` (words of the one reply that the other has not), `why`.

    Raises:
        InputError: A row that is not there, or one without contrast users.

    >>> found = contrast_table(responder.prepared)
    >>> found["role"].tolist()[:2], float(found["cosine"][0])
    (['anchor', 'contrast user'], 1.0)
    """
    row = example_anchor(prepared) if row is None else row
    if not 0 <= row < len(prepared.corpus):
        raise InputError(f"row {row} is not among the {len(prepared.corpus)} dialogues")
    anchor, users = prepared.corpus.dialogue(row), explain_contrast(prepared, row)
    if not users:
        raise InputError(
            f"dialogue {anchor.id!r} has no contrast users: nobody else asked the like before it; row=None finds one"
        )
    vectors = prepared.replies([row, *(user.row for user in users)]).astype(float)
    cosine = vectors @ vectors[0] / np.maximum(np.linalg.norm(vectors, axis=1) * np.linalg.norm(vectors[0]), 1e-12)
    own = int(prepared.contrast_users.own_cell[row])
    lines: list[dict[str, Any]] = [
        {"querier": anchor.querier, "role": "anchor", "query": anchor.query, "reply": anchor.reply, "cell": own}
    ]
    lines[0].update(cosine=1.0, only_here=[], only_anchor=[], why="")
    for user, near in zip(users, cosine[1:], strict=True):
        mine, theirs = words(anchor.reply), words(user.reply)
        lines.append(
            {
                "querier": user.querier,
                "role": "contrast user",
                "query": user.query,
                "reply": user.reply,
                "cell": user.cell,
                "cosine": float(near),
                "only_here": [word for word in dict.fromkeys(theirs) if word not in mine],
                "only_anchor": [word for word in dict.fromkeys(mine) if word not in theirs],
                "why": user.why,
            }
        )
    table: DataFrame = need("pandas").DataFrame(lines)
    return table.assign(cell=table["cell"].astype("Int64").where(table["cell"] >= 0))


def contrast_html(table: DataFrame) -> Html:
    """The replies of a table of `contrast_table` below each other; what differs from the anchor's is marked.

    Args:
        table: Of one anchor.

    >>> contrast_html(contrast_table(responder.prepared)).count("<tr>") > 1
    True
    """
    words = Markup("{} (cell {})")
    names = [words.format(isolated(name), cell) for name, cell in zip(table["querier"], table["cell"], strict=True)]
    pairs = list(zip(names, table["reply"], strict=True))
    title = Markup("{}: {}").format(isolated(table["querier"].iloc[0]), table["query"].iloc[0])
    return side_by_side(title, pairs[0], pairs[1:])


def cluster_figure(table: DataFrame, run: str, path: Path | None = None, most: int = 20) -> Any:
    """Bars of a table of `cluster_table`: how large the clusters are, and what is asked in them.

    Args:
        table: With `dialogues`, `queriers`, `typical` and `terms`.
        run: Its id.
        path: Where the picture is written; the ending gives the format.
        most: Clusters shown.

    >>> cluster_figure(cluster_table(responder.prepared), "first").axes[0].get_xlabel()
    'training dialogues'
    """
    shown = table.head(most)
    figure = need("matplotlib.figure").Figure(figsize=(8.0, 1.3 + 0.3 * len(shown)), layout="constrained")
    axes = figure.subplots()
    places = range(len(shown))
    axes.barh(places, shown["dialogues"], color=COLOURS[0])
    names = [plain(_label(cluster, terms, typical)) for cluster, terms, typical in zip(*_columns(shown), strict=True)]
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    for place, size, queriers in zip(places, shown["dialogues"], shown["queriers"], strict=True):
        axes.annotate(
            f"{queriers:,} queriers", (size, place), (4, 0), textcoords="offset points", fontsize=7, va="center"
        )
    axes.margins(x=0.2, y=0.02)
    axes.set_xlabel("training dialogues")
    axes.set_ylabel("cluster: salient words", fontsize=9)
    some = f", the {len(shown)} largest" if len(shown) < len(table) else ""
    whole = int(table["dialogues"].sum())
    figure.suptitle(
        plain(f"What is asked: {len(table)} clusters{some}, n = {whole:,} training dialogues, run {run}"), fontsize=11
    )
    return finished(figure, path=path)


def _salience(inside: Counter[str], whole: Counter[str], term: str) -> float:
    """Log-odds ratio of a word inside a cluster to outside over its standard error."""
    prior, mass = PRIOR * whole[term], PRIOR * whole.total()
    here, there = inside[term] + prior, whole[term] - inside[term] + prior
    all_here, all_there = inside.total() + mass, whole.total() - inside.total() + mass
    ratio = np.log(here / (all_here - here)) - np.log(there / (all_there - there))
    return float(ratio / np.sqrt(1 / here + 1 / there))


def _holm(z: np.ndarray, tests: int) -> np.ndarray:
    """One-sided p of standard normal values, the largest first, by Holm over so many tests, (n,)."""
    stepped = np.maximum.accumulate(ndtr(-z) * (tests - np.arange(len(z))))
    return np.minimum(stepped, 1.0)


def _columns(table: DataFrame) -> list[list[Any]]:
    return [table[name].tolist() for name in ("cluster", "terms", "typical")]


def _label(cluster: int, terms: list[str], typical: list[str]) -> str:
    said = ", ".join(terms) or (typical[0] if typical else "")
    return f"{cluster}: {said}" if len(said) <= LETTERS else f"{cluster}: {said[: LETTERS - 1]}…"
