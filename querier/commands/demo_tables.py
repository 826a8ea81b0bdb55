"""What `querier demo` shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from querier.analysis.report.metrics import KNOWN
from querier.commands.legend import legend
from querier.commands.numbers import number
from querier.data.describing import describe_clusters, example_anchor, explain_contrast
from querier.data.preparation import Prepared

SHOWN_CLUSTERS = 6
OF_WHOM = re.compile("_(seen|unseen|empty_history)$")


@dataclass(frozen=True)
class Answer:
    """One querier's reply, with the gold one."""

    query: str
    querier: str
    traits: str
    unseen: bool
    reply: str
    gold: str


def show_preparation(prepared: Prepared) -> None:
    """Clusters with three queries each, and the contrast users of one anchor with the reason for each."""
    console = Console()
    table = Table(title=f"the {SHOWN_CLUSTERS} largest of {len(prepared.clusters)} clusters of queries")
    for column in ("dialogues", "queriers", "examples"):
        table.add_column(column, justify="right" if column != "examples" else "left")
    for cluster in describe_clusters(prepared)[:SHOWN_CLUSTERS]:
        table.add_row(str(cluster.size), str(cluster.queriers), "\n".join(cluster.examples))
    console.print(table)
    anchor = prepared.corpus.dialogue(example_anchor(prepared))
    table = Table(
        title=f"contrast users of {anchor.querier}",
        caption=f"who asked: {anchor.query}\nand was answered: {anchor.reply}",
        show_lines=True,
    )
    for column in ("contrast user", "asked", "was answered", "chosen because"):
        table.add_column(column, overflow="fold")
    for user in explain_contrast(prepared, example_anchor(prepared)):
        table.add_row(user.querier, user.query, user.reply, user.why)
    console.print(table)


def show_comparison(summary: dict[str, Any]) -> None:
    """The methods side by side on the test split."""
    methods = summary["methods"]
    measures = list(next(iter(methods.values())))
    known = [name for name in dict.fromkeys(OF_WHOM.sub("", one) for one in measures) if name in KNOWN]
    title = "held-out dialogues; chance of a reply that does not know its querier at the right"
    table = Table(title=title, caption=legend(known), caption_justify="left")
    table.add_column("measure")
    for name in methods:
        table.add_column(name, justify="right")
    table.add_column("chance", justify="right")
    chance = summary["chance"]
    for measure in measures:
        kind = next((chance[name] for name in chance if measure.startswith(name)), None)
        kind = 0.5 if measure.startswith("swap_accuracy") else kind
        shown = "" if kind is None or measure.startswith("swap_ceiling") else f"{kind:.3f}"
        table.add_row(measure, *(number(values[measure]) for values in methods.values()), shown)
    Console().print(table)


def show_picture(answers: list[Answer]) -> None:
    """One query, several queriers, their replies side by side."""
    if not answers:
        return
    table = Table(title=f"one query, {len(answers)} queriers: {answers[0].query}", show_lines=True)
    table.add_column("")
    for answer in answers:
        table.add_column(f"{answer.querier}{' (never seen in training)' if answer.unseen else ''}", overflow="fold")
    for label, field in (("traits, hidden", "traits"), ("reply", "reply"), ("gold", "gold")):
        table.add_row(label, *(getattr(answer, field) for answer in answers))
    Console().print(table)
