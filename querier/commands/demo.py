"""`querier demo`: from nothing to one query, four queriers and four replies, on the bundled corpus.

It starts afresh each time: the folder of the last demo is removed, its caches with it.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from querier.commands import demo_tables as tables
from querier.commands.base import base_folder
from querier.commands.compare import equally_long
from querier.commands.compose import compose, job_overrides
from querier.commands.fit import FitResult, build_requests, plain_config, run_fit
from querier.commands.options import DemoOptions
from querier.commands.prepare import run_prepare, said_once
from querier.commands.progress import Progress
from querier.commands.test import Parts, run_test
from querier.config import Config
from querier.data.preparation import Prepared
from querier.data.sample import CHANCE, Traits, admits, read_traits, sample_folder
from querier.errors import InputError
from querier.evaluation.results import Result
from querier.evaluation.scoring import blinded
from querier.evaluation.swap import swap_ceiling
from querier.responder import Responder
from querier.run import write_json
from querier.types import Split

log = logging.getLogger(__name__)

CACHE = "cache"
FOUR = 4  # queriers side by side in the last table

SUMMARY = (
    "trait_accuracy_seen",
    "trait_accuracy_unseen",
    "trait_accuracy_empty_history",
    "fact_accuracy_seen",
    "fact_accuracy_unseen",
    "repeat_rate",
    "rouge_l",
    "nll_per_token",
    "nll_swapped_own",
    "nll_swapped",
    "nll_empty",
    "swap_accuracy_random",
    "swap_accuracy_cluster",
    "swap_accuracy_contrast",
)


@dataclass
class Tested:
    """A trained method and what it reaches on the test split."""

    fitted: FitResult
    result: Result


def run(options: DemoOptions) -> None:
    """Prepare, train the base and each method, test, compare, answer; leaves `summary.json`."""
    config = plain_config(options)
    folder = Path(config.output) / "demo"
    if folder.exists() and any(folder.iterdir()) and not (folder / CACHE).is_dir():
        raise InputError(f"{folder} holds files that no demo left; nothing was removed: give another output=")
    config = replace(config, output=str(folder), cache=str(folder / CACHE))
    configs = equally_long({name: [method_config(name, config)] for name in options.methods})
    shutil.rmtree(folder, ignore_errors=True)
    seconds = {}
    with said_once(), Progress(config.trainer.enable_progress_bar is not False) as progress:
        begun = time.monotonic()
        prepared = run_prepare(config, progress)
        tables.show_preparation(prepared)
        seconds["prepare"] = time.monotonic() - begun
        begun = time.monotonic()
        base_folder(config, prepared.corpus, progress)
        seconds["base"] = time.monotonic() - begun
        begun = time.monotonic()
        fitted = {}
        for name, (own,) in configs.items():
            log.info("training %s", name)
            fitted[name] = run_fit(own, progress)
        seconds["fit"] = time.monotonic() - begun
        begun = time.monotonic()
        traits = read_traits(sample_folder() / "traits.jsonl")
        tested = {}
        for name, one in fitted.items():
            log.info("testing %s", name)
            tested[name] = Tested(one, run_test(one.run, config.evaluation, progress, Parts(empty_replies=True)))
    seconds["test"] = time.monotonic() - begun
    summary = summarise(prepared, tested, traits, seconds)
    write_json(folder / "summary.json", summary)
    tables.show_comparison(summary)
    tables.show_picture(picture(prepared, Responder.load(fitted[options.methods[-1]].run.folder), traits))
    log.info("%s holds these numbers; %.0f seconds in all", folder / "summary.json", sum(seconds.values()))


def method_config(name: str, config: Config) -> Config:
    """What `querier fit experiment=demo method=...` composes with the demo's own overrides, in the demo's folder."""
    given = [word for word in job_overrides() or [] if not word.startswith(("method=", "methods="))]
    experiment = [] if any(word.startswith("experiment=") for word in given) else ["experiment=demo"]
    composed: Config = plain_config(compose("fit", [*experiment, *given, f"method={name}"]))
    return replace(composed, output=config.output, cache=config.cache, name=name)


def summarise(
    prepared: Prepared, tested: dict[str, Tested], traits: dict[str, Traits], seconds: dict[str, float]
) -> dict[str, Any]:
    """What `summary.json` holds."""
    corpus = prepared.corpus

    def could_have_got(row: int, querier: int) -> bool:
        dialogue = corpus.dialogue(row)
        return admits(traits[corpus.queriers[querier]], dialogue.query, dialogue.reply)

    methods: dict[str, dict[str, float | int | None]] = {}
    for name, one in tested.items():
        found = one.result
        values: dict[str, float | int | None] = {key: found[key] for key in SUMMARY}
        values |= {key: found[key] for key in found.metrics if key.startswith("trait_") and key.endswith("seen")}
        values["swap_ceiling"] = swap_ceiling(found.pairs["cluster"], could_have_got)
        counts = {key: found.counts[key] for key in ("n", "n_generated", "n_failed")}
        methods[name] = {**values, "steps": one.fitted.steps, "tokens": one.fitted.tokens, **counts}
    return {
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "corpus": {
            "dialogues": len(corpus),
            "queriers": len(corpus.queriers),
            "unseen_queriers": int(corpus.unseen.sum()),
        },
        "chance": dict(CHANCE),
        "methods": methods,
    }


def picture(prepared: Prepared, responder: Responder, traits: dict[str, Traits]) -> list[tables.Answer]:
    """The first query, by id, that four queriers of distinct traits, one of them unseen, asked in the test split."""
    corpus = prepared.corpus
    asked: dict[str, list[int]] = {}
    for row in sorted(corpus.rows_in(Split.TEST).tolist(), key=lambda row: corpus.ids[row]):
        asked.setdefault(corpus.dialogue(row).query, []).append(row)
    chosen: list[int] = []
    for rows in asked.values():
        chosen = four_of(prepared, rows, traits)
        if chosen:
            break
    requests = build_requests(prepared, responder.config)
    asked_again = [blinded(requests.matched(row)) for row in chosen]
    replies = responder.module.generate(asked_again, responder.config.evaluation.max_new_tokens)
    answers = []
    for row, reply in zip(chosen, replies, strict=True):
        dialogue = corpus.dialogue(row)
        shown = ", ".join(asdict(traits[dialogue.querier]).values())
        unseen = bool(corpus.unseen[corpus.querier[row]])
        answers.append(tables.Answer(dialogue.query, dialogue.querier, shown, unseen, reply, dialogue.reply))
    return answers


def four_of(prepared: Prepared, rows: Sequence[int], traits: dict[str, Traits]) -> list[int]:
    """Four of the rows, of queriers with distinct traits, exactly one unseen; empty where there are none."""
    corpus = prepared.corpus
    found: dict[Traits, int] = {}
    for wanted_unseen, most in ((True, 1), (False, FOUR)):
        for row in rows:
            number = int(corpus.querier[row])
            one = traits[corpus.queriers[number]]
            if bool(corpus.unseen[number]) is wanted_unseen and one not in found and len(found) < most:
                found[one] = row
    unseen = sum(bool(corpus.unseen[corpus.querier[row]]) for row in found.values())
    return list(found.values()) if len(found) == FOUR and unseen == 1 else []
