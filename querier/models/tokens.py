"""Rendered dialogues as token ids, in the decoder's own chat template or, where it has none, in `Name: text` lines.

Prompt and reply are tokenised apart and each has a budget of its own, so that the prompt that is scored is the prompt
that is generated from, and its length tells nothing of the reply. The reply is followed by what ends a turn, and both
are labelled; a reply that had to be cut goes on, so it has no end. What people wrote never becomes a control token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from querier.models.marks import NONE, find_places, insert
from querier.models.plain_words import PlainWords, without
from querier.types import MarkedTokens, Rendered, Tokens

IGNORED = -100
REMEMBERED = 20_000  # dialogues whose ids are kept, so that later epochs need no tokenizer
PROBE = "qzxreply"


@dataclass
class Cut:
    """Different dialogues that were too long, as hashes: prompts cut at their left, replies at their right.

    Attributes:
        prompts: Of dialogues whose reply is known.
        replies: Known ones.
        asked: Prompts that were only answered.
    """

    prompts: set[int] = field(default_factory=set)
    replies: set[int] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Ids:
    """Token ids of one dialogue before any padding; `marks` of the prompt, empty where it has none."""

    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    marks: tuple[int, ...] = ()


class Tokenizer:
    """Turns rendered dialogues into padded token ids.

    Args:
        tokenizer: A fast tokenizer of `transformers`.
        seq2seq: Whether prompt and reply are read by an encoder and a decoder.
        max_length: Tokens of a prompt; a reply has at most half as many.

    Attributes:
        cut: How many dialogues were too long so far.
        closing: Ids that end a reply.
        stops: Ids at any of which generation ends.
    """

    def __init__(self, tokenizer: Any, seq2seq: bool, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.seq2seq = seq2seq
        self.max_length = max_length
        self.cut = Cut()
        self.chat = bool(getattr(tokenizer, "chat_template", None))
        self.pad = _first(tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self.closing, self.closing_text = self._find_closing()
        self.opening = self._find_opening()
        self._words = PlainWords(tokenizer)
        self.stops = {self.closing[-1]} | ({self.closing[0]} & set(tokenizer.all_special_ids))
        self._known: dict[Rendered, Ids] = {}

    def score(self, rendered: Sequence[Rendered]) -> Tokens:
        """Prompt and reply, right-padded; labels are −100 but on the reply and its end."""
        found = self.ids(rendered)
        if self.seq2seq:
            prompts, mask = pad([ids.prompt for ids in found], self.pad)
            return _marked(Tokens(prompts, mask, pad([ids.reply for ids in found], IGNORED)[0]), found)
        inputs, mask = pad([ids.prompt + ids.reply for ids in found], self.pad)
        labels, _ = pad([(IGNORED,) * len(ids.prompt) + ids.reply for ids in found], IGNORED)
        return _marked(Tokens(inputs, mask, labels), found)

    def prompt(self, rendered: Sequence[Rendered]) -> Tokens:
        """Prompt alone, left-padded; for a seq2seq decoder right-padded, as its encoder counts places from the left."""
        found = self.ids(rendered)
        inputs, mask = pad([ids.prompt for ids in found], self.pad, left=not self.seq2seq)
        return _marked(Tokens(inputs, mask, torch.full_like(inputs, IGNORED)), found, left=not self.seq2seq)

    def ids(self, rendered: Sequence[Rendered]) -> list[Ids]:
        """Token ids of each dialogue, cut to their budgets; the end of the reply included."""
        new = list(dict.fromkeys(one for one in rendered if one not in self._known))
        if len(self._known) + len(new) > REMEMBERED:
            self._known = {one: self._known[one] for one in rendered if one in self._known}
        if new:
            plain, letters = zip(*(self._words.broken(one) for one in new), strict=True)
            prompts = self._encode([self._prompt_text(one) for one in plain], letters)
            replies = self._encode([self._reply_text(one) for one in plain], letters)
            for one, same, letter, prompt, reply in zip(new, plain, letters, prompts, replies, strict=True):
                self._known[one] = self._fit(one, *self._with_places(same, letter, prompt), reply)
        return [self._known[one] for one in rendered]

    def texts(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Generated ids as texts, up to the end of the turn and without special tokens."""
        kept = []
        for row in ids:
            stop = next((place for place, token in enumerate(row) if token in self.stops), len(row))
            kept.append(list(row[:stop]))
        texts = self.tokenizer.batch_decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [text.removesuffix(self.closing_text).strip() for text in texts]

    def _with_places(self, one: Rendered, letter: str, prompt: list[int]) -> tuple[list[int], list[int]]:
        """The prompt's ids with fillers where vectors stand, and their marks, empty where none does."""
        if not one.marks:
            return prompt, []
        text = self._prompt_text(one)
        _, ends = self._with_ends(text, letter)
        return insert(prompt, ends, find_places(one, text, self._prompt_text), self.pad)

    def _fit(self, one: Rendered, prompt: list[int], marks: list[int], reply: list[int]) -> Ids:
        # One dialogue, under any name and behind any description of the querier.
        said = hash((one.turns[-1][1].rpartition("\n")[2].removeprefix(f"{one.names[0]}: "), one.reply))
        half = self.max_length // 2
        whole = reply + self.closing
        if len(whole) > half:
            self.cut.replies.add(said)
            whole = reply[:half]
        start = self.opening + prompt
        if len(start) > self.max_length:
            (self.cut.prompts if one.reply else self.cut.asked).add(said)  # a test both scores and answers
            left_out = len(start) - self.max_length
            start, marks = self.opening + prompt[left_out:], marks[left_out:]
        return Ids(tuple(start), tuple(whole), (*[NONE] * len(self.opening), *marks) if one.marks else ())

    def _prompt_text(self, rendered: Rendered) -> str:
        if self.chat:
            turns = [{"role": role, "content": text} for role, text in rendered.turns]
            text = self._template(turns, add_generation_prompt=True)
            # The first token of a template is put back by `opening` after a cut.
            return text.removeprefix(self.tokenizer.decode(self.opening)) if self.opening else text
        names = {"user": rendered.names[0], "assistant": rendered.names[1]}
        lines = [
            text if role not in names or place in rendered.named else f"{names[role]}: {text}"
            for place, (role, text) in enumerate(rendered.turns)
        ]
        return "\n".join([*lines, f"{rendered.names[1]}:"])

    def _reply_text(self, rendered: Rendered) -> str:
        return rendered.reply if self.chat or self.seq2seq else f" {rendered.reply}"

    def _template(self, turns: list[dict[str, str]], add_generation_prompt: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            enable_thinking=False,  # templates with a place for thoughts leave it empty; others do not read it
        )
        return text

    def _encode(self, texts: list[str], letters: Sequence[str] = ()) -> list[list[int]]:
        """Ids of texts, without those of the letter that breaks up words in them."""
        found: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for place, letter in enumerate(letters):
            if letter:
                found[place], _ = self._with_ends(texts[place], letter)
        return found

    def _with_ends(self, text: str, letter: str) -> tuple[list[int], list[int]]:
        """The same of one text, and one past the last character of each token."""
        found = self.tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
        return without(letter, text, found["input_ids"], found["offset_mapping"])

    def _find_closing(self) -> tuple[list[int], str]:
        """What follows a reply: the template's end of turn if it has one, and in any case a special token."""
        text = ""
        if self.chat:
            turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": PROBE}]
            text = self._template(turns, add_generation_prompt=False).partition(PROBE)[2].strip()
        ids = self._encode([text])[0] if text else []
        special = set(self.tokenizer.all_special_ids)
        end = next((place for place, token in enumerate(ids) if token in special), None)
        if end is not None:
            return ids[: end + 1], self.tokenizer.decode(ids[:end])
        return [*ids, _first(self.tokenizer.eos_token_id, self.tokenizer.sep_token_id, self.pad)], text

    def _find_opening(self) -> list[int]:
        """The token that every text begins with, if there is one."""
        first = self.tokenizer.bos_token_id
        if first is None or self.seq2seq:
            return []
        if self.chat:
            ids = self._encode([self._template([{"role": "user", "content": "?"}], add_generation_prompt=True)])[0]
        else:
            ids = self.tokenizer("?")["input_ids"]
        return [first] if ids[:1] == [first] and len(ids) > 1 else []


def pad(rows: Sequence[Sequence[int]], value: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """Rows of ids as one tensor and its mask, both (B, L) int64, L at least 1."""
    length = max([1, *(len(row) for row in rows)])
    ids = torch.full((len(rows), length), value, dtype=torch.int64)
    mask = torch.zeros((len(rows), length), dtype=torch.int64)
    for place, row in enumerate(rows):
        where = slice(length - len(row), length) if left else slice(0, len(row))
        ids[place, where] = torch.tensor(row, dtype=torch.int64)
        mask[place, where] = 1
    return ids, mask


def _marked(tokens: Tokens, found: Sequence[Ids], left: bool = False) -> Tokens:
    """The tokens with their marks, or as they are where there is none."""
    if not any(ids.marks for ids in found):
        return tokens
    marks, _ = pad([ids.marks or (NONE,) * len(ids.prompt) for ids in found], NONE, left)
    replies = tokens.input_ids.shape[1] - marks.shape[1]
    return MarkedTokens(**vars(tokens), marks=torch.nn.functional.pad(marks, (0, replies), value=NONE))


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
