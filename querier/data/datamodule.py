"""The batches of a training run as Lightning's trainer asks for them.

There is no torch DataLoader: a batch is built from memory-mapped arrays by numpy, and depends on (seed, epoch, index)
alone. A run that was killed therefore resumes at the next batch with exactly what an unbroken run would have read.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import lightning
import numpy as np
import torch

from querier import distributed
from querier.config import Config
from querier.data.collate import ScoreTokens, TrainingBatches, collate
from querier.data.requests import Requests
from querier.data.sampler import BatchOrder
from querier.errors import InputError, Unanswered
from querier.types import Batch, Rendered, Split, Tokens, move

log = logging.getLogger(__name__)

SAMPLED = 110  # marks the draw of the dialogues that a limited validation sees


class Batches:
    """The training batches of one process, an epoch at a time, resumable inside an epoch.

    Args:
        order: Which rows stand in which batch, the same on each process.
        builder: Builds a batch from its rows.
        workers: Threads that build batches ahead of time; 0 builds each when it is asked for.
        rank: Number of this process; None asks the process group when an epoch starts.
        world_size: Number of processes; None as above.
    """

    def __init__(
        self,
        order: BatchOrder,
        builder: TrainingBatches,
        workers: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self.order = order
        self.builder = builder
        self.workers = workers
        self._rank = rank
        self._world_size = world_size
        self.epoch = 0
        self.position = 0  # the next batch of the epoch
        self._resumes = False

    def __len__(self) -> int:
        """Batches of an epoch, the same on each process."""
        return len(joined(self.order.sizes(), self._processes()[1]))

    @property
    def sampler(self) -> Batches:
        """Itself: Lightning's trainer tells the `sampler` of a loader which epoch begins."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration reads, from 0; does not disturb a position inside this epoch."""
        if epoch != self.epoch:
            self.epoch, self.position, self._resumes = epoch, 0, False

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its batches were handed out."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration begin behind the batches that were handed out before."""
        self.epoch, self.position, self._resumes = state["epoch"], state["position"], True

    def __iter__(self) -> Iterator[Batch]:
        """This process's part of each batch of the epoch."""
        # Only what follows the first `next` is lazy enough: the trainer calls `iter` before it names the epoch.
        epoch, first = self.epoch, self.position if self._resumes else 0
        self._resumes = False
        rank, processes = self._processes()
        rows = self.order.batches(epoch)
        sizes = joined([len(batch) for batch in rows], processes)
        starts = np.cumsum([0, *sizes])
        flat = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        self.position = first
        jobs = [
            (flat[starts[index] : starts[index + 1]], epoch, index, share(sizes[index], rank, processes))
            for index in range(first, len(sizes))
        ]
        for batch in self._built(jobs):
            self.position += 1
            yield batch

    def _built(self, jobs: Sequence[tuple[np.ndarray, int, int, slice]]) -> Iterator[Batch]:
        """The batches in their order, some of them built ahead."""
        if not self.workers:
            for job in jobs:
                yield self.builder.build(*job)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            waiting: deque[Future[Batch]] = deque()
            try:
                for job in jobs:
                    waiting.append(pool.submit(self.builder.build, *job))
                    if len(waiting) > self.workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _processes(self) -> tuple[int, int]:
        rank = distributed.rank() if self._rank is None else self._rank
        return rank, distributed.world_size() if self._world_size is None else self._world_size


