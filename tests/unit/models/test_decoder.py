from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from tiny import ARCHITECTURES, tiny_decoder, tiny_model, tiny_rendered, tiny_tokenizer
from torch import Tensor, nn
from transformers import MambaConfig, MambaForCausalLM, RecurrentGemmaConfig, RecurrentGemmaForCausalLM

from querier.choices import DecoderKind, Kind, Train
from querier.decoder_config import DecoderConfig
from querier.errors import InputError
from querier.models.conditioning import build_head
from querier.models.decoder import Decoder
from querier.models.generation import generate_ids
from querier.models.geometry import find_layers
from querier.types import Conditioning, Rendered, Tokens, take

KINDS = (Kind.soft_prompt, Kind.prefix, Kind.residual)
D, T = 12, 3
POSITIONS = {"max_position_embeddings": 100}
SIZE = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def head_of(decoder: Decoder, kind: Kind, filled: bool = True) -> nn.Module:
    """A head; `filled` gives the residual's zeros values, as two steps of training would."""
    head = build_head(kind, decoder.geometry, decoder.embedding_rms, D, T, 4, 1.0)
    if kind is Kind.residual and filled:
        nn.init.normal_(head.up, std=0.2)
    return head


def vectors(n: int, seed: int = 1) -> Tensor:
    return torch.randn(n, T, D, generator=torch.Generator().manual_seed(seed))


def bare_logits(decoder: Decoder, tokens: Tokens) -> Tensor:
    """What the `transformers` model itself says, called as its documentation does."""
    inputs = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
    if decoder.seq2seq:
        labels = tokens.labels.masked_fill(tokens.labels < 0, 2)
        inputs["decoder_input_ids"] = torch.cat([torch.full_like(labels[:, :1], 2), labels[:, :-1]], dim=1)
    return decoder.model(**inputs).logits


@pytest.mark.parametrize("train", [Train.lora, Train.frozen])
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gpt_neo", "mpt", "bart"])
def test_frozen_weights_held_as_mixed_precision_rounds_them_change_no_bit(architecture: str, train: Train) -> None:
    plain, held = (tiny_decoder(architecture, train, rows_at_once=2) for _ in range(2))
    held.hold_frozen_in(torch.bfloat16)
    values = {name: value.dtype for name, value in held.bare.named_parameters()}
    assert {value for name, value in values.items() if "lora_" in name} <= {torch.float32}
    assert held.bare.get_output_embeddings().weight.dtype == torch.float32
    assert any(value.dtype == torch.bfloat16 for value in held.layers.parameters())
    tokens, prompts = held.score_tokens(tiny_rendered(4)), held.prompt_tokens(tiny_rendered(4))
    shift = Conditioning(residual=list(torch.randn(2, 4, 1, 32, generator=torch.Generator().manual_seed(1)).unbind()))
    for conditioning in (None, shift):
        numbers, replies = [], []
        for decoder in (plain, held):
            with torch.autocast("cpu", torch.bfloat16):
                trained = decoder.log_prob(tokens, conditioning)
            if train is Train.lora:
                trained.sum().backward()
            with torch.autocast("cpu", torch.bfloat16) if decoder is plain else nullcontext():  # it does so by itself
                with torch.no_grad():
                    scored = decoder.log_prob(tokens, conditioning)
                replies.append(decoder.generate(prompts, conditioning, 5))
            numbers.append([trained.detach(), scored, *(value.grad for value in decoder.trainable())])
        torch.testing.assert_close(numbers[1], numbers[0], rtol=0, atol=0)
        assert replies[1] == replies[0]


@pytest.mark.parametrize("changes", [{"kind": DecoderKind.small, "train": Train.lora}, {"train": Train.full}])
def test_weights_that_are_saved_or_trained_are_held_in_full(changes: dict[str, Any]) -> None:
    decoder = tiny_decoder(**changes)
    decoder.hold_frozen_in(torch.bfloat16)
    assert {value.dtype for value in decoder.parameters()} == {torch.float32}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_none_is_the_bare_model_bit_for_bit(architecture: str) -> None:
    decoder = tiny_decoder(architecture)
    tokens = decoder.score_tokens(tiny_rendered(4))
    bare = bare_logits(decoder, tokens)
    assert torch.equal(decoder.logits(tokens, None), bare)
    nothing = head_of(decoder, Kind.none)(vectors(4))
    assert torch.equal(decoder.logits(tokens, nothing), bare)


