"""Vectors inside a prompt: beside the text they were meant for, whatever that text says, in every way of reading it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tiny import ARCHITECTURES, tiny_decoder, tiny_tokenizer
from torch import Tensor

from querier.errors import InputError
from querier.models.decoder import Decoder
from querier.models.generation import generate_ids
from querier.models.marks import CLOSE, OPEN
from querier.models.tokens import Tokenizer
from querier.types import Conditioning, MarkedTokens, Rendered, Tokens, take

STEPS = 5
TRIMMED = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</s>{% endfor %}"


def shown(*texts: str, query: str = "What is rust?", per_item: int = 2) -> Rendered:
    """A prompt that shows items of these texts, each with `per_item` vectors before it, numbered from 0."""
    turns = [turn for text in texts for turn in (("user", text), ("assistant", "So."))]
    marks = tuple(
        (2 * item, tuple(range(per_item * item, per_item * (item + 1)))) for item in range(len(texts)) if per_item
    )
    return Rendered((*turns, ("user", query)), "Iron.", ("Ann", "Tutor"), (), marks)


BATCH = [shown("Why do bees hum?", "A map?"), shown("Tides?"), shown(query="Snow, and nothing before it?")]


def vectors(count: int, seed: int = 0) -> Conditioning:
    return Conditioning(marked=torch.randn(count, 4, 32, generator=torch.Generator().manual_seed(seed)))


def after(tokenizer: Tokenizer, one: Rendered) -> dict[int, str]:
    """The text that follows each vector."""
    tokens = tokenizer.prompt([one])
    assert isinstance(tokens, MarkedTokens)
    ids, marks = tokens.input_ids[0], tokens.marks[0]
    return {
        int(marks[place]): tokenizer.tokenizer.decode(ids[place:][marks[place:] < 0])
        for place in (marks >= 0).nonzero()[:, 0].tolist()
    }


@pytest.mark.parametrize(("chat", "seq2seq"), [(True, False), (False, False), (False, True)])
def test_a_vector_stands_before_the_words_of_its_item(chat: bool, seq2seq: bool) -> None:
    tokenizer = Tokenizer(tiny_tokenizer(chat), seq2seq, 192)
    found = after(tokenizer, BATCH[0])
    assert sorted(found) == [0, 1, 2, 3]
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[0].startswith("Why do bees hum?")
    assert found[2].startswith("A map?")


@pytest.mark.parametrize("chat", [True, False])
def test_the_text_keeps_its_tokens(chat: bool) -> None:
    tokenizer = Tokenizer(tiny_tokenizer(chat), False, 192)
    for tokens in (tokenizer.score(BATCH), tokenizer.prompt(BATCH)):
        assert isinstance(tokens, MarkedTokens)
        for row, one in enumerate(BATCH):
            plain = tokenizer.ids([replace(one, marks=())])[0]
            kept = (tokens.marks[row] < 0) & tokens.attention_mask[row].bool()
            wanted = [*plain.prompt, *(plain.reply if (tokens.labels >= 0).any() else ())]
            assert tokens.input_ids[row][kept].tolist() == wanted
            assert (tokens.marks[row][tokens.labels[row] >= 0] < 0).all()
    assert type(tokenizer.score([BATCH[2]])) is Tokens


@pytest.mark.parametrize("chat", [True, False])
def test_no_words_of_a_querier_feign_or_move_a_place(chat: bool) -> None:
    tokenizer = Tokenizer(tiny_tokenizer(chat), False, 400)
    feigned = f"{OPEN}0:0{CLOSE}{OPEN}1:1{CLOSE} bees {OPEN}2:"
    found = after(tokenizer, shown(feigned, f"{OPEN}", query=f"3:1{CLOSE}{OPEN}0:1{CLOSE}"))
    assert sorted(found) == [0, 1, 2, 3]
    assert found[0].startswith(feigned)
    assert found[2].startswith(OPEN)
    plain = tokenizer.ids([replace(shown(feigned), marks=())])[0].prompt
    marked = tokenizer.ids([shown(feigned)])[0]
    assert [token for token, mark in zip(marked.prompt, marked.marks, strict=True) if mark < 0] == list(plain)


def test_a_cut_takes_vectors_with_the_words_they_stand_before() -> None:
    whole = Tokenizer(tiny_tokenizer(), False, 1000).ids([shown("Bees " * 9, "Maps " * 9)])[0]
    lengths = range(40, len(whole.prompt) + len(whole.reply) + 2)
    seen = set()
    for length in lengths:
        cut = Tokenizer(tiny_tokenizer(), False, length).ids([shown("Bees " * 9, "Maps " * 9)])[0]
        start = int(cut.prompt[0] == 0)  # what opens every text is put back
        assert cut.prompt[start:] == whole.prompt[len(whole.prompt) - len(cut.prompt) + start :]
        assert cut.marks[start:] == whole.marks[len(whole.prompt) - len(cut.prompt) + start :]
        assert len(cut.marks) == len(cut.prompt)
        seen.add(tuple(mark for mark in cut.marks if mark >= 0))
    assert seen == {(), (3,), (2, 3), (1, 2, 3), (0, 1, 2, 3)}


def test_a_template_may_take_blanks_away_and_nothing_else() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TRIMMED
    assert after(Tokenizer(tokenizer, False, 192), shown("  \n bees", " maps "))[2].startswith("maps</s>")
    tokenizer.chat_template = TRIMMED.replace("| trim", "| truncate(9, true, '', 0)")
    with pytest.raises(InputError, match="template changes the words of a turn"):
        Tokenizer(tokenizer, False, 192).prompt([shown("Why do bees hum?")])


@torch.no_grad()
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_model_reads_the_vectors_at_their_places(architecture: str) -> None:
    decoder, conditioning = tiny_decoder(architecture), vectors(3)
    tokens = decoder.score_tokens(BATCH)
    assert isinstance(tokens, MarkedTokens)
    assert conditioning.marked is not None
    found = decoder.log_prob(tokens, conditioning)
    other = replace(tokens, input_ids=torch.where(tokens.marks >= 0, 17, tokens.input_ids))
    assert torch.equal(decoder.log_prob(other, conditioning), found)  # what holds the places is not read
    apart = (decoder.log_prob(tokens, vectors(3, seed=1)) - found).abs().amax(1) > 1e-4
    assert apart.tolist() == [True, True, False]  # the last row has no place
    for row, one in enumerate(BATCH):
        alone = decoder.score_tokens([one])
        embedded = decoder.bare.get_input_embeddings()(alone.input_ids)[0]
        marks = alone.marks[0].tolist() if isinstance(alone, MarkedTokens) else []
        for place, mark in enumerate(marks):
            if mark >= 0:
                embedded[place] = conditioning.marked[row, mark]
        inputs: dict[str, Tensor] = {"inputs_embeds": embedded[None]}
        labels = alone.labels
        if decoder.seq2seq:
            logits = decoder.bare(**inputs, labels=labels).logits[0]
            wanted = logits.log_softmax(-1)[torch.arange(labels.shape[1]), labels[0]].sum()
        else:
            logits = decoder.bare(**inputs).logits[0, :-1]
            kept = labels[0, 1:] >= 0
            wanted = logits.log_softmax(-1)[kept, labels[0, 1:][kept]].sum()
        assert found[row].sum() == pytest.approx(float(wanted), abs=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_prompt_without_places_is_the_bare_one_bit_for_bit(architecture: str) -> None:
    decoder = tiny_decoder(architecture)
    tokens = decoder.score_tokens([BATCH[2]])
    assert torch.equal(decoder.logits(tokens, vectors(1)), decoder.logits(tokens))


def test_places_without_vectors_are_refused() -> None:
    decoder = tiny_decoder()
    with pytest.raises(InputError, match="holds places for vectors and the conditioning has none"):
        decoder.log_prob(decoder.score_tokens(BATCH), None)


def next_by_full_forward(decoder: Decoder, prompt: Tokens, reply: Sequence[int], rows: Conditioning) -> int:
    """The likeliest next token of one unpadded row, nothing cached."""
    more = torch.tensor([list(reply)], dtype=torch.int64)
    if decoder.seq2seq:
        labels = torch.cat([more, torch.zeros(1, 1, dtype=torch.int64)], 1)
        return int(decoder.logits(replace(prompt, labels=labels), rows)[0, -1].argmax())
    longer = {
        "input_ids": more,
        "attention_mask": torch.ones_like(more),
        "labels": more,
        "marks": -torch.ones_like(more),
    }
    whole = {name: torch.cat([value, longer[name]], 1) for name, value in vars(prompt).items()}
    return int(decoder.logits(replace(prompt, **whole), rows)[0, -1].argmax())


@torch.no_grad()
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cached_generation_is_argmax_of_full_forwards(architecture: str) -> None:
    decoder, conditioning = tiny_decoder(architecture), vectors(3)
    tokens = decoder.prompt_tokens(BATCH)
    assert (tokens.attention_mask == 0).any()
    decoder.tokens.stops = {9_999}  # none, so that each row has all of its tokens
    found = generate_ids(decoder, tokens, conditioning, STEPS)
    for row, one in enumerate(BATCH):
        prompt, rows = decoder.prompt_tokens([one]), take(conditioning, torch.tensor([row]))
        expected: list[int] = []
        for _ in range(STEPS):
            expected.append(next_by_full_forward(decoder, prompt, expected, rows))
        assert found[row] == expected
