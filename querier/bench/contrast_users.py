"""What choosing contrast users costs here, and as DPL's released code does it.

The released code takes each user and item by itself: the sentence encoder reads all reviews of the item, k-means of
scikit-learn makes K + 1 cells of them, and from each cell but the user's own the review nearest the centre is taken. It
is timed on pairs drawn at random and scaled to all pairs whose item has K other reviewers. Against it stands one run of
the library's choice for all dialogues: each text encoded once, queries too, clusters, one k-means an item, the filters
of time, scene and style. Both sides read every dialogue, with the same encoder and threads; the pairs are taken half
before and half after ours, so that a noisy machine disturbs both alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans

from querier.config import Config
from querier.data.embeddings import Progress
from querier.data.records import Corpus
from querier.errors import InputError
from querier.neighbours.clusters import fit_clusters
from querier.neighbours.contrast_users import ContrastUsers, Rows, find_contrast_users
from querier.types import EncodeTexts

RELEASED_SEED = 42  # of the released code's k-means
TIE = 1e-5  # distances to a centre that differ by less may fall out either way


def measure_contrast_users(
    config: Config, corpus: Corpus, encode: EncodeTexts, pairs: int, progress: Progress
) -> dict[str, Any]:
    """Time both, and compare whom they choose.

    Args:
        config: Reads `contrast`, `clusters` and `seed`.
        corpus: Dialogues, some of which share an item.
        encode: The sentence encoder.
        pairs: How many users with an item the released way is timed on.
        progress: Told of each of them.

    Returns:
        `ratio` of the released way's time to ours, with the encoder and of the choice alone; `same_choice`, the share
        of pairs for whom both choose the same people where the released way starts from our centres and we do not
        filter by time, with the number of pairs with `ties`; the `seconds` of each part.

    Raises:
        InputError: No item has K + 1 queriers.
    """
    anchors = usable(corpus, config.contrast.k)
    drawn = np.random.default_rng(config.seed).permutation(anchors)[:pairs]
    encode(["the weights are read before the clock runs"])
    released, half = _Released(corpus, encode, config.contrast.k), len(drawn) // 2
    released.take(drawn[:half], lambda done: progress("user by user", done, len(drawn)))
    ours = choose_for_all(config, corpus, encode)
    released.take(drawn[half:], lambda done: progress("user by user", half + done, len(drawn)))
    scale = len(anchors) / len(drawn)
    same, ties = same_choice(config, corpus, ours, drawn)
    return {
        "ratio": {
            "with_encoder": round(scale * (released.encoding + released.choosing) / ours.total, 2),
            "kmeans_only": round(scale * released.choosing / ours.choosing, 2),
        },
        "same_choice": same,
        "ties": ties,
        "seconds": {
            "released_encoder": round(scale * released.encoding, 2),
            "released_kmeans": round(scale * released.choosing, 2),
            "encoder": round(ours.encoding, 2),
            "clusters": round(ours.clustering, 2),
            "contrast_users": round(ours.choosing, 3),
        },
        "pairs": {"timed": len(drawn), "all": len(anchors)},
        "dialogues": len(corpus),
        "threads": torch.get_num_threads(),
    }


def usable(corpus: Corpus, k: int) -> np.ndarray:
    """Rows whose item was spoken of by K others, and by their querier once, (n,) int64.

    Raises:
        InputError: There are none.
    """
    item, querier = np.asarray(corpus.item), np.asarray(corpus.querier)
    pair, first, often = np.unique(np.stack([item, querier], 1), axis=0, return_index=True, return_counts=True)
    others = np.bincount(pair[pair[:, 0] >= 0, 0], minlength=int(item.max(initial=-1)) + 2)
    # Where somebody spoke of an item more than once, which of it is meant is open.
    rows: np.ndarray = np.sort(first[(pair[:, 0] >= 0) & (often == 1) & (others[pair[:, 0]] > k)])
    if not len(rows):
        raise InputError(
            f"name=contrast_users compares people who spoke of the same thing, but no `item` has {k + 1} queriers; "
            "give such data, as data=jsonl data.path=reviews.jsonl data.fields.item=<its name>, or a smaller contrast.k"
        )
    return rows


class _Released:
    """The choice user by user.

    Args:
        corpus: All dialogues.
        encode: Reads an item's replies anew for each user.
        k: Contrast users.
    """

    def __init__(self, corpus: Corpus, encode: EncodeTexts, k: int) -> None:
        self.encode, self.k, self.texts = encode, k, corpus.replies()
        self.item, self.querier = np.asarray(corpus.item), np.asarray(corpus.querier)
        self.encoding = self.choosing = 0.0

    def take(self, rows: np.ndarray, tell: Callable[[int], None]) -> None:
        """Choose for some rows, with the clock running."""
        for done, row in enumerate(rows.tolist(), start=1):
            entries = np.flatnonzero(self.item == self.item[row])
            texts = [self.texts[entry] for entry in entries.tolist()]
            begun = time.perf_counter()
            vectors = self.encode(texts)
            encoded = time.perf_counter()
            model = KMeans(self.k + 1, random_state=RELEASED_SEED)
            nearest_of_each_cell(model, vectors, int(np.flatnonzero(entries == row)[0]))
            self.choosing += time.perf_counter() - encoded
            self.encoding += encoded - begun
            tell(done)


def nearest_of_each_cell(model: KMeans, vectors: np.ndarray, own: int) -> list[list[int]]:
    """For each cell that `own` is not in the places nearest its centre, several where they are equally near.

    Args:
        model: Is fitted on them.
        vectors: (n, E) float32.
        own: Place of the user's reply.
    """
    labels = model.fit(vectors).labels_
    chosen = []
    for cell in np.unique(labels[labels != labels[own]]).tolist():
        places = np.flatnonzero(labels == cell)
        away = np.linalg.norm(vectors[places] - model.cluster_centers_[cell], axis=1)
        chosen.append(places[away < away.min() + TIE].tolist())
    return chosen


@dataclass
class Ours:
    """The library's choice for all dialogues, and what it took.

    Attributes:
        rows: Columns of the dialogues, every one in the pool.
        replies: Vectors of the replies, (N, E) float32.
        queries: Vectors of the queries, (N, E) float32.
        users: The choice.
        encoding: Seconds, as the next two.
        clustering: Of the queries.
        choosing: Groups, styles, cells and filters.
    """

    rows: Rows
    replies: np.ndarray
    queries: np.ndarray
    users: ContrastUsers
    encoding: float
    clustering: float
    choosing: float

    @property
    def total(self) -> float:
        """Seconds of all of it."""
        return self.encoding + self.clustering + self.choosing


def choose_for_all(config: Config, corpus: Corpus, encode: EncodeTexts) -> Ours:
    """Choose as the preparation does, from texts on, with all dialogues in the pool."""
    columns = [np.asarray(column) for column in (corpus.querier, corpus.time, corpus.scene, corpus.item)]
    querier, moment, scene, item = columns
    begun = time.perf_counter()
    replies, reply = _encoded_once(corpus.replies(), encode)
    queries, query = _encoded_once(corpus.queries(), encode)
    encoded = time.perf_counter()
    clusters = fit_clusters(queries[query], querier, scene, config.clusters)
    clustered = time.perf_counter()
    rows = Rows(querier, moment, scene, item, clusters.labels, np.ones(len(corpus), dtype=bool), reply)
    rng = np.random.default_rng(config.clusters.seed)
    users = find_contrast_users(
        rows, lambda chosen: queries[query[chosen]], lambda chosen: replies[reply[chosen]], config.contrast, rng
    )
    chosen = time.perf_counter()
    return Ours(rows, replies[reply], queries[query], users, encoded - begun, clustered - encoded, chosen - clustered)


def same_choice(config: Config, corpus: Corpus, ours: Ours, drawn: np.ndarray) -> tuple[float, int]:
    """For what share of the rows k-means user by user, from our centres, chooses whom we choose.

    Where several of a cell are equally near its centre, as both of a cell of two, either of them is right.

    Returns:
        The share, and for how many rows there was such a tie.
    """
    n, users = len(corpus), whenever_they_spoke(config, ours)
    same, ties = 0, 0
    for row in drawn.tolist():
        entries = np.flatnonzero(users.group[:n] == users.group[row])
        cells, vectors = users.cell[entries], ours.replies[entries]
        centres = np.stack([vectors[cells == cell].mean(0) for cell in np.unique(cells).tolist()])
        model = KMeans(len(centres), init=centres, n_init=1)
        nearest = nearest_of_each_cell(model, vectors, int(np.flatnonzero(entries == row)[0]))
        chosen = users.rows[n + row, :, 0]
        right = [len(np.intersect1d(entries[places], chosen)) == 1 for places in nearest]
        same += all(right) and len(right) == int((chosen >= 0).sum())
        ties += any(len(places) > 1 for places in nearest)
    return round(same / len(drawn), 4), ties


def whenever_they_spoke(config: Config, ours: Ours) -> ContrastUsers:
    """Our choice without the filters of time, scene and style: row N + i holds that of dialogue i.

    Each dialogue asks a second time, later than all, in a scene of its own. Where each is a cluster of its own nobody
    has a style.
    """
    rows, n = ours.rows, len(ours.rows.querier)
    twice = Rows(
        querier=np.tile(rows.querier, 2),
        time=np.concatenate([rows.time, np.full(n, int(rows.time.max()) + 1)]),
        scene=np.arange(2 * n),
        item=np.tile(rows.item, 2),
        cluster=np.tile(np.arange(n), 2),
        in_pool=np.repeat([True, False], n),
        reply=np.tile(rows.reply, 2),
    )
    return find_contrast_users(
        twice,
        lambda chosen: ours.queries[chosen % n],
        lambda chosen: ours.replies[chosen % n],
        config.contrast,
        np.random.default_rng(config.clusters.seed),
    )


def _encoded_once(texts: Sequence[str], encode: EncodeTexts) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the distinct texts, and the place of each text among them."""
    number: dict[str, int] = {}
    places = np.array([number.setdefault(text, len(number)) for text in texts], dtype=np.int64)
    return encode(list(number)), places
