"""`querier forget`: remove a querier's records, cached vectors and replies; say what cannot be undone."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from querier.commands.options import ForgetOptions
from querier.data.forgetting import Forgotten, forget, prepared_folders
from querier.data.records import Corpus
from querier.errors import InputError
from querier.files import write_atomic
from querier.run import CARD, Run, find_run

log = logging.getLogger(__name__)


def run(options: ForgetOptions) -> None:
    """Remove a querier; a second call finds nothing and succeeds.

    Raises:
        InputError: No name, no run, or a corpus that would be left empty.
    """
    if not options.querier:
        raise InputError("querier is empty; give the name of who is to be forgotten: querier=ann")
    named = find_run(options.run, options.output)
    caches, runs = found_runs(named, Path(options.output))
    for cache in caches:
        if not cache.is_dir():
            log.warning("not searched: the cache %s is not there; if it was moved, put it back and forget again", cache)
    bases = [path.parent for cache in caches if trained_on(cache, options.querier) for path in base_cards(cache)]
    known = known_queriers(caches)
    saw = [one for one in runs if saw_querier(one, options.querier)]
    done = forget(options.querier, caches)
    files = [one.examples_of(split) for one in runs for split in ("validation", "test")]
    files += [path for one in runs for path in sorted(one.folder.glob("judged_*.jsonl"))]
    files += sorted(Path(options.output).rglob("compare/**/examples.jsonl"))
    examples = sum(drop_examples(path, options.querier) for path in files)
    for one in saw:
        one.write(forgotten_after_training=int(one.card().get("forgotten_after_training", 0)) + 1)
    if not done.dialogues and not examples:
        searched = ", ".join(str(cache) for cache in caches if cache.is_dir())
        if near := difflib.get_close_matches(options.querier, known, n=3):
            log.warning("nobody is called %r here; nearest: %s", options.querier, ", ".join(near))
        where = f"{searched} or in the runs" if searched else "the runs (no cache was searched)"
        log.info("nothing about %r is left in %s under %s", options.querier, where, options.output)
    else:
        say_removed(done, examples)
        say_trained(saw, bases, options.output)
    say_left(runs, caches, Path(options.output))


def found_runs(named: Run, output: Path) -> tuple[list[Path], list[Run]]:
    """The caches that the runs at any depth under a folder use, and these runs; the named one is among them."""
    runs = [named] + [Run(path.parent) for path in sorted(output.rglob(CARD))]
    runs = list({one.folder.resolve(): one for one in runs}.values())
    folders = [folder for one in runs if (folder := one.cache) is not None]
    caches = list({folder.resolve(): folder for folder in folders}.values())
    return caches, [one for one in runs if not inside(one.folder, caches)]


def known_queriers(caches: Sequence[Path]) -> list[str]:
    """The names in the prepared corpora of the caches."""
    folders = [folder for cache in caches for folder in prepared_folders(cache)]
    return sorted({name for folder in folders for name in Corpus.load(folder / "corpus").queriers})


def inside(path: Path, folders: Sequence[Path]) -> bool:
    """Whether a path lies in one of the folders."""
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)


def base_cards(cache: Path) -> list[Path]:
    """The cards of the bases that small decoders of a cache start from."""
    return sorted((cache / "bases").glob("*/base.json"))


def trained_on(cache: Path, querier: str) -> bool:
    """Whether a querier is in the training pool of any prepared corpus of a cache."""
    return any(in_pool(folder / "corpus", querier) for folder in prepared_folders(cache))


def say_removed(done: Forgotten, examples: int) -> None:
    """Log what was removed."""
    for folder, count in done.dialogues.items():
        log.info("removed %d dialogues from %s", count, folder)
    log.info("removed %d vectors that no other text needs, and %d scored or judged examples", done.vectors, examples)


def say_trained(saw: Sequence[Run], bases: Sequence[Path], output: str) -> None:
    """Log the weights that saw the querier."""
    for one in saw:
        weights = [*sorted(one.checkpoints.glob("*.ckpt")), *([one.model] if one.model.exists() else [])]
        shown = ", ".join(str(path.relative_to(one.folder)) for path in weights) or "no weights are left there"
        log.warning("trained on the querier's texts and not unlearned: %s (%s)", one.folder, shown)
    for base in bases:
        log.warning("may have been trained on the querier's texts and is not unlearned: the base %s", base)
    if not saw:
        log.info("no run under %s is known to have been trained on the querier's texts", output)
    log.info("runs elsewhere, such as those of a sweep, are named with output=<folder>")


def say_left(runs: Sequence[Run], caches: Sequence[Path], output: Path) -> None:
    """Log the files that may still hold the querier's words and that are left to the user."""
    paths = [one.card().get("config", {}).get("data", {}).get("path") for one in runs]
    for path in dict.fromkeys(path for path in paths if path):
        log.info(
            "not removed: the dialogues in %s; a changed setting or an emptied cache reads it again: "
            "remove them there too",
            path,
        )
    for one in runs:
        for split in ("validation", "test"):
            if (path := one.results_of(split)).is_file():
                log.info("not changed: %s; its numbers may still count the querier's dialogues: test again", path)
    for path in sorted(output.rglob("*.refused.jsonl")):
        if not inside(path, caches):
            log.info("not searched: %s; it holds refused lines as they were read: remove the querier's there", path)
    for path in sorted(output.rglob("report_*.html")):
        log.info("not searched: %s; it shows texts of queriers as they were: write it again or remove it", path)
    answers = [cache / "llm" for cache in caches]
    asked = (one.card().get("config", {}).get("llm", {}).get("cache") for one in runs)
    answers += [Path(path) for path in asked if path]
    for folder in {folder.resolve(): folder for folder in answers}.values():
        if folder.is_dir():
            log.info("not searched: %s; it holds answers of an LLM, which may tell of the querier: remove it", folder)


def saw_querier(one: Run, querier: str) -> bool:
    """Whether a run's weights were trained on dialogues of a querier.

    An unfinished run names only the digest of its corpus; where no corpus of its cache has that (as after somebody
    else was forgotten), any of them counts.
    """
    card, cache = one.card(), one.cache
    if cache is None:
        return False
    if folder := card.get("prepared"):  # in the cache where that lies now
        return in_pool(cache / "prepared" / Path(folder).name / "corpus", querier)
    folders = [folder / "corpus" for folder in prepared_folders(cache)]
    own = [folder for folder in folders if Corpus.load(folder).digest == card.get("data_digest")]
    return any(in_pool(folder, querier) for folder in own or folders)


def in_pool(folder: Path, querier: str) -> bool:
    """Whether a corpus has a querier who was not set apart as unseen; False where it is gone."""
    if not folder.is_dir():
        return False
    corpus = Corpus.load(folder)
    return querier in corpus.queriers and not bool(corpus.unseen[corpus.queriers.index(querier)])


def drop_examples(path: Path, querier: str) -> int:
    """Remove the examples of a querier from a file of them; returns how many there were."""
    if not path.is_file():
        return 0
    with path.open(encoding="utf-8") as file:
        lines = list(file)  # splitlines() would also break at signs that a text may hold, such as U+2028
    kept = [line for line in lines if json.loads(line).get("querier") != querier]
    if len(kept) < len(lines):
        write_atomic(path, "".join(kept))
    return len(lines) - len(kept)
