"""Tables of README.md and EXPERIMENTS.md, written from the files of `results/`, so that no number is typed.

A table stands between two comments, of which the first says where its numbers come from:

    <!-- comparison results/scotus.json nll_per_byte rouge_l swap_accuracy_cluster -->
    <!-- end -->

`comparison` takes what `querier compare` left (metrics named after the file), `demo` what `querier demo` left,
`cold_start` what `querier test cold_start=true` left, and `signal` what `querier prepare signal=true` left of corpora.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from querier.errors import InputError

BLOCK = re.compile(r"(<!-- (comparison|demo|cold_start|signal) (\S+)((?: \S+)*) -->\n).*?(<!-- end -->)", re.DOTALL)
FINE = ("nll_per_byte", "gain")  # four decimals
DEMO = {
    "trait_accuracy_seen": "traits right, seen queriers",
    "trait_accuracy_unseen": "traits right, unseen queriers",
    "trait_accuracy_empty_history": "traits right without history",
    "fact_accuracy_seen": "fact in the right words, seen",
    "fact_accuracy_unseen": "fact in the right words, unseen",
    "rouge_l": "ROUGE-L",
    "nll_per_token": "NLL per token, true querier",
    "nll_swapped_own": "NLL per token, true querier, histories cut as in the next row",
    "nll_swapped": "NLL per token, another of the cluster, histories cut to one length",
    "nll_empty": "NLL per token, no history",
    "swap_accuracy_random": "swap accuracy, random",
    "swap_accuracy_cluster": "swap accuracy, same cluster",
    "swap_accuracy_contrast": "swap accuracy, contrast users (seen queriers alone)",
}

SIGNALS = {"cluster": "as they are read", "matched": "of one responder and age"}
QUERY = "query"
READERS = {QUERY: "query alone", "vectors": "and vectors", "stylometry": "and stylometry", "both": "and both"}


def fill(text: str, folder: Path) -> str:
    """The text with every table written anew.

    Args:
        text: Markdown.
        folder: Where the files that it names lie.

    Raises:
        InputError: A file is not there, or holds no such metric.
    """

    def written(block: re.Match[str]) -> str:
        kind, name, words = block[2], block[3], block[4].split()
        path = folder / name
        if not path.is_file():
            raise InputError(f"a table names {name}, which is not under {folder}")
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"{block[1]}{chr(10).join(TABLES[kind](found, words))}\n{block[5]}"

    return BLOCK.sub(written, text)


def comparison(found: dict[str, Any], metrics: Sequence[str]) -> list[str]:
    """Value with its 95 % interval for each method and, after Δ, the paired difference to the baseline.

    A star marks a difference whose interval excludes 0, whose p is below .05 by Holm, and whose sign all seeds share,
    three at least. Below the table stands what is left of a method when its permuted control is subtracted.
    """
    absent = [name for name in metrics if name not in found["methods"][found["baseline"]]]
    if absent:
        raise InputError(f"no metric {', '.join(absent)} in these results; there are {', '.join(_names(found))}")
    lines = _head(["method", *(name.replace("_", " ") for name in metrics)])
    for method, values in found["methods"].items():
        against = found["differences"].get(method, {})
        lines.append(_row([f"`{method}`", *(_cell(name, values.get(name), against.get(name)) for name in metrics)]))
    n = {metric: found["methods"][found["baseline"]][metric] for metric in metrics}
    counts = ", ".join(f"{name.replace('_', ' ')} {value['n']}" for name, value in n.items())
    failed = sum(value["n_failed"] for values in found["methods"].values() for value in values.values())
    queriers = max(value["queriers"] for value in n.values())
    shown = f"{found['decoder']} decoder" if found["decoder"] == "small" else found["decoder"]
    runs = [len(one) for one in found.get("runs", {}).values()] or [len(found["seeds"])]
    seeds, once = max(runs), ", one run of what trains nothing" if min(runs) < max(runs) else ""
    note = f"{shown}, {_seeds(seeds)}{once}, Δ to `{found['baseline']}`; dialogues: {counts}; {queriers} queriers"
    left = [
        f"`{values['of']}` less `{name}`, which is what is personal: "
        + ", ".join(_left(metric, values[metric]) for metric in dict.fromkeys(("gain", *metrics)) if metric in values)
        for name, values in found.get("controls", {}).items()
    ]
    return [*lines, "", " ".join(f"{said}." for said in (f"{note}; n_failed {failed}", *left))]


def _left(metric: str, difference: dict[str, Any]) -> str:
    return f"{metric.replace('_', ' ')} {_cell(metric, difference, None)}"


def demo(found: dict[str, Any], _: Sequence[str]) -> list[str]:
    """The methods of the demo side by side, chance beside them."""
    methods = found["methods"]
    lines = _head(["held-out dialogues", *(f"`{name}`" for name in methods), "chance"])
    for metric, said in DEMO.items():
        bare = re.sub(r"_(seen|unseen|empty_history)$", "", metric)
        chance = found["chance"].get(bare, 0.5 if metric.startswith("swap") else None)
        values = (_number(metric, one[metric]) for one in methods.values())
        lines.append(_row([said, *values, "" if chance is None else _number(metric, chance)]))
    return lines


def cold_start(found: dict[str, Any], metrics: Sequence[str]) -> list[str]:
    """Each metric at each number of history items, for seen and for unseen queriers, with its 95 % interval."""
    curves = found["cold_start"]
    items = list(dict.fromkeys(item for curve in curves.values() for item in curve))
    lines = _head(["items read", *items])
    for metric in metrics:
        for group, curve in curves.items():
            cells = [_cell(metric, curve.get(item, {}).get(metric), None) for item in items]
            lines.append(_row([f"{metric.replace('_', ' ')}, {group}", *cells]))
    for group, curve in curves.items():
        counts = [str(curve[item][metrics[0]]["n"]) if item in curve else "–" for item in items]
        lines.append(_row([f"dialogues, {group}", *counts]))
    for group, curve in curves.items():
        counts = [str(curve[item][metrics[0]]["queriers"]) if item in curve else "–" for item in items]
        lines.append(_row([f"queriers, {group}", *counts]))
    failed = sum(value["n_failed"] for curve in curves.values() for point in curve.values() for value in point.values())
    return [*lines, "", f"n_failed {failed}."]


def signal(found: dict[str, Any], _: Sequence[str]) -> list[str]:
    """For each corpus how often linear readers of histories find who asked, with 95 % intervals.

    After Δ what reading the reply adds to reading the query alone, on the same dialogues; a star where its interval
    excludes 0.
    """
    lines = _head(["corpus", "histories", *READERS.values(), "dialogues"])
    for corpus, kept in found.items():
        for kind, signal in kept["histories"].items():
            accuracy, gain = signal["accuracy"], signal["gain"]
            cells = [_cell(name, accuracy.get(name), _starred(gain.get(name))) for name in READERS]
            lines.append(_row([corpus, SIGNALS[kind], *cells, str(accuracy[QUERY]["n"]) if accuracy else "0"]))
    return lines


def _starred(gain: dict[str, Any] | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    return {**gain, "sure": gain["low"] is not None and (gain["low"] > 0 or gain["high"] < 0)}


TABLES: dict[str, Callable[[dict[str, Any], Sequence[str]], list[str]]] = {
    "comparison": comparison,
    "demo": demo,
    "cold_start": cold_start,
    "signal": signal,
}


def _cell(name: str, value: dict[str, Any] | None, difference: dict[str, Any] | None) -> str:
    if value is None or value["value"] is None:
        return "–"
    text = f"{_number(name, value['value'])} [{_number(name, value['low'])}, {_number(name, value['high'])}]"
    if difference is None or difference["value"] is None:
        return text
    sign = "+" if difference["value"] >= 0 else "−"
    return f"{text} Δ {sign}{_number(name, abs(difference['value']))}{'*' if difference['sure'] else ''}"


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    text = f"{abs(value):.{4 if name in FINE else 3}f}"
    sign = "−" if value < 0 and float(text) else ""
    return sign + text.removeprefix("0" if text.startswith("0.") else "")


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _names(found: dict[str, Any]) -> list[str]:
    return sorted(found["methods"][found["baseline"]])


def _head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), "|" + "---|" * len(cells)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
