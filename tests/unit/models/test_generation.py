from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tiny import ARCHITECTURES, tiny_decoder, tiny_rendered
from torch import nn

from querier.choices import Kind
from querier.decoder_config import WHOLE
from querier.errors import InputError
from querier.models.conditioning import build_head
from querier.models.decoder import Decoder
from querier.models.generation import Sampling, generate_ids
from querier.types import Conditioning, Rendered, Tokens, take

KINDS = (Kind.none, Kind.soft_prompt, Kind.prefix, Kind.residual)
STEPS = 6


def conditioning_of(decoder: Decoder, kind: Kind, n: int) -> Conditioning:
    head = build_head(kind, decoder.geometry, decoder.embedding_rms, 12, 3, 4, 1.0)
    if kind is Kind.residual:
        nn.init.normal_(head.up, std=0.2)
    with torch.no_grad():
        found: Conditioning = head(torch.randn(n, 3, 12, generator=torch.Generator().manual_seed(3)))
    return found


def next_by_full_forward(decoder: Decoder, prompt: Sequence[int], reply: Sequence[int], rows: Conditioning) -> int:
    """The likeliest next token of one unpadded row, nothing cached."""
    if decoder.seq2seq:
        ids, labels = torch.tensor([list(prompt)]), torch.tensor([[*reply, 0]])
        return int(decoder.logits(Tokens(ids, torch.ones_like(ids), labels), rows)[0, -1].argmax())
    ids = torch.tensor([[*prompt, *reply]])
    return int(decoder.logits(Tokens(ids, torch.ones_like(ids), ids), rows)[0, -1].argmax())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_cached_generation_is_argmax_of_full_forwards(architecture: str, kind: Kind) -> None:
    decoder = tiny_decoder(architecture)
    rendered = tiny_rendered(4)
    tokens = decoder.prompt_tokens(rendered)
    assert (tokens.attention_mask == 0).any()
    decoder.tokens.stops = {9_999}  # none, so that each row has all of its tokens
    conditioning = conditioning_of(decoder, kind, 4)
    found = generate_ids(decoder, tokens, conditioning, STEPS)
    for row, ids in enumerate(decoder.tokens.ids(rendered)):
        alone = take(conditioning, torch.tensor([row]))
        expected: list[int] = []
        for _ in range(STEPS):
            expected.append(next_by_full_forward(decoder, ids.prompt, expected, alone))
        assert found[row] == expected
    assert len({tuple(ids) for ids in found}) > 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["gpt_neo", "mpt"])
@torch.no_grad()
def test_padding_is_no_distance_for_local_attention_and_linear_biases(architecture: str, kind: Kind) -> None:
    decoder = tiny_decoder(architecture)
    rendered = tiny_rendered(4)
    conditioning = conditioning_of(decoder, kind, 4)
    decoder.tokens.stops = {9_999}
    together = generate_ids(decoder, decoder.prompt_tokens(rendered), conditioning, STEPS)
    for row, one in enumerate(rendered):
        alone = take(conditioning, torch.tensor([row]))
        assert generate_ids(decoder, decoder.prompt_tokens([one]), alone, STEPS) == [together[row]]


@torch.no_grad()
def test_a_row_ends_at_its_stop_and_the_others_go_on() -> None:
    decoder = tiny_decoder()
    tokens = decoder.prompt_tokens(tiny_rendered(4))
    decoder.tokens.stops = {9_999}
    free = generate_ids(decoder, tokens, None, STEPS)
    stop = next(token for token in free[0] if not all(token in ids for ids in free))
    decoder.tokens.stops = {stop}
    for ids, whole in zip(generate_ids(decoder, tokens, None, STEPS), free, strict=True):
        assert ids == (whole[: whole.index(stop) + 1] if stop in whole else whole)


