"""What a training run is warned of before it begins: settings that it accepts and that may not do what was wanted."""

from __future__ import annotations

import logging

from querier.choices import Train
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
