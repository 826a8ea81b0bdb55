"""What `predict` and `ask` share: texts from outside a corpus, checked, and answered in batches."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from querier.commands.options import AnswerOptions
from querier.commands.progress import Progress
from querier.data.parsing import refuse_near_miss
from querier.data.readers import parse_json
from querier.errors import InputError
from querier.responder import Responder

log = logging.getLogger(__name__)

Pair = tuple[str, str]
FIELDS = ("query", "querier", "responder", "history")  # of a question


@dataclass
class Question:
    """A query from outside.

    Args:
        query: What is asked.
        querier: Who asks; None for nobody in particular.
        history: What the querier asked and was answered, oldest first; None for the corpus's own history.
        responder: Who answers; None for who answered the querier last, else the first, of those trained for.
    """

    query: str
    querier: str | None = None
    history: Sequence[Pair] | None = None
    responder: str | None = None


def answer(
    responder: Responder, questions: Sequence[Question], options: AnswerOptions, batch_size: int, progress: Progress
) -> list[str]:
    """A reply to each question, in their order."""
    replies: list[str] = []
    for start in range(0, len(questions), batch_size):
        requests = [
            responder.request(one.query, one.querier, one.history, one.responder)
            for one in questions[start : start + batch_size]
        ]
        replies += responder.module.generate(
            requests,
            options.max_new_tokens,
            options.temperature,
            options.seed + start,
            options.strength,
            options.repetition_penalty,
        )
        progress("answer", len(replies), len(questions))
    if cut := len(responder.module.decoder.cut.asked):
        log.warning(
            "%d prompts were longer than decoder.max_length of the run, %d tokens, and lost their beginning",
            cut,
            responder.config.decoder.max_length,
        )
    return replies


def read_lines(path: str, name: str) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not empty, numbered from 1.

    Raises:
        InputError: The file is not there, is not UTF-8, or is empty.
    """
    file = Path(path)
    if not path:
        raise InputError(f"{name} is empty; give a JSONL file: {name}=queries.jsonl")
    if not file.is_file():
        raise InputError(f"{name}: no file {path}; give one with a JSON object on each line")
    found = False
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}:{number}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
        if text.strip():
            found = True
            yield number, text
    if not found:
        raise InputError(f"{path} is empty; write one JSON object on each line")


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: It is not JSON, something else than an object, or holds what UTF-8 cannot.
    """
    value, fault = parse_json(text)
    if fault:
        raise InputError(fault)
    if not isinstance(value, dict):
        raise InputError(f"a JSON object in braces is wanted, got {type(value).__name__}")
    try:  # JSON may escape what no file can hold
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise InputError(f"holds half of a surrogate pair, {half}; write the whole character") from error
    return value


def question(record: Mapping[str, Any]) -> Question:
    """A question out of a record with `query`, and optionally `querier`, `responder` and `history`.

    Raises:
        InputError: A field that is missing, of the wrong type, or nearly the name of one.
    """
    lacking = tuple(field for field in FIELDS if field not in record)
    for name in record:
        if name not in FIELDS:
            refuse_near_miss(name, lacking)
    history = record.get("history")
    if history is not None and not isinstance(history, list):
        raise InputError(f"field `history` must be a list of query and reply, got {type(history).__name__}")
    pairs = None if history is None else [_item(place, item) for place, item in enumerate(history, start=1)]
    querier, responder = (words(record, name, needed=False) or None for name in ("querier", "responder"))
    return Question(words(record, "query"), querier, pairs, responder)


def _item(place: int, item: Any) -> Pair:
    try:
        return exchange(item)
    except InputError as error:
        raise InputError(f"item {place} of `history`: {error}") from error


def exchange(item: Any) -> Pair:
    """A query and its reply, from a pair or from an object with these two fields.

    Raises:
        InputError: Anything else.
    """
    if isinstance(item, list) and len(item) == 2 and all(isinstance(text, str) for text in item):
        return item[0], item[1]
    if isinstance(item, dict):
        if "turns" in item and not {"query", "reply"} & set(item):
            return _from_turns(item["turns"])
        return words(item, "query"), words(item, "reply")
    raise InputError(f"a history item is an object with `query` and `reply`, or a list of the two; got {item!r}")


def words(record: Mapping[str, Any], name: str, needed: bool = True) -> str:
    """A text field of a record.

    Raises:
        InputError: It is missing, empty or no text.
    """
    value = record.get(name)
    if value is None and not needed:
        return ""
    if value is None:
        raise InputError(f"field `{name}` is missing; there are {', '.join(record) or 'none'}")
    if not isinstance(value, str):
        raise InputError(f"field `{name}` must be a text, got {value!r}")
    if not value.strip() and needed:
        raise InputError(f"field `{name}` is empty; write some text")
    return value


def _from_turns(turns: Any) -> Pair:
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns):
        raise InputError("field `turns` must be a list of two or more objects with `speaker` and `text`")
    return words(turns[-2], "text"), words(turns[-1], "text")
