"""The step measurement says what it measured, with every default loss on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from querier.bench import step
from querier.choices import Kind, Model
from querier.config import ConditioningConfig, Config, LossConfig
from querier.errors import InputError
from querier.methods.qar import QuerierAwareResponder
from querier.qar_config import QarConfig
from querier.types import Split

Stepper = step._Stepper


def test_all_losses_are_on_and_every_ratio_is_there(config: Config) -> None:
    settings = replace(config, loss=replace(config.loss, swap_fraction=0.5))
    told: list[int] = []
    found = step.measure_step(settings, [8], 2, lambda what, done, total: told.append(done))
    assert set(found["losses"]) == {"lm", "specific", "general", "swap"}
    assert set(found["ratio"]) == set(found["ratio_small"]) == {"8"}
    assert found["rho"] == 0.5
    assert all(value > 0 for times in found["seconds"].values() for value in times.values())
    assert told[-1] == step.WARMUP + 2


def test_a_method_inside_the_decoder_is_measured_beside_a_bare_one_with_a_full_memory(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(
        config,
        method="qar",
        conditioning=ConditioningConfig(Kind.none, model=Model.qar),
        loss=LossConfig(0.0, 0.0, 0.0),
        qar=QarConfig(projected=4),
    )
    made: list[step._Stepper] = []
    monkeypatch.setattr(step, "_Stepper", lambda *given: made.append(Stepper(*given)) or made[-1])
    found = step.measure_step(settings, [8], 2, lambda what, done, total: None)
    assert found["method"] == "qar"
    assert found["losses"] == ["lm", "prototypes"]
    assert set(found["ratio"]) == set(found["ratio_small"]) == {"8"}
    for stepper in made:
        model = stepper.module.conditioner
        assert stepper.module.decoder.layers[0].mlp.__dict__.get("forward") is None  # left as it was
        if stepper.module.config.method == "ft":
            assert model is None
            assert stepper.seen == {"lm"}
        else:
            assert isinstance(model, QuerierAwareResponder)
            assert len(model.memory) == len(stepper.builder.corpus.rows_in(Split.TRAIN))


def test_a_method_of_text_alone_is_not_measured(config: Config) -> None:
    bare = replace(config, method="rag", conditioning=ConditioningConfig(Kind.none))
    with pytest.raises(InputError, match="method=rag trains as ft does"):
        step.measure_step(bare, [8], 1, lambda what, done, total: None)


def test_a_made_up_population_has_the_size_that_was_asked_for(config: Config, tmp_path: Path) -> None:
    prepared = step.population(config, 8, tmp_path)
    assert len(prepared.corpus.queriers) == 8
    assert len(prepared.corpus) == 8 * step.DIALOGUES
    assert (np.asarray(prepared.neighbours) >= 0).any()


def test_made_up_tokens_are_half_reply() -> None:
    tokens = step.made_up_tokens(3, 300)
    assert tokens.input_ids.shape == (3, step.LENGTH)
    assert ((tokens.labels >= 0).sum(1) == step.REPLY).all()
