from __future__ import annotations

import pytest
import torch
from tiny import tiny_decoder, tiny_rendered, tiny_tokenizer

from querier.methods.prompts import render_plain
from querier.models.tokens import IGNORED, Tokenizer
from querier.types import Dialogue, Rendered, Turn

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
ONE = Rendered(
    (("system", "Be kind."), ("user", "Ann: Hi"), ("assistant", "Yes?"), ("user", "Why?")), "So.", ("Ann", "T"), (1,)
)


def chat(max_length: int = 192) -> Tokenizer:
    return Tokenizer(tiny_tokenizer(), False, max_length)


def plain(seq2seq: bool = False, max_length: int = 192) -> Tokenizer:
    return Tokenizer(tiny_tokenizer(chat=False), seq2seq, max_length)


def test_chat_text_is_the_template_of_the_whole_dialogue() -> None:
    tokenizer = chat()
    turns = [{"role": role, "content": text} for role, text in (*ONE.turns, ("assistant", ONE.reply))]
    whole = tokenizer.tokenizer.apply_chat_template(turns, tokenize=False)
    assert tokenizer.tokenizer.decode(tokenizer.score([ONE]).input_ids[0]) == whole


def test_labels_are_the_reply_and_the_end_of_its_turn() -> None:
    for tokenizer, text in ((chat(), "So.</s>"), (plain(), " So.</s>")):
        labels = tokenizer.score([ONE, *tiny_rendered(3)]).labels[0]
        assert tokenizer.tokenizer.decode(labels[labels != IGNORED]) == text


def test_without_a_template_there_are_lines_with_names() -> None:
    tokenizer = plain()
    ids = tokenizer.prompt([ONE]).input_ids[0]
    assert tokenizer.tokenizer.decode(ids) == "Be kind.\nAnn: Hi\nT: Yes?\nAnn: Why?\nT:"


@pytest.mark.parametrize(
    ("name", "opened", "text"),
    [
        ("Ann", False, "Ann: Why?\nT:"),
        (None, False, "User: Why?\nT:"),
        ("Ann", True, '"Good day."\nAnn: Why?\nT:'),
        (None, True, 'User: "Good day."\nWhy?\nT:'),
    ],
)
def test_without_a_template_a_rendered_name_stands_once(name: str | None, opened: bool, text: str) -> None:
    opening = (Turn("T", "Good day."),) if opened else ()
    asked = Dialogue("d", "Ann", "T", (*opening, Turn("Ann", "Why?"), Turn("T", "So.")), 0, "s")
    tokenizer = plain()
    assert tokenizer.tokenizer.decode(tokenizer.prompt([render_plain(asked, name)]).input_ids[0]) == text


def test_seq2seq_reads_the_prompt_and_labels_the_reply() -> None:
    tokenizer = plain(seq2seq=True)
    tokens = tokenizer.score([ONE, *tiny_rendered(2)])
    assert tokenizer.tokenizer.decode(tokens.input_ids[0], skip_special_tokens=True).endswith("Why?\nT:")
    labels = tokens.labels[0]
    assert tokenizer.tokenizer.decode(labels[labels != IGNORED]) == "So.</s>"


@pytest.mark.parametrize("tokenizer", [chat(), plain(), plain(seq2seq=True)])
def test_the_prompt_generated_from_is_the_prompt_scored(tokenizer: Tokenizer) -> None:
    rendered = tiny_rendered(6)
    scored, prompts = tokenizer.score(rendered), tokenizer.prompt(rendered)
    for row in range(6):
        prompt = prompts.input_ids[row][prompts.attention_mask[row].bool()]
        assert torch.equal(scored.input_ids[row][: len(prompt)], prompt)
        assert tokenizer.seq2seq or (scored.labels[row][: len(prompt)] == IGNORED).all()
        assert tokenizer.seq2seq or scored.labels[row][len(prompt)] != IGNORED


def test_scores_are_padded_right_and_prompts_left() -> None:
    tokenizer = chat()
    rendered = tiny_rendered(4)
    right, left = tokenizer.score(rendered).attention_mask, tokenizer.prompt(rendered).attention_mask
    assert (right.diff(dim=1) <= 0).all()
    assert (left.diff(dim=1) >= 0).all()
    assert (right == 0).any()
    assert (left == 0).any()


