"""`querier test`: score the held-out dialogues of a run."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from querier.analysis.report.metrics import LABELS
from querier.choices import Kind, Profile, Source
from querier.commands.compose import job_overrides
from querier.commands.fit import say_cut
from querier.commands.legend import legend
from querier.commands.numbers import interval, number
from querier.commands.options import TestOptions
from querier.commands.progress import Progress
from querier.config import Config, EncoderConfig, EvaluationConfig
from querier.data.preparation import others_drawn_from
from querier.data.sample import sample_folder
from querier.data.sample.scores import rules_of
from querier.errors import InputError
from querier.evaluation.evaluate import Options, PairMetric, evaluate, settings_of
from querier.evaluation.metrics import bert_score, embedding_similarity
from querier.evaluation.results import Record, Result
from querier.evaluation.scoring import Reads
from querier.evaluation.tasks import label_reader, task_metrics, task_of
from querier.files import check_place, write_atomic
from querier.models.encoder import encoder_folder
from querier.responder import Responder
from querier.run import Run, find_run, origin, write_json

log = logging.getLogger(__name__)

AFTERWARDS = ("bootstrap", "interval")  # settings that change no dialogue's scores

SHOWN = (
    "nll_per_token",
    "nll_per_byte",
    "nll_swapped_own",
    "nll_swapped",
    "nll_empty",
    "swap_accuracy_random",
    "swap_accuracy_cluster",
    "swap_accuracy_contrast",
    "swap_accuracy_matched",
    "swap_accuracy_cluster_unnamed",
    "rouge_l",
    "chrf",
    "embedding_similarity",
    "bert_score",
    *LABELS,
    "trait_accuracy",
    "fact_accuracy",
    "diversity",
    "retrieval_first",
    "retrieval_auc",
    "retrieval_auc_gold",
    "probe_specific",
    "probe_general",
)


@dataclass(frozen=True)
class Parts:
    """What is measured only where it is asked for.

    Attributes:
        cold_start: Whether the curves over the number of history items are taken.
        dependence: Whether queries are asked as several queriers, and queriers are found from replies.
        bertscore: A local model for BERTScore, `minilm` or a `transformers` folder; empty for none.
        empty_replies: Whether replies without any history are generated too.
    """

    cold_start: bool = False
    dependence: bool = False
    bertscore: str = ""
    empty_replies: bool = False

    def to_json(self) -> dict[str, Any]:
        """What was asked for, as it stands in `results.json`: of a model its name alone."""
        asked = {**asdict(self), "bertscore": Path(self.bertscore).name}
        return {name: value for name, value in asked.items() if value}


def run(options: TestOptions) -> None:
    """Score, write the results and the examples of the split, show a table; or compare with another run.

    Outside of a command line all settings of the evaluation are the run's; `run_test` takes others.

    Raises:
        InputError: There is no finished run, or no held-out dialogue; or some could not be scored.
    """
    if options.against:
        from querier.commands import against  # it builds on this module

        against.run(options)
        return
    found = find_run(options.run, options.output)
    config = own_settings(found, options.evaluation)
    parts = Parts(options.cold_start, options.dependence, options.bertscore)
    say_replaced(found, config, parts)
    with Progress() as progress:
        result = run_test(found, config, progress, parts)
    Console().print(table(found.folder.name, result))
    split = config.split
    for reason, count in result.excluded.get("main", {}).items():
        log.info("left out: %d dialogues (%s)", count, reason)
    if result.cold_start:
        curves = found.results_of(split)
        log.info("the curves over the number of history items stand in %s; `querier report` draws them", curves)
    log.info("written to %s and %s", found.results_of(split), found.examples_of(split))
    if not options.allow_failed:
        refuse_failed(found, result.rows, split)
        refuse_failed_curves(found, result)


def refuse_failed(run: Run, rows: Sequence[Record], split: str) -> None:
    """End with an error where a run could not score or answer some dialogues.

    Raises:
        InputError: Saying how many, and where the reasons stand.
    """
    if failed := sum(row["error"] is not None for row in rows):
        raise InputError(
            f"{failed} of {len(rows)} dialogues of {run.folder.name} could not be scored or answered; "
            f"{run.examples_of(split)} says why (allow_failed=true accepts that)"
        )


def refuse_failed_curves(run: Run, result: Result) -> None:
    """End with an error where points of the curves failed: they have no examples.

    Raises:
        InputError: Saying where.
    """
    points = {
        f"cold_start.{group}.{items}": max(value.n_failed for value in point.values())
        for group, curve in result.cold_start.items()
        for items, point in curve.items()
    }
    if failed := [f"{name} ({count})" for name, count in points.items() if count]:
        raise InputError(
            f"some dialogues of {run.folder.name} could not be scored or answered for {', '.join(failed)} "
            "(allow_failed=true accepts that)"
        )


def say_other_pairs(one: Run, other: Run) -> None:
    """Log that two runs differ in their clusters or contrast users, from which a swap draws the other querier."""
    configs = one.config(), other.config()
    own, theirs = ({**others_drawn_from(config), "encoder": _reads_as(config.encoder)} for config in configs)
    if own != theirs:
        log.warning(
            "%s and %s differ in their clusters or contrast users (settings clusters, contrast, encoder or data.pool): "
            "swaps within a cluster, or with contrast users, may be of other pairs",
            one.folder.name,
            other.folder.name,
        )


def _reads_as(encoder: EncoderConfig) -> tuple[Any, ...]:
    """What its vectors depend on while it is frozen, as clusters are made."""
    return encoder.name, encoder.revision, encoder.max_length


def own_settings(run: Run, given: EvaluationConfig) -> EvaluationConfig:
    """What a command line says of the evaluation; what it is silent about is as the run was configured.

    Raises:
        InputError: Settings that are given together, so that what is silent about what cannot be told.
    """
    said = {word.split("=")[0].lstrip("+") for word in job_overrides() or []}
    if "evaluation" in said:
        raise InputError("give the settings of the evaluation one by one: evaluation.limit=100 evaluation.draws=1")
    own = run.config().evaluation
    names = {one.name for one in fields(EvaluationConfig) if f"evaluation.{one.name}" not in said}
    return replace(given, **{name: getattr(own, name) for name in names})


def say_replaced(run: Run, config: EvaluationConfig, parts: Parts) -> None:
    """Log that results are replaced which were taken otherwise, or had parts that are not asked for now."""
    found = run.measured(config.split)
    if not found:
        return
    asked = parts.to_json()
    had = [
        f"{name}={str(value).lower() if value is True else value}"
        for name, value in found.get("parts", {}).items()
        if name != "empty_replies" and asked.get(name) != value  # which the demo alone asks for
    ]
    if shown := " ".join([other_settings(found["settings"], config), *had]).strip():
        log.info("replacing %s, which was taken with %s", run.results_of(config.split), shown)


def other_settings(taken: Mapping[str, Any], config: EvaluationConfig) -> str:
    """The settings of results where they are not those of `config`, as one would type them; empty where all agree.

    Results from before there was a setting were taken with what is its default now.
    """
    taken = {**settings_of(EvaluationConfig()), **taken}
    wanted = {name: value for name, value in settings_of(config).items() if name not in AFTERWARDS}
    other = {name: taken[name] for name, value in wanted.items() if taken[name] != value}
    return " ".join(f"evaluation.{name}={'null' if value is None else value}" for name, value in other.items())


def run_test(
    run: Run, config: EvaluationConfig, progress: Progress | None = None, parts: Parts | None = None
) -> Result:
    """Judge a finished run and write what was found beside it.

    Args:
        run: The run.
        config: Which split, how many rows, how many draws.
        progress: Shows the scoring.
        parts: What is measured besides.
    """
    parts = parts or Parts()
    check_place(run.folder)
    responder = Responder.load(run.folder)
    if responder.requests is None or responder.prepared is None:
        raise InputError(f"{run.folder} has no prepared corpus; run the same `querier fit` again")
    # The module was made with the run's settings; what is asked for here comes before them.
    responder.module.config = replace(responder.config, evaluation=config)
    data = run.config().data
    task = task_of(responder.prepared.corpus, data)
    towers = responder.config.conditioning.towers
    options = Options(
        pair_metrics=pair_metrics(responder, parts.bertscore),
        reply_metrics={**rules_of(Path(data.path), sample_folder()), **task_metrics(task)},
        read_label=label_reader(task),
        reads=reads(responder.config),
        cold_start=parts.cold_start,
        dependence=parts.dependence,
        represent=responder.module.represent if towers else None,
        empty_replies=parts.empty_replies,
        progress=progress,
    )
    result = evaluate(responder.module, responder.requests, responder.prepared, config, options)
    model = model_digest(run.model)
    log.info("  model %s", model)
    say_cut(responder.module)
    cut = responder.module.decoder.cut
    found = {
        **result.to_json(),
        "cut": {"prompts": len(cut.prompts), "replies": len(cut.replies)},
        "parts": parts.to_json(),
        "run": run.folder.name,
        "model": model,
        "origin": origin(),
    }
    # The results come last and vouch for the examples: what is interrupted in between is tested anew.
    run.results_of(config.split).unlink(missing_ok=True)
    lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in result.rows)
    write_atomic(run.examples_of(config.split), "".join(lines))
    write_json(run.results_of(config.split), found)
    return result


def scored_rows(
    run: Run, config: EvaluationConfig, progress: Progress | None = None, parts: Parts | None = None
) -> list[Record]:
    """The scored dialogues of a run: those that lie beside it where they were taken under these settings, else new.

    Args:
        run: The run.
        config: Which split, how many rows.
        progress: Shows the scoring.
        parts: What must have been measured besides.
    """
    found, examples = run.measured(config.split), run.examples_of(config.split)
    taken = found and examples.is_file() and not other_settings(found["settings"], config)
    wanted = parts.to_json() if parts else {}
    if taken and found["model"] == model_digest(run.model) and wanted.items() <= found.get("parts", {}).items():
        with examples.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    say_replaced(run, config, parts or Parts())
    return run_test(run, config, progress, parts).rows


def reads(config: Config) -> Reads:
    """What a method reads of a querier."""
    history = (
        config.conditioning.kind is not Kind.none
        or config.prompt.source is Source.own
        or config.prompt.profile in (Profile.querier, Profile.differences)
    )
    return Reads(history=history, name=config.prompt.name_querier)


def pair_metrics(responder: Responder, bertscore: str) -> dict[str, PairMetric]:
    """Scores of replies by meaning: by the run's own encoder, and BERTScore by a local model where one is given."""
    found: dict[str, PairMetric] = {"embedding_similarity": partial(embedding_similarity, encode=responder.encode)}
    if bertscore:
        folder = str(encoder_folder(EncoderConfig(name=bertscore)))
        found["bert_score"] = partial(bert_score, folder=folder)
    return found


def model_digest(folder: Path) -> str:
    """Names the weights that were judged."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def table(name: str, result: Result) -> Table:
    """The main numbers: all held-out dialogues, those of seen and those of unseen queriers."""
    title = f"{name}: {result.counts['n']} dialogues of {result.counts['queriers']} queriers"
    shown = Table(title=title, caption_justify="left")
    shown.add_column("metric")
    for column in ("all", "95 % interval", "seen", "unseen"):
        shown.add_column(column, justify="right")
    for metric in SHOWN:
        if metric not in result.metrics:
            continue
        value = result.metrics[metric]
        parts = [result.metrics.get(metric + suffix) for suffix in ("_seen", "_unseen")]
        name = f"{metric} ({value.n_failed} of {value.n + value.n_failed} failed)" if value.n_failed else metric
        shown.add_row(
            name, number(value.value), interval(value), *(number(part.value) if part else "-" for part in parts)
        )
    shown.caption = legend(metric for metric in SHOWN if metric in result.metrics)
    return shown
