from __future__ import annotations

import pytest
import torch
from tiny import tiny_decoder, tiny_model, tiny_tokenizer
from torch import nn

from querier.choices import Kind, Train
from querier.decoder_config import DecoderConfig
from querier.models.conditioning import build_head
from querier.models.decoder import Decoder
from querier.models.injection import only, shifted, with_soft_prompt
from querier.types import Tokens

WINDOW = 6


def sliding_decoder() -> Decoder:
    model = tiny_model("gemma3", num_hidden_layers=1, layer_types=["sliding_attention"], sliding_window=WINDOW)
    return Decoder(model, tiny_tokenizer(), DecoderConfig(train=Train.frozen)).eval()


@pytest.mark.parametrize(("kind", "seen"), [(Kind.prefix, WINDOW - 1), (Kind.soft_prompt, WINDOW - 1)])
@torch.no_grad()
def test_a_sliding_layer_forgets_what_stands_before_its_window(kind: Kind, seen: int) -> None:
    decoder = sliding_decoder()
    assert decoder.geometry.sliding == (WINDOW,)
    ids = torch.randint(6, 320, (1, 20), generator=torch.Generator().manual_seed(0))
    tokens = Tokens(ids, torch.ones_like(ids), ids)
    head = build_head(kind, decoder.geometry, decoder.embedding_rms, 12, 3, 4, 1.0)
    one, other = (decoder.logits(tokens, head(torch.randn(1, 3, 12))) for _ in range(2))
    differs = (one - other).abs().amax(-1)[0] > 1e-4
    assert differs[:seen].all()
    assert not differs[seen:].any()


@torch.no_grad()
def test_a_residual_shift_is_not_forgotten() -> None:
    decoder = sliding_decoder()
    ids = torch.randint(6, 320, (1, 20), generator=torch.Generator().manual_seed(0))
    head = build_head(Kind.residual, decoder.geometry, decoder.embedding_rms, 12, 3, 4, 1.0)
    nn.init.normal_(head.up)
    tokens = Tokens(ids, torch.ones_like(ids), ids)
    one, other = (decoder.logits(tokens, head(torch.randn(1, 3, 12))) for _ in range(2))
    assert ((one - other).abs().amax(-1) > 1e-4).all()


def test_a_soft_prompt_stands_before_the_first_token_of_each_row() -> None:
    embedding = nn.Embedding(10, 2)
    ids = torch.tensor([[0, 0, 5, 6], [4, 5, 6, 7], [0, 5, 6, 7]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]])
    soft = torch.tensor([[[100.0, 1.0], [100.0, 2.0]]]).repeat(3, 1, 1)
    vectors, found = with_soft_prompt(embedding, ids, mask, soft)
    assert found.tolist() == [[0, 0, 1, 1, 1, 1], [1] * 6, [0, 1, 1, 1, 1, 1]]
    for row, skipped in enumerate((2, 0, 1)):
        assert torch.equal(vectors[row, skipped : skipped + 2], soft[row])
        assert torch.equal(vectors[row, skipped + 2 :], embedding(ids[row, skipped:]))


def test_hooks_are_gone_afterwards_also_after_an_error() -> None:
    decoder = tiny_decoder()
    shift = [torch.ones(1, 1, 32)] * 2
    with shifted(decoder.layers, shift):
        assert all(layer._forward_hooks for layer in decoder.layers)
    with pytest.raises(RuntimeError, match="inside"), shifted(decoder.layers, shift):
        raise RuntimeError("inside")
    assert not any(layer._forward_hooks for layer in decoder.layers)
    door = decoder.bare.get_output_embeddings()
    with pytest.raises(RuntimeError, match="inside"), only(door, torch.tensor([0]), torch.tensor([0])):
        raise RuntimeError("inside")
    assert not door._forward_pre_hooks


def test_a_shift_for_each_layer_is_needed() -> None:
    decoder = tiny_decoder()
    with pytest.raises(ValueError, match="shorter"), shifted(decoder.layers, [torch.ones(1, 1, 32)]):
        pass
    assert not any(layer._forward_hooks for layer in decoder.layers)
