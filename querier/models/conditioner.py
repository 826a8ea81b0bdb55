"""The seam between a method and everything else: what tells a decoder of the querier.

A method of its own subclasses `Conditioner`. `condition` is all that scoring and answering ask for; `training_step` and
`auxiliary_losses` are asked for in training, `attach` where a method has to reach into the decoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from querier.errors import InputError
from querier.losses import Sum
from querier.models.decoder import Decoder
from querier.models.query_encoder import QueryEncoder
from querier.types import Batch, Conditioning, Items


@dataclass
class Step:
    """What a conditioner gives for a training step.

    Attributes:
        conditioning: Of the batch; None for a bare decoder.
        swapped: Of the rows of `batch.swap`; None where nothing is swapped.
        kept: What its own losses need again, by name.
    """

    conditioning: Conditioning | None
    swapped: Conditioning | None = None
    kept: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Outputs:
    """What a training step came to, for losses of the conditioner's own.

    Attributes:
        log_prob: log p of each token of the reply, nats, (B, L).
        kept: As in `Step`.
    """

    log_prob: Tensor
    kept: Mapping[str, Tensor] = field(default_factory=dict)


class Conditioner(nn.Module, ABC):
    """What a method reads of queriers and makes of it.

    Attributes:
        weights: λ of each of its losses by name, `swap` included; `lm` always counts 1.
        encoder: A sentence encoder that is trained with a learning rate of its own; None for none.
        scales: Whether `condition` heeds `strength`.
        places: Places in the decoder's sequence that its vectors take beside the prompt's tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}
        self.encoder: QueryEncoder | None = None
        self.scales = True
        self.places = 0

    @abstractmethod
    def condition(self, batch: Batch, strength: float = 1.0) -> Conditioning | None:
        """What the decoder reads for the batch's queriers; `strength` 0 equals no history, 1 is as trained."""

    def training_step(self, batch: Batch) -> Step:
        """The same in training, with what the losses need again."""
        return Step(self.condition(batch))

    def auxiliary_losses(self, batch: Batch, outputs: Outputs) -> dict[str, Sum]:
        """Losses beside the language model's, by the names of `weights`; the batch is that of `training_step`.

        State that they keep between batches lies in buffers, or in extra state where only training reads it.
        """
        return {}

    def attach(self, decoder: Decoder) -> None:
        """Wrap modules of the decoder, where a method reaches further than a `Conditioning` does."""

    def detach(self) -> None:
        """Undo `attach`: the decoder is bit-identical to what it was."""

    def fit(
        self, queries: np.ndarray, replies: np.ndarray, style: np.ndarray, cluster: np.ndarray, querier: np.ndarray
    ) -> None:
        """Take what is fitted and not trained from the pool.

        Args:
            queries: Embeddings of what was asked, (P, E).
            replies: Embeddings of what was answered, (P, E).
            style: Stylometry of what was answered, (P, S).
            cluster: Of each query, (P,).
            querier: Who asked, (P,).
        """

    def embed(self, history: Items) -> Tensor:
        """One query-free vector of each querier, (B, D).

        Raises:
            InputError: Where the method has none.
        """
        raise InputError(f"{type(self).__name__} has no vectors of queriers; use a run of method querier")

    def represent(self, batch: Batch) -> dict[str, Tensor]:
        """What is made of the batch before it is fused, by name, each (B, D); empty where there is nothing to see."""
        return {}

    def own_state(self) -> dict[str, Tensor]:
        """All that is trained or fitted here; frozen weights are found where they came from.

        What torch calls extra state belongs to the checkpoints of training alone.
        """
        frozen = {name for name, value in self.named_parameters() if not value.requires_grad}
        kept = {name: value for name, value in self.state_dict().items() if name not in frozen}
        return {name: value.contiguous().cpu() for name, value in kept.items() if isinstance(value, Tensor)}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Read what `own_state` gave.

        Raises:
            InputError: Where a part is missing.
            RuntimeError: Where one has another shape.
        """
        missing = set(self.own_state()) - set(state)
        if missing:
            raise InputError(
                f"the weights lack {', '.join(sorted(missing))}: another version of querier saved them; train the run "
                "again with overwrite=true"
            )
        self.load_state_dict({**self.state_dict(), **state})
