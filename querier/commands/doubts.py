"""What a training run is warned of before it begins: settings that it accepts and that may not do what was wanted."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from querier.choices import Kind, Model, Train
from querier.config import Config

log = logging.getLogger(__name__)


def say_doubts(config: Config) -> None:
    """Warn of what costs quality unseen."""
    decoder = config.decoder
    if decoder.train is Train.full and decoder.dtype == "bfloat16":
        log.warning(
            "decoder.train=full decoder.dtype=bfloat16: a step of training below 1/500 of a weight is rounded away, so "
            "that with a small optim.decoder_lr (%g here) most weights stay as they are; take decoder.dtype=float32 "
            "trainer.precision=bf16-mixed, or decoder.train=lora",
            config.optim.decoder_lr,
        )


def say_idle(config: Config, overrides: Sequence[str]) -> None:
    """Warn of settings of a command line that the method does not read; those of its files are shared by many methods.

    Args:
        config: What the command line came to.
        overrides: Its words.
    """
    given = {word.lstrip("+").partition("=")[0] for word in overrides}
    for name, why in _idle(config).items():
        if name in given:
            log.warning("%s has no effect: %s; leave it out", name, why)


def _idle(config: Config) -> dict[str, str]:
    """Settings that are on and do nothing, and why."""
    found: dict[str, str] = {}
    losses = [name for name in ("specific", "general", "swap") if getattr(config.loss, name)]
    if not config.conditioning.towers:
        found = {f"loss.{name}": f"method={config.method} has no towers that it would train" for name in losses}
    elif not config.towers.general and "general" in losses:
        found["loss.general"] = "towers.general=false leaves out what it would train"
    kind, model = config.conditioning.kind, config.conditioning.model
    reads_queries = kind is not Kind.none and model in (Model.towers, Model.pplug)
    if config.encoder.train is not Train.frozen and not reads_queries:
        found["encoder.train"] = f"method={config.method} has no encoder of its own to train"
    return found
