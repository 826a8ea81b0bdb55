"""Contrast users drawn at random, for comparison with DPL's choice."""

from __future__ import annotations

import numpy as np

from querier.config import ContrastConfig
from querier.neighbours.index import first_true

STEP = 8192  # anchors that are drawn for together
DRAWN = 8  # candidates for each place, of which some fall to the rules


def random_users(
    querier: np.ndarray,
    time: np.ndarray,
    scene: np.ndarray,
    in_pool: np.ndarray,
    config: ContrastConfig,
    rng: np.random.Generator,
) -> np.ndarray:
    """Pool rows of different other queriers, strictly earlier, of other scenes, in random order.

    Args:
        querier: (N,).
        time: (N,).
        scene: (N,).
        in_pool: (N,) bool.
        config: K and how many for each of them.
        rng: Draws.

    Returns:
        (N, K, nearest) int64, −1 pads; outside the pool only [..., 0] is set.
    """
    wanted = config.k * config.nearest
    out = np.full((len(querier), config.k, config.nearest), -1, dtype=np.int64)
    pool = np.flatnonzero(in_pool)
    pool = pool[np.argsort(time[pool], kind="stable")]
    limits = np.searchsorted(time[pool], time, side="left")
    anchors = np.flatnonzero(limits > 0)
    width = max(64, DRAWN * wanted)
    for start in range(0, len(anchors), STEP):
        part = anchors[start : start + STEP]
        places = _draw(limits[part], width, rng)
        rows = pool[np.maximum(places, 0)]
        allowed = (places >= 0) & (querier[rows] != querier[part][:, None]) & (scene[rows] != scene[part][:, None])
        chosen = first_true(_first_of_each(allowed, querier[rows]), wanted, rows)
        # Slot by slot first, so that every slot has somebody before any has two.
        out[part] = chosen.reshape(len(part), config.nearest, config.k).transpose(0, 2, 1)
    out[~in_pool, :, 1:] = -1
    return out


def _draw(limits: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """Random places below each limit, (n, width): all of them where there are so few, else with repetition."""
    uniform = rng.random((len(limits), width))
    places: np.ndarray = (uniform * limits[:, None]).astype(np.int64)
    few = np.flatnonzero(limits <= width)
    column = np.arange(width)
    order = np.argsort(np.where(column < limits[few][:, None], uniform[few], 2.0), axis=1)
    places[few] = np.where(column < limits[few][:, None], order, -1)
    return places


def _first_of_each(allowed: np.ndarray, querier: np.ndarray) -> np.ndarray:
    """The first allowed entry of each querier, (n, m) bool."""
    key = np.where(allowed, querier, -1)
    order = np.argsort(key, axis=1, kind="stable")
    ordered = np.take_along_axis(key, order, axis=1)
    first = np.concatenate([np.ones((len(key), 1), dtype=bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    out = np.zeros_like(allowed)
    np.put_along_axis(out, order, first & (ordered >= 0), axis=1)
    return out
