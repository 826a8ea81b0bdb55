"""`querier bench`: what things cost, measured here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from querier.bench.contrast_users import measure_contrast_users
from querier.bench.score import measure_score
from querier.bench.step import measure_step
from querier.commands.fit import plain_config
from querier.commands.options import BenchOptions
from querier.commands.prepare import encoder, read_corpus, run_prepare
from querier.commands.progress import Progress
from querier.errors import InputError
from querier.evaluation.scoring import Scorer
from querier.run import origin, write_json

log = logging.getLogger(__name__)

Measure = Callable[[BenchOptions, Progress], dict[str, Any]]


def run(options: BenchOptions) -> None:
    """Measure, and write `<output>/bench/<name>.json`; another method than `querier` stands in the name.

    Raises:
        InputError: There is no measurement of that name.
    """
    measure = MEASUREMENTS.get(options.name or "")
    if measure is None:
        raise InputError(f"name must be one of {', '.join(MEASUREMENTS)}, got {options.name!r}")
    with Progress() as progress:
        found = measure(options, progress)
    stem = options.name if options.method == "querier" else f"{options.name}_{options.method}"
    path = Path(options.output) / "bench" / f"{stem}.json"
    write_json(path, {**found, "origin": origin()})
    for key, value in found.items():
        log.info("  %s: %s", key, value)
    log.info("written to %s", path)


def _step(options: BenchOptions, progress: Progress) -> dict[str, Any]:
    return measure_step(plain_config(options), options.queriers, options.steps, progress)


def _score(options: BenchOptions, progress: Progress) -> dict[str, Any]:
    config = plain_config(options)
    return measure_score(config, run_prepare(config, progress), options.dialogues, Scorer, progress)


def _contrast_users(options: BenchOptions, progress: Progress) -> dict[str, Any]:
    config = plain_config(options)
    return measure_contrast_users(config, read_corpus(config), encoder(config), options.pairs, progress)


MEASUREMENTS: dict[str, Measure] = {"step": _step, "score": _score, "contrast_users": _contrast_users}