class ValidationBatches:
    """Matched requests of the validation split in length order, divided among processes.

    Where `trainer.limit_val_batches` looks at so many batches only, they are of a seeded sample: the first in the order
    of length would be the longest dialogues.

    Args:
        requests: Builds each row's request.
        config: Reads `evaluation.batch_size`, `trainer.limit_val_batches` and `seed`.
        score: Tokens of prompts and replies.
    """

    def __init__(self, requests: Requests, config: Config, score: ScoreTokens) -> None:
        self.requests = requests
        self.size = config.evaluation.batch_size
        self.score = score
        corpus = requests.corpus
        rows = corpus.rows_in(Split.VALIDATION)
        limit = config.trainer.limit_val_batches
        if limit:
            batches = int(limit * -(-len(rows) // self.size)) if isinstance(limit, float) else limit
            drawn = np.random.default_rng([config.seed, SAMPLED])
            rows = np.sort(drawn.choice(rows, min(len(rows), batches * self.size), replace=False))
        lengths = [sum(len(turn.text) for turn in corpus.dialogue(int(row)).turns) for row in rows]
        self.rows = rows[np.argsort(-np.array(lengths, dtype=np.int64), kind="stable")]

    def __len__(self) -> int:
        """Batches, the same on each process."""
        return len(self._sizes())

    def __iter__(self) -> Iterator[Batch]:
        """This process's part of each batch, longest dialogues first; without what the method has no answer to.

        Raises:
            Unanswered: It has an answer to none of them.
        """
        rank, processes = distributed.rank(), distributed.world_size()
        start, answered = 0, 0
        failed: list[Unanswered] = []
        for size in self._sizes():
            rows = self.rows[start : start + size][share(size, rank, processes)]
            start += size
            found = self.requests.each([(row, self.requests.history_rows(row), None) for row in rows.tolist()])
            failed += [one for one in found if isinstance(one, Unanswered)]
            requests = [one for one in found if not isinstance(one, Unanswered)]
            answered += len(requests)
            if requests:
                yield collate(requests, self.score([one.rendered for one in requests]), self.requests.limit)
        if failed and not answered:
            raise failed[0]
        if failed:
            log.warning("  validation: %d dialogues without an answer are left out; first: %s", len(failed), failed[0])

    def _sizes(self) -> list[int]:
        whole, rest = divmod(len(self.rows), self.size)
        return joined([self.size] * whole + [rest] * (rest > 0), distributed.world_size())


class QuerierData(lightning.LightningDataModule):
    """Training and validation batches.

    Args:
        requests: Builds requests from the prepared corpus.
        config: The run's configuration; `loader.batch_size` is over all processes.
        score: Tokens of prompts and replies.
        parts: Whether the method has a conditioner that contrastive and swap losses can train.
    """

    def __init__(self, requests: Requests, config: Config, score: ScoreTokens, parts: bool = True) -> None:
        super().__init__()
        one_at_a_time = _Locked(score)  # tokenizers keep state while they pad and cut
        self.config = config
        self.order = BatchOrder(requests.prepared, config)
        self.builder = TrainingBatches(requests, config, one_at_a_time, parts)
        self.train_batches = Batches(self.order, self.builder, config.loader.workers)
        self.validation_batches = ValidationBatches(requests, config, one_at_a_time)

    def state_dict(self) -> dict[str, Any]:
        """How far the epoch is; the trainer restores this before it asks for the loaders.

        The trainer keeps the loaders' own state too, but does not restore it where `configure_optimizers` has asked
        for the number of steps: the loaders are set up by then.
        """
        return {"train_batches": self.train_batches.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the batches that were handed out before the checkpoint."""
        self.train_batches.load_state_dict(state_dict["train_batches"])

    def train_dataloader(self) -> Batches:
        """The training batches.

        Raises:
            InputError: No dialogue to train on, or batches smaller than the number of processes.
        """
        if not len(self.order.rows):
            raise InputError(
                "the training split holds no dialogue; loosen data.unseen, data.responders or data.split, or give more "
                "dialogues"
            )
        if self.config.loader.batch_size < distributed.world_size():
            raise InputError(
                f"loader.batch_size is over all processes and must be at least their number, got "
                f"{self.config.loader.batch_size} for {distributed.world_size()} processes"
            )
        return self.train_batches

    def val_dataloader(self) -> Any:
        """The validation batches; an empty list where the validation split is empty."""
        return self.validation_batches if len(self.validation_batches) else []

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """A copy of the batch on `device`."""
        return move(batch, device)


class _Locked:
    """A callable that one thread at a time may use."""

    def __init__(self, score: ScoreTokens) -> None:
        self._score = score
        self._lock = Lock()

    def __call__(self, rendered: Sequence[Rendered]) -> Tokens:
        with self._lock:
            return self._score(rendered)


def share(size: int, rank: int, processes: int) -> slice:
    """Which part of a batch a process reads: parts in the order of the processes, sizes as equal as can be."""
    whole, rest = divmod(size, processes)
    start = rank * whole + min(rank, rest)
    return slice(start, start + whole + (rank < rest))


def joined(sizes: list[int], processes: int) -> list[int]:
    """Batch sizes with a last batch that is too short for all processes put to the one before it."""
    if len(sizes) > 1 and sizes[-1] < processes:
        return [*sizes[:-2], sizes[-2] + sizes[-1]]
    return sizes
