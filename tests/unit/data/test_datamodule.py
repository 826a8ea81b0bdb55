"""The loaders: resumable inside an epoch, divided among processes, the same with and without threads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from tiny_prepared import make_config, make_prepared, make_requests, score

from querier.data.datamodule import Batches, QuerierData, joined, share
from querier.errors import InputError, Unanswered
from querier.types import Batch, Split


def make_data(prepared: Any = None, **changes: Any) -> QuerierData:
    config = make_config(**{"loader": {"batch_size": 6, **changes.pop("loader", {})}, **changes})
    prepared = make_prepared() if prepared is None else prepared
    return QuerierData(make_requests(prepared, config), config, score)


def rows_of(batches: Any) -> list[list[int]]:
    return [batch.rows.tolist() for batch in batches]


def test_an_epoch_holds_each_row_once_and_epochs_differ() -> None:
    data = make_data()
    loader = data.train_dataloader()
    first = rows_of(loader)
    assert len(first) == len(loader)
    assert sorted(sum(first, [])) == data.order.rows.tolist()
    assert rows_of(loader) == first
    loader.set_epoch(1)
    assert rows_of(loader) != first


def test_a_loaded_position_resumes_at_the_next_batch_once() -> None:
    whole = rows_of(make_data().train_dataloader())
    loader = make_data().train_dataloader()
    running = iter(loader)
    for _ in range(3):
        next(running)
    state = loader.state_dict()
    assert state == {"epoch": 0, "position": 3}
    resumed = make_data().train_dataloader()
    resumed.load_state_dict(state)
    resumed.set_epoch(0)
    assert rows_of(resumed) == whole[3:]
    assert rows_of(resumed) == whole


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_nothing(workers: int) -> None:
    plain, ahead = make_data().train_dataloader(), make_data(loader={"workers": workers}).train_dataloader()
    for one, other in zip(plain, ahead, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        assert plain.position == ahead.position
        assert one.contrastive is not None
        assert other.contrastive is not None
        assert torch.equal(one.contrastive.views, other.contrastive.views)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_divide_the_batches_of_one(processes: int) -> None:
    data = make_data()
    whole = rows_of(data.train_dataloader())
    parts = [list(Batches(data.order, data.builder, 0, rank, processes)) for rank in range(processes)]
    assert len({len(part) for part in parts}) == 1
    for index, batches in enumerate(zip(*parts, strict=True)):
        assert sum((batch.rows.tolist() for batch in batches), []) == whole[index]
        for batch in batches:
            assert batch.contrastive is not None
            assert batch.contrastive.mutual.shape == (len(batch), len(whole[index]))


def test_a_last_batch_smaller_than_the_processes_is_joined() -> None:
    assert joined([4, 4, 1], 2) == [4, 5]
    assert joined([4, 4, 2], 2) == [4, 4, 2]
    assert joined([1], 2) == [1]
    assert [share(7, rank, 3) for rank in range(3)] == [slice(0, 3), slice(3, 5), slice(5, 7)]


def test_validation_is_in_length_order_with_whole_histories() -> None:
    prepared = make_prepared()
    data = make_data(prepared, evaluation={"batch_size": 3})
    batches = list(data.val_dataloader())
    assert len(batches) == len(data.val_dataloader())
    rows = sum(rows_of(batches), [])
    assert sorted(rows) == prepared.corpus.rows_in(Split.VALIDATION).tolist()
    lengths = [sum(len(turn.text) for turn in prepared.corpus.dialogue(row).turns) for row in rows]
    assert lengths == sorted(lengths, reverse=True)
    assert all(batch.contrastive is None for batch in batches)
    assert batches[0].history.mask.all()


@pytest.mark.parametrize("limit", [2, 0.5])
def test_a_limited_validation_sees_a_sample_and_not_the_longest(limit: float) -> None:
    changes: dict[str, Any] = {"evaluation": {"batch_size": 2}}
    whole = sum(rows_of(make_data(**changes).val_dataloader()), [])
    samples = [
        sum(rows_of(make_data(**changes, seed=seed, trainer={"limit_val_batches": limit}).val_dataloader()), [])
        for seed in (0, 0, 1, 2)
    ]
    assert {len(sample) for sample in samples} == {4 if limit == 2 else 2 * (-(-len(whole) // 2) // 2)}
    assert all(set(sample) < set(whole) for sample in samples)
    assert samples[0] == samples[1]
    assert any(sample != whole[: len(sample)] for sample in samples)
    assert len({tuple(sample) for sample in samples}) > 1


def test_nothing_to_train_or_to_validate_on() -> None:
    prepared = make_prepared()
    count, queriers = len(prepared.corpus), len(prepared.corpus.queriers)
    prepared.corpus = prepared.corpus.with_split(np.full(count, Split.TEST.value), np.zeros(queriers, dtype=bool))
    data = make_data(prepared)
    assert data.val_dataloader() == []
    with pytest.raises(InputError, match=r"training split.*data\.split"):
        data.train_dataloader()


class Spy(lightning.LightningModule):
    """Learns a bias and writes down what it reads; stops itself after some steps."""

    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(()))
        self.read: list[tuple[int, list[int]]] = []
        self.stop = stop

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.stop is not None and len(self.read) == self.stop:
            raise KeyboardInterrupt
        self.read.append((self.current_epoch, batch.rows.tolist()))
        loss: torch.Tensor = (self.bias - batch.query.mean()) ** 2
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val", batch.query.mean(), batch_size=len(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def run(module: Spy, folder: Path, checkpoint: Path | None = None, every: int = 2) -> None:
    saver = lightning.pytorch.callbacks.ModelCheckpoint(folder, every_n_train_steps=every, save_last=True)
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        callbacks=[saver],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about workers and GPUs
        trainer.fit(module, datamodule=make_data(), ckpt_path=checkpoint)


@pytest.mark.parametrize(("stop", "saved", "every"), [(5, 4, 2), (13, 12, 2), (15, 11, 11)])
def test_a_stopped_training_resumes_to_the_same_batches(tmp_path: Path, stop: int, saved: int, every: int) -> None:
    whole, first, second = Spy(), Spy(stop), Spy()
    run(whole, tmp_path / "whole")
    assert len(whole.read) == 3 * len(make_data().train_dataloader())
    assert {epoch for epoch, _ in whole.read} == {0, 1, 2}
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(first, tmp_path / "killed", every=every)
    run(second, tmp_path / "resumed", tmp_path / "killed" / "last.ckpt")
    assert first.read == whole.read[:stop]
    assert second.read == whole.read[saved:]
    assert torch.equal(whole.bias, second.bias)


def test_what_a_method_has_no_answer_to_is_left_out_of_the_validation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_data()
    requests = data.validation_batches.requests
    rows, of = sorted(data.validation_batches.rows.tolist()), requests.of
    refused = set(rows[::2])

    def some(row: int, history: Any, name: str | None = None) -> Any:
        if row in refused:
            raise Unanswered(f"nothing for {row}")
        return of(row, history, name)

    monkeypatch.setattr(requests, "of", some)
    with caplog.at_level("WARNING"):
        assert sorted(sum(rows_of(data.val_dataloader()), [])) == rows[1::2]
    assert f"{len(refused)} dialogues without an answer are left out; first: nothing for" in caplog.text
    refused |= set(rows)
    with pytest.raises(Unanswered, match="nothing for"):
        list(data.val_dataloader())
