"""`querier prepare`: read, split, embed, cluster, find contrast users; all of it cached and resumable."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from querier.analysis.markdown import SIGNALS
from querier.choices import OnError
from querier.commands.numbers import with_interval
from querier.commands.options import PrepareOptions
from querier.commands.progress import Progress
from querier.config import Config, PromptConfig
from querier.data.history import Histories
from querier.data.parsing import counted
from querier.data.preparation import Prepared, prepare
from querier.data.readers import Refused, check, read, split_reading, write_refused
from querier.data.records import Corpus
from querier.data.requests import Requests
from querier.data_config import DataConfig
from querier.errors import InputError
from querier.evaluation.evaluate import settings_of
from querier.evaluation.signal import history_signal
from querier.evaluation.swap import SwapKind
from querier.methods.prompts import renderer
from querier.models.encoder import SentenceEncoder
from querier.run import write_json
from querier.types import EncodeTexts

log = logging.getLogger(__name__)

READERS = {
    "query": "from the query alone",
    "vectors": "with the reply's vectors",
    "stylometry": "with its stylometry",
    "both": "with both",
}

SHOWN = 20  # refused records that are listed; their file has all


def run(options: PrepareOptions) -> None:
    """Prepare a corpus, or only check it.

    Raises:
        InputError: On input that cannot be used.
    """
    if options.check_only:
        check_input(options.data)
        return
    with Progress(options.trainer.enable_progress_bar is not False) as progress:
        prepared = run_prepare(options, progress)
    log.info("prepared in %s", prepared.folder)
    if options.signal:
        say_signal(prepared, options)


def run_prepare(config: Config, progress: Progress | None = None) -> Prepared:
    """Read, split and prepare; returns at once where it was done before."""
    return prepare_corpus(read_corpus(config), encoder(config), config, progress)


def read_corpus(config: Config) -> Corpus:
    """The dialogues of `data`, split; what was accepted and counted is logged.

    Raises:
        InputError: On input that cannot be used.
    """
    reading = read(config.data)
    if reading.refused:  # before the split: where that fails, they may be why
        path = Path(config.output) / f"{Path(config.data.path).stem}.refused.jsonl"
        write_refused(reading.refused, path)
        log.info("what was refused, with the reasons, is in %s", path)
    corpus, notes = split_reading(reading, config.data)
    say([*reading.notes, *notes])
    return corpus


def prepare_corpus(corpus: Corpus, encode: EncodeTexts, config: Config, progress: Progress | None = None) -> Prepared:
    """Embed, cluster and find contrast users of a split corpus; what was found is logged."""
    prepared = prepare(corpus, encode, config, Path(config.cache), progress)
    say(prepared.notes)
    return prepared


def encoder(config: Config) -> SentenceEncoder:
    """The sentence encoder of a configuration."""
    return SentenceEncoder(config.encoder)


def check_input(config: DataConfig) -> None:
    """Validate an input without writing anything; lists every record that cannot be used.

    Raises:
        InputError: Where there is one, unless `data.on_error=skip`.
    """
    reading = check(config)
    say(reading.notes)
    for record in reading.refused[:SHOWN]:
        log.warning("%s:%d: %s", record.file, record.line, record.reason)
    if reading.refused and config.on_error is OnError.refuse:
        raise InputError(_unusable(reading.refused, config.path))
    log.info("%s can be used", config.path)


def _unusable(refused: list[Refused], path: str) -> str:
    """That records of a file cannot be used, after they were listed."""
    it = "it" if len(refused) == 1 else "them"
    listed = f"the first {SHOWN} are listed above" if len(refused) > SHOWN else "listed above"
    return (
        f"{counted(len(refused), 'record')} of {path} cannot be used ({listed}); "
        f"mend {it}, or leave {it} out with data.on_error=skip"
    )


def say_signal(prepared: Prepared, config: Config) -> None:
    """Log how much histories tell of the replies to come, and keep it in `signal.json` of the prepared corpus."""
    requests = Requests(prepared, Histories(prepared.corpus), config, renderer(PromptConfig()))  # it reads no prompt
    log.info("  who asked, told from histories by a linear reader (%s replies, chance 0.5):", config.evaluation.split)
    kept: dict[str, Any] = {}
    for kind, histories in SIGNALS.items():
        found = history_signal(requests, prepared, config.evaluation, SwapKind[kind.upper()])
        kept[kind] = found.to_json()
        told = [f"{READERS[name]} {with_interval(value)}" for name, value in found.accuracy.items()]
        if told:
            told.append(f"which adds {with_interval(found.gain['both'])} to the query")
        told.append(counted(found.accuracy["both"].n, "dialogue") if told else "nobody to tell apart")
        log.info("    histories %s: %s", histories, ", ".join(told))
    digests = {"data": [prepared.corpus.digest]}
    settings = settings_of(config.evaluation)
    write_json(prepared.folder / "signal.json", {"settings": settings, "digests": digests, "histories": kept})


@contextmanager
def said_once() -> Iterator[None]:
    """Inside the block each line of `say` is logged once, however many runs read the same dialogues."""
    known: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        line, before = record.getMessage(), len(known)
        known.add(line)
        return len(known) > before

    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)


def say(notes: list[str]) -> None:
    """Log what was counted, one line each."""
    for note in notes:
        log.info("  %s", note)
