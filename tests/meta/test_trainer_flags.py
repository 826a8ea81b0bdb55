"""`trainer.*` is the trainer's own list of flags that can be written down."""

from __future__ import annotations

import inspect
from dataclasses import fields

import lightning
import pytest
import torch
from tiny import tiny_decoder

from querier.config import Config
from querier.module import QuerierModule
from querier.trainer_config import ALIASES, PRECISIONS, TrainerConfig

OBJECTS = {"self", "logger", "callbacks", "profiler", "plugins", "enable_checkpointing"}  # made from groups, or objects


def test_the_flags_are_those_of_the_trainer() -> None:
    signature = set(inspect.signature(lightning.Trainer.__init__).parameters)
    assert {entry.name for entry in fields(TrainerConfig)} == signature - OBJECTS


def test_defaults_are_the_trainers_but_for_those_with_a_comment() -> None:
    parameters = inspect.signature(lightning.Trainer.__init__).parameters
    source = inspect.getsource(TrainerConfig)
    for entry in fields(TrainerConfig):
        line = next(text for text in source.splitlines() if text.strip().startswith(f"{entry.name}:"))
        if "# Lightning" not in line:
            assert entry.default == parameters[entry.name].default, entry.name


@pytest.mark.filterwarnings("ignore")  # Lightning's, about other names and about float16 on CPUs
@pytest.mark.parametrize("given", [*ALIASES, 16, 32, *PRECISIONS, None])
def test_scores_are_taken_in_what_the_trainer_takes_a_precision_for(given: str | int | None) -> None:
    trainer = lightning.Trainer(precision=given, accelerator="cpu", logger=False, enable_checkpointing=False)
    module = QuerierModule(Config(trainer=TrainerConfig(precision=given)), tiny_decoder(), None)
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with trainer.precision_plugin.forward_context():
        wanted = layer(x)
    with module.precision():
        found = layer(x)
    assert found.dtype == wanted.dtype
