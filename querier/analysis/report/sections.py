"""The sections of a report: each is a function of what was gathered that returns its title and its HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from querier.analysis.report import facts
from querier.analysis.report.figures import Dots, Lines, Style, cold_lines, dots, step_lines, style
from querier.analysis.report.metrics import (
    GROUPS,
    LIKELIHOODS,
    MAIN,
    MORE_DEPENDENCE,
    PERSONAL,
    bases,
    is_help,
    metric,
)
from querier.analysis.report.numbers import NOTHING, Number
from querier.analysis.report.sources import Comparison, Entry, Report
from querier.analysis.report.templates import draw

COLD = {"nll_per_token": None, "gain": 0.0, "swap_accuracy_cluster": 0.5}
Section = tuple[str, Markup]


def runs(report: Report) -> Section:
    """Who was tested on what, under which settings, with which versions."""
    first, more = facts.split(facts.facts(report.entries))
    differing = facts.settings(report.entries)
    told = facts.warnings(report.entries)
    return "Runs", draw("runs", entries=report.entries, facts=first, more=more, settings=differing, warnings=told)


def main_table(report: Report) -> Section:
    """The main metrics, one row per run."""
    names = [name for name in MAIN if any(_measured(entry, name) for entry in report.entries)]
    return "Main numbers", draw("main_table", entries=report.entries, names=names)


def comparison(report: Report) -> Section | None:
    """Differences to the baseline; None where nothing was compared."""
    if not report.comparisons:
        return None
    looks = {entry.name: style(place) for place, entry in enumerate(report.entries)}
    return "Differences to the baseline", Markup().join(_compared(one, looks) for one in report.comparisons)


def against(report: Report) -> Section | None:
    """Runs against each other, dialogue by dialogue, and what a judge said; None where nothing of it was left."""
    if not report.against:
        return None
    parts = []
    for one in report.against:
        known = list(one.differences)
        names = [name for name in known if name in MAIN] + [name for name in known if name not in MAIN]
        parts.append(draw("against", "against.html.j2", one=one, names=names))
    return "One run against another", Markup().join(parts)


def helpfulness(report: Report) -> Section:
    """How good the replies are."""
    names = [name for name in _names(report.entries) if is_help(name)]
    order = {name: place for place, name in enumerate(MAIN)}
    names.sort(key=lambda name: order.get(name, len(order)))  # the others stay as they were found
    first = _plots(report.entries, [name for name in names if name in order])
    more = _plots(report.entries, [name for name in names if name not in order])
    return "Help: how good the replies are", draw("plots", figures=first, more=more)


def dependence(report: Report) -> Section:
    """How far they depend on who asks."""
    known = _names(report.entries)
    names = [name for name in (*PERSONAL, *MORE_DEPENDENCE) if name in known]
    figures = _plots(report.entries, names)
    parts = [name for name in LIKELIHOODS if name in known]
    if parts:
        numbers = [entry.number(name + end) for entry in report.entries for name in parts for end in GROUPS.values()]
        drawn = {group: _likelihoods(report.entries, parts, end, numbers) for group, end in GROUPS.items()}
        figures.append(("likelihoods", drawn))
    legend = [(LIKELIHOODS[name], style(place)) for place, name in enumerate(parts)]
    html = draw("dependence", figures=figures, legend=legend)
    return "Dependence: how far they are meant for who asks", html


def cold_start(report: Report) -> Section:
    """The curves over the number of history items."""
    places = [(place, entry) for place, entry in enumerate(report.entries) if entry.cold_start]
    figures: list[tuple[str, str, Lines]] = []
    for group in ("seen", "unseen"):
        for name, line in COLD.items():
            curves = {
                entry.name: (style(place), {items: point[name] for items, point in curve.items() if name in point})
                for place, entry in places
                if (curve := entry.cold_start.get(group))
            }
            if any(number.value is not None for _, found in curves.values() for number in found.values()):
                figures.append((name, group, _cold(report.entries, name, curves, line)))
    without = [entry.name for entry in report.entries if not entry.cold_start]
    return "Cold start: with how little history it works", draw(
        "cold_start", entries=report.entries, figures=figures, without=without
    )


def space(report: Report) -> Section | None:
    """Maps of the queriers; None where none was drawn."""
    return ("The space of queriers", draw("space", maps=report.maps)) if report.maps else None


def training(report: Report) -> Section:
    """What was logged while the runs were trained."""
    names = list(dict.fromkeys(name for entry in report.entries for name in entry.curves))
    names.sort(key=lambda name: (not name.startswith("val/"), name != "train/loss"))  # else as they were logged
    figures = []
    for name in names:
        curves = {
            entry.name: (style(place), entry.curves[name])
            for place, entry in enumerate(report.entries)
            if name in entry.curves
        }
        unit = "nats per byte" if name.endswith("byte") else "nats per token" if name.endswith("token") else "loss"
        figures.append((name, step_lines(curves, unit)))
    without = [entry.name for entry in report.entries if not entry.curves]
    return "Training", draw("training", entries=report.entries, figures=figures, without=without)


def excluded(report: Report) -> Section:
    """Dialogues left out, by what they were left out of and why."""
    counts: dict[tuple[str, str], list[int]] = {}
    for place, entry in enumerate(report.entries):
        for part, reasons in (entry.results.get("excluded") or {}).items():
            for reason, count in reasons.items():
                counts.setdefault((part, reason), [0] * len(report.entries))[place] = int(count)
    return "Excluded dialogues", draw(
        "excluded",
        entries=report.entries,
        counts=counts,
        without=[entry.name for entry in report.entries if "excluded" not in entry.results],
    )


def all_numbers(report: Report) -> Section:
    """Everything that was measured."""
    return "All numbers", draw("all_numbers", entries=report.entries, names=_names(report.entries))


def _cold(
    entries: Sequence[Entry], name: str, curves: Mapping[str, tuple[Style, dict[str, Number]]], line: float | None
) -> Lines:
    """A metric's curves for one kind of querier, on the axis that both kinds share."""
    points = [point for entry in entries for curve in entry.cold_start.values() for point in curve.values()]
    items = sorted({item for _, found in curves.values() for item in found}, key=_items)
    known = metric(name)
    return cold_lines(
        curves, items, _ends([point[name] for point in points if name in point]), known.unit, known.digits, line
    )


