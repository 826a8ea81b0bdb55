"""The step measurement says what it measured, with every default loss on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from querier.bench import step
from querier.config import Config


def test_all_losses_are_on_and_every_ratio_is_there(config: Config) -> None:
    settings = replace(config, loss=replace(config.loss, swap_fraction=0.5))
    told: list[int] = []
    found = step.measure_step(settings, [8], 2, lambda what, done, total: told.append(done))
    assert set(found["losses"]) == {"lm", "specific", "general", "swap"}
    assert set(found["ratio"]) == set(found["ratio_small"]) == {"8"}
    assert found["rho"] == 0.5
    assert all(value > 0 for times in found["seconds"].values() for value in times.values())
    assert told[-1] == step.WARMUP + 2


def test_a_made_up_population_has_the_size_that_was_asked_for(config: Config, tmp_path: Path) -> None:
    prepared = step.population(config, 8, tmp_path)
    assert len(prepared.corpus.queriers) == 8
    assert len(prepared.corpus) == 8 * step.DIALOGUES
    assert (np.asarray(prepared.neighbours) >= 0).any()


def test_made_up_tokens_are_half_reply() -> None:
    tokens = step.made_up_tokens(3, 300)
    assert tokens.input_ids.shape == (3, step.LENGTH)
    assert ((tokens.labels >= 0).sum(1) == step.REPLY).all()
