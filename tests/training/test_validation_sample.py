"""A limited validation looks at the sample that was asked for, under both command lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import WordEncoder, dialogues, small_config, write_jsonl
from test_lightning_cli import TINY

from querier.commands import fit, prepare
from querier.errors import InputError
from querier.lightning_cli import main
from querier.module import QuerierModule
from querier.types import Batch

SIZE = 2  # dialogues of a batch


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Dialogues of whom 40 are the validation; the encoder needs no weights."""
    for part in (fit, prepare):
        monkeypatch.setattr(part, "encoder", lambda config: WordEncoder())
    return write_jsonl(tmp_path / "log.jsonl", dialogues(10, 40))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that validations look at."""
    honest, rows = QuerierModule.validation_step, []

    def step(module: QuerierModule, batch: Batch, batch_idx: int) -> None:
        rows.extend(batch.rows.tolist())
        honest(module, batch, batch_idx)

    monkeypatch.setattr(QuerierModule, "validation_step", step)
    return rows


def fitted(log: Path, limit: Any, name: str = "run") -> None:
    trainer = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": limit}
    words = {"data": {"path": str(log)}, "trainer": {**vars(small_config(log.parent).trainer), **trainer}}
    fit.run_fit(small_config(log.parent, **words, name=name, evaluation={"batch_size": SIZE}))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("limit", "share"), [(0.5, 0.5), (0.1, 0.1), (1.0, 1.0), (3, None)])
def test_a_share_is_taken_once(log: Path, seen: list[int], limit: Any, share: float | None) -> None:
    fitted(log, None, "whole")
    whole = seen.copy()
    seen.clear()
    fitted(log, limit)
    wanted = 3 if share is None else int(share * (len(whole) // SIZE))
    assert len(whole) % SIZE == 0
    assert len(seen) == len(set(seen)) == wanted * SIZE
    assert set(seen) <= set(whole)
    ours = seen.copy()
    seen.clear()
    places = [f"--model.data.path={log}", f"--model.cache={log.parent / 'cache'}"]
    words = [f"--trainer.limit_val_batches={limit}", f"--model.evaluation.batch_size={SIZE}"]
    words += ["--trainer.num_sanity_val_steps=0", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]
    main(["fit", *TINY, *places, *words, f"--trainer.default_root_dir={log.parent}"])
    assert seen == ours


def test_a_share_of_less_than_a_batch_is_refused(log: Path) -> None:
    with pytest.raises(InputError, match=r"limit_val_batches=0\.01 of \d+ batches .* is not one batch; raise it"):
        fitted(log, 0.01)
    assert not (log.parent / "cache").exists()
