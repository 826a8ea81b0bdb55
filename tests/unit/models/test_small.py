from __future__ import annotations

import torch
from tiny import QUERIES, REPLIES, tiny_rendered, tiny_tokenizer

from querier.decoder_config import DecoderConfig
from querier.models.small import new_small_decoder, train_tokenizer

SMALL = DecoderConfig(layers=2, width=64, vocabulary=320)


def test_the_tokenizer_is_the_same_for_the_same_texts_and_no_larger_than_asked() -> None:
    one, other = (train_tokenizer([*QUERIES, *REPLIES], 320) for _ in range(2))
    assert one.get_vocab() == other.get_vocab()
    assert len(one) <= 320
    assert len(train_tokenizer(["a"], 2048)) < 300  # nothing to join


def test_the_model_has_the_shape_of_the_configuration() -> None:
    decoder = new_small_decoder(SMALL, tiny_tokenizer(), 0)
    found = decoder.geometry
    assert (found.layers, found.width, found.heads, found.head_size) == (2, 64, 2, 32)
    assert found.vocabulary == len(decoder.tokenizer)
    names = dict(decoder.model.named_parameters())
    assert "lm_head.weight" not in names  # tied to the embeddings
    assert all(value.requires_grad for value in names.values())


def test_weights_depend_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (new_small_decoder(SMALL, tiny_tokenizer(), seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_it_learns_a_few_replies_by_heart() -> None:
    decoder = new_small_decoder(SMALL, tiny_tokenizer(), 0)
    rendered = tiny_rendered(4)
    tokens = decoder.score_tokens(rendered)
    optimizer = torch.optim.AdamW(decoder.trainable(), lr=1e-2)
    decoder.train()
    for _ in range(40):
        loss = -decoder.log_prob(tokens).sum() / (tokens.labels >= 0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1
    assert decoder.generate(decoder.prompt_tokens(rendered), None, 40) == [one.reply for one in rendered]
