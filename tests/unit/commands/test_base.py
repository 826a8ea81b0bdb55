"""The base learns the pool's language without knowing who asks, once for all methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from querier.choices import DecoderKind, Train
from querier.commands import base
from querier.config import Config
from querier.data.records import Corpus
from querier.decoder_config import BaseConfig, DecoderConfig
from querier.models.decoder import build_decoder
from querier.types import Dialogue, Split, Turn


def corpus(first: str = "ann") -> Corpus:
    made = []
    for number in range(40):
        name = (first, "bob")[number % 2]
        turns = (Turn(name, f"what is {number % 5}"), Turn("tutor", f"it is {number % 5}"))
        made.append(Dialogue(f"d{number}", name, "tutor", turns, number, f"s{number}"))
    split = np.full(40, Split.TRAIN.value)
    split[32:] = Split.VALIDATION.value
    return Corpus.build(made).with_split(split, np.zeros(2, dtype=bool))


def config(tmp_path: Path, **changes: object) -> Config:
    decoder = DecoderConfig(layers=1, width=32, vocabulary=300, base=BaseConfig(epochs=8, batch_size=8, lr=5e-3))
    for name, value in changes.items():
        setattr(decoder, name, value)
    return Config(cache=str(tmp_path), decoder=decoder)


def test_it_learns() -> None:
    decoder, report = base.train_base(config(Path()).decoder, corpus())
    assert report["nll"] < 3.0  # from ln 300 = 5.7
    assert report["steps"] <= 8 * 4
    held_out = base._rendered(corpus(), Split.VALIDATION)
    assert base.reply_nll(decoder, held_out, 3) == pytest.approx(report["nll"], abs=1e-5)


def test_the_same_data_give_the_same_bits_whoever_asks() -> None:
    first, second = (base.train_base(config(Path()).decoder, corpus(name))[0] for name in ("ann", "zoe"))
    parts, _ = base.train_base(config(Path(), rows_at_once=2).decoder, corpus())
    for one, other, third in zip(first.parameters(), second.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_dropout_draws_the_same_whatever_was_drawn_before() -> None:
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        made.append(base.train_base(config(Path(), dropout=0.3).decoder, corpus())[0])
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(*each) for each in zip(*(one.parameters() for one in made), strict=True))


def test_it_is_trained_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = base.base_folder(config(tmp_path), corpus())
    monkeypatch.setattr(base, "train_base", lambda *_: pytest.fail("trained again"))
    assert base.base_folder(config(tmp_path, train=Train.lora), corpus()) == folder
    assert folder is not None
    assert build_decoder(config(tmp_path, train=Train.frozen).decoder, folder).geometry.width == 32


def test_a_frozen_method_still_gets_a_trained_base() -> None:
    decoder, report = base.train_base(config(Path(), train=Train.frozen).decoder, corpus())
    assert report["nll"] < 3.0
    assert decoder.config.train is Train.full


def test_settings_of_the_decoder_and_the_data_name_the_base(tmp_path: Path) -> None:
    one = base.base_digest(config(tmp_path).decoder, corpus())
    assert base.base_digest(config(tmp_path, train=Train.lora).decoder, corpus()) == one
    assert base.base_digest(config(tmp_path, max_length=512).decoder, corpus()) == one  # longer prompts, one base
    assert base.base_digest(config(tmp_path, width=64).decoder, corpus()) != one
    assert base.base_digest(config(tmp_path).decoder, corpus("zoe")) != one


def test_a_pretrained_decoder_is_its_own_base(tmp_path: Path) -> None:
    settings = config(tmp_path, kind=DecoderKind.pretrained, path="somewhere")
    assert base.base_folder(settings, corpus()) is None


def test_batches_hold_every_dialogue_once() -> None:
    rendered = base._rendered(corpus(), Split.TRAIN)
    batches = list(base._batches(rendered, 5, np.random.default_rng(0)))
    assert sorted(id(one) for batch in batches for one in batch) == sorted(id(one) for one in rendered)
    assert max(len(batch) for batch in batches) == 5
