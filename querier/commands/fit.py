"""`querier fit`: from dialogues to a trained responder. The main path of the library, top to bottom.

From here to the value of the loss: `querier/module.py` (`QuerierModule.losses`), which calls
`querier/models/querier_model.py` (what the decoder reads of the querier), `querier/models/decoder.py` (log-probability
of the reply) and `querier/losses.py`. Batches come from `querier/data/datamodule.py`.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import lightning
import torch

from querier.choices import Model
from querier.commands.base import base_folder
from querier.commands.callbacks import Counts, MetricsFile, callbacks, loggers
from querier.commands.compose import in_sweep, job_overrides
from querier.commands.doubts import say_doubts, say_idle
from querier.commands.options import FitOptions
from querier.commands.prepare import encoder, prepare_corpus, read_corpus
from querier.commands.progress import Progress
from querier.config import Config, StoppingConfig
from querier.data.datamodule import QuerierData
from querier.data.history import Histories
from querier.data.preparation import Prepared
from querier.data.records import Corpus
from querier.data.requests import Requests
from querier.errors import InputError
from querier.methods.prompts import build_renderer
from querier.methods.registry import build_conditioner, conditions, fit_conditioner, trains
from querier.models.decoder import build_decoder
from querier.module import QuerierModule
from querier.responder import save_module
from querier.run import FINISHED, FinishedBefore, Run, open_run, place_run
from querier.types import EncodeTexts, Split

log = logging.getLogger(__name__)


@dataclass
class FitResult:
    """What a training run came to.

    Args:
        run: Its folder.
        metrics: The best validation values, by name.
        seconds: Spent on `prepare`, `base` and `fit`.
        steps: Optimizer steps.
        tokens: Reply tokens trained on.
    """

    run: Run
    metrics: dict[str, float]
    seconds: dict[str, float]
    steps: int
    tokens: int


def run(options: FitOptions) -> float | None:
    """Train; returns what a sweep optimises: the best value of `stopping.monitor`."""
    say_idle(options, job_overrides() or [])
    try:
        result = run_fit(plain_config(options))
    except FinishedBefore as error:
        if not in_sweep():
            raise
        log.info("%s is finished", error.run.folder)  # a sweep that was interrupted goes on with the others
        best: float | None = error.run.card()["best"].get(options.stopping.monitor)
        return best
    if not result.steps and trains(options):
        log.warning("untrained: not one step was taken; raise trainer.max_epochs or trainer.max_steps")
    log.info(
        "%s: %d steps, %d reply tokens, %s",
        result.run.folder,
        result.steps,
        result.tokens,
        ", ".join(f"{name} {value:.4f}" for name, value in sorted(result.metrics.items())) or "nothing to validate on",
    )
    return result.metrics.get(options.stopping.monitor)


def run_fit(config: Config, progress: Progress | None = None, validate: bool = True) -> FitResult:
    """Read, prepare, train the base where needed, train, keep the best weights.

    The same call goes on with an unfinished run and ends as if it had never stopped.

    Args:
        config: Everything that the run depends on.
        progress: Where to show it; a bar of its own when None.
        validate: Whether a method that trains nothing is validated; one that trains always is.

    Raises:
        InputError: On bad input; the run is finished and `overwrite` is not set; another process trains it.
    """
    if progress is None:
        with Progress(config.trainer.enable_progress_bar is not False) as shown:
            return run_fit(config, shown, validate)
    say_doubts(config)
    seconds, begun = {}, time.monotonic()
    corpus = read_corpus(config)
    check_queriers(corpus, config)
    check_validation(corpus, config)
    smoke = bool(config.trainer.fast_dev_run)
    place = Run(_scratch(config)) if smoke else place_run(config, corpus.digest)
    trainer = _trainer(config, place, len(corpus.rows_in(Split.VALIDATION)) > 0, progress)
    encode = encoder(config)
    with place.held() if _first_process() and not smoke else nullcontext():
        prepared = prepare_corpus(corpus, encode, config, progress)
        seconds["prepare"] = time.monotonic() - begun
        begun = time.monotonic()
        base = base_folder(config, prepared.corpus, progress)
        seconds["base"] = time.monotonic() - begun
        begun = time.monotonic()
        lightning.seed_everything(config.seed, verbose=False)
        decoder = build_decoder(config.decoder, base)
        conditioner = build_conditioner(config, decoder, len(prepared.clusters.centroids), encode.size)
        if conditioner is not None:
            fit_conditioner(conditioner, prepared)
        module = QuerierModule(config, decoder, conditioner)
        requests = build_requests(prepared, config)
        data = QuerierData(requests, config, decoder.score_tokens, conditioner is not None)
        if not smoke:  # an older run is replaced only now that all that may refuse has been built
            open_run(_ranked(config), corpus.digest)
            trainer.loggers = loggers(config, place)
        metrics: dict[str, float] = {}
        if trains(config):
            metrics = _train(trainer, module, data, config, place)
        elif validate:
            metrics = _validate(trainer, module, data)
        seconds["fit"] = time.monotonic() - begun
        say_passed_over(module, data)
        counts = next(callback for callback in trainer.callbacks if isinstance(callback, Counts))  # type: ignore[attr-defined]  # set by Lightning
        result = FitResult(place, metrics, seconds, trainer.global_step, counts.tokens)
        if trainer.is_global_zero and not smoke:
            _finish(result, module, prepared, encode)
        return result


def plain_config(options: Config) -> Config:
    """The `Config` in a command's options, without what only that command knows."""
    return Config(**{entry.name: getattr(options, entry.name) for entry in fields(Config)})


