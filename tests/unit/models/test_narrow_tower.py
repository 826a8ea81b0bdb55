"""The narrow tower against two decoders run apart, with cached generation, and gone without a trace."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import dialogues, prepared_corpus, small_config, small_decoder
from tiny import tiny_decoder, tiny_rendered, tiny_tokenizer
from torch import Tensor
from transformers import GptOssConfig, GptOssForCausalLM

from querier.choices import Train
from querier.decoder_config import DecoderConfig
from querier.errors import InputError
from querier.models.decoder import Decoder
from querier.models.generation import generate_ids
from querier.models.narrow_tower import NarrowTower
from querier.types import Tokens

INNER = 6
FIT = ("llama", "qwen3")


def tower_of(decoder: Decoder, averaged: bool = False, share: float | None = None) -> NarrowTower:
    """A tower whose weights are large enough to matter."""
    torch.manual_seed(5)
    tower = NarrowTower(decoder, INNER, averaged)
    with torch.no_grad():
        for value in tower.mlps.parameters():
            value.normal_(std=0.3)
        if share is not None and isinstance(tower.share, Tensor):
            tower.share.copy_(share * (1 + torch.rand_like(tower.share)))
    return tower


def with_narrow_mlps(decoder: Decoder, tower: NarrowTower) -> Any:
    """The bare model with the tower's MLPs and norm in the place of its own: the specific tower, all by itself."""
    model = copy.deepcopy(decoder.bare)
    for layer, narrow in zip(model.model.layers, tower.mlps, strict=True):
        layer.mlp = narrow
    model.model.norm = tower.norm
    return model


@torch.no_grad()
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("architecture", FIT)
def test_it_is_two_models_run_apart_and_fused_before_the_head(architecture: str, averaged: bool) -> None:
    decoder = tiny_decoder(architecture)
    tower = tower_of(decoder, averaged, share=0.3)
    tower.strength = 1.5
    ids = torch.tensor([[3, 9, 40, 7, 7], [11, 5, 6, 60, 2]])
    general = decoder.bare.model(ids).last_hidden_state
    specific = with_narrow_mlps(decoder, tower).model(ids).last_hidden_state
    wanted = decoder.bare.get_output_embeddings()(general + 1.5 * tower.share * (specific - general))
    tower.attach(decoder)
    assert torch.allclose(decoder.logits(Tokens(ids, torch.ones_like(ids), ids)), wanted, atol=1e-4)


