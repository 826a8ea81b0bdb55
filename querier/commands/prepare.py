"""`querier prepare`: read, split, embed, cluster, find contrast users; all of it cached and resumable."""

from __future__ import annotations

import logging
from pathlib import Path

from querier.commands.options import PrepareOptions
from querier.commands.progress import Progress
from querier.config import Config, DataConfig
from querier.data.preparation import Prepared, prepare
from querier.data.readers import check, read, write_refused
from querier.data.records import Corpus
from querier.data.splits import split
from querier.errors import InputError
from querier.models.encoder import SentenceEncoder
from querier.types import EncodeTexts

log = logging.getLogger(__name__)

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


def run_prepare(config: Config, progress: Progress | None = None) -> Prepared:
    """Read, split and prepare; returns at once where it was done before."""
    return prepare_corpus(read_corpus(config), encoder(config), config, progress)


def read_corpus(config: Config) -> Corpus:
    """The dialogues of `data`, split; what was accepted and counted is logged.

    Raises:
        InputError: On input that cannot be used.
    """
    reading = read(config.data)
    corpus, notes = split(Corpus.build(reading.dialogues), config.data)
    say([*reading.notes, *notes])
    if reading.refused:
        path = Path(config.output) / f"{Path(config.data.path).stem}.refused.jsonl"
        write_refused(reading.refused, path)
        log.info("the refused records and their reasons are in %s", path)
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
    if reading.refused and config.on_error.name == "refuse":
        raise InputError(
            f"{len(reading.refused)} records of {config.path} cannot be used (the first {SHOWN} are listed above); "
            "mend them, or leave them out with data.on_error=skip"
        )
    log.info("%s can be used", config.path)


def say(notes: list[str]) -> None:
    """Log what was counted, one line each."""
    for note in notes:
        log.info("  %s", note)
