"""Reading dialogues from files: each reader yields plain records, one check turns them into dialogues.

A fault names the file, the line (or the record's number, where a format has no lines), the field, what was got and
what to do. With `data.on_error=skip` faulty records are collected instead; see `write_refused`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from querier.choices import OnError, Reader
from querier.data import lamp, longlamp, mqdialog, reviews, tables
from querier.data.parsing import Parser, counted, nearest_first, setting
from querier.data.records import Corpus
from querier.data.sources import READERS, Source, decode, files_of, open_bytes, other_reader
from querier.data.splits import split
from querier.data_config import DataConfig
from querier.errors import InputError
from querier.files import write_atomic
from querier.types import Dialogue

SHOWN = 8  # names that a message lists at most
FAULTS = 5  # refused records that a message lists at most


@dataclass(frozen=True)
class Refused:
    """A record that was left out under `data.on_error=skip`."""

    file: str
    line: int
    reason: str
    text: str


@dataclass
class Reading:
    """What was read.

    Args:
        dialogues: Sorted by time, ties by id.
        refused: Records left out; always empty under `data.on_error=refuse`.
        notes: What was accepted and counted, for the user.
    """

    dialogues: list[Dialogue]
    refused: list[Refused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(config: DataConfig) -> Reading:
    """Read and check all dialogues of `data.path`.

    Raises:
        InputError: On a path that cannot be read, an input without dialogues, an unknown name in `data.fields` or
            `data.responders`, and, under `data.on_error=refuse`, on the first faulty record.
    """
    reading = _read(config)
    if reading.refused:
        were = "was" if len(reading.refused) == 1 else "were"
        reading.notes.insert(0, f"{counted(len(reading.refused), 'record')} {were} refused and left out")
    return reading


def split_reading(reading: Reading, config: DataConfig) -> tuple[Corpus, list[str]]:
    """The corpus of what was read, split, and notes for the user.

    Raises:
        InputError: When it cannot be split; with the refused records, which may be why.
    """
    with _naming(reading.refused, len(reading.dialogues)):
        return split(Corpus.build(reading.dialogues), config)


def check(config: DataConfig) -> Reading:
    """Validate an input without writing anything: read it and split it, and collect every faulty record.

    The notes are those of `read` and of `split`. Faulty records are returned whatever `data.on_error` says, so that
    all of them can be shown at once; that they were left out is only noted where they would be.

    Raises:
        InputError: On whatever no record by itself is to blame for.
    """
    skipping = replace(config, on_error=OnError.skip)
    reading = read(skipping) if config.on_error is OnError.skip else _read(skipping)
    _, notes = split_reading(reading, config)
    return replace(reading, notes=[*reading.notes, *notes])


def write_refused(refused: Sequence[Refused], path: Path) -> None:
    """Write the refused records with their reasons as JSON lines, whole or not at all.

    Raises:
        InputError: When the file cannot be written.
    """
    write_atomic(path, "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in refused))


def read_jsonl(config: DataConfig, notes: list[str]) -> Iterator[Source]:
    """The records of a JSON Lines file, or of all `*.jsonl` of a folder by name; empty lines are passed over."""
    for path in files_of(config.path, ".jsonl"):
        with open_bytes(path) as file:
            begun = False
            for line, content in enumerate(file, start=1):
                text, fault = decode(content, first=line == 1)
                if not text.strip():
                    continue
                record, fault = (None, fault) if fault else parse_json(text)
                if fault and not begun and (do := other_reader(path, "jsonl")):
                    raise InputError(f"{path}:{line}: no JSON object{do}")
                begun = True
                yield Source(str(path), line, text, record, fault)


def parse_json(text: str) -> tuple[object, str]:
    """What a JSON text holds, and what is wrong with it, if anything."""
    try:
        return json.loads(text), ""
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - 20) : error.pos + 20].strip()
        return None, (
            f"not JSON: {error.msg.lower()} at column {error.colno}, near {near!r}; "
            "write one object in braces on each line"
        )
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets nested too deep
        return None, f"not JSON that can be read: {error}; write one object in braces on each line"


_SOURCES: dict[Reader, Callable[[DataConfig, list[str]], Iterator[Source]]] = {
    Reader.jsonl: read_jsonl,
    Reader.csv: tables.read_csv,
    Reader.parquet: tables.read_parquet,
    Reader.huggingface: tables.read_huggingface,
    Reader.mqdialog: mqdialog.read_mqdialog,
    Reader.lamp: lamp.read_lamp,
    Reader.longlamp: longlamp.read_longlamp,
    Reader.reviews: reviews.read_reviews,
}


def _read(config: DataConfig) -> Reading:
    """What `read` says, without the note on refused records."""
    parser = Parser(config.fields)  # before anything is opened: a wrong name must not cost an hour of reading
    if not config.path:
        raise InputError("data.path is empty; give the file or folder to read, such as data.path=my_dialogues.jsonl")
    notes: list[str] = []
    dialogues, refused, timed = _parse(_SOURCES[config.reader](config, notes), parser, config.on_error)
    if timed[True] and timed[False]:  # which of them are at fault is known only now; notes would come twice
        parser.expect_times(timed[True], timed[False])
        dialogues, refused, _ = _parse(_SOURCES[config.reader](config, []), parser, config.on_error)
    if not dialogues:
        raise InputError(_nothing(config.path, refused))
    with _naming(refused, len(dialogues)):
        parser.check_fields_used()
        _check_responders(dialogues, config.responders)
    dialogues, moved = _sorted(dialogues)
    if moved:
        were = "was" if moved == 1 else "were"
        notes.append(f"{moved} of {len(dialogues)} dialogues came out of the order of their times and {were} sorted")
    ending = next((ending for ending, reader in READERS.items() if reader == config.reader), "")
    files = [path.name for path in files_of(config.path, ending)] if ending and not timed[True] else []
    if len(files) > 1:
        names = ", ".join(files[:SHOWN]) + (f" and {len(files) - SHOWN} more" if len(files) > SHOWN else "")
        notes.append(f"no record has a time, so the order of the files is it: {names}")
    name = parser.could_be("time")
    if name and not timed[True]:
        notes.append(
            f"no record has a time, so their order is it; if `{name}` is the time, say {setting('time', name)}"
        )
    return Reading(dialogues, refused, notes + _counts(dialogues))


def _parse(
    sources: Iterable[Source], parser: Parser, on_error: OnError
) -> tuple[list[Dialogue], list[Refused], Counter[bool]]:
    """Dialogues, what was refused, and how many of the dialogues came with a time and without."""
    dialogues: list[Dialogue] = []
    refused: list[Refused] = []
    timed: Counter[bool] = Counter()
    places: dict[str, tuple[str, int]] = {}
    for order, source in enumerate(sources):
        try:
            dialogue = _accept(source, parser, order, places)
        except InputError as error:
            if on_error is OnError.refuse:
                raise InputError(
                    f"{source.file}:{source.line}: {error} (data.on_error=skip leaves such records out)"
                ) from error
            refused.append(Refused(source.file, source.line, str(error), source.text))
            continue
        timed[parser.timed(source.record)] += 1
        dialogues.append(dialogue)
    return dialogues, refused, timed


def _accept(source: Source, parser: Parser, order: int, places: dict[str, tuple[str, int]]) -> Dialogue:
    if source.fault:
        raise InputError(source.fault)
    dialogue = parser(source.record, order)
    if dialogue.id in places:
        file, line = places[dialogue.id]
        raise InputError(
            f"field `id`: {dialogue.id!r} stands in {file}:{line} too; give each dialogue an id of its own"
        )
    places[dialogue.id] = (source.file, source.line)
    return dialogue


def _nothing(path: str, refused: Sequence[Refused]) -> str:
    if not refused:
        return f"{path}: holds no dialogue; write one record on each line (data/FORMATS.md shows how)"
    first = refused[0]
    place = f"{first.file}:{first.line}: {first.reason}"
    if len(refused) == 1:
        return f"{path}: its only record cannot be used: {place}"
    return f"{path}: none of the {len(refused)} records can be used; the first fault is {place}"


@contextmanager
def _naming(refused: Sequence[Refused], left: int) -> Iterator[None]:
    """Puts the refused records before a fault of those that are left: without them it may not be one."""
    try:
        yield
    except InputError as error:
        if not refused:
            raise
        lines = [f"  {record.file}:{record.line}: {record.reason}" for record in refused[:FAULTS]]
        more = [f"  and {len(refused) - FAULTS} more"] if len(refused) > FAULTS else []
        were = "was" if len(refused) == 1 else "were"
        first = f"{len(refused)} of {counted(len(refused) + left, 'record')} {were} refused:"
        raise InputError("\n".join([first, *lines, *more, f"and what is left cannot be used: {error}"])) from error


def _sorted(dialogues: list[Dialogue]) -> tuple[list[Dialogue], int]:
    latest, moved = dialogues[0].time, 0
    for dialogue in dialogues:
        moved += dialogue.time < latest
        latest = max(latest, dialogue.time)
    # Ties by id: the same records in another order give the same corpus, number by number.
    return sorted(dialogues, key=lambda dialogue: (dialogue.time, dialogue.id)), moved


def _check_responders(dialogues: Sequence[Dialogue], responders: Sequence[str] | None) -> None:
    if responders is None:
        return
    if not responders:
        raise InputError("data.responders is an empty list; name one responder at least, or leave it out for all")
    known = {dialogue.responder for dialogue in dialogues}
    for name in responders:
        if name not in known:
            names = nearest_first(name, known)
            shown = ", ".join(repr(other) for other in names[:SHOWN])
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise InputError(
                f"data.responders: nobody named {name!r} answers in this data; those who do: {shown}{more}"
            )


def _counts(dialogues: Sequence[Dialogue]) -> list[str]:
    asked = Counter(dialogue.querier for dialogue in dialogues)
    responders = {dialogue.responder for dialogue in dialogues}
    notes = [
        f"{counted(len(dialogues), 'dialogue')} of {counted(len(asked), 'querier')} "
        f"with {counted(len(responders), 'responder')}"
    ]
    if len(asked) == 1:
        notes.append(f"one querier only ({next(iter(asked))}): methods that need others cannot be used")
    once = sum(count == 1 for count in asked.values())
    if once:
        have = "has" if once == 1 else "have"
        notes.append(f"{counted(once, 'querier')} {have} one dialogue only, hence no history")
    history = sum(dialogue.split == "history" for dialogue in dialogues)
    if history:
        are = "is" if history == 1 else "are"
        notes.append(f"{counted(history, 'dialogue')} {are} history only: never trained on or scored")
    return notes
