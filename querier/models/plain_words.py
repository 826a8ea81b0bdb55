"""What people wrote, kept from being read as control tokens of a tokenizer.

A tokenizer takes `</s>` or `<|im_start|>` for the token of that name wherever it stands: a query could close its own
turn and open one of the tutor's, so could an item that somebody else wrote, and a reply could end before its end. Such
a string is broken up before the template sees it, by one letter of the area of Unicode that means nothing, and the
tokens of that letter are left out again: what is read is the same text, spelt in ordinary tokens. Other texts are not
touched, and the template's own control tokens stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from querier.types import Rendered

FIRST = 0xE002  # of the letters that mean nothing, behind those of `marks.py`


class PlainWords:
    """Breaks up the names of control tokens in what people wrote.

    Args:
        tokenizer: A fast tokenizer of `transformers`.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        names = {name for name in (*tokenizer.all_special_tokens, *added) if len(name) > 1}
        self._names = re.compile("|".join(map(re.escape, sorted(names))) or "(?!)")
        self._normalizer = tokenizer.backend_tokenizer.normalizer

    def broken(self, rendered: Rendered) -> tuple[Rendered, str]:
        """The dialogue with every such name broken up, and the letter that does it; itself and "" where none stands."""
        texts = [*rendered.names, rendered.reply, *(text for _, text in rendered.turns)]
        read = [self._as_read(text) for text in texts]
        if not any(map(self._names.search, read)):
            return rendered, ""
        used = self._names.pattern + "".join(texts)
        letter = next(chr(code) for code in count(FIRST) if chr(code) not in used)
        whole = {text: self._break(seen, letter) for text, seen in zip(texts, read, strict=True)}
        turns = tuple((role, whole[text]) for role, text in rendered.turns)
        one, other = rendered.names
        return replace(rendered, turns=turns, reply=whole[rendered.reply], names=(whole[one], whole[other])), letter

    def _as_read(self, text: str) -> str:
        """The text, or where only the tokenizer's normal form of it holds such a name, that form."""
        if self._normalizer is None or self._names.search(text):
            return text
        normal: str = self._normalizer.normalize_str(text)
        return normal if self._names.search(normal) else text

    def _break(self, text: str, letter: str) -> str:
        while self._names.search(text):  # names may overlap
            text = self._names.sub(lambda found: f"{found[0][0]}{letter}{found[0][1:]}", text)
        return text


def without(
    letter: str, text: str, ids: Sequence[int], spans: Iterable[tuple[int, int]]
) -> tuple[list[int], list[int]]:
    """Ids of a text, those of the letter left out, and one past the last character of each that is kept.

    Args:
        letter: From `PlainWords.broken`; "" leaves out nothing.
        text: That was tokenised.
        ids: Its tokens.
        spans: First character of each token, and one past its last.
    """
    kept = [
        (token, end)
        for token, (start, end) in zip(ids, spans, strict=True)
        if not letter or end <= start or text[start:end].strip(letter)
    ]
    return [token for token, _ in kept], [end for _, end in kept]
