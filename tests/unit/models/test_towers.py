"""What the towers promise: the prior without history, masks that hide, readings that do not see each other."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch

from querier.choices import Fusion
from querier.config import TowersConfig
from querier.models.centre import SHRINK, Centre
from querier.models.fusion import build_fusion
from querier.models.heads import ViewHeads
from querier.models.towers import CosineAttention, ItemEncoder, Shrinkage, Tower, recency_bucket
from querier.types import STYLE, Items

SIZE, CLUSTERS = 12, 3


def settings(**changes: object) -> TowersConfig:
    return TowersConfig(**{"width": 16, "heads": 2, "virtual_tokens": 3, "rank": 6, **changes})  # type: ignore[arg-type]


def random_items(rows: int, items: int, seed: int = 0) -> Items:
    draw = torch.Generator().manual_seed(seed)
    return Items(
        inputs=torch.randn(rows, items, SIZE, generator=draw),
        outputs=torch.randn(rows, items, SIZE, generator=draw),
        style=torch.randn(rows, items, STYLE, generator=draw),
        cluster=torch.randint(0, CLUSTERS, (rows, items), generator=draw),
        rank=torch.arange(items).expand(rows, -1).clone(),
        same_responder=torch.ones(rows, items, dtype=torch.bool),
        mask=torch.ones(rows, items, dtype=torch.bool),
    )


def test_recency_buckets_are_the_floor_of_the_binary_logarithm() -> None:
    ranks = torch.tensor([0, 1, 2, 3, 6, 7, 126, 127, 5000])
    assert recency_bucket(ranks).tolist() == [0, 1, 1, 2, 2, 3, 6, 7, 7]


@torch.no_grad()
def test_attention_equals_a_loop_over_heads_and_items() -> None:
    torch.manual_seed(0)
    attention = CosineAttention(8, 2)
    attention.log_scale.data += torch.tensor([0.3, 1.1])[:, None, None]
    latents, items = torch.randn(1, 2, 8), torch.randn(1, 3, 8)
    mask = torch.tensor([[[True, False, True], [True, True, True]]])
    got, weights = attention(latents, items, mask)
    for t in range(2):
        read = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            q = attention.query(latents)[0, t, part]
            scores = []
            for s in range(3):
                k = attention.key(items)[0, s, part]
                cosine = float(q @ k) / (float(q.norm()) * float(k.norm()))
                scores.append(math.exp(cosine * math.exp([0.3, 1.1][head])) if mask[0, t, s] else 0.0)
            share = [score / sum(scores) for score in scores]
            assert weights[0, head, t].tolist() == pytest.approx(share, abs=1e-6)
            read.append(sum(w * attention.value(items)[0, s, part] for s, w in enumerate(share)))
        torch.testing.assert_close(got[0, t], attention.out(torch.cat(read)))


def test_readings_together_equal_readings_apart_and_hidden_items_do_not_matter() -> None:
    torch.manual_seed(0)
    tower = Tower(SIZE, settings()).eval()
    items, query = torch.randn(2, 5, 16), torch.randn(2, SIZE)
    masks = torch.tensor([[1, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool).expand(2, -1, -1)
    together, _ = tower(items, masks, query)
    for reading in range(3):
        alone, _ = tower(items, masks[:, reading : reading + 1], query)
        torch.testing.assert_close(together[:, reading], alone[:, 0])
    spoilt = torch.where(masks[:, 0, :, None], items, torch.tensor(1e6))
    torch.testing.assert_close(tower(spoilt, masks[:, :1], query)[0], tower(items, masks[:, :1], query)[0])


def test_no_item_at_all_gives_finite_values_and_gradients() -> None:
    tower = Tower(SIZE, settings())
    read, weights = tower(torch.zeros(2, 4, 16), torch.zeros(2, 1, 4, dtype=torch.bool), torch.randn(2, SIZE))
    read.square().mean().backward()
    assert read.isfinite().all()
    assert weights[..., 0].eq(1.0).all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in tower.parameters())


def test_shrinkage_is_the_prior_without_history_and_strength_moves_along_one_line() -> None:
    shrinkage = Shrinkage(settings(prior_items=2.0))
    vectors = torch.randn(4, 3, 16)
    seen = torch.tensor([0, 1, 2, 30])
    shrunk = shrinkage(vectors, seen)
    assert torch.equal(shrunk[0], shrinkage.prior)
    torch.testing.assert_close(shrunk[2], 0.5 * vectors[2] + 0.5 * shrinkage.prior)
    assert torch.equal(shrinkage(vectors, seen, 0.0), shrinkage.prior.expand(4, -1, -1))
    torch.testing.assert_close(shrinkage(vectors, seen, 2.0) - shrinkage.prior, 2 * (shrunk - shrinkage.prior))


def test_centre_takes_away_what_a_cluster_shares_and_levels_the_rest() -> None:
    draw = np.random.default_rng(0)
    cluster = draw.integers(0, CLUSTERS, 3000)
    topic = draw.normal(size=(CLUSTERS, SIZE)) * 5
    vectors = topic[cluster] + draw.normal(size=(3000, SIZE)) * np.linspace(0.1, 2.0, SIZE)
    centre = Centre(CLUSTERS, SIZE, 6)
    centre.fit(vectors, cluster)
    with torch.no_grad():
        got = centre(torch.from_numpy(vectors).float(), torch.from_numpy(cluster)).numpy()
    np.testing.assert_allclose(np.cov(got.T), np.eye(6), atol=0.05)
    for one in range(CLUSTERS):
        np.testing.assert_allclose(got[cluster == one].mean(0), 0.0, atol=0.05)


def test_centre_of_texts_that_are_all_alike_is_finite() -> None:
    centre = Centre(2, SIZE, 4)
    centre.fit(np.ones((5, SIZE)), np.zeros(5, dtype=np.int64))
    assert centre(torch.randn(3, SIZE), torch.zeros(3, dtype=torch.int64)).isfinite().all()


def test_the_pool_is_held_once_and_the_numbers_are_those_of_whole_arrays() -> None:
    draws = np.random.default_rng(0)
    vectors, cluster = draws.normal(size=(40_000, SIZE)).astype(np.float32), draws.integers(0, CLUSTERS, 40_000)
    centre = Centre(CLUSTERS, SIZE, 6)
    tracemalloc.start()
    centre.fit(vectors, cluster)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * vectors.size * 8

    rows = vectors.astype(np.float64)
    sums = np.zeros((CLUSTERS, SIZE))
    np.add.at(sums, cluster, rows)
    means = (sums + SHRINK * rows.mean(0)) / (np.bincount(cluster, minlength=CLUSTERS)[:, None] + SHRINK)
    rest = rows - means[cluster]
    values, axes = np.linalg.eigh(rest.T @ rest / len(rest))
    directions = axes[:, ::-1][:, :6] * (1.0 / np.sqrt(values[::-1][:6]))
    assert torch.equal(centre.means, torch.from_numpy(means).float())
    assert torch.equal(centre.directions, torch.from_numpy(directions).float())


def test_item_encoder_ignores_the_order_of_items_but_not_their_rank() -> None:
    encoder = ItemEncoder(CLUSTERS, SIZE, settings()).eval()
    items = random_items(1, 4)
    turned = Items(**{name: value.flip(1) for name, value in vars(items).items()})
    torch.testing.assert_close(encoder(turned), encoder(items).flip(1))
    older = random_items(1, 4)
    older.rank += 40
    assert not torch.allclose(encoder(older), encoder(items))


@pytest.mark.parametrize("choice", list(Fusion))
def test_every_fusion_reads_both_sides_and_keeps_the_shape(choice: Fusion) -> None:
    torch.manual_seed(0)
    fusion = build_fusion(choice, 16, 2)
    specific, general = torch.randn(2, 3, 16, requires_grad=True), torch.randn(2, 3, 16, requires_grad=True)
    fused, gate = fusion(specific, general)
    assert fused.shape == (2, 3, 16)
    fused.square().sum().backward()
    for side in (specific, general):
        assert side.grad is not None
        assert side.grad.abs().sum() > 0
    if choice is Fusion.gate:
        torch.testing.assert_close(fused, gate * specific + (1 - gate) * general)


@torch.no_grad()
def test_heads_give_unit_vectors_one_head_a_view_and_a_clamped_temperature() -> None:
    heads = ViewHeads(16, 0.1)
    vectors = torch.randn(5, 3, 16)
    assert heads(vectors, 0).norm(dim=-1).tolist() == pytest.approx([1.0] * 5)
    assert not torch.allclose(heads(vectors, 0), heads(vectors, 1))
    assert float(heads.temperature()) == pytest.approx(0.1)
    heads.log_temperature.data.fill_(9.0)
    assert float(heads.temperature()) == 1.0
