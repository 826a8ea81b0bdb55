from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import ARCHITECTURES, CHAT, tiny_model, tiny_rendered, tiny_tokenizer
from torch import nn
from transformers import FalconConfig, FalconForCausalLM

from querier.choices import Attention, DecoderKind, Train
from querier.decoder_config import DecoderConfig
from querier.errors import InputError
from querier.models.decoder import Decoder, build_decoder
from querier.models.small import new_small_decoder


def saved_model(folder: Path, architecture: str) -> Path:
    """A folder as transformers writes it."""
    tiny_model(architecture).save_pretrained(folder)
    tiny_tokenizer(architecture in CHAT).save_pretrained(folder)
    return folder


def disturb(decoder: Decoder) -> None:
    """Change what is trained, as training would."""
    with torch.no_grad():
        for value in decoder.trainable():
            value.add_(torch.randn(value.shape) * 0.05)


@pytest.mark.parametrize("train", list(Train))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_save_and_load_give_the_same_logits(architecture: str, train: Train, tmp_path: Path) -> None:
    path = saved_model(tmp_path / "source", architecture)
    config = DecoderConfig(kind=DecoderKind.pretrained, path=str(path), train=train, lora_rank=4)
    decoder = build_decoder(config, None)
    untouched = decoder.logits(decoder.score_tokens(tiny_rendered(3)))
    disturb(decoder)
    decoder.save(tmp_path / "saved")
    loaded = Decoder.load(tmp_path / "saved", config)
    tokens = decoder.score_tokens(tiny_rendered(3))
    assert torch.equal(loaded.score_tokens(tiny_rendered(3)).input_ids, tokens.input_ids)
    assert torch.equal(loaded.logits(tokens), decoder.logits(tokens))
    assert torch.equal(loaded.logits(tokens), untouched) == (train is Train.frozen)
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in decoder.parameters()]
    files = [file.name for file in (tmp_path / "saved").rglob("*") if file.is_file()]
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl", ".pth"))]
    assert ("model.safetensors" in files) == (train is Train.full)
    assert ("adapter_model.safetensors" in files) == (train is Train.lora)


@pytest.mark.parametrize("attention", list(Attention))
def test_attention_is_computed_as_asked_where_gradients_are_taken_with_the_same_result(
    attention: Attention, tmp_path: Path
) -> None:
    path = saved_model(tmp_path, "llama")
    plain = build_decoder(DecoderConfig(kind=DecoderKind.pretrained, path=str(path)), None)
    config = DecoderConfig(kind=DecoderKind.pretrained, path=str(path), attention=attention)
    decoder = build_decoder(config, None)
    tokens = plain.score_tokens(tiny_rendered(3))
    with torch.no_grad():
        expected = plain.log_prob(tokens)
    quickest = plain.bare.config._attn_implementation
    torch.testing.assert_close(decoder.log_prob(tokens).detach(), expected)
    taken = quickest if attention is Attention.auto else attention.value
    assert decoder.bare.config._attn_implementation == taken
    assert len(decoder.generate(decoder.prompt_tokens(tiny_rendered(3)), None, 2)) == 3
    assert decoder.bare.config._attn_implementation == quickest
    with torch.no_grad():
        torch.testing.assert_close(decoder.log_prob(tokens), expected)


def test_attention_that_a_model_cannot_compute_is_refused_at_once() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
    model = FalconForCausalLM(FalconConfig(**sizes))  # it has classes of its own for each way
    other = Attention.eager if model.config._attn_implementation == "sdpa" else Attention.sdpa
    with pytest.raises(InputError, match=f"decoder.attention={other.value} cannot be chosen for FalconForCausalLM"):
        Decoder(model, tiny_tokenizer(), DecoderConfig(attention=other))
    Decoder(model, tiny_tokenizer(), DecoderConfig())


@pytest.mark.parametrize("train", list(Train))
@torch.no_grad()
def test_a_small_decoder_needs_nothing_but_its_folder(train: Train, tmp_path: Path) -> None:
    base = new_small_decoder(DecoderConfig(layers=2, width=32), tiny_tokenizer(), 0)
    base.save(tmp_path / "base")
    config = DecoderConfig(layers=2, width=32, train=train)
    decoder = build_decoder(config, tmp_path / "base")
    tokens = decoder.score_tokens(tiny_rendered(3))
    assert torch.equal(decoder.logits(tokens), base.logits(tokens))
    disturb(decoder)
    decoder.save(tmp_path / "trained")
    for file in (tmp_path / "base").iterdir():
        file.unlink()
    loaded = Decoder.load(tmp_path / "trained", config)
    assert torch.equal(loaded.logits(tokens), decoder.logits(tokens))
    assert torch.equal(
        loaded.prompt_tokens(tiny_rendered(3)).input_ids, decoder.prompt_tokens(tiny_rendered(3)).input_ids
    )


def test_an_adapter_folder_holds_the_adapter_alone(tmp_path: Path) -> None:
    path = saved_model(tmp_path / "source", "llama")
    decoder = build_decoder(DecoderConfig(kind=DecoderKind.pretrained, path=str(path), train=Train.lora), None)
    decoder.save(tmp_path / "saved")
    names = load_file(tmp_path / "saved" / "adapter" / "adapter_model.safetensors")
    assert names
    assert all("lora_" in name for name in names)


def test_new_adapters_are_seeded_and_leave_the_global_state(tmp_path: Path) -> None:
    path = saved_model(tmp_path / "source", "llama")
    config = DecoderConfig(kind=DecoderKind.pretrained, path=str(path), train=Train.lora)
    state = torch.get_rng_state()
    one, same, other = (list(build_decoder(config, None, seed).trainable()) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    def refused(path: Path, match: str) -> None:
        with pytest.raises(InputError, match=match):
            build_decoder(DecoderConfig(kind=DecoderKind.pretrained, path=str(path)), None)

    refused(tmp_path / "nowhere", "decoder.path=")
    pickled = saved_model(tmp_path / "pickled", "llama")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    refused(pickled, "safetensors")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    code = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (foreign / "config.json").write_text(json.dumps(code))
    (foreign / "own.py").write_text("raise RuntimeError('ran')")
    refused(foreign, "no code of its own")


def test_a_small_decoder_without_a_base_is_refused(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(InputError, match="base"):
            build_decoder(DecoderConfig(), folder)


def test_a_model_without_layers_is_refused() -> None:
    model = tiny_model("llama")
    model.model.layers = nn.ModuleList()
    with pytest.raises(InputError, match="list of 2 layers"):
        Decoder(model, tiny_tokenizer(), DecoderConfig())
