"""What the preparation found, as plain data for tables: example queries of clusters, reasons for contrast users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from querier.data.preparation import Prepared
from querier.types import Split


@dataclass(frozen=True)
class ClusterRow:
    """A cluster of queries.

    Args:
        cluster: Its number.
        size: Training dialogues in it.
        queriers: Different queriers among them.
        examples: Queries nearest its centre, each text once.
    """

    cluster: int
    size: int
    queriers: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class ContrastRow:
    """A contrast user of one anchor.

    Args:
        querier: Their name.
        row: Their dialogue in the corpus.
        query: What they asked.
        reply: What they were answered.
        cell: Cell of that reply in the comparison group; 0 is the largest.
        distance: From the reply to the centre of the cell.
        why: In words.
    """

    querier: str
    row: int
    query: str
    reply: str
    cell: int
    distance: float
    why: str


def describe_clusters(prepared: Prepared, examples: int = 3) -> list[ClusterRow]:
    """Every cluster with its size and the queries nearest its centre, the largest first."""
    pool = prepared.pool
    vectors = prepared.queries(pool)
    labels = prepared.cluster[pool]
    cosine = (vectors * prepared.clusters.centroids[labels]).sum(1)
    described = []
    for cluster in np.unique(labels):
        rows = pool[labels == cluster]
        nearest = rows[np.argsort(-cosine[labels == cluster], kind="stable")]
        _, first = np.unique(prepared.query_row[nearest], return_index=True)
        texts = tuple(prepared.corpus.dialogue(int(row)).query for row in nearest[np.sort(first)[:examples]])
        queriers = len(np.unique(prepared.corpus.querier[rows]))
        described.append(ClusterRow(int(cluster), len(rows), queriers, texts))
    return sorted(described, key=lambda entry: (-entry.size, entry.cluster))


def explain_contrast(prepared: Prepared, row: int) -> list[ContrastRow]:
    """The contrast users of the dialogue in `row`, one of each cell, and why each was chosen."""
    users = prepared.contrast_users
    described = []
    for chosen in np.asarray(prepared.contrast[row][:, 0]).tolist():
        if chosen < 0:
            continue
        dialogue = prepared.corpus.dialogue(chosen)
        cell = int(users.cell[chosen]) if users.group[row] >= 0 else -1
        described.append(
            ContrastRow(
                querier=dialogue.querier,
                row=int(chosen),
                query=dialogue.query,
                reply=dialogue.reply,
                cell=cell,
                distance=float(users.distance[chosen]),
                why=_why(prepared, row, cell),
            )
        )
    return described


def example_anchor(prepared: Prepared) -> int:
    """The first training dialogue with the most contrast users, so that nobody picks a table's anchor by hand."""
    pool = prepared.corpus.rows_in(Split.TRAIN)
    counts = (np.asarray(prepared.contrast[pool])[:, :, 0] >= 0).sum(1)
    return int(pool[counts.argmax()])


def _why(prepared: Prepared, row: int, cell: int) -> str:
    if cell < 0:
        return "drawn at random among the admissible entries"
    nearest = f"most typical of cell {cell} of such replies"
    own = int(prepared.contrast_users.own_cell[row])
    if own < 0:
        return f"{nearest}, one of the largest; which cell the anchor's replies lie in is not known"
    known = "reply lies" if prepared.corpus.split[row] == Split.TRAIN.value else "earlier replies lie"
    return f"{nearest}; the anchor's {known} in cell {own}"
