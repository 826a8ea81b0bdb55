"""What a training step of a method costs over one of `ft`, with the same trainable decoder weights and tokens.

Both are taken in turn, step by step, in one process, so that a noisy machine disturbs both alike. A step is all that
training does: build the batch, forward, backward, clip, update. The population is made up: random vectors, so many
queriers, six dialogues each. A memory of what was seen is as full as after an epoch.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from querier.choices import Kind, SplitBy, Train
from querier.config import ConditioningConfig, Config
from querier.data.collate import TrainingBatches
from querier.data.embeddings import Progress
from querier.data.history import Histories
from querier.data.preparation import Prepared, prepare
from querier.data.records import Corpus
from querier.data.requests import Requests
from querier.data.sampler import BatchOrder
from querier.data.splits import split
from querier.data_config import DataConfig
from querier.decoder_config import DecoderConfig
from querier.errors import InputError
from querier.methods.prompts import renderer
from querier.methods.qar import QuerierAwareResponder
from querier.methods.registry import build_conditioner, conditions, fit_conditioner
from querier.models.decoder import Decoder
from querier.models.shapes import SMOLLM2_135M, random_decoder
from querier.models.small import new_small_decoder, train_tokenizer
from querier.module import QuerierModule
from querier.types import Batch, Dialogue, Rendered, Split, Tokens, Turn

LENGTH, REPLY = 128, 64  # tokens of prompt and reply, and of the reply alone
DIALOGUES = 6  # of each querier
TEXTS = 4096  # distinct ones
CLUSTERS = 64
WARMUP = 2  # steps that are not timed


def measure_step(config: Config, queriers: Sequence[int], steps: int, progress: Progress) -> dict[str, Any]:
    """Time steps of both methods at each size of the population.

    Args:
        config: Its method, losses, towers and batch size are measured.
        queriers: Sizes of the population.
        steps: Timed steps of each method.
        progress: Told of each step.

    Returns:
        `ratio` by number of queriers (LoRA on a decoder of SmolLM2-135M's shape, random weights), `ratio_small` (the
        small decoder, trained in full), the median `seconds` of each, `rho` and the `losses` that were on.

    Raises:
        InputError: The method has no conditioner: its step is that of `ft`.
    """
    if not conditions(config):
        raise InputError(f"method={config.method} trains as ft does; give one with a conditioner, as querier or qar")
    ratio: dict[str, float] = {}
    ratio_small: dict[str, float] = {}
    seconds: dict[str, dict[str, float]] = {}
    losses: list[str] = []
    for count in queriers:
        with tempfile.TemporaryDirectory() as folder:
            prepared = population(config, count, Path(folder))
            large = random_decoder(SMOLLM2_135M, DecoderConfig(train=Train.lora), 0)
            for name, decoder in (("smollm2", large), ("small", small_decoder(config))):
                tell = _teller(progress, f"{name}, {count} queriers", steps)
                taken, losses = alternate(config, prepared, decoder, steps, tell)
                seconds[f"{name}_{count}"] = {key: round(value, 4) for key, value in taken.items()}
                found = ratio if name == "smollm2" else ratio_small
                found[str(count)] = round(taken[config.method] / taken["ft"], 4)
    return {
        "method": config.method,
        "ratio": ratio,
        "ratio_small": ratio_small,
        "rho": config.loss.swap_fraction,
        "losses": losses,
        "seconds": seconds,
        "batch": [config.loader.batch_size, LENGTH],
        "steps": steps,
        "threads": torch.get_num_threads(),
    }


def alternate(
    config: Config, prepared: Prepared, decoder: Decoder, steps: int, tell: Callable[[int], None]
) -> tuple[dict[str, float], list[str]]:
    """Median seconds of a step of `ft` and of the method, taken in turn, and the losses that the method computed."""
    bare = replace(config, method="ft", conditioning=ConditioningConfig(Kind.none))
    methods = {each.method: _Stepper(each, prepared, decoder) for each in (bare, config)}
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for step in range(WARMUP + steps):
        for name, stepper in methods.items():
            with stepper.attached():
                begun = time.perf_counter()
                stepper.step()
                taken[name].append(time.perf_counter() - begun)
        tell(step + 1)
    medians = {name: statistics.median(values[WARMUP:]) for name, values in taken.items()}
    return medians, sorted(methods[config.method].seen)


class _Stepper:
    """Training steps of one method on an endless run of batches."""

    def __init__(self, config: Config, prepared: Prepared, decoder: Decoder) -> None:
        conditioner = build_conditioner(config, decoder, len(prepared.clusters), prepared.matrix.shape[1])
        if conditioner is not None:
            fit_conditioner(conditioner, prepared)
            conditioner.detach()  # the decoder is shared
        if isinstance(conditioner, QuerierAwareResponder):
            _fill(conditioner, prepared, config.qar.projected)
        self.module = QuerierModule(config, decoder, conditioner).train()
        requests = Requests(prepared, Histories(prepared.corpus), config, renderer(config.prompt, prepared))
        vocabulary = decoder.geometry.vocabulary

        def tokens(rendered: Sequence[Rendered]) -> Tokens:
            return made_up_tokens(len(rendered), vocabulary)

        self.builder = TrainingBatches(requests, config, tokens, parts=conditioner is not None)
        self.rows = self._endless(BatchOrder(prepared, config), config.loader.batch_size)
        trained = [value for value in self.module.parameters() if value.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4)
        self.seen: set[str] = set()

    @staticmethod
    def _endless(order: BatchOrder, size: int) -> Iterator[tuple[np.ndarray, int, int]]:
        epoch = 0
        while True:
            for index, rows in enumerate(order.batches(epoch)):
                if len(rows) == size:
                    yield rows, epoch, index
            epoch += 1

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The decoder is this method's, inside the block."""
        conditioner, decoder = self.module.conditioner, self.module.decoder
        if conditioner is not None:
            conditioner.attach(decoder)
        yield
        if conditioner is not None:
            conditioner.detach()

    def step(self) -> None:
        """One whole step."""
        batch: Batch = self.builder.build(*next(self.rows))
        parts = self.module.losses(batch)
        self.optimizer.zero_grad()
        parts.total.backward()  # type: ignore[no-untyped-call]  # torch's own stub
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.seen |= set(parts.parts)


