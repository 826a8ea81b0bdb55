"""Every serialisable flag of Lightning's Trainer, as `trainer.*`; a test compares the list with its signature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from querier.errors import InputError

ALIASES = {"bf16": "bf16-mixed", "16": "16-mixed", "32": "32-true"}  # what Lightning takes these for
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")  # what a run can be judged in as it was trained


@dataclass
class TrainerConfig:
    """Flags handed to `lightning.Trainer`; meanings and defaults are Lightning's unless a comment differs.

    Loggers, callbacks, profilers and plugins are objects and have groups of their own.
    """

    accelerator: str = "auto"
    strategy: str = "auto"
    devices: Any = "auto"
    num_nodes: int = 1
    precision: Any = None
    fast_dev_run: Any = False
    max_epochs: int | None = 4  # Lightning: None
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    max_time: str | None = None
    limit_train_batches: Any = None
    limit_val_batches: Any = None  # of a seeded sample, not the first
    limit_test_batches: Any = None
    limit_predict_batches: Any = None
    overfit_batches: Any = 0.0
    val_check_interval: Any = None
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int | None = 0  # Lightning: None
    log_every_n_steps: int | None = 10  # Lightning: None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = False  # Lightning: None
    accumulate_grad_batches: int = 1
    gradient_clip_val: Any = 1.0  # Lightning: None
    gradient_clip_algorithm: str | None = None
    deterministic: Any = None
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = False  # Lightning: True; the sampler itself divides the batches among processes
    detect_anomaly: bool = False
    barebones: bool = False
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: int = 0
    default_root_dir: str | None = None
    model_registry: str | None = None
    enable_autolog_hparams: bool = True

    def __post_init__(self) -> None:
        if self.barebones:
            raise InputError(
                "trainer.barebones=true leaves out checkpoints and logging, which a run is made of; leave it false "
                "(`querier bench` measures steps)"
            )
        if self.precision is not None:
            given = str(self.precision)
            self.precision = ALIASES.get(given, given)
            if self.precision not in PRECISIONS:
                raise InputError(
                    f"trainer.precision must be {', '.join(PRECISIONS)} or null, got {given}: a run would be judged in "
                    "another arithmetic than it was trained in; to save time take bf16-mixed, to save memory "
                    "decoder.dtype=bfloat16"
                )
