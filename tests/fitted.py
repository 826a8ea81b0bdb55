"""A responder in memory whose weights were never trained, over a corpus whose queriers talk in ways of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planted import WordEncoder, dialogues, prepared_corpus, small_config, small_module

from querier.responder import Responder


def untrained_responder(folder: Path, queriers: int = 10, each: int = 12, **changes: Any) -> Responder:
    """A responder of the method `querier`; the last querier is unseen. `changes` go to the configuration."""
    data = {"unseen": [f"q{queriers - 1}"], **changes.pop("data", {})}
    config = small_config(folder, data=data, **changes)
    prepared = prepared_corpus(dialogues(queriers, each), config, folder)
    return Responder(small_module(prepared, config), WordEncoder(), prepared.clusters, prepared)
