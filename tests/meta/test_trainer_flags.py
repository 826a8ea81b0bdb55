"""`trainer.*` is the trainer's own list of flags that can be written down."""

from __future__ import annotations

import inspect
from dataclasses import fields

import lightning

from querier.trainer_config import TrainerConfig

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