@torch.no_grad()
def test_what_is_heard_is_the_specific_towers_last_layer() -> None:
    decoder = tiny_decoder()
    tower, tokens = tower_of(decoder), decoder.score_tokens(tiny_rendered(3))
    apart = with_narrow_mlps(decoder, tower)
    apart.model.norm = torch.nn.Identity()
    wanted = apart.model(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    tower.attach(decoder)
    tower.listen()
    decoder.log_prob(tokens)
    read = tokens.attention_mask.bool()
    assert torch.allclose(tower.heard()[read], wanted[read], atol=1e-4)
    with pytest.raises(RuntimeError, match="has not run since"):
        tower.heard()


@torch.no_grad()
@pytest.mark.parametrize("architecture", FIT)
def test_the_first_step_is_the_bare_decoders_and_an_average_is_not(architecture: str) -> None:
    decoder = tiny_decoder(architecture)
    tokens = decoder.score_tokens(tiny_rendered(4))
    bare = decoder.logits(tokens)
    far = []
    for averaged in (False, True):
        tower = tower_of(decoder, averaged)
        tower.attach(decoder)
        far.append(float((decoder.logits(tokens) - bare).abs().max()))
        tower.detach()
    assert far[0] < 1e-5
    assert far[1] > 1


@torch.no_grad()
def test_without_strength_the_general_tower_is_left_alone() -> None:
    decoder = tiny_decoder()
    tokens = decoder.score_tokens(tiny_rendered(4))
    bare = decoder.logits(tokens)
    tower = tower_of(decoder, averaged=True)
    tower.attach(decoder)
    tower.strength = 0.0
    assert torch.allclose(decoder.logits(tokens), bare, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("train", list(Train))
def test_detached_it_leaves_no_trace(train: Train) -> None:
    decoder = tiny_decoder(train=train)
    rendered = tiny_rendered(4)
    tokens, prompts = decoder.score_tokens(rendered), decoder.prompt_tokens(rendered)
    names, bare = list(decoder.state_dict()), decoder.logits(tokens)
    said = generate_ids(decoder, prompts, None, 4)
    tower = tower_of(decoder, averaged=True)
    tower.attach(decoder)
    assert list(decoder.state_dict()) == names
    assert not torch.equal(decoder.logits(tokens), bare)
    with pytest.raises(RuntimeError, match="attached already"):
        tower.attach(decoder)
    tower.detach()
    assert torch.equal(decoder.logits(tokens), bare)
    assert generate_ids(decoder, prompts, None, 4) == said
    assert all("forward" not in vars(part) for part in decoder.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in decoder.modules())


@torch.no_grad()
@pytest.mark.parametrize("architecture", FIT)
def test_cached_generation_is_argmax_of_full_forwards(architecture: str) -> None:
    decoder = tiny_decoder(architecture)
    rendered = tiny_rendered(4)
    tokens = decoder.prompt_tokens(rendered)
    assert (tokens.attention_mask == 0).any()
    decoder.tokens.stops = {9_999}  # none, so that each row has all of its tokens
    bare = generate_ids(decoder, tokens, None, 6)
    tower = tower_of(decoder, averaged=True)
    tower.attach(decoder)
    found = generate_ids(decoder, tokens, None, 6)
    for row, ids in enumerate(decoder.tokens.ids(rendered)):
        said = list(ids.prompt)
        for _ in range(6):
            alone = torch.tensor([said])
            said.append(int(decoder.logits(Tokens(alone, torch.ones_like(alone), alone))[0, -1].argmax()))
        assert found[row] == said[-6:]
    assert found != bare


@torch.no_grad()
def test_the_first_attention_runs_once_and_the_others_for_both_towers() -> None:
    decoder = tiny_decoder()
    tower = tower_of(decoder)
    tower.attach(decoder)
    rows: list[int] = []
    for layer in decoder.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda module, given, named: rows.append(len(named["hidden_states"])), with_kwargs=True
        )
    decoder.log_prob(decoder.score_tokens(tiny_rendered(3)))
    assert rows == [3, 6]


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_recomputed_activations_give_the_same_gradients() -> None:
    gradients = []
    for recomputed in (False, True):
        decoder = tiny_decoder().train()
        tower = tower_of(decoder, share=0.3)
        tower.attach(decoder)
        if recomputed:
            decoder.bare.gradient_checkpointing_enable({"use_reentrant": False})
        decoder.log_prob(decoder.score_tokens(tiny_rendered(3))).sum().backward()
        gradients.append([value.grad for value in (*tower.parameters(), *decoder.parameters())])
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*gradients, strict=True))


@torch.no_grad()
def test_the_small_decoder_and_one_in_bfloat16_take_it(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    small = small_decoder(prepared_corpus(dialogues(4, 8), config, tmp_path).corpus, config)
    for decoder in (small.eval(), tiny_decoder(dtype="bfloat16")):
        tower, tokens = tower_of(decoder, averaged=True), decoder.score_tokens(tiny_rendered(2))
        bare = decoder.log_prob(tokens)
        tower.attach(decoder)
        found = decoder.log_prob(tokens)
        assert found.isfinite().all()
        assert (found - bare).abs().max() > 1e-2


@pytest.mark.parametrize("architecture", ["gpt2", "gemma3", "t5"])
def test_decoders_of_another_make_are_refused(architecture: str) -> None:
    with pytest.raises(InputError, match=r"qar needs a causal decoder.*as Llama and Qwen have; got \w+ with .*smollm2"):
        NarrowTower(tiny_decoder(architecture), INNER, averaged=False)


def test_mlps_that_give_more_than_states_are_refused() -> None:
    size = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    experts = {"num_key_value_heads": 2, "intermediate_size": 16, "num_local_experts": 4, "num_experts_per_tok": 2}
    model = GptOssForCausalLM(GptOssConfig(**size, **experts))
    decoder = Decoder(model, tiny_tokenizer(), DecoderConfig()).eval()
    assert decoder.log_prob(decoder.score_tokens(tiny_rendered(2))).isfinite().all()
    with pytest.raises(InputError, match="states alone; those of GptOssForCausalLM give more.* use decoder=small"):
        NarrowTower(decoder, INNER, False)
