"""Which runs are the same but for one setting: a method brings settings along, another reading other data.

`querier fit method=ft` differs from `method=querier` in more than the method, as each brings its losses along. What all
runs of a method have, or most of them, is the method's own; of two runs with what is their methods' own only the method
differs, and `Pairing.along` says what came with it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from querier.config import Config, to_plain
from querier.run import DATA_APART

if TYPE_CHECKING:
    from pandas import DataFrame

SEED, METHOD, DIGEST, TEST, DATA = "seed", "method", "data_digest", "test.", "data."
OWN = "as the method has it"


class Pairing:
    """What belongs together among the settings of some runs.

    Attributes:
        own: Of each setting that follows from the method the value that each method has of its own, as a text.
        bound: Settings that follow from it in every run: nothing tells their effect from the method's.
    """

    def __init__(self, table: DataFrame, settings: Sequence[str]) -> None:
        """Of a table of `load_runs`, and the settings that are compared."""
        self.table, self.settings = table, list(settings)
        self.own = {name: own for name in settings if (own := _own(table, name))}
        self.bound = [name for name, own in self.own.items() if _values(table, name).eq(_expected(table, own)).all()]

    def others(self, setting: str) -> Any:
        """What has to be the same of two runs that differ in one setting, as a text for each run."""
        names = [name for name in self.settings if name != setting]
        kept = self.table[names].map(as_text)
        if setting == METHOD:
            for name in names:
                if name in self.own:
                    kept[name] = kept[name].mask(kept[name] == _expected(self.table, self.own[name]), OWN)
        if _of_reading(setting) and DIGEST in names:
            kept[DIGEST] = self.table["folder"].map(self.table.attrs.get("paths", {})).map(str)
        return kept.agg("\n".join, axis=1) if names else self.table["folder"].map(lambda _: "")

    def along(self, setting: str, value: str, reference: str) -> str:
        """What else differs between runs with a value and such with the reference, by name; empty for nothing."""
        if setting == METHOD and value != reference:
            return ", ".join(name for name, own in self.own.items() if own[value] != own[reference])
        return DIGEST if _of_reading(setting) and DIGEST in self.settings and value != reference else ""


def flat(plain: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a card by their dotted names."""
    for name, value in plain.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def storable(value: Any) -> Any:
    """As a table holds it: lists as text."""
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def as_text(value: Any) -> str:
    """The same text for the same setting, whatever a table made of it."""
    plain = storable(value)
    if plain is None or plain != plain:
        return "none"
    return str(int(plain)) if isinstance(plain, (float, np.floating)) and float(plain).is_integer() else str(plain)


def _own(table: DataFrame, name: str) -> dict[str, str]:
    """Each method's own value of a setting; empty where methods do not differ in it, or one has none of its own."""
    if METHOD not in table.columns or name in (SEED, METHOD, DIGEST) or name.startswith((TEST, DATA)):
        return {}
    values, methods = _values(table, name), _values(table, METHOD)
    own = {method: _usual(values[methods == method], name) for method in sorted(set(methods))}
    known = {method: value for method, value in own.items() if value is not None}
    return known if len(known) == len(own) and len(set(known.values())) > 1 else {}


def _usual(values: Sequence[str], name: str) -> str | None:
    """The most frequent value; of several that are as frequent what nobody asked for, if it is among them."""
    counts = Counter(values)
    most = [value for value, count in counts.items() if count == max(counts.values())]
    if len(most) == 1:
        return most[0]
    return _defaults().get(name) if _defaults().get(name) in most else None


@cache
def _defaults() -> dict[str, str]:
    return {name: as_text(value) for name, value in flat(to_plain(Config()))}


def _values(table: DataFrame, name: str) -> Any:
    return table[name].map(as_text)


def _expected(table: DataFrame, own: Mapping[str, str]) -> Any:
    """What each run would have of a setting if it were its method's own."""
    return _values(table, METHOD).map(own)


def _of_reading(setting: str) -> bool:
    """Whether a setting is one of those that make the data what they are."""
    return setting.startswith(DATA) and setting.removeprefix(DATA) in DATA_APART
