"""A sentence encoder that is trained on the queries (`encoder.train=lora` or `full`).

It reads what the towers take the query to be. Histories, neighbours and clusters keep the cached vectors of the frozen
encoder, so nothing is encoded twice and nothing cached grows old.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from querier.choices import Train
from querier.config import EncoderConfig
from querier.models.encoder import encoder_folder, find_pooling, load_encoder, unit_vectors
from querier.models.loading import add_adapter


class QueryEncoder(nn.Module):
    """Texts to unit vectors, with gradient; before training those of the frozen encoder.

    Args:
        config: Which weights, and which of them move.
        seed: Of new LoRA weights.
    """

    def __init__(self, config: EncoderConfig, seed: int) -> None:
        super().__init__()
        folder = encoder_folder(config)
        self.max_length = config.max_length
        self.pooling = find_pooling(folder)
        self.tokenizer, model = load_encoder(folder)
        if config.train is Train.lora:
            model = add_adapter(model, config.lora_rank, config.lora_alpha, seed)
        else:
            for name, value in model.named_parameters():  # a pooler's output is not read
                value.requires_grad_("pooler" not in name)
        self.model = model

    def forward(self, texts: Sequence[str]) -> Tensor:
        """N texts to vectors (n, E)."""
        return unit_vectors(self.model, self.tokenizer, list(texts), self.max_length, self.pooling)
