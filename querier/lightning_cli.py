"""Lightning's own command line over the same dataclasses, for those who know it.

    python -m querier.lightning_cli fit --print_config
    python -m querier.lightning_cli fit --model.data.path=my_dialogues.jsonl --model.towers.fusion=concat

Checkpoints, loggers and callbacks are Lightning's; `querier fit` adds run folders, resume and the choice of the best.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from lightning.pytorch.cli import LightningCLI
from torch import nn

from querier.commands.base import base_folder
from querier.commands.fit import build_requests, check_validation, of_a_sample
from querier.commands.prepare import run_prepare
from querier.config import (
    ClustersConfig,
    ConditioningConfig,
    Config,
    ContrastConfig,
    EncoderConfig,
    EvaluationConfig,
    LoaderConfig,
    LossConfig,
    OptimConfig,
    PromptConfig,
    TowersConfig,
    to_plain,
)
from querier.data.datamodule import QuerierData
from querier.data_config import DataConfig
from querier.decoder_config import DecoderConfig
from querier.errors import InputError
from querier.methods.registry import build_conditioner, fit_conditioner
from querier.models.decoder import build_decoder
from querier.module import QuerierModule
from querier.qar_config import QarConfig


class CommandLineModule(QuerierModule):
    """A `QuerierModule` that is made from settings alone; data and weights come in when the trainer sets it up.

    Args:
        method: Name of the method, for the record.
        seed: Of the weights and the batches.
        cache: Where vectors, clusters and bases are kept.
        data: As in `Config`, like all that follow.
        encoder: As in `Config`.
        decoder: As in `Config`.
        towers: As in `Config`.
        clusters: As in `Config`.
        contrast: As in `Config`.
        loss: As in `Config`.
        prompt: As in `Config`.
        conditioning: As in `Config`.
        qar: As in `Config`.
        loader: As in `Config`.
        optim: As in `Config`.
        evaluation: As in `Config`.
    """

    def __init__(
        self,
        method: str = "querier",
        seed: int = 0,
        cache: str = "outputs/cache",
        data: DataConfig = DataConfig(),  # noqa: B008  # jsonargparse reads a dataclass's defaults from here
        encoder: EncoderConfig = EncoderConfig(),  # noqa: B008
        decoder: DecoderConfig = DecoderConfig(),  # noqa: B008
        towers: TowersConfig = TowersConfig(),  # noqa: B008
        clusters: ClustersConfig = ClustersConfig(),  # noqa: B008
        contrast: ContrastConfig = ContrastConfig(),  # noqa: B008
        loss: LossConfig = LossConfig(),  # noqa: B008
        prompt: PromptConfig = PromptConfig(),  # noqa: B008
        conditioning: ConditioningConfig = ConditioningConfig(),  # noqa: B008
        qar: QarConfig = QarConfig(),  # noqa: B008
        loader: LoaderConfig = LoaderConfig(),  # noqa: B008
        optim: OptimConfig = OptimConfig(),  # noqa: B008
        evaluation: EvaluationConfig = EvaluationConfig(),  # noqa: B008
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        placeholder: Any = nn.Identity()
        super().__init__(Config(**given), placeholder, None)
        self.hparams.clear()  # Lightning's command line reads from a checkpoint what this class takes, not a `Config`
        self.save_hyperparameters({name: to_plain(value) for name, value in given.items()})
        self._data: QuerierData | None = None

    def setup(self, stage: str) -> None:
        """Prepare the data and build decoder and conditioner, once."""
        if self._data is not None:
            return
        limit = self.trainer.limit_val_batches
        self.config = replace(self.config, trainer=replace(self.config.trainer, limit_val_batches=limit))
        self.trainer.limit_val_batches = of_a_sample(limit)
        prepared = run_prepare(self.config)
        check_validation(prepared.corpus, self.config)
        self.decoder = build_decoder(self.config.decoder, base_folder(self.config, prepared.corpus))
        size = prepared.matrix.shape[1]
        self.conditioner = build_conditioner(self.config, self.decoder, len(prepared.clusters.centroids), size)
        if self.conditioner is not None:
            fit_conditioner(self.conditioner, prepared)
        requests = build_requests(prepared, self.config)
        self._data = QuerierData(requests, self.config, self.decoder.score_tokens, self.conditioner is not None)

    def train_dataloader(self) -> Any:
        """The training batches."""
        return self.batches.train_dataloader()

    def val_dataloader(self) -> Any:
        """The validation batches."""
        return self.batches.val_dataloader()

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """A copy of the batch on `device`."""
        return self.batches.transfer_batch_to_device(batch, device, dataloader_idx)

    @property
    def batches(self) -> QuerierData:
        """The data module behind the loaders.

        Raises:
            RuntimeError: Before `setup`.
        """
        if self._data is None:
            raise RuntimeError("the trainer calls setup() before it asks for batches")
        return self._data


def main(arguments: list[str] | None = None) -> LightningCLI:
    """Run Lightning's command line.

    Raises:
        SystemExit: What was given cannot be used; the code is 2, and the reason is said.
    """
    try:
        return LightningCLI(CommandLineModule, seed_everything_default=0, args=arguments)
    except InputError as error:
        sys.stderr.write(f"querier: {error}\n")
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
