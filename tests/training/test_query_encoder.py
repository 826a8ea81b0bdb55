"""A sentence encoder that is trained on the queries, beside cached vectors that stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import WordEncoder, dialogues, prepared_corpus, requests_of, small_config, small_module
from safetensors import safe_open
from test_learns import train
from transformers import BertConfig, BertModel

from querier.choices import Train
from querier.config import Config, EncoderConfig
from querier.data.collate import TrainingBatches, collate
from querier.data.preparation import Prepared
from querier.models.encoder import SentenceEncoder
from querier.models.query_encoder import QueryEncoder
from querier.models.small import train_tokenizer
from querier.module import QuerierModule
from querier.responder import load_module, save_module

TEXTS = ["how does bread work", "why?", "how do tides work, my friend"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder with vectors of the size of the words' ones."""
    made = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    shape = {"hidden_size": WordEncoder.size, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=320, **shape)).save_pretrained(str(made))
    train_tokenizer(TEXTS, 320).save_pretrained(str(made))
    return made


def setting(folder: Path, place: Path, weights: str) -> tuple[QuerierModule, Prepared, Config]:
    config = small_config(
        place,
        encoder={"name": str(folder), "train": weights, "max_length": 24},
        optim={"weight_decay": 0.0, "warmup": 0.0},
        conditioning={"kind": "residual"},
        loss={"swap_fraction": 0.5, "general": 0.1, "specific": 0.1},
    )
    prepared = prepared_corpus(dialogues(8, 12), config, place)
    return small_module(prepared, config), prepared, config


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_before_training_it_reads_as_the_frozen_one(folder: Path, weights: str) -> None:
    config = EncoderConfig(name=str(folder), train=Train(weights), max_length=24)
    trained = QueryEncoder(config, 0).eval()
    found = trained(TEXTS).detach().numpy()
    np.testing.assert_allclose(found, SentenceEncoder(config, "cpu")(TEXTS), atol=1e-5)


@pytest.mark.parametrize(("weights", "moving"), [("lora", "lora_"), ("full", "encoder.model.e")])
def test_what_is_trained_moves_and_the_rest_stays(folder: Path, tmp_path: Path, weights: str, moving: str) -> None:
    module, prepared, _ = setting(folder, tmp_path, weights)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    train(module, prepared, 2, tmp_path)
    trainable = {name for name, value in module.named_parameters() if value.requires_grad}
    moved = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    inside = {name for name in trainable if ".encoder.model." in name}
    assert inside
    assert all(moving in name for name in inside)
    assert not [name for name in inside if "pooler" in name]
    # Embeddings of tokens that no text holds have no gradient, but stand in a table with those that do.
    assert moved == trainable


def test_the_text_of_the_query_is_what_is_read(folder: Path, tmp_path: Path) -> None:
    module, prepared, config = setting(folder, tmp_path, "lora")
    model = module.conditioner
    assert model is not None
    torch.nn.init.normal_(model.head.up, std=0.1)  # a shift that says something
    module.eval()
    requests = [requests_of(prepared, config).matched(int(row)) for row in prepared.pool[-4:]]
    batch = collate(requests, module.decoder.score_tokens([one.rendered for one in requests]), 8)
    assert batch.asked == tuple(prepared.corpus.dialogue(int(row)).query for row in prepared.pool[-4:])
    said = torch.stack(model.condition(batch).residual or [])
    batch.query = batch.query + 1.0  # the cached vector is not read
    assert torch.equal(torch.stack(model.condition(batch).residual or []), said)
    batch.asked = (*batch.asked[:3], "something else altogether")
    other = torch.stack(model.condition(batch).residual or [])
    assert torch.allclose(other[:, :3], said[:, :3], atol=1e-5)
    assert not torch.allclose(other[:, 3], said[:, 3], atol=1e-5)


def test_both_sides_of_a_comparison_of_queries_are_read_by_it(folder: Path, tmp_path: Path) -> None:
    """Else the anchor's own queries would be told from it by the encoder that read them."""
    module, prepared, config = setting(folder, tmp_path, "full")
    model = module.eval().conditioner
    assert model is not None
    assert model.encoder is not None
    builder = TrainingBatches(requests_of(prepared, config), config, module.decoder.score_tokens)
    batch = builder.build(prepared.pool[-8:], 0, 0)
    assert batch.contrastive is not None
    read = model._with_queries(batch)
    assert read.contrastive is not None
    shape = batch.contrastive.own_query.shape
    wanted = model.encoder(batch.contrastive.own_asked).view(shape)
    assert torch.allclose(read.contrastive.own_query, wanted, atol=1e-5)
    assert torch.allclose(read.query, model.encoder(batch.asked), atol=1e-5)
    assert batch.contrastive.own_mask.any()


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_saved_and_loaded_it_scores_the_same(folder: Path, tmp_path: Path, weights: str) -> None:
    module, prepared, config = setting(folder, tmp_path, weights)
    train(module, prepared, 2, tmp_path)
    requests = [requests_of(prepared, config).matched(int(row)) for row in prepared.pool[-4:]]
    scored = [one.log_prob for one in module.score(requests)]
    save_module(module, prepared.clusters, WordEncoder.size, tmp_path / "model")
    loaded, _ = load_module(tmp_path / "model")
    assert [one.log_prob for one in loaded.score(requests)] == pytest.approx(scored, abs=1e-5)
    with safe_open(str(tmp_path / "model" / "conditioner.safetensors"), "pt") as file:
        kept = {name for name in file.keys() if name.startswith("encoder.")}  # not a mapping
    assert kept
    assert weights == "full" or all("lora_" in name for name in kept)