def _compared(one: Comparison, looks: Mapping[str, Style]) -> Markup:
    others = [entry for entry in one.entries if entry.name in one.differences]
    names = [name for name in MAIN if any(name in one.differences[entry.name] for entry in others)]
    figures = []
    for name in names:
        found = {
            end: [(entry, one.differences[entry.name].get(name + end)) for entry in others] for end in GROUPS.values()
        }
        span = _ends([number for pairs in found.values() for _, number in pairs if number is not None])
        known = metric(name)
        drawn = {
            group: dots(
                [(entry.name, [(entry.name, number or NOTHING, looks[entry.name])]) for entry, number in found[end]],
                span,
                f"difference, {known.unit}",
                known.digits,
                0.0,
            )
            for group, end in GROUPS.items()
        }
        figures.append((name, drawn))
    return draw("comparison", one=one, names=names, figures=figures, looks=looks)


def _plots(entries: Sequence[Entry], names: Sequence[str]) -> list[tuple[str, dict[str, Dots]]]:
    """For each metric a dot plot of all, of seen and of unseen queriers and of their averages, on one axis."""
    figures = []
    for name in names:
        numbers = [entry.number(name + end) for entry in entries for end in GROUPS.values()]
        known = metric(name)
        drawn = {}
        for group, end in GROUPS.items():
            rows = [
                (entry.name, [(entry.name, entry.number(name + end), style(place))])
                for place, entry in enumerate(entries)
            ]
            drawn[group] = dots(rows, _ends(numbers), known.unit, known.digits, known.chance)
        figures.append((name, drawn))
    return figures


def _likelihoods(entries: Sequence[Entry], parts: Sequence[str], end: str, numbers: Sequence[Number]) -> Dots:
    """The gold reply's likelihood for the true querier, another one and nobody, of each entry."""
    rows = [
        (entry.name, [(LIKELIHOODS[name], entry.number(name + end), style(place)) for place, name in enumerate(parts)])
        for entry in entries
    ]
    return dots(rows, _ends(numbers), "nats per token", 3)


def _names(entries: Sequence[Entry]) -> list[str]:
    """The metrics that any entry has, in their order."""
    return bases(list(dict.fromkeys(name for entry in entries for name in entry.metrics)))


def _measured(entry: Entry, name: str) -> bool:
    return entry.number(name).value is not None


def _ends(numbers: Sequence[Number]) -> list[float]:
    """All values and ends of intervals."""
    return [end for one in numbers for end in (one.value, one.low, one.high) if end is not None]


def _items(item: str) -> float:
    return float(item) if item.isdigit() else float("inf")