def test_a_template_with_thoughts_leaves_them_empty_in_the_prompt() -> None:
    plain_tokenizer = tiny_tokenizer()
    plain_tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]})
    plain_tokenizer.chat_template = CHATML
    tokenizer = Tokenizer(plain_tokenizer, False, 400)
    ids = tokenizer.ids([ONE])[0]
    assert plain_tokenizer.decode(ids.prompt).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert plain_tokenizer.decode(ids.reply) == "So.<|im_end|>"  # the line break after it is not to be learned
    assert tokenizer.stops == {plain_tokenizer.convert_tokens_to_ids("<|im_end|>")}


def test_a_template_without_an_end_of_turn_gets_eos() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    assert Tokenizer(tokenizer, False, 100).closing == [tokenizer.eos_token_id]


def test_long_prompts_are_cut_at_their_left_and_counted_once() -> None:
    long = Rendered((("user", "word " * 300), ("assistant", "So?"), ("user", "last?")), "So.", ("Ann", "T"))
    named = Rendered((("user", "Ann: " + "word " * 300), *long.turns[1:]), "So.", ("Ann", "T"))
    for tokenizer in (chat(64), plain(max_length=64)):
        for _ in range(2):
            ids = tokenizer.ids([long, tiny_rendered(1)[0], named])
        assert [len(one.prompt) == 64 for one in ids] == [True, False, True]
        tokens = tokenizer.score([long])
        text = tokenizer.tokenizer.decode(tokens.input_ids[0])
        assert "last?" in text
        assert (len(tokenizer.cut.prompts), len(tokenizer.cut.replies)) == (1, 0)
    assert chat(64).score([long]).input_ids[0, 0] == 0  # the token that every text begins with stays


def test_a_cut_prompt_tells_nothing_of_the_reply() -> None:
    """It is the same whatever the reply, and the one that is generated from, where the reply is blank."""
    turns = (("user", "word " * 300 + "last?"),)
    for tokenizer in (chat(64), plain(max_length=64), plain(True, 64)):
        replies = ("", "So.", "So it is. " * 3, "word " * 300)
        ids = tokenizer.ids([Rendered(turns, reply, ("Ann", "T")) for reply in replies])
        assert len({one.prompt for one in ids}) == 1
        assert len({len(one.reply) for one in ids}) == len(replies)


def test_cut_dialogues_are_counted_by_what_was_said_and_once() -> None:
    """Whatever describes the querier before it, and whether its reply is scored or only asked for."""
    tokenizer, words = chat(64), "word " * 300

    def told(about: str, reply: str) -> Rendered:
        return Rendered((("user", f"[About Ann: {about}{words}]\nAnn: last?"),), reply, ("Ann", "T"))

    tokenizer.score([told("kind. ", "So."), told("brief. ", "So."), told("kind. ", "")])
    assert len(tokenizer.cut.prompts) == 1
    tokenizer.score([told("kind. ", "No.")])  # the same query, answered otherwise
    assert len(tokenizer.cut.prompts) == 2


def test_long_replies_are_cut_at_their_right_to_half_a_prompt_and_have_no_end() -> None:
    long = Rendered((("user", "Hi?"),), "word " * 300, ("Ann", "T"))
    for tokenizer in (chat(64), plain(max_length=64), plain(True, 64)):
        labels = tokenizer.score([long]).labels[0]
        reply = labels[labels != IGNORED]
        assert len(reply) == 32
        assert tokenizer.tokenizer.eos_token_id not in reply
        assert tokenizer.tokenizer.decode(reply).strip().startswith("word word")
        assert len(tokenizer.cut.replies) == 1


def test_texts_end_at_the_end_of_the_turn() -> None:
    tokenizer = chat()
    ids = tokenizer.ids([ONE])[0].reply
    assert tokenizer.texts([[*ids, 5, 6], ids, ids[:-1], []]) == ["So.", "So.", "So.", ""]


def test_any_text_survives() -> None:
    tokenizer = chat(1000)
    for text in ("日本語のテスト", "naïve 🙂 café", "tabs\tand\nlines", "Ω≈ç√"):
        ids = tokenizer.ids([Rendered((("user", text),), text, ("A", "B"))])[0]
        assert tokenizer.texts([ids.reply]) == [text]


def test_ids_do_not_depend_on_the_batch() -> None:
    rendered = tiny_rendered(9)
    together = chat().ids(rendered)
    assert together == [chat().ids([one])[0] for one in rendered]
    assert chat().ids(rendered + rendered) == together + together


def test_the_decoder_hands_its_length_limit_on() -> None:
    decoder = tiny_decoder(max_length=16)
    decoder.score_tokens(tiny_rendered(4))
    assert decoder.cut.prompts
