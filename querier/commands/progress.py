"""Progress for whoever waits: bars with the remaining time on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Shows `progress(what, done, total)`; a context manager that leaves the terminal as it was.

    Args:
        shown: False for none at all.
        console: Where it is shown; the error stream by default, so that a command's output can be piped.
    """

    def __init__(self, shown: bool = True, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._shown = shown
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, tuple[float, int]] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> Progress:
        if self._shown and self._console.is_terminal:
            self._bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def __call__(self, what: str, done: int, total: int, note: str = "", aside: bool = False) -> None:
        """Say how far something is.

        Args:
            what: What is being done.
            done: How much of it.
            total: Of how much.
            note: The latest value of something worth watching.
            aside: Whether its end is worth a line only where it took long enough for one before.
        """
        if not self._shown:
            return
        if self._bars is not None:
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task(what, total=total, note=note)
            if done < total and self._bars.tasks[self._tasks[what]].finished:
                self._bars.reset(self._tasks[what])  # the same work begins once more, as for the next method
            self._bars.update(self._tasks[what], completed=done, total=total, note=note)
            return
        if aside and done >= total and what not in self._said:
            self._begun.pop(what, None)
        else:
            self._line(what, done, total, note)
            if aside and done >= total:
                del self._said[what], self._begun[what]  # as if it had never been, for the next time

    def _line(self, what: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self._said.get(what) == float("inf"):
            if done >= total:
                return
            del self._said[what], self._begun[what]  # the same work begins once more, as for the next method
        begun, first = self._begun.setdefault(what, (now, done))
        if done < total and now - self._said.get(what, begun) < SECONDS_BETWEEN_LINES:
            return
        self._said[what] = float("inf") if done >= total else now
        passed = now - begun
        left = passed / max(1, done - first) * (total - done) if done > first else 0.0
        rest = f", {clock(left)} left" if done < total else ""
        log.info("%s: %d of %d, %s%s%s", what, done, total, clock(passed), rest, f", {note}" if note else "")


class TrainingProgress(lightning.Callback):
    """Lightning's training loop, shown through a `Progress`.

    Args:
        progress: Where it is shown.
        what: What is trained.
    """

    def __init__(self, progress: Progress, what: str = "train") -> None:
        self._progress = progress
        self._what = what

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar; the note holds the latest loss and validation value."""
        if not trainer.is_global_zero:
            return
        total = trainer.estimated_stepping_batches
        steps = int(total) if total != float("inf") else trainer.global_step
        metrics = trainer.callback_metrics
        shown = [
            f"{name.rpartition('/')[2]} {float(metrics[name]):.3f}"
            for name in ("train/lm", "val/nll_per_byte")
            if name in metrics
        ]
        self._progress(self._what, trainer.global_step, steps, ", ".join(shown))

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show a validation that takes long, so that nobody takes it for a halt."""
        if trainer.is_global_zero:
            self._progress("validate", batch_idx + 1, int(sum(trainer.num_val_batches)), aside=True)


def clock(seconds: float) -> str:
    """Seconds as `1:02:03` or `2:03`."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
