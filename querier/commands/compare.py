"""`querier compare`: train what needs training, test all, one table with paired differences.

A row of the table is a method, `ft`, or a method with some of `conf/ablation/` applied, `querier+no_swap_loss`,
`rag+dense+frozen_decoder`. Runs that are finished and tested are taken as they are, so that an interrupted comparison
goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from querier.analysis.report.metrics import LABELS
from querier.choices import History
from querier.commands.compose import compose, job_overrides
from querier.commands.fit import plain_config, run_fit
from querier.commands.legend import legend
from querier.commands.numbers import interval, with_interval
from querier.commands.options import CompareOptions
from querier.commands.prepare import read_corpus, said_once
from querier.commands.progress import Progress
from querier.commands.test import Parts, reads, refuse_failed, say_other_pairs, scored_rows
from querier.config import Config, to_plain
from querier.errors import InputError
from querier.evaluation.comparison import LEVEL, PERSONAL, SEEDS, Comparison, Difference, compare
from querier.evaluation.evaluate import settings_of
from querier.evaluation.results import Record
from querier.evaluation.statistics import Value
from querier.files import check_place, write_atomic
from querier.methods.registry import trains
from querier.run import APART, Run, origin, run_digest, write_json

log = logging.getLogger(__name__)

# What the table says for itself is not handed on to the runs.
OWN = {one.name for one in fields(CompareOptions)} - {one.name for one in fields(Config)}
OWN |= {"table", "name", "method", "ablation", "seed", "sweep"}

WIDE = 160  # letters

SHOWN = (
    "nll_per_byte",
    "rouge_l",
    "bert_score",
    *LABELS,
    "trait_accuracy_unseen",
    "fact_accuracy_unseen",
    "swap_accuracy_random",
    "swap_accuracy_cluster",
    "swap_accuracy_contrast",
    "swap_accuracy_matched",
    "swap_accuracy_cluster_unnamed",
    "diversity",
    "retrieval_auc",
)


def run(options: CompareOptions) -> None:
    """Train, test, compare; leaves `outputs/compare/<name>/{results.json,examples.jsonl}`."""
    run_compare(options, job_overrides() or [])


def run_compare(options: CompareOptions, overrides: Sequence[str] = ()) -> Path:
    """The same from Python.

    Args:
        options: Which methods and seeds, where things lie, how it is tested.
        overrides: What each run's `querier fit` is told, as on the command line; no other setting of `options` is.

    Returns:
        The folder with the results.

    Raises:
        InputError: A method that does not exist, or what one of the runs refuses; or, after all is written, that some
            dialogues could not be scored or answered.
    """
    configs = table_configs(options, overrides)  # all checked before any runs
    parts = Parts(dependence=options.dependence, bertscore=options.bertscore)
    check_place(Path(options.output) / "compare" / (options.name or ""))
    check_kept(Path(options.output) / "compare", options)
    with said_once(), Progress(options.trainer.enable_progress_bar is not False) as progress:
        runs: dict[str, list[Run]] = {}
        digests: dict[str, str] = {}
        for label, each in configs.items():
            for config in each:
                run = _fitted(config, digests, progress)
                runs.setdefault(label, []).append(run)
                log.info("%s, seed %d: %s", label, config.seed, run.folder)
        records = {
            label: [scored_rows(run, options.evaluation, progress, parts) for run in each]
            for label, each in runs.items()
        }
    baseline = options.baseline or baseline_of(options.methods)
    for trained in runs.values():
        say_other_pairs(trained[0], runs[baseline][0])
    first = {label: each[0] for label, each in configs.items()}
    blind = [label for label, config in first.items() if not config.prompt.name_querier]
    draws, seed = options.evaluation.bootstrap, options.evaluation.seed
    found = compare(records, baseline, draws, seed, blind, permuted_controls(first))
    folder = Path(options.output) / "compare" / (options.name or _digest(runs, options, baseline))
    say_other_code(runs, options.evaluation.split)
    write_results(folder, found, options, runs, set(digests.values()))
    write_examples(folder / "examples.jsonl", records, options.seeds)
    console = Console()
    wide = console if console.is_terminal else Console(width=WIDE)  # a file has no edge to fold at
    wide.print(table(folder.name, found))
    say_controls(found)
    say_without_stars(found, options.evaluation.bootstrap)
    log.info("%s holds all numbers, examples.jsonl beside it the dialogues", folder / "results.json")
    if not options.allow_failed:
        for label, trained in runs.items():
            for one, rows in zip(trained, records[label], strict=True):
                refuse_failed(one, rows, options.evaluation.split)
    return folder


def check_kept(folder: Path, options: CompareOptions) -> None:
    """Refuse a name under which a comparison stands of which this one lacks a row or a seed.

    Raises:
        InputError: With what would be lost.
    """
    if not options.name or not (path := folder / options.name / "results.json").is_file():
        return
    old = json.loads(path.read_text(encoding="utf-8"))
    lost = [f"`{label}`" for label in old["methods"] if label not in options.methods]
    lost += [f"seed {seed}" for seed in old["seeds"] if seed not in options.seeds]
    if lost:
        raise InputError(
            f"{path.parent} holds a comparison with {', '.join(lost)}, which this one would replace; give another "
            "name=, or remove that folder"
        )


def row_configs(label: str, options: CompareOptions, overrides: Sequence[str]) -> list[Config]:
    """What `querier fit` is told for a row of the table, one for each seed; one alone where nothing is trained.

    Raises:
        InputError: No such method or ablation, or an override is refused.
    """
    method, *ablations = label.split("+")
    words = [word for word in overrides if word.split("=")[0].lstrip("+") not in OWN]
    words += [f"method={method}"] + ([f"ablation=[{','.join(ablations)}]"] if ablations else [])
    configs = [plain_config(compose("fit", [*words, f"seed={seed}"])) for seed in options.seeds]
    placed = [replace(config, output=options.output, cache=options.cache, name=None) for config in configs]
    return placed if trains(placed[0]) else placed[:1]


def table_configs(options: CompareOptions, overrides: Sequence[str]) -> dict[str, list[Config]]:
    """The same for every row, all with the `decoder.max_length` of the row that reads most.

    Raises:
        InputError: As `row_configs`.
    """
    return equally_long({label: row_configs(label, options, overrides) for label in options.methods})


def equally_long(rows: Mapping[str, Sequence[Config]]) -> dict[str, list[Config]]:
    """All rows with the `decoder.max_length` of the one that reads most.

    Methods that show earlier dialogues read longer prompts than others by default, and a reply that does not fit is
    cut: rows of unequal lengths would be judged on unequal replies.
    """
    longest = max(config.decoder.max_length for each in rows.values() for config in each)
    shorter = [label for label, each in rows.items() if each[0].decoder.max_length < longest]
    if shorter:
        log.info(
            "decoder.max_length is %d tokens for all rows, as the longest prompts have it; %s would read less",
            longest,
            ", ".join(shorter),
        )
    return {
        label: [replace(config, decoder=replace(config.decoder, max_length=longest)) for config in each]
        for label, each in rows.items()
    }


def baseline_of(methods: Sequence[str]) -> str:
    """`ft` where it is among the methods, else the first of them."""
    return "ft" if "ft" in methods else methods[0]


def permuted_controls(rows: Mapping[str, Config]) -> dict[str, str | None]:
    """The rows that read other queriers' histories, each with the row that is the same but for that.

    A control reads no name, so a row without names comes before one that reads them; a row with names is no control.
    """
    nameless = {label: _nameless(config) for label, config in rows.items()}
    blind = [label for label, config in rows.items() if not config.prompt.name_querier and reads(config).history]
    own = [label for label, config in rows.items() if config.data.history is History.own]
    own.sort(key=lambda label: rows[label].prompt.name_querier)
    return {
        name: next((label for label in own if nameless[label] == nameless[name]), None)
        for name in blind
        if name not in own
    }


def _nameless(config: Config) -> Config:
    """The configuration with own histories and without names."""
    prompt = replace(config.prompt, name_querier=False)
    return replace(config, data=replace(config.data, history=History.own), prompt=prompt)


def _fitted(config: Config, digests: dict[str, str], progress: Progress) -> Run:
    """The finished run of a configuration, trained if there is none; `digests` remembers what was read."""
    key = json.dumps(to_plain(config.data), sort_keys=True, default=str)
    if key not in digests:
        digests[key] = read_corpus(config).digest
    known = Run(Path(config.output) / f"{config.method}-{run_digest(config, digests[key])}")
    if known.finished and not config.overwrite:
        return known
    return run_fit(config, progress, validate=False).run  # nothing is chosen by it


def _digest(runs: dict[str, list[Run]], options: CompareOptions, baseline: str) -> str:
    names = {label: [run.folder.name for run in each] for label, each in runs.items()}
    parts = [names, baseline, options.dependence, options.bertscore, to_plain(options.evaluation)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]


def say_other_code(runs: Mapping[str, Sequence[Run]], split: str) -> None:
    """Log which states of the code tested the runs, where it was not one: an older one may have measured otherwise."""
    tested: dict[str, list[str]] = {}
    for label, each in runs.items():
        for one in each:
            tested.setdefault(_code(one, split), []).append(f"{label} ({one.folder.name})")
    if len(tested) > 1:
        log.info("tested by different states of the code; remove a run's results to have it tested anew:")
        for code, names in tested.items():
            log.info("  %s: %s", code, ", ".join(names))


def _code(run: Run, split: str) -> str:
    """The version and commit of the code that tested a run."""
    by = run.measured(split).get("origin", {})
    return " ".join(str(by[key]) for key in ("querier", "git") if by.get(key)) or "not known"


def write_results(
    folder: Path, found: Comparison, options: CompareOptions, runs: dict[str, list[Run]], data: set[str]
) -> None:
    """The table as JSON: numbers and names of methods, no text of anybody and no path."""
    shared = {entry.name for entry in fields(Config)} - set(APART)
    plain = {key: value for key, value in to_plain(options).items() if key in shared}
    plain["data"] = {key: value for key, value in plain["data"].items() if key not in ("path", "items")}
    write_json(
        folder / "results.json",
        {
            **found.to_json(),
            "seeds": list(options.seeds),
            "runs": {label: [run.folder.name for run in each] for label, each in runs.items()},
            "settings": settings_of(options.evaluation),
            **{
                part: {
                    label: [one.measured(options.evaluation.split).get(part) for one in each]
                    for label, each in runs.items()
                }
                for part in ("excluded", "cut")
            },
            "decoder": Path(options.decoder.path).name or str(options.decoder.kind),
            "origin": origin(),  # of the code that compares
            "tested": {label: [_code(one, options.evaluation.split) for one in each] for label, each in runs.items()},
            "digests": {
                "config": hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16],
                "data": sorted(data),
            },
        },
    )


def write_examples(path: Path, records: dict[str, list[list[Record]]], seeds: Sequence[int]) -> None:
    """Every example of every run, one JSON object a line."""
    lines = (
        json.dumps({"method": label, "seed": seed, **row}, ensure_ascii=False, default=str) + "\n"
        for label, each in records.items()
        for seed, rows in zip(seeds, each, strict=False)
        for row in rows
    )
    write_atomic(path, "".join(lines))


def table(name: str, found: Comparison) -> Table:
    """The main metrics: value and interval, and under it the difference to the baseline, with its star."""
    known = {metric for values in found.methods.values() for metric in values}
    n = max(value.n for values in found.methods.values() for value in values.values())
    shown = Table(title=f"{name}: {n} dialogues, differences to {found.baseline}", caption_justify="left")
    shown.add_column("method", no_wrap=True)
    metrics = [metric for metric in SHOWN if metric in known]
    for metric in metrics:
        shown.add_column(metric.replace("_", " "), justify="right")
    for label, values in found.methods.items():
        cells = [_cell(values.get(metric), found.differences.get(label, {}).get(metric)) for metric in metrics]
        shown.add_row(label, *cells)
    shown.caption = (
        f"{legend(metrics)}\nIn a cell: the value, its 95 % interval over queriers, the paired difference to "
        f"{found.baseline}; a star where its interval excludes 0, p (Holm, over the metrics) is below .05 and all "
        "seeds, three at least, share its sign"
    )
    return shown


def say_controls(found: Comparison) -> None:
    """Log what is left of a method when its permuted control is subtracted, and which control finds queriers itself."""
    for name, (controlled, differences) in found.controls.items():
        left = [
            f"{metric.replace('_', ' ')} {with_interval(differences[metric].value, 4)}"
            for metric in PERSONAL
            if metric in differences
        ]
        log.info("%s less %s, which is what is personal: %s", controlled, name, ", ".join(left) or "nothing measured")
    for name in found.leaking:
        log.warning(
            "%s reads other queriers' histories and tells queriers apart all the same: the interval of one of its swap "
            "accuracies leaves one half out, so what such swaps show is not all personal, or items read as text are "
            "followed whoever's they are",
            name,
        )


def say_without_stars(found: Comparison, draws: int) -> None:
    """Log where no difference can have a star: for want of seeds, or as p by Holm stays above .05 with so few draws."""
    most = max((len(one.by_seed) for each in found.differences.values() for one in each.values()), default=SEEDS)
    if most < SEEDS:
        log.info("no difference can have a star: it takes %d runs of a row that is trained, one a seed", SEEDS)
    names = {name for each in found.differences.values() for name, one in each.items() if one.value.p is not None}
    tests = sum(not name.endswith(("_seen", "_unseen")) for name in names)
    if tests > LEVEL * (draws + 1):
        log.info(
            "no difference can have a star: of %d tests with evaluation.bootstrap=%d draws p by Holm is %.2f at least",
            tests,
            draws,
            min(1.0, tests / (draws + 1)),
        )


def _cell(value: Value | None, difference: Difference | None) -> str:
    if value is None:
        return "-"
    failed = f" ({value.n_failed} failed)" if value.n_failed else ""
    if value.value is None:
        return f"-{failed}"
    text = f"{value.value:.4f}{failed}\n{interval(value)}"
    if difference is None or difference.value.value is None:
        return text
    return f"{text}\n{difference.value.value:+.4f}{'*' if difference.sure else ''}"