def check_queriers(corpus: Corpus, config: Config) -> None:
    """Refuse losses that compare queriers where the training pool holds one alone.

    Raises:
        InputError: There is one querier, and a weight above 0.
    """
    names = [f"loss.{name}" for name in ("specific", "general", "swap") if getattr(config.loss, name) > 0]
    if config.conditioning.model is Model.qar:
        names = ["qar.weight"] if config.qar.weight > 0 else []
    if conditions(config) and names and len(set(corpus.querier[corpus.rows_in(Split.TRAIN)].tolist())) == 1:
        raise InputError(
            f"comparing queriers ({', '.join(names)}) takes two or more in the training split, got 1; use method=ft, "
            f"or set {' '.join(f'{name}=0' for name in names)}"
        )


def check_validation(corpus: Corpus, config: Config) -> None:
    """Refuse a share of the validation that is less than a batch.

    Raises:
        InputError: With how many batches there are.
    """
    limit, size = config.trainer.limit_val_batches, config.evaluation.batch_size
    batches = -(-len(corpus.rows_in(Split.VALIDATION)) // size)
    if isinstance(limit, float) and limit > 0 and batches and int(limit * batches) < 1:
        raise InputError(
            f"trainer.limit_val_batches={limit} of {batches} batches (evaluation.batch_size={size}) is not one batch; "
            "raise it, or give a number of batches: trainer.limit_val_batches=1"
        )


def of_a_sample(limit: Any) -> Any:
    """The trainer's share of validation batches that are a sample of `limit` already: a share would be taken twice."""
    return 1.0 if isinstance(limit, float) and 0 < limit <= 1 else limit


def build_requests(prepared: Prepared, config: Config) -> Requests:
    """What models read of a prepared corpus."""
    return Requests(prepared, Histories(prepared.corpus), config, build_renderer(config, prepared))


def _trainer(config: Config, place: Run, validates: bool, progress: Progress) -> lightning.Trainer:
    """The trainer, made before anything is prepared: it refuses flags that it cannot follow.

    Raises:
        InputError: With what it says.
    """
    flags = {entry.name: getattr(config.trainer, entry.name) for entry in fields(config.trainer)}
    flags["limit_val_batches"] = of_a_sample(flags["limit_val_batches"])
    flags["enable_progress_bar"] = False  # shown by our own callback, on a terminal and elsewhere
    flags["default_root_dir"] = flags["default_root_dir"] or str(place.folder)
    try:
        return lightning.Trainer(
            **flags,
            callbacks=callbacks(config, place, validates, progress),
            logger=False,  # set when the run is opened
            enable_checkpointing=not config.trainer.fast_dev_run,
        )
    except (lightning.fabric.utilities.exceptions.MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(f"trainer: {error}") from error


def _train(
    trainer: lightning.Trainer, module: QuerierModule, data: QuerierData, config: Config, place: Run
) -> dict[str, float]:
    """Train to the end, from the last checkpoint where there is one; leaves the best weights in the module.

    Raises:
        InputError: The checkpoint is of a model that is made otherwise now.
    """
    last, step = place.last if place.last.is_file() else None, 0
    if last is not None:
        step = int(torch.load(last, map_location="cpu", weights_only=True)["global_step"])
        log.info("  going on from step %d of an interrupted run", step)
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile):
            logger.resume(step)
    try:
        trainer.fit(module, data, ckpt_path=last, weights_only=True)
    except SystemExit as ended:
        if trainer.interrupted:  # Lightning leaves the program at Ctrl-C; what to type next is for the caller to say
            raise KeyboardInterrupt from ended
        raise
    except (ValueError, RuntimeError) as error:
        if last is None or "state dict" not in str(error).replace("_", " "):
            raise
        raise InputError(
            f"{last} does not fit the model as it is made now: another version of querier wrote it ({error}); "
            f"remove {place.folder}, or train anew with overwrite=true"
        ) from error
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    if place.best.is_file() and trainer.checkpoint_callbacks:
        best = torch.load(place.best, map_location="cpu", weights_only=True)
        module.load_state_dict(best["state_dict"], strict=False)
        metrics = _best_values(trainer, config.stopping)
    return metrics


def say_cut(module: QuerierModule) -> None:
    """Log how many of the prompts and replies that the decoder has read so far did not fit."""
    cut, longest = module.decoder.cut, module.config.decoder.max_length
    if cut.prompts or cut.replies:
        log.info(
            "  %d prompts and %d replies were longer than decoder.max_length, %d tokens and half of it, and were cut",
            len(cut.prompts),
            len(cut.replies),
            longest,
        )


def say_passed_over(module: QuerierModule, data: QuerierData) -> None:
    """Log what training read only in part, or not at all."""
    say_cut(module)
    if data.builder.skipped:
        log.info(
            "  the swap loss passed over %d rows: nobody to swap with, no history on a side, or the same reply",
            data.builder.skipped,
        )


def _best_values(trainer: lightning.Trainer, stopping: StoppingConfig) -> dict[str, float]:
    """The values of the best validation, also where it was before an interruption; empty on all processes but one."""
    rows = [row for logger in trainer.loggers if isinstance(logger, MetricsFile) for row in logger.rows]
    best = min((row for row in rows if stopping.monitor in row), key=lambda row: row[stopping.monitor], default={})
    return {name: value for name, value in best.items() if name.startswith("val/")}


def _validate(trainer: lightning.Trainer, module: QuerierModule, data: QuerierData) -> dict[str, float]:
    """The validation values of a method that trains nothing."""
    found = trainer.validate(module, data, verbose=False)
    return {name: float(value) for part in found for name, value in part.items()}


def _finish(result: FitResult, module: QuerierModule, prepared: Prepared, encode: EncodeTexts) -> None:
    save_module(module, prepared.clusters, encode.size, result.run.model)
    result.run.write(
        status=FINISHED,
        ended=time.strftime("%Y-%m-%dT%H:%M:%S"),
        prepared=str(prepared.folder.resolve()),
        prepared_digest=prepared.digest,
        steps=result.steps,
        tokens=result.tokens,
        seconds={name: round(value, 2) for name, value in result.seconds.items()},
        best=result.metrics,
        job=job_overrides(),
    )


def _ranked(config: Config) -> Config:
    """The configuration for this process: only the first one may replace an older run."""
    return config if _first_process() else replace(config, overwrite=False)


def _first_process() -> bool:
    """Whether this process is the one of its training that makes files."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0 and int(os.environ.get("RANK", "0")) == 0


def _scratch(config: Config) -> Path:
    return Path(config.cache) / "scratch"