def test_sampling_is_seeded_and_needs_a_generator() -> None:
    decoder = tiny_decoder()
    tokens = decoder.prompt_tokens(tiny_rendered(3))

    def sample(seed: int) -> list[list[int]]:
        with torch.no_grad():
            return generate_ids(decoder, tokens, None, 8, Sampling(1.0, torch.Generator().manual_seed(seed)))

    state = torch.get_rng_state()
    assert sample(0) == sample(0)
    assert sample(0) != sample(1)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(InputError, match="Generator"):
        Sampling(temperature=1.0)


@torch.no_grad()
def test_a_cold_sample_is_greedy() -> None:
    decoder = tiny_decoder()
    tokens = decoder.prompt_tokens(tiny_rendered(3))
    cold = generate_ids(decoder, tokens, None, STEPS, Sampling(1e-4, torch.Generator().manual_seed(0)))
    assert cold == generate_ids(decoder, tokens, None, STEPS)


@torch.no_grad()
def test_a_repetition_penalty_makes_what_was_said_less_likely() -> None:
    decoder = tiny_decoder()
    decoder.tokens.stops = {9_999}
    tokens = decoder.prompt_tokens(tiny_rendered(4)[3:])  # whose likeliest reply says things twice
    found = generate_ids(decoder, tokens, None, STEPS, Sampling(repetition_penalty=1.3))[0]
    said: list[int] = []
    for _ in range(STEPS):  # the whole text anew for each token, and the formula of CTRL spelt out
        ids = torch.cat([tokens.input_ids, torch.tensor([said], dtype=torch.long)], dim=1)
        logits = decoder.bare(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        for token in set(said):
            logits[token] = logits[token] / 1.3 if logits[token] > 0 else logits[token] * 1.3
        said.append(int(logits.argmax()))
    assert found == said
    assert found != generate_ids(decoder, tokens, None, STEPS)[0]


@torch.no_grad()
def test_a_row_ends_where_its_own_positions_do() -> None:
    """However long the other rows' prompts are, it says what it would say alone."""
    decoder = tiny_decoder("gpt2", max_length=WHOLE)  # 320 positions
    long = Rendered((("user", "word " * 100),), "", ("Ann", "Tutor"))
    rendered = [long, *tiny_rendered(2)]
    tokens = decoder.prompt_tokens(rendered)
    decoder.tokens.stops = {9_999}
    conditioning = conditioning_of(decoder, Kind.soft_prompt, 3)
    room = (320 - 3 - tokens.attention_mask.sum(1)).tolist()
    assert 0 < room[0] < 50 < room[1]
    for limit in (1_000, 50, room[0]):
        found = generate_ids(decoder, tokens, conditioning, limit)
        assert [len(ids) for ids in found] == [min(limit, most) for most in room]
        for row, one in enumerate(rendered):
            alone = take(conditioning, torch.tensor([row]))
            assert generate_ids(decoder, decoder.prompt_tokens([one]), alone, limit) == [found[row]]


@torch.no_grad()
@pytest.mark.parametrize("kind", [Kind.none, Kind.prefix])
def test_a_seq2seq_reply_ends_where_the_decoders_positions_do(kind: Kind) -> None:
    decoder = tiny_decoder("bart")  # 192 positions
    decoder.tokens.stops = {9_999}
    found = generate_ids(decoder, decoder.prompt_tokens(tiny_rendered(3)), conditioning_of(decoder, kind, 3), 1_000)
    assert {len(ids) for ids in found} == {192 - (3 if kind is Kind.prefix else 0)}


def test_generate_gives_texts_and_leaves_the_mode_as_it_was() -> None:
    decoder = tiny_decoder().train()
    texts = decoder.generate(decoder.prompt_tokens(tiny_rendered(3)), None, 4)
    assert len(texts) == 3
    assert all(isinstance(text, str) for text in texts)
    assert decoder.training
    assert decoder.generate(decoder.prompt_tokens(tiny_rendered(3)), None, 0) == ["", "", ""]
