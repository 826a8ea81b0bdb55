"""A local chat model: batches, ends, and prompts that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from querier.choices import DecoderKind, Train
from querier.decoder_config import WHOLE, DecoderConfig
from querier.errors import InputError
from querier.models.chat import ChatModel
from querier.models.decoder import Decoder


def chat(architecture: str = "llama", template: bool = True, **changes: Any) -> ChatModel:
    config = DecoderConfig(kind=DecoderKind.pretrained, path=architecture, train=Train.frozen, max_length=WHOLE)
    return ChatModel(Decoder(tiny_model(architecture, **changes), tiny_tokenizer(template), config))


PROMPTS = ["Why?", "How do tides work, and why are there two of them on most days?", "What is yeast?"]


@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_a_batch_answers_as_one_prompt_alone(architecture: str) -> None:
    model = chat(architecture, template=architecture == "llama")
    together = model.write(PROMPTS, 6)
    assert together == [model.write([prompt], 6)[0] for prompt in PROMPTS]


def test_what_is_written_is_what_the_bare_model_writes() -> None:
    model = chat()
    tokenizer, bare = model.decoder.tokenizer, model.decoder.bare
    turns = [{"role": "user", "content": PROMPTS[0]}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    slow = ids
    for _ in range(8):  # without a cache, token by token
        slow = torch.cat([slow, bare(slow).logits[:, -1:].argmax(-1)], dim=1)
        if int(slow[0, -1]) in model.decoder.tokens.stops:
            break
    (found,) = model.write(PROMPTS[:1], 8)
    assert found is not None
    new = slow[0, ids.shape[1] :].tolist()
    assert (found.tokens_in, found.tokens_out) == (ids.shape[1], len(new))
    assert found.ended == (new[-1] in model.decoder.tokens.stops)
    assert found.text == model.decoder.tokens.texts([new])[0]


def test_an_answer_that_does_not_end_says_so() -> None:
    model = chat()
    (found,) = model.write(PROMPTS[:1], 1)
    assert found is not None
    assert found.tokens_out == 1
    model.decoder.tokens.stops = set(range(320))
    (found,) = model.write(PROMPTS[:1], 1)
    assert found is not None
    assert found.ended
    assert found.text == ""
    model.decoder.tokens.stops = {1_000_000}
    (found,) = model.write(PROMPTS[:1], 3)
    assert found is not None
    assert not found.ended


def test_a_prompt_without_room_is_left_out_and_spoils_no_other() -> None:
    model = chat("gpt2", template=False)
    long = "word " * 300
    assert model.room == 320
    found = model.write([long, PROMPTS[0], long], 4)
    assert found == [None, model.write(PROMPTS[:1], 4)[0], None]
    assert model.write([long], 4) == [None]


def test_an_encoder_and_a_decoder_have_positions_each() -> None:
    model = chat("bart", template=False)
    (found,) = model.write(PROMPTS[1:2], 170)
    assert found is not None
    assert found.tokens_in + 170 > model.room == 192
    assert model.write(["word " * 300], 4) == [None]
    assert model.write(PROMPTS[:1], 193) == [None]


def test_sampling_is_seeded() -> None:
    model = chat()
    first, again = (model.write(PROMPTS, 6, temperature=5.0) for _ in range(2))
    assert first == again
    assert first != model.write(PROMPTS, 6)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^llm.path="):
        ChatModel.load(tmp_path)
