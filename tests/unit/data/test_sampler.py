"""The order of training: every row once, in any case the same for the same seed and epoch."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_prepared import make_config, make_prepared

from querier.data.sampler import BatchOrder
from querier.types import Split


def order_of(prepared: Any, **loader: Any) -> BatchOrder:
    return BatchOrder(prepared, make_config(loader={"batch_size": 16, **loader}))


def large(rows: int, queriers: int, texts: int, clusters: int) -> Any:
    """A prepared corpus of columns only."""
    rng = np.random.default_rng(0)
    text = rng.integers(texts, size=rows)
    corpus = SimpleNamespace(
        querier=rng.integers(queriers, size=rows), scene=rng.permutation(rows) // 2, rows_in=lambda *_: np.arange(rows)
    )
    contrast = rng.integers(-1, rows, size=(rows, 4, 5))
    near = rng.integers(-1, rows, size=(rows, 5))
    return SimpleNamespace(corpus=corpus, query_row=text, cluster=text % clusters, contrast=contrast, near=near)


@pytest.mark.parametrize("order", ["clustered", "random"])
@pytest.mark.parametrize("size", [1, 7, 16, 1000])
def test_each_row_exactly_once_and_the_last_batch_is_kept(order: str, size: int) -> None:
    prepared = make_prepared()
    made = order_of(prepared, order=order, batch_size=size)
    for epoch in (0, 1):
        batches = made.batches(epoch)
        assert sorted(np.concatenate(batches)) == prepared.corpus.rows_in(Split.TRAIN).tolist()
        assert [len(batch) for batch in batches] == made.sizes()
        assert len(batches) == len(made)
        assert all(len(batch) == size for batch in batches[:-1])


@pytest.mark.parametrize("order", ["clustered", "random"])
def test_same_seed_and_epoch_same_order(order: str) -> None:
    prepared = make_prepared()
    first, again, other = (np.concatenate(order_of(prepared, order=order).batches(epoch)) for epoch in (3, 3, 4))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


@pytest.mark.parametrize("order", ["clustered", "random"])
def test_a_text_stands_once_per_querier_in_a_batch(order: str) -> None:
    prepared = large(2000, 20, 25, 4)  # each querier says each text about four times
    made = BatchOrder(prepared, make_config(loader={"order": order}))
    for batch in made.batches(0):
        pairs = list(zip(prepared.corpus.querier[batch].tolist(), prepared.query_row[batch].tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)


def test_what_cannot_be_parted_stays() -> None:
    prepared = large(40, 1, 1, 1)
    assert sorted(np.concatenate(BatchOrder(prepared, make_config()).batches(0))) == list(range(40))


@pytest.mark.parametrize(("queriers", "texts"), [(20, 1), (4, 2)])
def test_where_a_handful_of_texts_fill_all_batches_no_row_is_lost(queriers: int, texts: int) -> None:
    prepared = large(2_000, queriers, texts, 4)
    assert sorted(np.concatenate(BatchOrder(prepared, make_config()).batches(0))) == list(range(2_000))


def test_clusters_and_queriers_stand_together() -> None:
    prepared = large(4000, 60, 900, 30)
    made = BatchOrder(prepared, make_config(loader={"per_cluster": 8}))
    plain = BatchOrder(prepared, make_config(loader={"order": "random"}))

    def together(order: BatchOrder) -> tuple[float, float]:
        """Share of rows with seven others of the cluster, and with another scene of the querier in it."""
        clusters, positives, count = 0, 0, 0
        for batch in order.batches(0):
            cluster, querier = prepared.cluster[batch], prepared.corpus.querier[batch]
            scene = prepared.corpus.scene[batch]
            same = cluster[:, None] == cluster
            clusters += int((same.sum(1) >= 8).sum())
            own = same & (querier[:, None] == querier) & (scene[:, None] != scene)
            positives += int(own.any(1).sum())
            count += len(batch)
        return clusters / count, positives / count

    grouped, positive = together(made)
    assert grouped > 0.75  # the rest are remainders of clusters and exchanged equal texts
    assert positive > 0.6
    assert max(together(plain)) < 0.2


def test_contrast_users_stand_near() -> None:
    prepared = make_prepared(queriers=30, each=12)
    linked = 0
    by_chance = 0
    for name in ("clustered", "random"):
        for batch in order_of(prepared, order=name).batches(0):
            near = sum(bool(set(prepared.contrast[row].reshape(-1)) & set(batch.tolist())) for row in batch)
            linked, by_chance = (linked + near, by_chance) if name == "clustered" else (linked, by_chance + near)
    assert linked > by_chance


def test_nothing_to_train_on_gives_no_batch() -> None:
    prepared = large(4, 2, 2, 1)
    prepared.corpus.rows_in = lambda *_: np.zeros(0, dtype=np.int64)
    for order in ("clustered", "random"):
        assert BatchOrder(prepared, make_config(loader={"order": order})).batches(0) == []


def test_a_hundred_thousand_rows_take_seconds() -> None:
    prepared = large(100_000, 5000, 20_000, 300)
    made = BatchOrder(prepared, make_config())
    start = time.perf_counter()
    made.batches(0)
    assert time.perf_counter() - start < 6  # about one on an idle core
