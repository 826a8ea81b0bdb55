"""`querier test run=a against=b`: two runs on the same dialogues, and what an LLM says of their replies.

Differences are paired by dialogue, a minus b, with intervals over queriers. The judge, where one is asked, compares the
replies of the two runs, and the replies of a with those that a gives on somebody else's history.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from querier.analysis.report.numbers import read_json
from querier.analysis.report.pairs import ARMS
from querier.commands.legend import legend
from querier.commands.numbers import interval, number
from querier.commands.options import TestOptions
from querier.commands.progress import Progress
from querier.commands.test import (
    model_digest,
    other_settings,
    own_settings,
    reads,
    refuse_failed,
    say_other_pairs,
    scored_rows,
)
from querier.config import EvaluationConfig
from querier.data.records import Corpus
from querier.errors import InputError
from querier.evaluation.draws import Draw, generator_of
from querier.evaluation.evaluate import sample_rows, settings_of
from querier.evaluation.judge import Arm, Match, judge, prompts, run_matches, swapped_matches
from querier.evaluation.results import Record, differences, summarise, was_asked, with_gain
from querier.evaluation.scoring import Scorer
from querier.evaluation.statistics import Value
from querier.evaluation.swap import Swaps
from querier.files import check_place, write_atomic
from querier.llm import Llm
from querier.llm_config import LlmConfig
from querier.responder import Responder
from querier.run import Run, find_run, origin, write_json

log = logging.getLogger(__name__)

Means = dict[str, float | None]
"""Metrics of one run, by name."""

FEW = 100  # draws for intervals that are not shown


@dataclass(frozen=True)
class Pair:
    """Two tested runs.

    Attributes:
        a: What is compared.
        b: What it is compared with.
        rows_a: The scored dialogues of a.
        rows_b: Those of b.
    """

    a: Run
    b: Run
    rows_a: list[Record]
    rows_b: list[Record]

    def beside(self, kind: str, config: EvaluationConfig, suffix: str) -> Path:
        """A file of this comparison in the folder of a; another split than `test` stands in its name."""
        split = "" if config.split == "test" else f"_{config.split}"
        return self.a.folder / f"{kind}_{self.b.folder.name}{split}{suffix}"


def run(options: TestOptions) -> None:
    """Compare, show a table, leave `against_<b>.json` and, of the judge, `judged_<b>.jsonl` in the folder of a.

    Raises:
        InputError: The runs cannot be compared, or something failed and `allow_failed` is not set.
    """
    llm = Llm(options.llm) if options.judge else None  # what is missing there is said before any work
    a, b = (find_run(name, options.output) for name in (options.run, options.against))
    options = replace(options, evaluation=own_settings(a, options.evaluation))
    config = options.evaluation
    check_comparable(a, b, config)
    check_place(a.folder)
    with Progress() as progress:
        pair = Pair(a, b, *(with_gain(scored_rows(one, config, progress)) for one in (a, b)))
        found = differences(pair.rows_a, pair.rows_b, config.bootstrap, generator_of(config.seed, Draw.PAIRED))
    values = values_of(pair)
    Console().print(table(pair, values, found, config))
    arms: dict[str, Arm] = {}
    excluded: dict[str, int] = {}
    write(pair, values, found, options, arms, excluded)  # whatever may become of the judge
    if llm is not None:
        with Progress() as progress:
            arms, excluded = judge_pair(pair, options, llm, progress)
        write(pair, values, found, options, arms, excluded)
    if arms:
        Console().print(judge_table(arms))
    log.info("written to %s", pair.beside("against", config, ".json"))
    refuse_failures(pair, arms, options)


def check_comparable(a: Run, b: Run, config: EvaluationConfig) -> None:
    """Refuse two runs whose difference would be one of data or of evaluation.

    Raises:
        InputError: The same run twice, an unfinished one, other data, or results taken under other settings.
    """
    if a.folder.resolve() == b.folder.resolve():
        raise InputError(f"run and against are the same run, {a.folder}; name another one: against=<folder or name>")
    for one in (a, b):
        one.check_finished()
    digests = [one.card().get("data_digest") for one in (a, b)]
    if digests[0] != digests[1]:
        raise InputError(
            f"{a.folder} and {b.folder} were made on different data or splits (digests {digests[0]} and {digests[1]}); "
            "compare runs of the same data, split and unseen queriers"
        )
    for one in (a, b):
        check_settings(one, config)
    say_other_pairs(a, b)
    lengths = [one.config().decoder.max_length for one in (a, b)]
    if lengths[0] != lengths[1]:
        log.warning(
            "%s reads up to %d tokens and %s up to %d, so that long replies are judged on unequal parts; "
            "fit both with one decoder.max_length",
            a.folder.name,
            lengths[0],
            b.folder.name,
            lengths[1],
        )


def check_settings(one: Run, config: EvaluationConfig) -> None:
    """Refuse results of the run's present weights that were taken under other settings than now asked for.

    Raises:
        InputError: Naming the settings.
    """
    found = one.measured(config.split)
    if not found:
        return
    shown = other_settings(found["settings"], config)
    if shown and found["model"] == model_digest(one.model):
        raise InputError(
            f"{one.results_of(config.split)} was taken with {shown}; add that here, "
            f"or test it as wanted here first: querier test run={one.folder.name}"
        )


def judge_pair(pair: Pair, options: TestOptions, llm: Llm, progress: Progress) -> tuple[dict[str, Arm], dict[str, int]]:
    """What the judge says of a sample of the dialogues that both runs replied to.

    Raises:
        InputError: No reply was generated.
    """
    config = options.evaluation
    responder = Responder.load(pair.a.folder)
    if responder.requests is None or responder.prepared is None:
        raise InputError(f"{pair.a.folder} has no prepared corpus; run the same `querier fit` again")
    # The module was made with the run's settings; what is asked for here comes before them.
    responder.module.config = replace(responder.config, evaluation=config)
    corpus = responder.prepared.corpus
    replies = [replied(rows) for rows in (pair.rows_a, pair.rows_b)]
    chosen = sample(corpus, set(replies[0]) & set(replies[1]), options)
    scorer = Scorer(responder.module, responder.requests, reads(responder.config), progress)
    swaps = Swaps(responder.requests, responder.prepared, config.seed)
    first, second = ([known[corpus.ids[row]] for row in chosen] for known in replies)
    arms = {"runs": run_matches(swaps, chosen, first, second)}
    swapped, excluded = swapped_matches(scorer, swaps, chosen, config.max_new_tokens)
    arms.update(swapped)
    announce(arms, options.llm, llm)
    found = judge(arms, llm, config.bootstrap, generator_of(config.seed, Draw.JUDGED), progress)
    return found, dict(excluded)


def replied(rows: Sequence[Record]) -> dict[str, str | None]:
    """The reply of each dialogue that one was asked of, None where it failed, by id."""
    return {row["id"]: row["reply"] for row in rows if was_asked(row)}


def sample(corpus: Corpus, ids: set[str], options: TestOptions) -> list[int]:
    """Rows of the dialogues that are judged, spread over queriers.

    Raises:
        InputError: There are none.
    """
    rows = np.array([row for row, name in enumerate(corpus.ids) if name in ids], dtype=np.int64)
    if not len(rows):
        raise InputError("neither run has a reply to be judged; test them with evaluation.generate=300")
    drawn = generator_of(options.evaluation.seed, Draw.TO_JUDGE)
    chosen: list[int] = sample_rows(rows, corpus.querier, options.judge_limit, drawn).tolist()
    return chosen


def announce(arms: Mapping[str, Sequence[Match]], config: LlmConfig, llm: Llm) -> None:
    """Say what asking will take, and where texts of queriers go, before any is sent."""
    estimate = llm.estimate(prompts(arms))
    cost = "" if estimate.cost is None else f", cost at most {estimate.cost:.4f}"
    log.info("judge: %d calls, about %d tokens to read%s", estimate.calls, estimate.tokens, cost)
    if config.base_url and estimate.calls:
        log.info("  queries, histories and replies are sent to %s", urlsplit(config.base_url).hostname)


def write(
    pair: Pair,
    values: Sequence[Means],
    found: Mapping[str, Value],
    options: TestOptions,
    arms: Mapping[str, Arm],
    excluded: dict[str, int],
) -> None:
    """The numbers as JSON; of the judge one line for each match besides, without any text of a querier."""
    config = options.evaluation
    plain: dict[str, Any] = {
        "a": pair.a.folder.name,
        "b": pair.b.folder.name,
        "data_digest": pair.a.card().get("data_digest"),
        "models": {name: model_digest(one.model) for name, one in (("a", pair.a), ("b", pair.b))},
        "settings": settings_of(config),
        "values": {
            metric: {name: known.get(metric) for name, known in zip("ab", values, strict=True)} for metric in found
        },
        "differences": {metric: value.to_json() for metric, value in found.items()},
        "origin": origin(),
    }
    if arms:
        plain["judge"] = {
            "model": options.llm.model or Path(options.llm.path).name,
            "temperature": options.llm.temperature,
            "limit": options.judge_limit,
            "excluded": excluded,
            "arms": {name: arm.to_json() for name, arm in arms.items()},
        }
        lines = [
            json.dumps({"arm": name, **one.to_json()}, ensure_ascii=False) + "\n"
            for name, arm in arms.items()
            for one in arm.judgements
        ]
        write_atomic(pair.beside("judged", config, ".jsonl"), "".join(lines))
    path = pair.beside("against", config, ".json")
    if not arms and path.is_file():  # verdicts on the same weights stay, as they do in the file of the matches
        before = read_json(path)
        if "judge" in before and before["models"] == plain["models"]:
            plain["judge"] = before["judge"]
    write_json(path, plain)


def values_of(pair: Pair) -> list[Means]:
    """The metrics of both runs where neither failed: what the differences are between."""
    found: list[Means] = []
    for rows, others in ((pair.rows_a, pair.rows_b), (pair.rows_b, pair.rows_a)):
        other = {row["id"]: row["scores"] for row in others}
        common = [{**row, "scores": _where_both(row["scores"], other[row["id"]])} for row in rows if row["id"] in other]
        known = summarise(common, FEW, np.random.default_rng(0))  # the interval is that of the difference
        found.append({name: value.value for name, value in known.items()})
    return found


def _where_both(scores: Mapping[str, float | None], others: Mapping[str, float | None]) -> dict[str, float | None]:
    """The scores that both have of a dialogue; one that failed for the other has failed."""
    return {name: None if others[name] is None else value for name, value in scores.items() if name in others}


def refuse_failures(pair: Pair, arms: Mapping[str, Arm], options: TestOptions) -> None:
    """End with an error where something failed, unless that is allowed.

    Raises:
        InputError: Saying what, and where the reasons stand.
    """
    if options.allow_failed:
        return
    config = options.evaluation
    for one, rows in ((pair.a, pair.rows_a), (pair.b, pair.rows_b)):
        refuse_failed(one, rows, config.split)
    errors = [judgement.error for arm in arms.values() for judgement in arm.judgements if judgement.error]
    if errors:
        raise InputError(
            f"{len(errors)} matches have no verdict, the first: {errors[0]}; "
            f"{pair.beside('judged', config, '.jsonl')} has all; the same command asks again what got no answer "
            "(allow_failed=true accepts that)"
        )


def table(pair: Pair, values: Sequence[Means], found: Mapping[str, Value], config: EvaluationConfig) -> Table:
    """Both values, their difference with its interval, Holm's p, and the smallest difference likely to be found."""
    title = f"a = {pair.a.folder.name}, b = {pair.b.folder.name}: {len(pair.rows_a)} dialogues, {config.split}"
    shown = narrow(title, "metric", ("a", "b", "a - b", "95 % interval", "Holm p", "mde", "n"))
    for metric, value in found.items():
        difference = "-" if value.value is None else f"{value.value:+.4f}"
        tested = (interval(value), number(value.p), number(value.mde), count(value.n, value.n_failed))
        shown.add_row(metric, *(number(known.get(metric)) for known in values), difference, *tested)
    shown.caption = (
        f"{legend(found)}\nHolm p: of no difference, adjusted for the number of metrics; "
        "mde: the true difference that a test at 5 % finds in 80 % of cases; n: dialogues"
    )
    return shown


def judge_table(arms: Mapping[str, Arm]) -> Table:
    """Win rates, and what may stand behind them: ties, lengths, failures."""
    columns = ("win rate", "95 % interval", "ties (disagree)", "longer wins", "bytes", "n")
    shown = narrow("judge: win rates, both orders asked", "first over second", columns)
    for name, arm in arms.items():
        rate, counts = arm.values["win_rate"], arm.counts
        lengths = [arm.values[which].value for which in ("bytes_first", "bytes_second")]
        shown.add_row(
            ARMS[name],
            number(rate.value),
            interval(rate),
            f"{counts['n_tied']} ({counts['n_inconsistent']})",
            number(arm.values["longer_wins"].value),
            "/".join("-" if length is None else f"{length:.0f}" for length in lengths),
            count(counts["n"], counts["n_failed"]),
        )
    return shown


def narrow(title: str, first: str, columns: Sequence[str]) -> Table:
    """A table that fits a terminal of 80 letters."""
    shown = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False, caption_justify="left")
    shown.add_column(first)
    for column in columns:
        shown.add_column(column, justify="right")
    return shown


def count(good: int, failed: int) -> str:
    """How many were measured, and how many could not be."""
    return f"{good}, {failed} failed" if failed else str(good)
