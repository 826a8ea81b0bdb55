"""Sixty steps find what tells queriers apart where there is something, and nothing where there is nothing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from planted import dialogues, prepared_corpus, requests_of, small_config, small_module

from querier.config import Config
from querier.data.collate import gather_items
from querier.data.datamodule import QuerierData
from querier.data.preparation import Prepared
from querier.module import QuerierModule
from querier.types import Items

KNOWN, UNKNOWN, EACH = 40, 240, 12


class Losses(lightning.Callback):
    """Writes down the loss of each step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(outputs["loss"]))


def train(module: QuerierModule, prepared: Prepared, steps: int, folder: Path) -> list[float]:
    """The losses of `steps` steps."""
    seen = Losses()
    requests = requests_of(prepared, module.config)
    data = QuerierData(requests, module.config, module.decoder.score_tokens, module.conditioner is not None)
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        callbacks=[seen],
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about accelerators
        trainer.fit(module.train(), data)
    return seen.values


def scene(folder: Path, personal: bool) -> tuple[Prepared, Config]:
    """A corpus whose last queriers are in no training batch."""
    unseen = [f"q{number}" for number in range(KNOWN, KNOWN + UNKNOWN)]
    config = small_config(
        folder, data={"unseen": unseen}, conditioning={"kind": "residual"}, optim={"lr": 3e-3, "decoder_lr": 3e-3}
    )
    return prepared_corpus(dialogues(KNOWN + UNKNOWN, EACH, personal), config, folder), config


@torch.no_grad()
def same_querier_auc(module: QuerierModule, prepared: Prepared) -> float:
    """How often two halves of one unseen querier's history are nearer than halves of two queriers."""
    assert module.conditioner is not None
    module.eval()
    corpus = prepared.corpus
    numbers = np.flatnonzero(corpus.unseen)
    assert len(numbers) >= 200
    rows = np.stack([corpus.rows_of(int(number))[::-1] for number in numbers])
    halves = []
    for view in (0, 1):
        items: Items = gather_items(prepared, rows[:, view::2], np.zeros(len(rows), dtype=np.int64))
        vectors, _ = module.conditioner.read_history(items, None)
        halves.append(torch.nn.functional.normalize(vectors.mean(1) - vectors.mean((0, 1)), dim=-1))
    cosine = (halves[0] @ halves[1].T).numpy()
    same, other = cosine.diagonal(), cosine[~np.eye(len(cosine), dtype=bool)]
    place = np.searchsorted(np.sort(other), same, side="left") + np.searchsorted(np.sort(other), same, side="right")
    return float(place.mean() / 2 / len(other))


def test_a_planted_signal_is_learned_and_holds_for_unseen_queriers(tmp_path: Path) -> None:
    prepared, config = scene(tmp_path, personal=True)
    module = small_module(prepared, config)
    values = train(module, prepared, 60, tmp_path)
    assert values[0] > 5.0  # ln of the vocabulary is 5.7
    assert np.mean(values[-5:]) < 3.5
    assert same_querier_auc(module, prepared) > 0.75


def test_histories_of_noise_teach_nothing(tmp_path: Path) -> None:
    prepared, config = scene(tmp_path, personal=False)
    module = small_module(prepared, config)
    assert module.config.loss.specific > 0
    assert module.config.loss.general > 0
    assert module.config.loss.swap > 0
    train(module, prepared, 60, tmp_path)
    assert 0.45 <= same_querier_auc(module, prepared) <= 0.55


METHODS = [
    ("none", "full"),
    ("none", "lora"),
    *((kind, train) for kind in ("soft_prompt", "prefix", "residual") for train in ("frozen", "full")),
]


@pytest.mark.parametrize(("kind", "weights"), METHODS)
def test_what_is_trainable_moves_and_nothing_else(tmp_path: Path, kind: str, weights: str) -> None:
    config = small_config(
        tmp_path,
        conditioning={"kind": kind},
        decoder={"train": weights, "layers": 1, "width": 32, "vocabulary": 300, "max_length": 96},
        optim={"weight_decay": 0.0, "warmup": 0.0},
        loss={"swap_fraction": 0.5},
    )
    prepared = prepared_corpus(dialogues(8, 12), config, tmp_path)
    module = small_module(prepared, config)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    train(module, prepared, 2, tmp_path)
    trainable = {name for name, value in module.named_parameters() if value.requires_grad}
    assert trainable
    assert any(name.startswith("decoder.") for name in trainable) == (weights != "frozen")
    moved = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    assert moved == trainable
    assert all(torch.equal(value, buffers[name]) for name, value in module.named_buffers())
