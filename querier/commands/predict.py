"""`querier predict`: answer the queries of a JSONL file, writing another one."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from querier.choices import OnError
from querier.commands.ask import check_responders, known_queriers, nearest
from querier.commands.options import PredictOptions
from querier.commands.progress import Progress
from querier.commands.replies import Question, answer, parse_object, question, read_lines
from querier.errors import InputError
from querier.files import check_place, write_atomic
from querier.responder import Responder
from querier.run import find_run

log = logging.getLogger(__name__)


def run(options: PredictOptions) -> None:
    """Answer a file.

    Raises:
        InputError: On input that cannot be used, or a responder whom the run does not know; nothing is written then.
    """
    into = Path(options.into)
    if not options.into:
        raise InputError("into is empty; give the file to write: into=replies.jsonl")
    if into.exists() and not options.overwrite:
        raise InputError(f"{into} exists; give another file, or overwrite=true")
    if into.is_dir():
        raise InputError(f"into={into} is a folder; give a file in it: into={into / 'replies.jsonl'}")
    check_place(into.parent)
    records, questions, refused = read_questions(options)
    responder = Responder.load(find_run(options.run, options.output).folder)
    check_responders(responder, [one.responder for one in questions])
    with Progress() as progress:
        replies = answer(responder, questions, options, options.batch_size, progress)
    lines = (
        json.dumps({**record, "reply": reply}, ensure_ascii=False)
        for record, reply in zip(records, replies, strict=True)
    )
    write_atomic(into, "".join(f"{line}\n" for line in lines))
    log.info("%d replies in %s", len(replies), into)
    say_unknown(responder, questions)
    if refused:
        beside = into.with_suffix(".refused.jsonl")
        write_atomic(beside, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in refused))
        log.info("%d lines were refused; they and their reasons are in %s", len(refused), beside)


def say_unknown(responder: Responder, questions: Sequence[Question]) -> None:
    """Warn of names that the run does not know: they were answered as somebody without history."""
    known = known_queriers(responder)
    names_known = set(known)
    named = [one.querier for one in questions if one.querier is not None and one.history is None]
    strangers = [name for name in named if name not in names_known]
    if strangers:
        names = list(dict.fromkeys(strangers))
        shown = ", ".join(f"{name!r}{nearest(name, known)}" for name in names[:3])
        log.warning(
            "%d of %d lines name %d queriers whom the run does not know, answered without history: %s%s",
            len(strangers),
            len(questions),
            len(names),
            shown,
            ", ..." if len(names) > 3 else "",
        )


def read_questions(
    options: PredictOptions,
) -> tuple[list[dict[str, Any]], list[Question], list[dict[str, Any]]]:
    """The records of the input, their questions, and the lines that cannot be used.

    Raises:
        InputError: At the first faulty line unless `on_error=skip`; and where no line can be used.
    """
    records: list[dict[str, Any]] = []
    questions: list[Question] = []
    refused: list[dict[str, Any]] = []
    for number, text in read_lines(options.input, "input"):
        try:
            record = parse_object(text)
            questions.append(question(record))
            records.append(record)
        except InputError as error:
            if options.on_error is OnError.refuse:
                raise InputError(f"{options.input}:{number}: {error} (on_error=skip leaves such lines out)") from error
            refused.append({"file": options.input, "line": number, "reason": str(error), "text": text})
    if not records:
        raise InputError(f"{options.input}: none of {len(refused)} lines can be used; first: {refused[0]['reason']}")
    return records, questions, refused
