"""The preparation of a corpus: vectors, clusters, neighbours and contrast users, made once and kept.

On the main path it stands between the split corpus and the batches. The result lies in one folder of the cache, named
by what it depends on; it appears there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from querier.choices import Pool
from querier.config import Config, to_plain
from querier.data.embeddings import EmbeddingStore, Progress, open_matrix, rows_digest
from querier.data.records import Corpus
from querier.data.stylometry import stylometries
from querier.errors import InputError
from querier.files import atomic_folder, check_place, locked
from querier.neighbours.clusters import Clusters, fit_clusters
from querier.neighbours.contrast_users import ContrastUsers, Rows, find_contrast_users, no_contrast_users
from querier.neighbours.index import PoolIndex
from querier.types import EncodeTexts, Split

FORMAT = 2  # raised when older folders can no longer be read
NEAR = 5  # nearest queries that may be mutual neighbours
ASKED = (Split.TRAIN, Split.VALIDATION, Split.TEST)  # what is trained on or scored, and so needs neighbours


@dataclass
class Prepared:
    """A corpus with all that is computed from it before training.

    Args:
        corpus: N dialogues.
        matrix: Vectors of all texts, memory-mapped, (M, E) float16.
        query_row: Row of each dialogue's query in `matrix`, (N,) int64.
        reply_row: Row of each dialogue's reply, (N,) int64.
        style: Stylometry of each dialogue's reply, (N, S) float32.
        clusters: Fitted on the pool's queries.
        cluster: Cluster of each query, (N,) int64.
        far: Whether a query lies beyond what the pool knows, (N,) bool.
        neighbours: Pool rows of other queriers, strictly earlier, of other scenes, nearest query first, −1 where there
            are no more, (N, n) int64.
        contrast: Pool rows of contrast users, one row of it for each cell, nearest its centre first, −1 where there are
            no more, (N, K, nearest) int64. For dialogues outside training only [..., 0] is set.
        near: For pool rows the nearest queries of other queriers, whenever they asked, −1 pads, (N, 5) int64.
        contrast_users: The cells that `contrast` was taken from.
        shared: False where queriers share nothing (`data.pool=none`).
        notes: What was counted, for the user.
        digest: Names all that the preparation depends on.
        folder: Where it lies.
    """

    corpus: Corpus
    matrix: np.ndarray
    query_row: np.ndarray
    reply_row: np.ndarray
    style: np.ndarray
    clusters: Clusters
    cluster: np.ndarray
    far: np.ndarray
    neighbours: np.ndarray
    contrast: np.ndarray
    near: np.ndarray
    contrast_users: ContrastUsers
    shared: bool
    notes: list[str]
    digest: str
    folder: Path
    _index: PoolIndex | None = field(default=None, repr=False)

    @property
    def pool(self) -> np.ndarray:
        """Rows of the training split, (P,) int64."""
        return self.corpus.rows_in(Split.TRAIN)

    def queries(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Vectors of the dialogues' queries, (n, E) float32."""
        return np.asarray(self.matrix[self.query_row[rows]], dtype=np.float32)

    def replies(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Vectors of the dialogues' replies, (n, E) float32."""
        return np.asarray(self.matrix[self.reply_row[rows]], dtype=np.float32)

    def styles(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Stylometry of the dialogues' replies, (n, S) float32."""
        return np.asarray(self.style[rows], dtype=np.float32)

    def nearest(
        self,
        query: np.ndarray,
        querier: int,
        before: int | None = None,
        scene: int | None = None,
        count: int | None = None,
    ) -> np.ndarray:
        """Pool rows of other queriers whose queries are nearest to a new one, nearest first, (≤ count,) int64.

        Args:
            query: Its vector, (E,).
            querier: Who asks; −1 for somebody who is not in the corpus.
            before: Only dialogues strictly earlier than this; None for all.
            scene: The scene that is left out; None for none.
            count: How many at most; None for as many as `neighbours` holds for each dialogue.
        """
        pool = self.pool
        if not self.shared or len(pool) == 0:
            return np.zeros(0, dtype=np.int64)
        if self._index is None:
            self._index = _pool_index(self.corpus, self.matrix, self.query_row, pool)
        times, scenes = (None if value is None else np.array([value]) for value in (before, scene))
        count = self.neighbours.shape[1] if count is None else count
        places = self._index.nearest(query[None], count, np.array([querier]), times, scenes)[0]
        return np.asarray(pool[places[places >= 0]])

    @classmethod
    def load(cls, folder: Path) -> Prepared:
        """Open what `prepare` wrote.

        Raises:
            InputError: If it is not there, of another format, or its vectors were removed.
        """
        folder = Path(folder)
        described = folder / "prepared.json"
        if not described.is_file():
            raise InputError(f"{folder} holds no prepared corpus; run `querier prepare` with the same data")
        meta = json.loads(described.read_text(encoding="utf-8"))
        if meta["format"] != FORMAT:
            raise InputError(
                f"{folder} was written in format {meta['format']}, this version reads {FORMAT}; prepare again"
            )
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
        embeddings = (folder / meta["embeddings"]).resolve()
        used = np.unique(np.concatenate([arrays["query_row"], arrays["reply_row"]]))
        if rows_digest(embeddings, used) != meta["rows"]:
            raise InputError(f"vectors that {folder} needs are no longer in {embeddings}; run `querier prepare` again")
        group, cell, own_cell, distance = (
            arrays[f"contrast_{name}"] for name in ("group", "cell", "own_cell", "distance")
        )
        users = ContrastUsers(arrays["contrast"], group, cell, own_cell, distance)
        return cls(
            corpus=Corpus.load(folder / "corpus"),
            matrix=open_matrix(embeddings, meta["size"]),
            query_row=np.asarray(arrays["query_row"]),
            reply_row=np.asarray(arrays["reply_row"]),
            style=arrays["style"],
            clusters=Clusters(np.array(arrays["centroids"]), meta["threshold"], notes=meta["cluster_notes"]),
            cluster=np.asarray(arrays["cluster"]),
            far=np.asarray(arrays["far"]),
            neighbours=arrays["neighbours"],
            contrast=arrays["contrast"],
            near=arrays["near"],
            contrast_users=users,
            shared=meta["shared"],
            notes=meta["notes"],
            digest=meta["digest"],
            folder=folder,
        )


def prepare(
    corpus: Corpus, encode: EncodeTexts, config: Config, folder: Path, progress: Progress | None = None
) -> Prepared:
    """Prepare a split corpus, or open what was prepared before.

    Args:
        corpus: With its splits.
        encode: The sentence encoder.
        config: `clusters`, `contrast`, `data.pool` and `towers.neighbours` are read.
        folder: The cache.
        progress: Called with what is being done, how much of it, of how much.
    """
    digest = prepared_digest(corpus, encode, config)
    place = Path(folder) / "prepared" / digest[:24]
    check_place(place.parent)
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.parent / "lock", shared=True), locked(place.with_suffix(".lock")):
        store = EmbeddingStore(Path(folder) / "embeddings" / encode.digest[:24], encode)
        if (place / "prepared.json").is_file():
            try:
                found = Prepared.load(place)
            except InputError:
                pass  # of an older format, or its vectors were removed: made anew below
            else:
                found.notes = [*found.notes, f"nothing to do: prepared before ({digest[:12]})"]
                return found
        for left in place.parent.glob(f".{place.name}.*"):  # what a killed process had begun
            shutil.rmtree(left, ignore_errors=True)
        query_row = store.rows(corpus.queries(), progress)
        reply_row = store.rows(corpus.replies(), progress)
        work = _Work(corpus, store.matrix, query_row, reply_row, config, progress)
        with atomic_folder(place) as temporary:
            corpus.save(temporary / "corpus")
            work.save(temporary, place, store.folder, encode.size, digest)
    return Prepared.load(place)


def prepared_digest(corpus: Corpus, encode: EncodeTexts, config: Config) -> str:
    """Names all that a preparation depends on."""
    parts = {
        "format": FORMAT,
        "corpus": corpus.digest,
        "encoder": encode.digest,
        "neighbours": config.towers.neighbours,
        **others_drawn_from(config),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def others_drawn_from(config: Config) -> dict[str, Any]:
    """The settings that clusters and contrast users depend on, besides the corpus and the encoder."""
    return {
        "clusters": to_plain(config.clusters),
        "contrast": {k: v for k, v in to_plain(config.contrast).items() if k != "history"},
        "pool": str(config.data.pool),
    }


class _Work:
    """The computation itself, from vectors to arrays on disk."""

    def __init__(
        self,
        corpus: Corpus,
        matrix: np.ndarray,
        query_row: np.ndarray,
        reply_row: np.ndarray,
        config: Config,
        progress: Progress | None,
    ) -> None:
        self.corpus, self.matrix, self.query_row, self.reply_row = corpus, matrix, query_row, reply_row
        self.config, self.progress = config, progress
        self.pool = corpus.rows_in(Split.TRAIN)
        self.shared = config.data.pool is Pool.shared
        self.querier, self.time = np.asarray(corpus.querier), np.asarray(corpus.time)
        self.scene, self.item = np.asarray(corpus.scene), np.asarray(corpus.item)

    def save(self, folder: Path, place: Path, embeddings: Path, size: int, digest: str) -> None:
        clusters, cluster, distance = self._clusters()
        users = self._contrast_users(cluster)
        neighbours, near = self._neighbours()
        far = clusters.is_far(distance)
        far[self.pool] = False
        arrays = {
            "query_row": self.query_row,
            "reply_row": self.reply_row,
            "style": stylometries(self.corpus.replies()),
            "centroids": clusters.centroids,
            "cluster": cluster,
            "far": far,
            "neighbours": neighbours,
            "near": near,
            "contrast": users.rows,
            "contrast_group": users.group,
            "contrast_cell": users.cell,
            "contrast_own_cell": users.own_cell,
            "contrast_distance": users.distance,
        }
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        used = np.unique(np.concatenate([self.query_row, self.reply_row]))
        meta: dict[str, Any] = {
            "format": FORMAT,
            "digest": digest,
            "embeddings": os.path.relpath(embeddings.resolve(), place.resolve()),
            "size": size,
            "rows": rows_digest(embeddings, used),
            "threshold": clusters.threshold,
            "shared": self.shared,
            "cluster_notes": clusters.notes,
            "notes": [*clusters.notes, *users.notes, self._far_note(far)],
        }
        (folder / "prepared.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")

    def _clusters(self) -> tuple[Clusters, np.ndarray, np.ndarray]:
        pool = self.pool
        vectors = self.matrix[self.query_row[pool]]
        clusters = fit_clusters(vectors, self.querier[pool], self.scene[pool], self.config.clusters)
        cluster = np.full(len(self.corpus), -1, dtype=np.int64)
        distance = np.zeros(len(self.corpus), dtype=np.float32)
        cluster[pool], distance[pool] = clusters.labels, clusters.distances
        rest = np.flatnonzero(cluster < 0)
        cluster[rest], distance[rest] = clusters.assign(self.matrix[self.query_row[rest]])
        return clusters, cluster, distance

    def _contrast_users(self, cluster: np.ndarray) -> ContrastUsers:
        config = self.config.contrast
        if not self.shared:
            return no_contrast_users(len(self.corpus), config)
        in_pool = np.zeros(len(self.corpus), dtype=bool)
        in_pool[self.pool] = True
        rows = Rows(self.querier, self.time, self.scene, self.item, cluster, in_pool, self.reply_row)
        rng = np.random.default_rng(self.config.clusters.seed)
        return find_contrast_users(
            rows,
            lambda chosen: self.matrix[self.query_row[chosen]],
            lambda chosen: self.matrix[self.reply_row[chosen]],
            config,
            rng,
            self.progress,
        )

    def _neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        neighbours = np.full((len(self.corpus), self.config.towers.neighbours), -1, dtype=np.int64)
        near = np.full((len(self.corpus), NEAR), -1, dtype=np.int64)
        pool = self.pool
        if not self.shared:
            return neighbours, near
        index = _pool_index(self.corpus, self.matrix, self.query_row, pool)
        asked = self.corpus.rows_in(*ASKED)
        places = index.nearest(
            self.matrix[self.query_row[asked]],
            neighbours.shape[1],
            self.querier[asked],
            self.time[asked],
            self.scene[asked],
            self.progress,
        )
        neighbours[asked] = np.where(places >= 0, pool[places], -1)
        places = index.nearest(self.matrix[self.query_row[pool]], NEAR, self.querier[pool], progress=self.progress)
        near[pool] = np.where(places >= 0, pool[places], -1)
        return neighbours, near

    def _far_note(self, far: np.ndarray) -> str:
        outside = self.corpus.rows_in(Split.VALIDATION, Split.TEST)
        return f"{int(far[outside].sum())} of {len(outside)} queries outside training are far from every cluster"


def _pool_index(corpus: Corpus, matrix: np.ndarray, query_row: np.ndarray, pool: np.ndarray) -> PoolIndex:
    querier, time, scene = (np.asarray(column)[pool] for column in (corpus.querier, corpus.time, corpus.scene))
    return PoolIndex(matrix[query_row[pool]], querier, time, scene)
