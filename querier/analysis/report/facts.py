"""What is known of the runs of a report besides their numbers: data, sizes, settings, versions.

No path of the machine is among it: of a path only its last part is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from querier.analysis.report.sources import Entry
from querier.run import FINISHED

APART = ("name", "output", "cache", "overwrite", "logger")  # of the configuration; say nothing about the model
TESTED = ("split", "limit", "draws", "generate", "max_new_tokens", "temperature", "repetition_penalty", "seed")
BEFORE = {"temperature": 0.0, "repetition_penalty": 1.0}  # of results from before there were these settings
FIRST = (
    "method",
    "seed",
    "status",
    "data",
    "data digest",
    "split",
    "tested split",
    "dialogues",
    "queriers",
    "decoder",
    "conditioning",
    "querier named",
    "forgotten after training",
)
ABSENT = "–"


@dataclass(frozen=True)
class Fact:
    """A line of the head: what it is about and what each entry says; `differs` where they say different things."""

    name: str
    values: list[str]

    @property
    def differs(self) -> bool:
        """Whether the entries say different things."""
        return len(set(self.values)) > 1


def facts(entries: Sequence[Entry]) -> list[Fact]:
    """The lines of the head; one that no entry has anything to say about is left out."""
    told = [_told(entry) for entry in entries]
    names = list(dict.fromkeys(name for one in told for name in one))
    return [Fact(name, [one.get(name) or ABSENT for one in told]) for name in names]


def split(lines: Sequence[Fact]) -> tuple[list[Fact], list[Fact]]:
    """What a reader wants to see at once, and the rest."""
    return [line for line in lines if line.name in FIRST], [line for line in lines if line.name not in FIRST]


def settings(entries: Sequence[Entry]) -> list[Fact]:
    """The settings in which the entries' configurations differ."""
    flat = [dict(_flat(entry.card.get("config", {}))) for entry in entries]
    names = list(dict.fromkeys(name for one in flat for name in one if name.partition(".")[0] not in APART))
    lines = [Fact(name, [one.get(name, ABSENT) for one in flat]) for name in names]
    return [line for line in lines if line.differs]


def warnings(entries: Sequence[Entry]) -> list[str]:
    """Why numbers of the entries may not stand side by side."""
    data = {entry.card["data_digest"] for entry in entries if "data_digest" in entry.card}
    told = []
    if len(data) > 1:
        told.append("The runs were tested on different data: their numbers are not comparable.")
    under = [tested(entry.results) for entry in entries]
    other = [name for name in TESTED if len({repr(one[name]) for one in under}) > 1]
    if other:
        told.append(f"The runs were tested under different settings ({', '.join(other)}): compare with care.")
    counted = {entry.name: [number.n_failed for number in entry.metrics.values()] for entry in entries}
    failed = {entry.name: entry.results.get("n_failed") or max(counted[entry.name], default=0) for entry in entries}
    told += [
        f"{name}: {count} dialogues could not be scored or answered; they are in no number."
        for name, count in failed.items()
        if count
    ]
    return told


def tested(results: Mapping[str, Any]) -> dict[str, Any]:
    """Under which settings the numbers of `results.json` were taken; those of another test cannot stand beside them."""
    found = results.get("settings") or {}
    return {name: found.get(name, BEFORE.get(name)) for name in TESTED}


def plain(value: Any) -> str:
    """A setting as text; of a path its last part."""
    if isinstance(value, str):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if value else ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or ABSENT
    return ABSENT if value is None else str(value)


def _told(entry: Entry) -> dict[str, str]:
    config, card, results = entry.card.get("config", {}), entry.card, entry.results
    told = {
        "method": plain(config.get("method")),
        "seed": plain(results.get("seeds") or config.get("seed")),
        "status": "" if card.get("status") == FINISHED else plain(card.get("status")),
        **_of_data(config, card),
        **_of_model(config),
        **_of_sizes(results),
        **_of_training(card),
        **_of_test(results),
    }
    return {name: value for name, value in told.items() if value and value != ABSENT}


def _of_data(config: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, str]:
    data = config.get("data", {})
    unseen = data.get("unseen")
    return {
        "data": plain(data.get("path")),
        "data digest": str(card.get("data_digest", ""))[:8],
        "split": plain(data.get("split")) + (f", {plain(unseen)} unseen" if unseen else ""),
    }


def _of_model(config: Mapping[str, Any]) -> dict[str, str]:
    decoder, encoder = config.get("decoder", {}), config.get("encoder", {})
    named = config.get("prompt", {}).get("name_querier")
    model = plain(decoder.get("path") or decoder.get("kind"))
    return {
        "decoder": f"{model}, {plain(decoder.get('train'))}" if decoder else "",
        "encoder": plain(encoder.get("name")),
        "conditioning": plain(config.get("conditioning", {}).get("kind")),
        "querier named": "" if named is None else plain(named),
    }


def _of_sizes(results: Mapping[str, Any]) -> dict[str, str]:
    if "n" not in results:
        return {}
    queriers = f"{results.get('queriers', ABSENT)}, of these {results.get('queriers_unseen', ABSENT)} unseen"
    return {
        "dialogues": f"{results['n']}, failed {results.get('n_failed', ABSENT)}",
        "generated replies": plain(results.get("n_generated")),
        "queriers": queriers,
    }


def _of_training(card: Mapping[str, Any]) -> dict[str, str]:
    seconds = card.get("seconds", {})
    versions = {"querier": card.get("querier"), "git": card.get("git"), "python": card.get("python")}
    versions |= card.get("versions", {})
    forgotten = card.get("forgotten_after_training")
    return {
        "begun": plain(card.get("begun")),
        "steps": plain(card.get("steps")),
        "reply tokens": plain(card.get("tokens")),
        "seconds": ", ".join(f"{name} {value}" for name, value in seconds.items()),
        "best on validation": ", ".join(f"{name[4:]} {value:.4f}" for name, value in card.get("best", {}).items()),
        "forgotten after training": f"{forgotten} queriers" if forgotten else "",
        "trained with": ", ".join(f"{name} {plain(value)}" for name, value in versions.items() if value),
    }


def _of_test(results: Mapping[str, Any]) -> dict[str, str]:
    found = results.get("settings") or {}
    origin = results.get("origin") or {}
    names = {name.replace("_", " "): plain(found[name]) for name in TESTED if found.get(name) is not None}
    return {
        "tested split": plain(found.get("split")),
        "test settings": ", ".join(f"{name} {value}" for name, value in names.items()),
        "interval": plain(found.get("interval")),
        "bootstrap draws": plain(found.get("bootstrap")),
        "model digest": plain(results.get("model")),
        "tested with": f"querier {plain(origin['querier'])}, git {plain(origin.get('git'))}" if origin else "",
    }


def _flat(found: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in found.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", plain(value)))
    return lines