@pytest.mark.parametrize("train", list(Train))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_no_forward_searches_the_model(architecture: str, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = tiny_decoder(architecture, train)
    tokens, prompts = decoder.score_tokens(tiny_rendered(2)), decoder.prompt_tokens(tiny_rendered(2))
    names = set(decoder.state_dict())
    assert decoder.layers is find_layers(decoder.bare, decoder.seq2seq)
    assert names == {f"model.{name}" for name in decoder.model.state_dict()}
    twin = copy.deepcopy(decoder)
    assert twin.layers is find_layers(twin.bare, twin.seq2seq)
    monkeypatch.setattr(nn.Module, "modules", lambda self: pytest.fail("a search through the model"))
    shift = head_of(decoder, Kind.residual)(vectors(2))
    decoder.log_prob(tokens, shift)
    decoder.log_prob(tokens)
    generate_ids(decoder, prompts, shift, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_another_conditioning_changes_the_logits(architecture: str, kind: Kind) -> None:
    decoder = tiny_decoder(architecture)
    tokens = decoder.score_tokens(tiny_rendered(4))
    head = head_of(decoder, kind)
    one, other = (decoder.logits(tokens, head(vectors(4, seed))) for seed in (1, 2))
    predicting = (tokens.labels[:, 1:] >= 0) if not decoder.seq2seq else (tokens.labels >= 0)
    one, other = (found[:, : predicting.shape[1]][predicting] for found in (one, other))
    assert (one - other).abs().amax(-1).min() > 1e-4  # at each place that predicts a token of the reply


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_a_new_residual_head_leaves_the_model_as_it_is(architecture: str) -> None:
    decoder = tiny_decoder(architecture)
    tokens = decoder.score_tokens(tiny_rendered(4))
    head = head_of(decoder, Kind.residual, filled=False)
    assert torch.equal(decoder.logits(tokens, head(vectors(4))), bare_logits(decoder, tokens))


@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_log_prob_is_the_slow_formula(architecture: str, kind: Kind | None) -> None:
    decoder = tiny_decoder(architecture)
    tokens = decoder.score_tokens(tiny_rendered(4))
    conditioning = None if kind is None else head_of(decoder, kind)(vectors(4))
    found = decoder.log_prob(tokens, conditioning)
    logits = decoder.logits(tokens, conditioning).double().log_softmax(-1)
    for row in range(4):
        for place, label in enumerate(tokens.labels[row].tolist()):
            source = place if decoder.seq2seq else place - 1
            expected = float(logits[row, source, label]) if label >= 0 else 0.0
            assert float(found[row, place]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_padding_has_no_effect(architecture: str, kind: Kind | None) -> None:
    decoder = tiny_decoder(architecture)
    rendered = tiny_rendered(4)
    tokens = decoder.score_tokens(rendered)
    conditioning = None if kind is None else head_of(decoder, kind)(vectors(4))
    together = decoder.log_prob(tokens, conditioning)
    # By a hook and not in the weight, which some output layers share.
    decoder.bare.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: output.masked_fill((inputs[0] == 3)[..., None], 1e4)
    )
    padded = tokens.attention_mask == 0
    assert padded.any()
    assert not (tokens.input_ids == 3).any()
    changed = Tokens(tokens.input_ids.masked_fill(padded, 3), tokens.attention_mask, tokens.labels)
    assert torch.allclose(decoder.log_prob(changed, conditioning), together, atol=1e-5)
    for row, one in enumerate(rendered):
        alone = None if kind is None else head_rows(conditioning, row)
        single = decoder.score_tokens([one])
        assert torch.allclose(decoder.log_prob(single, alone).sum(), together[row].sum(), atol=1e-4)


@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_read_in_parts_give_the_same_values_and_gradients(architecture: str, kind: Kind | None) -> None:
    found, gradients, read = [], [], []
    for size in (None, 3):
        decoder = tiny_decoder(architecture, rows_at_once=size)
        torch.manual_seed(0)  # of the head
        head = None if kind is None else head_of(decoder, kind)
        inputs = vectors(8).requires_grad_()
        shapes: list[tuple[int, ...]] = []
        first = decoder.bare.get_encoder().block[0] if decoder.seq2seq else decoder.layers[0]
        first.register_forward_hook(partial(_note, shapes))
        tokens = decoder.score_tokens(tiny_rendered(8))
        log_prob = decoder.log_prob(tokens, None if head is None else head(inputs))
        log_prob.sum().backward()
        found.append(log_prob.detach())
        weights = [inputs.grad] if kind is not None else []
        gradients.append([*weights, *(value.grad for value in decoder.parameters() if value.grad is not None)])
        read.append((len(shapes), sum(rows * columns for rows, columns in shapes)))
    assert torch.allclose(found[0], found[1], atol=1e-5)
    assert len(gradients[0]) == len(gradients[1]) > 3
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-4 * float(one.abs().max().clamp(min=1.0)))
    assert read[1][0] == 3 * read[0][0]  # of 8 rows 3, 3 and 2
    assert read[1][1] < 0.85 * read[0][1]


def _note(shapes: list[tuple[int, ...]], module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
    shapes.append((output[0] if isinstance(output, tuple) else output).shape[:2])


def head_rows(conditioning: Conditioning | None, row: int) -> Conditioning:
    assert conditioning is not None
    return take(conditioning, torch.tensor([row]))


@pytest.mark.parametrize("train", list(Train))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_two_steps_move_what_is_trainable_and_nothing_else(architecture: str, train: Train) -> None:
    decoder = tiny_decoder(architecture, train)
    heads = nn.ModuleList(head_of(decoder, kind, filled=False) for kind in KINDS)
    everything = [*decoder.named_parameters(), *heads.named_parameters()]
    before = {name: value.detach().clone() for name, value in everything}
    trained = [value for _, value in everything if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    decoder.train()
    tokens = decoder.score_tokens(tiny_rendered(8))
    for step in range(2):
        loss = -sum(decoder.log_prob(tokens, head(vectors(8, step))).sum() for head in heads)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in everything:
        moved = not torch.equal(before[name], value)
        assert moved == value.requires_grad, name
    counts = {Train.frozen: 0, Train.full: sum(1 for _ in decoder.parameters())}
    found = sum(1 for _ in decoder.trainable())
    assert found == counts.get(train, found)
    assert (train is Train.frozen) == (found == 0)
    residual = heads[2](vectors(8))
    with torch.no_grad():  # the residual, equal to the base at first, has an effect now
        change = decoder.logits(tokens, residual) - decoder.logits(tokens, None)
    assert change.abs().max() > 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_a_new_adapter_changes_nothing(architecture: str) -> None:
    tokens = tiny_decoder(architecture).score_tokens(tiny_rendered(2))
    plain, adapted = (tiny_decoder(architecture, train).logits(tokens) for train in (Train.full, Train.lora))
    assert torch.equal(plain, adapted)


def test_adapters_reach_attention_and_mlp_of_every_layer() -> None:
    for architecture, per_layer in (("llama", 7), ("qwen3", 7), ("gpt2", 4), ("gemma3", 7)):
        names = [name for name, _ in tiny_decoder(architecture, Train.lora).named_parameters() if "lora_A" in name]
        assert len(names) == 2 * per_layer, architecture
    names = [name for name, _ in tiny_decoder("t5", Train.lora).named_parameters() if "lora_A" in name]
    assert len(names) == 2 * (4 + 2) + 2 * (4 + 4 + 2)  # encoder, and decoder with cross-attention


def test_a_frozen_decoder_has_no_dropout_in_training() -> None:
    assert not tiny_decoder(train=Train.frozen).train().model.training
    assert tiny_decoder(train=Train.full).train().model.training


@torch.no_grad()
def test_a_row_without_labels_scores_zero() -> None:
    decoder = tiny_decoder()
    tokens = decoder.prompt_tokens(tiny_rendered(2))
    assert torch.equal(decoder.log_prob(tokens), torch.zeros(tokens.labels.shape))


@torch.no_grad()
@pytest.mark.parametrize(
    ("architecture", "changes", "most"), [("gpt2", {}, 213), ("llama", POSITIONS, 67), ("bart", {}, 192)]
)
def test_more_tokens_than_positions_are_refused(architecture: str, changes: dict[str, int], most: int) -> None:
    model, tokenizer = tiny_model(architecture, **changes), tiny_tokenizer(chat=False)

    def made(length: int) -> Decoder:
        config = DecoderConfig(kind=DecoderKind.pretrained, path=architecture, max_length=length)
        return Decoder(model, tokenizer, config).eval()

    with pytest.raises(
        InputError, match=rf"decoder.max_length={most + 1} is too long.* set decoder.max_length to {most} or"
    ):
        made(most + 1)
    decoder = made(most)
    long = Rendered((("user", "word " * 300),), "word " * 300, ("Ann", "Tutor"))
    tokens = decoder.score_tokens([long])
    assert (tokens.labels >= 0).sum() == most // 2
    assert decoder.log_prob(tokens).isfinite().all()
    decoder.check_room(0)
    with pytest.raises(
        InputError, match=rf"beside 3 vectors.* set decoder.max_length to {most - (3 if decoder.seq2seq else 2)} or"
    ):
        decoder.check_room(3)


@torch.no_grad()
def test_bfloat16() -> None:
    decoder = tiny_decoder(dtype="bfloat16")
    tokens = decoder.score_tokens(tiny_rendered(2))
    for kind in KINDS:
        found = decoder.log_prob(tokens, head_of(decoder, kind)(vectors(2)))
        assert found.dtype is torch.float32
        assert found.isfinite().all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_geometry(architecture: str) -> None:
    decoder = tiny_decoder(architecture)
    found = decoder.geometry
    assert (found.layers, found.width, found.heads, found.head_size, found.vocabulary) == (2, 32, 4, 8, 320)
    assert found.kv_heads == (4 if architecture in ("gpt2", "t5") else 2)
    assert found.sliding == ((12, None) if architecture == "gemma3" else (None, None))
    assert tiny_decoder("gpt_neo").geometry.sliding == (None, 32)
    with torch.no_grad():
        used = decoder.bare.get_input_embeddings()(torch.tensor([i for i in range(320) if i != 2]))
    assert decoder.embedding_rms == pytest.approx(float(used.pow(2).mean().sqrt()), rel=0.02)


@pytest.mark.parametrize(
    "model",
    [
        lambda: MambaForCausalLM(MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2, state_size=4)),
        lambda: RecurrentGemmaForCausalLM(RecurrentGemmaConfig(**{**SIZE, "num_hidden_layers": 3}, head_dim=8)),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of transformers: some models are quicker with kernels
def test_models_without_a_cache_of_keys_are_refused(model: Callable[[], nn.Module]) -> None:
    with pytest.raises(InputError, match=r"keeps no keys and values .* use decoder=small"):
        Decoder(model(), tiny_tokenizer(), DecoderConfig())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_hidden_states_are_measured_behind_each_layer(architecture: str) -> None:
    decoder = tiny_decoder(architecture)
    assert not any(layer._forward_hooks for layer in decoder.layers)  # nothing of the measuring is left
    ids = torch.linspace(0, 319, 16).long()[None]
    given = {"decoder_input_ids": ids} if decoder.seq2seq else {}
    states = decoder.bare(input_ids=ids, output_hidden_states=True, **given)
    hidden = states.decoder_hidden_states if decoder.seq2seq else states.hidden_states
    middle = sorted(hidden[1][0].double().pow(2).mean(-1).sqrt().tolist())[7]  # behind the first of two layers
    assert len(decoder.geometry.hidden_rms) == 2
    assert decoder.geometry.hidden_rms[0] == pytest.approx(middle, rel=1e-5)
