"""`querier ask`: one query, several queriers, their replies side by side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from querier.choices import Kind, Profile, Source
from querier.commands.options import AskOptions
from querier.commands.progress import Progress
from querier.commands.replies import Pair, Question, answer, exchange, parse_object, read_lines
from querier.config import Config
from querier.errors import InputError
from querier.methods.profiles import SAMPLE
from querier.responder import Responder
from querier.run import find_run

log = logging.getLogger(__name__)

DRAWN = 3  # queriers who are asked for where none is named
NOBODY = "(nobody: no history)"


def run(options: AskOptions) -> None:
    """Answer one query for several queriers and show a table.

    Raises:
        InputError: No query, a querier whom the run does not know, or a history that cannot be read.
    """
    if not options.query.strip():
        raise InputError("query is empty; give what is asked: query='How do tides work?'")
    given = read_history(options.history) if options.history else None
    responder = Responder.load(find_run(options.run, options.output).folder)
    asked = side_by_side(responder, options, given)
    with Progress(shown=False) as progress:
        replies = answer(responder, [one for _, one in asked], options, len(asked), progress)
    read = [items_read(responder.config, len(items_of(responder, one))) for _, one in asked]
    rows = [(name, count, reply) for (name, _), count, reply in zip(asked, read, replies, strict=True)]
    Console().print(table(options.query, rows))
    if responder.is_far(options.query):
        log.info("this query is far from all that the training pool was asked; what is general about it is a guess")
    if len(rows) > 1 and len({reply for *_, reply in rows}) == 1:
        log.info("all replies are the same: train longer, or on more dialogues of each querier, if they should differ")


def check_responders(responder: Responder, names: Sequence[str | None]) -> None:
    """Refuse names of responders whom the run does not know; None stands for who answered last.

    Raises:
        InputError: With the first of them and the nearest that there are.
    """
    known = [] if responder.prepared is None else responder.prepared.corpus.responders
    for name in dict.fromkeys(names):
        if name is not None and known and name not in known:
            hint = nearest(name, known)
            raise InputError(f"the run knows no responder {name!r}{hint}; without one it is who answered last")


def side_by_side(responder: Responder, options: AskOptions, given: Sequence[Pair] | None) -> list[tuple[str, Question]]:
    """Who asks, by the name that is shown, and the question of each.

    Raises:
        InputError: A querier or a responder whom the run does not know.
    """
    known = known_queriers(responder)
    answers = options.responder or None
    check_responders(responder, [answers])
    names = options.queriers
    if not names and given is None:
        rng = np.random.default_rng(options.seed)
        names = [known[int(place)] for place in sorted(rng.permutation(len(known))[:DRAWN])]
    for name in names:
        if name not in known:
            hint = nearest(name, known)
            raise InputError(
                f"the run knows no querier {name!r}{hint}; for one whom it has not seen give history=<file.jsonl>"
            )
    asked = [(name, Question(options.query, name, responder=answers)) for name in names]
    if given is not None:
        asked.append((Path(options.history).stem, Question(options.query, None, given, answers)))
    if not options.queriers:
        asked.append((NOBODY, Question(options.query, None, [], answers)))
    return asked


def nearest(name: str, known: Sequence[str]) -> str:
    """What to say of the known names that are like one; empty where none is."""
    import difflib  # only needed where something is wrong

    near = difflib.get_close_matches(name, known, n=3)
    return f"; nearest: {', '.join(near)}" if near else ""


def known_queriers(responder: Responder) -> list[str]:
    """The queriers of the corpus that the run was prepared on."""
    return [] if responder.prepared is None else list(responder.prepared.corpus.queriers)


def items_read(config: Config, known: int) -> int:
    """How many of the known items of a history a method reads, as vectors, as text or to describe the querier."""
    prompt, most = config.prompt, 0
    if config.conditioning.kind is not Kind.none:
        most = config.towers.history
    elif prompt.profile in (Profile.querier, Profile.differences) and not prompt.profiles:
        shown = prompt.profile is Profile.querier and prompt.asks_llm
        most = min(config.towers.history, SAMPLE) if shown else config.towers.history
    if prompt.source is Source.own:
        most = max(most, min(prompt.items, config.towers.history))
    return min(known, most)


def items_of(responder: Responder, one: Question) -> Sequence[object]:
    """The history that a question is answered with."""
    return one.history if one.history is not None else responder.history_of(one.querier)


def read_history(path: str) -> list[Pair]:
    """What somebody said and was answered, oldest first.

    Raises:
        InputError: With file and line.
    """
    pairs = []
    for number, text in read_lines(path, "history"):
        try:
            pairs.append(exchange(parse_object(text)))
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from error
    return pairs


def table(query: str, rows: Sequence[tuple[str, int, str]]) -> Table:
    """One row a querier: name, items of history, reply."""
    shown = Table(title=escape(query), show_lines=True, caption="history: items of it that are read")
    shown.add_column("querier")
    shown.add_column("history", justify="right")
    shown.add_column("reply", overflow="fold", ratio=1)
    for name, items, reply in rows:
        shown.add_row(escape(name), str(items), escape(reply) if reply.strip() else "(empty)")
    return shown
