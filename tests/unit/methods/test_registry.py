"""A method is built from its configuration alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import dialogues, prepared_corpus, small_config, small_decoder
from tiny import tiny_model, tiny_tokenizer

from querier.choices import Kind, Train
from querier.config import ConditioningConfig, Config
from querier.decoder_config import DecoderConfig
from querier.errors import InputError
from querier.methods.registry import build_conditioner, fit_conditioner, trains
from querier.models.decoder import Decoder
from querier.types import Split


@pytest.mark.parametrize(
    ("kind", "train", "trained"),
    [
        (Kind.none, Train.frozen, False),
        (Kind.none, Train.full, True),
        (Kind.none, Train.lora, True),
        (Kind.soft_prompt, Train.frozen, True),
    ],
)
def test_something_is_trained_unless_the_decoder_is_frozen_and_alone(kind: Kind, train: Train, trained: bool) -> None:
    assert trains(Config(conditioning=ConditioningConfig(kind), decoder=DecoderConfig(train=train))) is trained


def test_the_centres_come_from_the_pool_and_from_nothing_else(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    prepared = prepared_corpus(dialogues(6, 12), config, tmp_path)
    decoder = small_decoder(prepared.corpus, config)
    size, clusters = prepared.matrix.shape[1], len(prepared.clusters.centroids)
    whole, pool_alone = (build_conditioner(config, decoder, clusters, size) for _ in range(2))
    assert whole is not None
    assert pool_alone is not None
    fit_conditioner(whole, prepared)
    outside = prepared.corpus.rows_in(Split.VALIDATION, Split.TEST)
    assert len(outside)
    prepared.query_row, prepared.reply_row = prepared.query_row.copy(), prepared.reply_row.copy()
    prepared.query_row[outside] = prepared.reply_row[outside] = 0  # other texts than they have
    fit_conditioner(pool_alone, prepared)
    for one, other in zip(whole.items.centre_in.buffers(), pool_alone.items.centre_in.buffers(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(whole.items.centre_out.buffers(), pool_alone.items.centre_out.buffers(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(whole.items.centre_in.directions, whole.items.centre_out.directions)


def test_text_alone_needs_no_conditioner_and_an_empty_pool_is_refused(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    prepared = prepared_corpus(dialogues(4, 8), config, tmp_path)
    decoder = small_decoder(prepared.corpus, config)
    assert build_conditioner(small_config(tmp_path, conditioning={"kind": "none"}), decoder, 3, 32) is None
    model = build_conditioner(config, decoder, len(prepared.clusters.centroids), 32)
    assert model is not None
    count = len(prepared.corpus)
    prepared.corpus = prepared.corpus.with_split(np.full(count, Split.TEST.value), np.zeros(4, dtype=bool))
    with pytest.raises(InputError, match=r"training split holds no dialogue.*data\.split"):
        fit_conditioner(model, prepared)


@pytest.mark.parametrize(("kind", "room"), [("soft_prompt", False), ("prefix", False), ("residual", True)])
def test_vectors_need_positions_of_the_decoder_too(tmp_path: Path, kind: str, room: bool) -> None:
    config = small_config(tmp_path, conditioning={"kind": kind}, towers={"virtual_tokens": 4})
    model = tiny_model("llama", max_position_embeddings=96 + 48 + 3)
    decoder = Decoder(model, tiny_tokenizer(), DecoderConfig(max_length=96))
    if room:
        assert build_conditioner(config, decoder, 3, 32) is not None
        return
    with pytest.raises(
        InputError, match=r"takes 148 positions beside 4 vectors.* has 147; set decoder.max_length to 95"
    ):
        build_conditioner(config, decoder, 3, 32)
