"""A log at first sight: who asks how often, and what a split makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from querier.analysis.extra import need
from querier.analysis.figures import COLOURS, finished, plain
from querier.data.records import Corpus
from querier.data.words import words
from querier.types import Split

if TYPE_CHECKING:
    from pandas import DataFrame


def querier_table(corpus: Corpus) -> DataFrame:
    """One line for each querier of a split corpus, who asks most first.

    Args:
        corpus: After `split`.

    Returns:
        `querier`, `unseen`, `dialogues`, those of each split (`train`, `validation`, `test`, `history`), `scenes`,
        `responders`, and the median words of their queries (`asks`) and of the replies (`hears`).

    >>> found = querier_table(responder.prepared.corpus)
    >>> found["dialogues"].tolist() == [12] * 10, found["unseen"].sum().item()
    (True, 1)
    """
    pandas = need("pandas")
    querier = np.asarray(corpus.querier)
    kinds = {split.name.lower(): split.value for split in Split if split is not Split.EXCLUDED}
    rows = pandas.DataFrame(
        {
            "querier": [corpus.queriers[number] for number in querier],
            "unseen": np.asarray(corpus.unseen)[querier],
            "scene": np.asarray(corpus.scene),
            "responder": np.asarray(corpus.responder),
            "asks": [len(words(text)) for text in corpus.queries()],
            "hears": [len(words(text)) for text in corpus.replies()],
            **{name: np.asarray(corpus.split) == value for name, value in kinds.items()},
        }
    )
    sums = {name: (name, "sum") for name in kinds}
    medians = {name: (name, "median") for name in ("asks", "hears")}
    table: DataFrame = (
        rows.groupby("querier")
        .agg(
            unseen=("unseen", "first"),
            dialogues=("scene", "size"),
            **sums,
            scenes=("scene", "nunique"),
            responders=("responder", "nunique"),
            **medians,
        )
        .reset_index()
    )
    return table.sort_values(["dialogues", "querier"], ascending=[False, True], ignore_index=True)


def dialogues_figure(table: DataFrame, name: str, path: Path | None = None) -> Any:
    """A matplotlib figure of a table of `querier_table`: how much is known of how many.

    Args:
        table: Of one corpus.
        name: Of the log, for the title.
        path: Where the picture is written; the ending gives the format.

    >>> dialogues_figure(querier_table(responder.prepared.corpus), "planted").axes[0].get_ylabel()
    'queriers'
    """
    figure = need("matplotlib.figure").Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    largest = int(table["dialogues"].max())
    edges = np.arange(0.5, largest + 1.5) if largest <= 40 else np.geomspace(0.5, largest + 0.5, 30)
    axes.hist(table["dialogues"], bins=edges, color=COLOURS[0])
    if largest > 40:
        axes.set_xscale("log")
    few = int((table["dialogues"] < 4).sum())
    axes.set_xlabel("dialogues of a querier")
    axes.set_ylabel("queriers")
    figure.suptitle(plain(f"How much is known of how many, n = {len(table):,} queriers, {name}"), fontsize=11)
    note = f"median {table['dialogues'].median():.0f} dialogues; {few:,} queriers with fewer than 4"
    return finished(figure, note, path)
