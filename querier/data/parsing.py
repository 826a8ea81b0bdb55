"""From one record of a file, a plain dictionary, to a checked `Dialogue`.

Every refusal is an `InputError` whose text names the field, what was got and what to do; the reader puts the file and
the line before it.
"""

from __future__ import annotations

import datetime
import difflib
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from querier.errors import InputError
from querier.types import Dialogue, Turn

FIELDS = ("id", "querier", "responder", "turns", "query", "reply", "time", "scene", "item", "split")
SPLITS = ("train", "validation", "test", "history")
NUMBERED = ("id", "querier", "responder", "scene", "item")  # names, which tables often give as whole numbers
NEEDED = ("querier", "id")
ALIASES = {  # what logs often call a field: only suggested, never taken for it
    "querier": ("user", "customer", "speaker", "author", "asker"),
    "query": ("question", "prompt", "input"),
    "reply": ("answer", "response", "output"),
    "time": ("timestamp", "date", "created_at"),
}
NEAR_MISS = 0.8  # difflib's ratio above which an unknown name is taken for a misspelt one


class Parser:
    """Checks records and turns them into dialogues.

    Whether all records give a time or none does is only known when all are read; see `expect_times`.

    Args:
        fields: Field -> its name in the file, as in `data.fields`.

    Raises:
        InputError: When `fields` names a field that does not exist, or takes away one that every record needs.
    """

    def __init__(self, fields: Mapping[str, str] | None = None) -> None:
        self.fields = dict(fields or {})
        for target, name in self.fields.items():
            if target not in FIELDS:
                raise InputError(
                    f"data.fields.{target}: there is no field `{target}`{_did_you_mean(target, FIELDS)}; "
                    f"the fields are {', '.join(FIELDS)}; write data.fields.<field>=<name in the file>"
                )
            if not isinstance(name, str) or not name:
                raise InputError(f"data.fields.{target} must be a name in the file, got {name!r}")
            if name in NEEDED and name not in self.fields:
                raise InputError(
                    f"data.fields.{target}={name}: every record needs `{name}` for itself; name another field of the "
                    f"file, or say as well where that one is: data.fields.{name}=<its name>"
                )
        self._sources = set(self.fields.values())
        self._found: set[str] = set()
        self._names: set[str] = set()
        self._times: tuple[int, int] | None = None

    def __call__(self, record: object, order: int) -> Dialogue:
        """The dialogue that a record holds.

        Args:
            record: What the file holds; must be a dictionary.
            order: The record's place in the input, its time where it has none.

        Raises:
            InputError: With the field, what was got, what is allowed and what to do.
        """
        if not isinstance(record, dict):
            raise InputError(f"a record must be a JSON object like {{...}}, got {_got(record)}")
        values, extra = self._rename(record)
        self._check_needed(values, record)
        querier = self._text(values, "querier")
        responder = self._text(values, "responder", "assistant")
        identity = self._text(values, "id")
        if querier == responder:
            raise InputError(f"field `responder`: {responder!r} is the querier too; two people are needed")
        turns, more = self._turns(values, querier, responder)
        if more:
            extra["turns"] = more
        item = self._text(values, "item", "")
        return Dialogue(
            id=identity,
            querier=querier,
            responder=responder,
            turns=turns,
            scene=self._text(values, "scene", identity),
            item=item or None,
            split=self._split(values),
            extra=extra,
            time=self._time(values, order),
        )

    def timed(self, record: Mapping[str, Any]) -> bool:
        """Whether a record gives a time."""
        return not _absent(record.get(self.fields.get("time", "time")))

    def expect_times(self, given: int, missing: int) -> None:
        """From now on refuse the records that do not do as most: give a time, or give none.

        Args:
            given: Records that give a time; with as many as without, these are kept.
            missing: Records that give none.
        """
        self._times = (given, missing)

    def could_be(self, field: str, names: Iterable[str] | None = None) -> str | None:
        """A name that nothing is read from and that logs often give to `field`, if there is one.

        Args:
            field: One of `FIELDS`.
            names: Where it is looked for; all names of the records so far if None.
        """
        own = self._names if names is None else names
        free = {_plain(name): name for name in own if name not in self._sources and name not in FIELDS}
        return next((free[_plain(alias)] for alias in ALIASES.get(field, ()) if _plain(alias) in free), None)

    def check_fields_used(self) -> None:
        """Refuse a name in `data.fields` that no record had.

        Raises:
            InputError: With the names that the records have, nearest first.
        """
        for target, name in self.fields.items():
            if name not in self._found:
                names = nearest_first(name, self._names)
                raise InputError(
                    f"data.fields.{target}={name}: no record has a field `{name}`; they have {_list(names)}"
                )

    def _rename(self, record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        values: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for target, name in self.fields.items():
            if name in record:
                self._found.add(name)
                values[target] = record[name]
        for name, value in record.items():
            if name not in self._names:
                self._check_name(name, record)
            if name in self._sources:
                continue
            if name in FIELDS and name not in self.fields:
                values[name] = value
            else:
                extra[name] = value
        return {name: value for name, value in values.items() if not _absent(value)}, extra

    def _check_name(self, name: str, record: Mapping[str, Any]) -> None:
        if not isinstance(name, str):
            raise InputError(f"a field's name must be text, got {_got(name)}")
        if name not in self._sources and name not in FIELDS:
            there = {*record, *self.fields}
            there |= {"turns"} if "query" in there else {"query", "reply"} if "turns" in there else set()
            refuse_near_miss(name, tuple(field for field in FIELDS if field not in there), mapped=True)
        self._names.add(name)

    def _check_needed(self, values: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        spoken = ("query", "reply") if "query" in values or "reply" in values else ("turns",)
        for name in (*NEEDED, *(() if "turns" in values else spoken)):
            if name not in values:
                raise InputError(f"{self._place(name)}: missing{self._what_to_do(name, record)}")

    def _what_to_do(self, name: str, record: Mapping[str, Any]) -> str:
        """About a field that a record lacks: what the record has, and where the field could be."""
        if name in self._sources and name not in self.fields:
            other = next(target for target, source in self.fields.items() if source == name)
            return (
                f", for data.fields.{other}={name} reads it as `{other}`; name another field there, or say as well "
                f"where this one is: data.fields.{name}=<its name>"
            )
        also, wanted = (" (as are `query` and `reply`)", ("query", "reply")) if name == "turns" else ("", (name,))
        has = f"{also}; the record has {_list(sorted(own for own, value in record.items() if not _absent(value)))}"
        if any(self.fields.get(field, field) in self._names for field in (name, *wanted)):
            return f"{has}; write it, or leave the dialogue out"
        near = {field: self.could_be(field, record) for field in wanted}
        if any(near.values()):
            return f"{has}; say {' '.join(setting(field, found) for field, found in near.items() if found)}"
        mapped = " ".join(f"data.fields.{field}=<its name>" for field in wanted)
        return f"{has}; write it, or if it has another name there, say {mapped}"

    def _place(self, name: str) -> str:
        source = self.fields.get(name)
        return f"field `{name}`" + (f" (read from `{source}`)" if source else "")

    def _text(self, values: Mapping[str, Any], name: str, default: str = "") -> str:
        value = values.get(name)
        if name in NUMBERED and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        return default if value is None else check_text(value, self._place(name))

    def _time(self, values: Mapping[str, Any], order: int) -> int:
        value = values.get("time")
        time = order if value is None else check_time(value, self._place("time"))
        given, missing = self._times or (0, 0)
        others = ""
        if value is None and given >= missing > 0:
            others = f"missing, but {given} of {given + missing} records have it"
        if value is not None and missing > given:
            others = f"given, but {missing} of {given + missing} records have none"
        if others:
            raise InputError(f"{self._place('time')}: {others}; give it in all records or in none")
        return time

    def _split(self, values: Mapping[str, Any]) -> str | None:
        value = values.get("split")
        if value is None:
            return None
        text = check_text(value, self._place("split"))
        if text not in SPLITS:
            raise InputError(
                f"{self._place('split')}: must be one of {', '.join(SPLITS)}, got {text!r}{_did_you_mean(text, SPLITS)}"
            )
        return text

    def _turns(
        self, values: Mapping[str, Any], querier: str, responder: str
    ) -> tuple[tuple[Turn, ...], list[dict[str, Any]]]:
        short = [name for name in ("query", "reply") if name in values]
        if "turns" not in values:
            query, reply = self._text(values, "query"), self._text(values, "reply")
            return (Turn(querier, query), Turn(responder, reply)), []
        if short:
            raise InputError(f"field `{short[0]}`: given beside `turns`; give either `turns` or `query` and `reply`")
        turns, more = check_turns(values["turns"], self._place("turns"))
        check_speakers(turns, querier, responder, self._place("turns"))
        return turns, more


def check_text(value: object, place: str) -> str:
    """A text that is not empty and can be written as UTF-8."""
    if not isinstance(value, str):
        raise InputError(f"{place}: must be text, got {_got(value)}; write it as text (in JSON: in quotes)")
    if not value.strip():
        raise InputError(f"{place}: must not be empty, got {value!r}; write a text or leave the dialogue out")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{place}: holds half of a surrogate pair at character {error.start + 1}; write the whole character"
        ) from error
    return value


def check_time(value: object, place: str) -> int:
    """A whole number that fits 64 bits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # columns with gaps turn whole numbers into floats
    if isinstance(value, bool) or not isinstance(value, int):
        how = "write any number that grows with time, such as Unix seconds (since 1970)"
        if isinstance(value, str) and value.strip().isdecimal():
            how = "write it without quotes"
        elif isinstance(value, str) and _is_date(value):
            how += ", in Python int(datetime.fromisoformat(text).timestamp())"
        raise InputError(
            f"{place}: must be a whole number, got {_got(value)}; {how}; or read another field: "
            "data.fields.time=<its name>; or drop it in all records and in data.fields: their order is the time then"
        )
    if not -(2**63) <= value < 2**63:
        raise InputError(f"{place}: must fit 64 bits, got {value}; write Unix seconds or a running number")
    return value


def check_turns(value: object, place: str) -> tuple[tuple[Turn, ...], list[dict[str, Any]]]:
    """The turns of a record, and for each one what it holds besides speaker and text (or no list at all)."""
    form = 'a list like [{"speaker": "Ann", "text": "Hello?"}, ...]'
    if not isinstance(value, list):
        raise InputError(f"{place}: must be {form}, got {_got(value)}")
    if len(value) < 2:
        raise InputError(f"{place}: must hold two turns at least, a query and the reply, got {len(value)}")
    turns: list[Turn] = []
    more: list[dict[str, Any]] = []
    for number, turn in enumerate(value):
        here = f"{place}, turn {number + 1} of {len(value)}"
        if not isinstance(turn, dict):
            raise InputError(f'{here}: must be an object like {{"speaker": "Ann", "text": "Hello?"}}, got {_got(turn)}')
        for name in ("speaker", "text"):
            if turn.get(name) is None:
                raise InputError(f"{here}: `{name}` is missing; the turn has {_list(sorted(map(str, turn)))}")
        is_reply = number == len(value) - 1
        name = "the reply's text" if is_reply else "text"
        turns.append(Turn(check_text(turn["speaker"], f"{here}, speaker"), check_text(turn["text"], f"{here}, {name}")))
        more.append({key: rest for key, rest in turn.items() if key not in ("speaker", "text")})
    return tuple(turns), more if any(more) else []


def check_speakers(turns: Sequence[Turn], querier: str, responder: str, place: str) -> None:
    """The last turn is the responder's, a turn before it the querier's, and nobody else speaks."""
    for number, turn in enumerate(turns):
        if turn.speaker not in (querier, responder):
            raise InputError(
                f"{place}, turn {number + 1} of {len(turns)}: speaker {turn.speaker!r} is neither the querier "
                f"{querier!r} nor the responder {responder!r}{_did_you_mean(turn.speaker, (querier, responder))}; "
                "name one of the two, or leave the dialogue out"
            )
    if turns[-1].speaker != responder:
        raise InputError(
            f"{place}: the last turn must be the responder's ({responder!r}), got {turns[-1].speaker!r}; "
            "drop the turns after the reply, or correct `responder`"
        )
    if all(turn.speaker == responder for turn in turns):
        raise InputError(f"{place}: no turn before the reply is the querier's ({querier!r}); a query is needed")


@lru_cache(maxsize=4096)  # the same names come with every record
def near_miss(name: str, known: tuple[str, ...]) -> str | None:
    """The known name that `name` is probably a misspelling of, if any.

    Very short names (`id`) are only compared without regard to case and signs: `uid` and `pid` are names of their own.
    """
    plain = _plain(name)
    best, score = None, NEAR_MISS
    for candidate in known:
        if plain == _plain(candidate):
            return candidate
        ratio = (
            0.9
            if _swapped(plain, _plain(candidate))
            else difflib.SequenceMatcher(None, plain, _plain(candidate)).ratio()
        )
        if len(candidate) > 2 and ratio > score:
            best, score = candidate, ratio
    return best


def refuse_near_miss(name: str, fields: tuple[str, ...], mapped: bool = False) -> None:
    """Refuse a field's name that is probably a misspelling of one of `fields`, which the record lacks.

    Raises:
        InputError: With the field that is probably meant, and if `mapped`, how `data.fields` may say so.
    """
    if known := near_miss(name, fields):
        say = f" or say data.fields.{known}={name}," if mapped else ""
        raise InputError(
            f"field `{name}`: unknown, and too close to `{known}` to be meant otherwise; rename it to `{known}`,{say} "
            "or give it a name of its own"
        )


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """All known names, those most like `name` first, equally like ones by alphabet."""
    plain = _plain(name)
    return sorted(known, key=lambda other: (-difflib.SequenceMatcher(None, plain, _plain(other)).ratio(), other))


def counted(number: int, noun: str) -> str:
    """A number and what is counted: `1 record`, `2 records`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def setting(field: str, name: str) -> str:
    """What to type so that `field` is read from `name`."""
    return shlex.quote(f"data.fields.{field}={name}")


def _is_date(text: str) -> bool:
    """Whether a text is a date in the form of ISO 8601."""
    try:
        datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        return False
    return True


def _plain(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())


def _swapped(one: str, other: str) -> bool:
    """Whether two neighbouring letters changed places, which difflib does not see in a short name."""
    differ = [place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]
    if len(one) != len(other) or len(differ) != 2 or differ[1] != differ[0] + 1:
        return False
    first, second = differ
    return one[first] == other[second] and one[second] == other[first]


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = near_miss(name, tuple(known))
    return f" (did you mean `{close}`?)" if close else ""


def _got(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _list(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "no fields"
