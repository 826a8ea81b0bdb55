from __future__ import annotations

import numpy as np
import pytest

from querier.neighbours import style as module
from querier.neighbours.style import fit_styles


def replies(n: int = 300, queriers: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    querier, cluster = rng.integers(0, queriers, n), rng.integers(0, 5, n)
    querier[:3] = queriers  # one querier has three replies only
    vectors = rng.normal(size=(5, 6))[cluster] + rng.normal(size=(queriers + 1, 6))[querier]
    return querier, cluster, (vectors + 0.3 * rng.normal(size=(n, 6))).astype(np.float32)


@pytest.mark.parametrize("chunk", [50, 65_536])
def test_styles_against_loops(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    querier, cluster, vectors = replies()
    rows = np.arange(0, 300, 2)
    styles = fit_styles(querier, cluster, rows, lambda r: vectors[r], np.random.default_rng(0))
    for q in range(12):
        own = [r for r in rows if querier[r] == q]
        residual = [vectors[r] - vectors[[s for s in rows if cluster[s] == cluster[r]]].mean(0) for r in own]
        mean = np.mean(residual, axis=0)
        np.testing.assert_allclose(styles.vectors[q], mean / np.linalg.norm(mean), atol=1e-4)


def test_agreement_is_high_for_a_style_and_unknown_for_few_replies() -> None:
    querier, cluster, vectors = replies()
    styles = fit_styles(querier, cluster, np.arange(300), lambda r: vectors[r], np.random.default_rng(0))
    assert (styles.agreement[:12] > 0.9).all()
    assert np.isnan(styles.agreement[12])
    noise = np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32)
    nothing = fit_styles(querier, cluster, np.arange(300), lambda r: noise[r], np.random.default_rng(0))
    assert abs(np.nanmean(nothing.agreement)) < 0.3


def test_limit_is_infinite_where_the_style_cannot_be_told() -> None:
    styles = module.Styles(np.zeros((3, 2), dtype=np.float32), np.array([0.5, -0.1, np.nan], dtype=np.float32))
    np.testing.assert_allclose(styles.limit(0.95), [0.475, np.inf, np.inf])