def _fill(conditioner: QuerierAwareResponder, prepared: Prepared, size: int) -> None:
    """Let the memory hold random vectors of each dialogue of the pool, as after an epoch."""
    rows = prepared.corpus.rows_in(Split.TRAIN)
    seen = np.stack([prepared.cluster[rows], prepared.corpus.querier[rows], rows], axis=1).tolist()
    vectors = torch.randn(len(rows), 2, size, generator=torch.Generator().manual_seed(0))
    conditioner.memory.write(seen, vectors)


def population(config: Config, queriers: int, folder: Path) -> Prepared:
    """A prepared corpus of so many queriers, with random vectors, in as many clusters as configured, or 64."""
    generator = np.random.default_rng(0)
    order = generator.permutation(np.repeat(np.arange(queriers), DIALOGUES))
    asked, answered = generator.integers(0, TEXTS, (2, len(order)))
    dialogues = [
        Dialogue(
            id=str(time),
            querier=f"querier {querier}",
            responder="responder",
            turns=(Turn(f"querier {querier}", f"text {asked[time]}"), Turn("responder", f"text {answered[time]}")),
            time=time,
            scene=str(time),
        )
        for time, querier in enumerate(order.tolist())
    ]
    corpus, _ = split(Corpus.build(dialogues), DataConfig(split=SplitBy.scene))
    wanted = str(CLUSTERS) if config.clusters.n_clusters == "auto" else config.clusters.n_clusters
    clusters = replace(config.clusters, n_clusters=wanted)
    return prepare(corpus, _RandomVectors(), replace(config, clusters=clusters), folder)


class _RandomVectors:
    """One random unit vector a text, of the sentence encoder's size."""

    digest = "random unit vectors"
    size = 384

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(n, E) float32."""
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
        drawn = np.stack([np.random.default_rng(seed).standard_normal(self.size) for seed in seeds])
        unit: np.ndarray = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return unit.astype(np.float32)


def small_decoder(config: Config) -> Decoder:
    """The small decoder of the configuration, trained in full."""
    tokenizer = train_tokenizer([f"text {number}" for number in range(TEXTS)], config.decoder.vocabulary)
    return new_small_decoder(replace(config.decoder, train=Train.full), tokenizer, 0)


def made_up_tokens(rows: int, vocabulary: int) -> Tokens:
    """Random ids of a fixed length, the second half of each row a reply; (rows, L)."""
    generator = torch.Generator().manual_seed(rows)
    ids = torch.randint(0, vocabulary, (rows, LENGTH), generator=generator)
    labels = ids.clone()
    labels[:, : LENGTH - REPLY] = -100
    return Tokens(ids, torch.ones_like(ids), labels)


def _teller(progress: Progress, what: str, steps: int) -> Callable[[int], None]:
    def tell(done: int) -> None:
        progress(what, done, WARMUP + steps)

    return tell
