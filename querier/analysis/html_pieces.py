"""Pieces of HTML that need nothing from elsewhere: coloured text, replies side by side; every text is escaped."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from querier.files import write_atomic

if TYPE_CHECKING:
    from pandas import DataFrame

OWN, OTHER = "0, 114, 178", "230, 159, 0"  # the first two of `figures.COLOURS`, as red, green, blue
LEAST = 0.5  # nats that are coloured in full, unless the largest gain is larger
STRONGEST = 0.75  # how opaque a colour gets under black letters
FONT = "font-family: system-ui, sans-serif; font-size: 14px; color: #000; background: #fff; padding: 8px"
CELL = "border: 1px solid #ccc; padding: 4px 8px; text-align: left; vertical-align: top"
WORD = re.compile(r"\S+\s*")
APART, TOGETHER = "\u2068", "\u2069"  # around a name in a text without HTML: its direction is its own


class Html(str):
    """HTML that a notebook shows and `save` writes."""

    def _repr_html_(self) -> str:
        return str(self)

    def save(self, path: str | Path, title: str = "querier") -> None:
        """Write it as a page of its own."""
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        write_atomic(Path(path), f"{head}<body>{self}</body></html>\n".encode())


def gain_html(table: DataFrame, own: str, other: str, run: str) -> Html:
    """A reply whose tokens are coloured by what the querier does to them: blue likelier for `own`, orange for `other`.

    Args:
        table: As `why.token_gain` gives it.
        own: Who asked.
        other: With whom they are compared.
        run: Its id.

    >>> table = pd.DataFrame({"token": ["yes", "<b>"], "own": [-0.1, -2.0], "other": [-1.1, -0.5], "gain": [1.0, -1.5]})
    >>> "&lt;b&gt;" in gain_html(table, "Ann", "Bob", "first")
    True
    """
    largest = max(LEAST, float(table["gain"].abs().max()))
    spans: list[str] = []
    for token, mine, theirs, gain in zip(table["token"], table["own"], table["other"], table["gain"], strict=True):
        shade = f"rgba({OWN if gain > 0 else OTHER}, {STRONGEST * abs(gain) / largest:.2f})"
        said = escape(f"{gain:+.2f} nats ({_apart(own)} {mine:.2f}, {_apart(other)} {theirs:.2f})")
        shown = escape(token) if token else "⏎" if len(spans) == len(table) - 1 else ""
        spans.append(f'<span title="{said}" style="background: {shade}">{shown}</span>')
    total = f"{table['gain'].sum():+.2f} nats over {len(table)} tokens, {table['gain'].mean():+.3f} each"
    keys = (
        f'<span style="background: rgba({OWN}, {STRONGEST})">likelier for {isolated(own)}</span> · '
        f'<span style="background: rgba({OTHER}, {STRONGEST})">likelier for {isolated(other)}</span> · '
        f"full colour at {largest:.2f} nats · in all {total} · run {isolated(run)}"
    )
    style = "line-height: 1.9; white-space: pre-wrap; font-size: 16px; margin: 0 0 8px"
    text = f'<p dir="auto" style="{style}">{"".join(spans)}</p>'
    return Html(f'<div style="{FONT}">{text}<p style="font-size: 12px; margin: 0">{keys}</p></div>')


def side_by_side(title: str, first: tuple[str, str], others: Sequence[tuple[str, str]]) -> Html:
    """Replies to one question below each other, with what differs from the first one marked.

    Args:
        title: Above the table, such as the query.
        first: Whose reply the others are compared with, and the reply.
        others: The same of each other one.

    A name that stands among other words is best given as `isolated` makes it.

    >>> page = side_by_side("Why?", ("Ann", "It rises slowly."), [("Bob", "It rises fast.")])
    >>> "<mark>fast.</mark>" in page, "<mark>It" in page
    (True, False)
    """
    rows = [_row(first[0], escape(first[1]))]
    for name, reply in others:
        rows.append(_row(name, marked_words(reply, first[1])))
    table = f'<table style="border-collapse: collapse; font-size: 14px">{"".join(rows)}</table>'
    return Html(f'<div style="{FONT}"><p dir="auto"><b>{escape(title)}</b></p>{table}</div>')


def marked_words(text: str, other: str) -> str:
    """The text escaped, with the words marked that do not stand in the other one at their place.

    Args:
        text: Shown.
        other: Compared with.

    >>> marked_words("so it is", "it is")
    '<mark>so</mark> it is'
    """
    mine, theirs = WORD.findall(text), WORD.findall(other)
    bare = [[word.strip().lower() for word in each] for each in (theirs, mine)]
    parts: list[str] = []
    for kind, _, _, start, end in difflib.SequenceMatcher(None, bare[0], bare[1], autojunk=False).get_opcodes():
        piece = "".join(mine[start:end])
        kept, rest = piece.rstrip(), piece[len(piece.rstrip()) :]
        parts.append(
            str(escape(piece)) if kind == "equal" or not kept else f"<mark>{escape(kept)}</mark>{escape(rest)}"
        )
    return "".join(parts)


def isolated(name: str) -> Markup:
    """A name as HTML whose direction of writing does not reach what stands beside it.

    Args:
        name: Of a querier, whatever signs it holds.

    >>> isolated("<Ann>")
    Markup('<bdi>&lt;Ann&gt;</bdi>')
    """
    return Markup("<bdi>{}</bdi>").format(name)


def _apart(name: str) -> str:
    return f"{APART}{name}{TOGETHER}"


def _row(name: str, reply: str) -> str:
    """A line of a table; the reply is HTML already."""
    return f'<tr><th style="{CELL}">{isolated(name)}</th><td dir="auto" style="{CELL}">{reply}</td></tr>'
