"""`querier forget`: remove a querier's records, cached vectors and replies; say what cannot be undone."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from querier.commands.options import ForgetOptions
from querier.commands.prepare import encoder
from querier.data.forgetting import forget
from querier.data.records import Corpus
from querier.errors import InputError
from querier.files import write_atomic
from querier.run import CARD, Run, find_run

log = logging.getLogger(__name__)


def run(options: ForgetOptions) -> None:
    """Remove a querier; a second call finds nothing and succeeds.

    Raises:
        InputError: No name, or no run.
    """
    if not options.querier:
        raise InputError("querier is empty; give the name of who is to be forgotten: querier=ann")
    named = find_run(options.run, options.output)
    config = named.config()
    cache = Path(config.cache)
    runs = [Run(path.parent) for path in sorted(Path(options.output).glob(f"*/{CARD}"))]
    runs = [*runs, *([] if named.folder in [one.folder for one in runs] else [named])]
    saw = [one for one in runs if saw_querier(one, options.querier)]
    done = forget(options.querier, cache, encoder(config))
    examples = sum(drop_examples(one.examples, options.querier) for one in runs)
    for one in saw:
        one.write(forgotten_after_training=int(one.card().get("forgotten_after_training", 0)) + 1)
    if not done.dialogues and not examples:
        log.info("nothing about %r is left in %s or under %s", options.querier, cache, options.output)
        return
    for folder, count in done.dialogues.items():
        log.info("removed %d dialogues from %s", count, folder)
    log.info("removed %d vectors that no other text needs, and %d generated examples", done.vectors, examples)
    log.info("not removed: the file that the dialogues were read from; the next `querier prepare` would read it again")
    for one in saw:
        log.warning("these weights were trained on the querier's texts and are not unlearned: %s", one.folder)
    if not saw:
        log.info("no weights were trained on the querier's texts")


def saw_querier(one: Run, querier: str) -> bool:
    """Whether a run's weights were trained on dialogues of a querier."""
    folder = one.card().get("prepared")
    if not folder or not (Path(folder) / "corpus").is_dir():
        return False
    corpus = Corpus.load(Path(folder) / "corpus")
    if querier not in corpus.queriers:
        return False
    return not bool(corpus.unseen[corpus.queriers.index(querier)])


def drop_examples(path: Path, querier: str) -> int:
    """Remove the generated examples of a querier from a run; returns how many there were."""
    if not path.is_file():
        return 0
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if json.loads(line).get("querier") != querier]
    if len(kept) < len(lines):
        write_atomic(path, "".join(f"{line}\n" for line in kept))
    return len(lines) - len(kept)
