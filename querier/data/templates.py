"""Texts with names in braces, `How many points? {text}`, filled from the fields of a record."""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping
from typing import Any

from querier.data.parsing import near_miss
from querier.errors import InputError


class Template:
    """A text of one or more lines; a line one of whose fields is missing or empty is left out.

    Args:
        text: With the names of fields in braces; `{{` stands for a brace.
        place: The setting that it is, for messages.

    Raises:
        InputError: When it is empty, or its braces do not match.
    """

    def __init__(self, text: str, place: str) -> None:
        self.place = place
        if not text.strip():
            raise InputError(f"{place} is empty; write a text with the names of fields in braces, such as {{text}}")
        self._lines = [(line, _names(line, place)) for line in text.strip().splitlines()]
        self.fields = {name for _, names in self._lines for name in names}

    def __call__(self, record: Mapping[str, Any]) -> str:
        """The text for a record; empty where no line is left."""
        values = {name: shown(record.get(name)) for name in self.fields}
        return "\n".join(line.format_map(values) for line, names in self._lines if all(values[name] for name in names))

    def check(self, known: Collection[str]) -> None:
        """Refuse a name that no record has.

        Raises:
            InputError: With the names that there are.
        """
        for name in sorted(self.fields - set(known)):
            near = near_miss(name, tuple(known))
            also = f" (did you mean {{{near}}}?)" if near else ""
            raise InputError(
                f"{self.place} names {{{name}}}{also}, which no record has; they have {', '.join(sorted(known))}"
            )


def shown(value: Any) -> str:
    """A value as it stands in a text: `4.0` as 4, a list as its parts, nothing as nothing."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return " ".join(filter(None, map(shown, value)))
    return str(value).strip()


def _names(line: str, place: str) -> set[str]:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(line) if name is not None}
    except ValueError as error:
        raise InputError(f"{place}: {error} in {line!r}; a brace that is meant as such is written twice") from error
    for name in names:
        if not name.isidentifier():
            raise InputError(f"{place}: {{{name}}} in {line!r} is no name of a field; write one such as {{text}}")
    return names
