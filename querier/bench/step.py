"""What a training step costs, beside fine-tuning the same decoder on the same tokens (design 10).

Both methods train one decoder in turn, so that the machine's moods hit both; the batches are built inside the timed
step, and every default loss is on. Texts are made up: what they say does not change what a step costs.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from querier.choices import Kind
from querier.config import Config
from querier.data.collate import TrainingBatches
from querier.data.history import Histories
from querier.data.preparation import Prepared, prepare
from querier.data.records import Corpus
from querier.data.requests import Requests
from querier.data.sampler import BatchOrder
from querier.methods.prompts import renderer
from querier.methods.registry import build_conditioner, fit_centres
from querier.models.decoder import Decoder
from querier.models.shapes import SMOLLM2_135M, random_decoder, shape_of
from querier.module import QuerierModule
from querier.types import Dialogue, Rendered, Split, Tokens, Turn

DIALOGUES, TOPICS, REPLIES = 12, 40, 400  # of each querier; distinct texts
BATCH, LENGTH, REPLY = 16, 128, 64  # rows, tokens of a row, tokens of its reply
WARMUP = 2  # steps of each method that are not timed
SIZE = 384

Progress = Callable[[str, int, int], None]


@dataclass
class Timed:
    """Median seconds of a step of each method, and their ratio."""

    ft: float
    querier: float

    @property
    def ratio(self) -> float:
        """What `querier` costs, `ft` being 1."""
        return self.querier / self.ft


def measure_step(config: Config, queriers: Sequence[int], steps: int, progress: Progress | None = None) -> dict[str, Any]:
    """Time steps of `ft` and `querier`.

    Args:
        config: The method's settings; `loss`, `towers`, `conditioning` and `loader` are read.
        queriers: Sizes of the population.
        steps: Timed steps of each method.
        progress: Shows the steps.

    Returns:
        `ratio` and `seconds` by number of queriers for a decoder of SmolLM2-135M's shape, `ratio_small` for the
        small one, `rho` and the names of the `losses` that were on.
    """
    config = replace(config, loader=replace(config.loader, batch_size=BATCH))
    found: dict[str, Any] = {"ratio": {}, "ratio_small": {}, "rho": config.loss.swap_fraction, "seconds": {}}
    names: set[str] = set()
    shapes = {"ratio": SMOLLM2_135M, "ratio_small": shape_of(config.decoder)}
    decoders = {name: random_decoder(shape, config.decoder, 0) for name, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        for count in queriers:
            prepared = made_up(count, config, Path(folder) / str(count))
            for name, decoder in decoders.items():
                vocabulary = int(shapes[name]["vocab_size"])
                timed, losses = _alternate(config, decoder, prepared, vocabulary, steps, progress, f"{name} {count}")
                found[name][str(count)] = round(timed.ratio, 4)
                found["seconds"][f"{name} {count}"] = {"ft": timed.ft, "querier": timed.querier}
                names |= losses
    order = ("lm", "specific", "general", "swap")
    found["losses"] = [name for name in order if name in names]
    found.update(batch=BATCH, tokens=LENGTH, reply_tokens=REPLY, steps=steps, threads=torch.get_num_threads())
    return found


def made_up(queriers: int, config: Config, folder: Path) -> Prepared:
    """A prepared corpus of so many queriers, with random vectors."""
    rng = np.random.default_rng(queriers)
    dialogues = []
    for number in range(queriers * DIALOGUES):
        name = f"q{number % queriers}"
        query = f"topic {int(rng.integers(TOPICS))} question {number % 5_000}"
        turns = (Turn(name, query), Turn("tutor", f"reply {int(rng.integers(REPLIES))}"))
        dialogues.append(Dialogue(str(number), name, "tutor", turns, number, str(number)))
    corpus = Corpus.build(dialogues)
    split = np.full(len(dialogues), Split.TRAIN.value)
    corpus = corpus.with_split(split, np.zeros(queriers, dtype=bool))
    return prepare(corpus, _Topics(), config, folder)


class _Topics:
    """Vectors by topic with noise by text."""

    digest, size = "topics", SIZE

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.stack([_noise(" ".join(text.split()[:2])) + 0.7 * _noise(text) for text in texts])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _noise(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(SIZE, dtype=np.float32)


class _Score:
    """Tokens of one length with any text: random ids, the last of them the reply."""

    def __init__(self, vocabulary: int) -> None:
        self.ids = torch.randint(4, vocabulary, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))

    def __call__(self, rendered: Sequence[Rendered]) -> Tokens:
        ids = self.ids[: len(rendered)]
        labels = torch.where(torch.arange(LENGTH) >= LENGTH - REPLY, ids, -100)
        return Tokens(ids, torch.ones_like(ids), labels)


def _alternate(
    config: Config,
    decoder: Decoder,
    prepared: Prepared,
    vocabulary: int,
    steps: int,
    progress: Progress | None,
    what: str,
) -> tuple[Timed, set[str]]:
    """Steps of the two methods in turn, over the same rows."""
    requests = Requests(prepared, Histories(prepared.corpus), config, renderer(config.prompt))
    rows = [batch for batch in BatchOrder(prepared, config).batches(0) if len(batch) == BATCH]
    plain = replace(config, method="ft", conditioning=replace(config.conditioning, kind=Kind.none))
    seconds: dict[str, list[float]] = {"ft": [], "querier": []}
    losses: set[str] = set()
    takers = {name: _Step(settings, decoder, prepared) for name, settings in (("ft", plain), ("querier", config))}
    builders = {
        name: TrainingBatches(requests, settings, _Score(vocabulary), parts=name == "querier")
        for name, settings in (("ft", plain), ("querier", config))
    }
    for step in range(WARMUP + steps):
        for name, take in takers.items():
            begun = time.perf_counter()
            losses |= take(builders[name].build(rows[step % len(rows)], step // len(rows), step))
            if step >= WARMUP:
                seconds[name].append(time.perf_counter() - begun)
        if progress is not None:
            progress(what, step + 1, WARMUP + steps)
    return Timed(statistics.median(seconds["ft"]), statistics.median(seconds["querier"])), losses


class _Step:
    """One optimizer step of a method."""

    def __init__(self, config: Config, decoder: Decoder, prepared: Prepared) -> None:
        conditioner = build_conditioner(config, decoder, len(prepared.clusters.centroids), SIZE)
        if conditioner is not None:
            fit_centres(conditioner, prepared)
        self.module = QuerierModule(config, decoder, conditioner).train()
        self.parameters = [value for value in self.module.parameters() if value.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5)

    def __call__(self, batch: Any) -> set[str]:
        parts = self.module.losses(batch)
        self.optimizer.zero_grad()
        parts.total.backward()  # type: ignore[no-untyped-call]  # torch's own stub
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return set(parts.parts)
