"""What happens around the training steps: checkpoints, early stopping, `metrics.csv`, the loggers."""

from __future__ import annotations

import csv
import io
import time
from argparse import Namespace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from querier.commands.progress import Progress, TrainingProgress
from querier.config import Config
from querier.errors import InputError
from querier.files import write_atomic
from querier.run import Run
from querier.types import Batch

SECONDS_BETWEEN_CHECKPOINTS = 60
SECONDS_BETWEEN_WRITES = 5.0
KEYS = ("step", "epoch")


def callbacks(config: Config, run: Run, validates: bool, progress: Progress) -> list[Callback]:
    """The callbacks of a training run.

    Args:
        config: Reads `stopping` and `trainer.fast_dev_run`.
        run: Where checkpoints go.
        validates: Whether there is a validation split.
        progress: Shows the steps.
    """
    where: dict[str, Any] = {"dirpath": run.checkpoints, "enable_version_counter": False}
    made: list[Callback] = [TrainingProgress(progress), Counts()]
    if config.trainer.fast_dev_run:
        return made
    every = timedelta(seconds=SECONDS_BETWEEN_CHECKPOINTS)
    made.append(LastCheckpoint(**where, filename="last", train_time_interval=every))
    if validates:
        monitor = config.stopping.monitor
        made.append(ModelCheckpoint(**where, filename="best", monitor=monitor, save_weights_only=True))
        if config.stopping.patience:
            made.append(EarlyStopping(monitor, patience=config.stopping.patience))
    return made


def loggers(config: Config, run: Run) -> list[Logger]:
    """`metrics.csv`, and TensorBoard or W&B where asked for; numbers only, never a text of a querier.

    Raises:
        InputError: A tracker that is not installed.
    """
    made: list[Logger] = [MetricsFile(run.metrics)]
    try:
        if config.logger.tensorboard:
            made.append(TensorBoardLogger(save_dir=run.folder, name="tensorboard", version=""))
        if config.logger.wandb:
            made.append(WandbLogger(project=config.logger.project, name=run.folder.name, save_dir=run.folder))
    except ModuleNotFoundError as error:
        extra = "wandb" if config.logger.wandb else "tracking"
        raise InputError(f"logger needs a package that is missing; pip install 'querier[{extra}]' ({error})") from error
    return made


class MetricsFile(Logger):
    """All logged numbers as one CSV: a row for each step at which something was logged.

    Args:
        path: The file; rows of an interrupted run that it holds already are kept.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, float]] = _read(path)
        self._written = 0.0

    @property
    def name(self) -> str:
        """As Lightning wants it."""
        return "csv"

    @property
    def version(self) -> str:
        """As Lightning wants it."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run card holds the configuration."""

    def resume(self, step: int) -> None:
        """Drop what was logged after the checkpoint that the run goes on from; steps count from 0."""
        self.rows = [row for row in self.rows if row["step"] < step]

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add numbers to the row of a step."""
        row = {"step": float(step or 0), **{name: float(value) for name, value in metrics.items()}}
        if self.rows and self.rows[-1]["step"] == row["step"]:
            self.rows[-1].update(row)
        else:
            self.rows.append(row)

    @rank_zero_only
    def save(self) -> None:
        """Write the file, not more often than every few seconds."""
        if time.monotonic() - self._written >= SECONDS_BETWEEN_WRITES:
            self.write()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.write()

    @rank_zero_only
    def write(self) -> None:
        """Write the file."""
        names = sorted({name for row in self.rows for name in row} - set(KEYS))
        text = io.StringIO()
        writer = csv.DictWriter(text, [*KEYS, *names], lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({name: _shown(name, value) for name, value in row.items()})
        write_atomic(self.path, text.getvalue())
        self._written = time.monotonic()


class LastCheckpoint(ModelCheckpoint):
    """What an interrupted run goes on from, saved from time to time between two steps.

    Where a validation follows a step, it is saved after the validation: Lightning would resume behind one that never
    ran. `metrics.csv` reaches the disk first, so that it holds every step before the checkpoint.
    """

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, if it is time and nothing of the step is left to do."""
        done = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
        every = trainer.val_check_batch
        validates = every is not None and (done + 1) % every == 0
        accumulates = (batch_idx + 1) % trainer.accumulate_grad_batches != 0
        if not (trainer.is_last_batch or validates or accumulates):
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Save, if it is time, after the epoch's validation."""
        super().on_train_batch_end(trainer, module, None, None, 0)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Log the step that has just been done and write the file: Lightning logs it only after this."""
        values = {name: float(each) for name, each in trainer.callback_metrics.items() if name.startswith("train/")}
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]  # Lightning sets it
                    logger.log_metrics({"epoch": trainer.current_epoch, **values}, trainer.global_step - 1)
                logger.write()


class Counts(Callback):
    """Counts the reply tokens and dialogues that were trained on, across interruptions."""

    def __init__(self) -> None:
        self.tokens = 0
        self.dialogues = 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add a batch."""
        self.tokens += int((batch.tokens.labels >= 0).sum())
        self.dialogues += len(batch)

    def state_dict(self) -> dict[str, int]:
        """For the checkpoint."""
        return {"tokens": self.tokens, "dialogues": self.dialogues}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """From the checkpoint."""
        self.tokens, self.dialogues = state_dict["tokens"], state_dict["dialogues"]


def _read(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def _shown(name: str, value: float) -> str:
    return str(int(value)) if name in KEYS else repr(value)
