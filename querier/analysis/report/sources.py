"""What a report is made of: tested runs and comparisons, read from their folders."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from querier.analysis.report.numbers import NOTHING, Number, damaged, numbers, read_json
from querier.analysis.report.pairs import Against, read_against
from querier.errors import InputError
from querier.run import CARD, Run, find_run

if TYPE_CHECKING:  # it brings the model along
    from querier.analysis.report.space import Map

RESULTS, EXAMPLES = "results.json", "examples.jsonl"
KEYS = ("step", "epoch")  # of metrics.csv; the other columns are curves

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Entry:
    """One row: a tested run, or a method of a comparison.

    Attributes:
        name: Of the run's folder, or of the method.
        apart: What tells it from another entry of the same name.
        metrics: By name, suffixes for seen and unseen included.
        results: The rest of `results.json`: counts, settings, what was excluded.
        cold_start: By kind of querier, number of history items and metric.
        card: The run's card; that of the first seed for a method.
        curves: (step, value) of each column of `metrics.csv`.
        examples: Lines of `examples.jsonl`; those of the first seed for a method.
    """

    name: str
    apart: str
    metrics: dict[str, Number]
    results: dict[str, Any]
    cold_start: dict[str, dict[str, dict[str, Number]]] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def number(self, name: str) -> Number:
        """A metric; a number without value where it was not measured."""
        return self.metrics.get(name, NOTHING)


@dataclass(frozen=True)
class Comparison:
    """What `querier compare` left.

    Attributes:
        name: Of its folder.
        baseline: The method that the others are compared with.
        seeds: Of the runs behind each method.
        entries: The methods.
        differences: Of each method but the baseline, by metric.
        controls: Of each permuted control what it controls, and that method's differences to it: what is personal.
    """

    name: str
    baseline: str
    seeds: list[int]
    entries: list[Entry]
    differences: dict[str, dict[str, Number]]
    controls: dict[str, tuple[str, dict[str, Number]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All that a page shows.

    Attributes:
        title: Of the page.
        entries: Runs and methods in the order in which they were named.
        comparisons: Comparisons among what was named.
        against: What was left of the runs about each other.
        examples: Dialogues shown at most.
        maps: Of the space of queriers.
    """

    title: str
    entries: list[Entry]
    comparisons: list[Comparison] = field(default_factory=list)
    against: list[Against] = field(default_factory=list)
    examples: int = 2000
    maps: list[Map] = field(default_factory=list)

    @property
    def has_texts(self) -> bool:
        """Whether texts of queriers are on the page."""
        return self.examples > 0 and any(entry.examples for entry in self.entries)


def gather(names: Sequence[str], output: str, title: str = "", examples: int = 2000) -> Report:
    """Read runs and comparisons.

    Args:
        names: Folders, or names under `output`; `compare/<name>` for what `querier compare` left. Empty for the newest
            finished run.
        output: Where runs lie.
        title: Of the page; made of the names where it is empty.
        examples: Dialogues shown at most.

    Raises:
        InputError: No such run, one that was not tested, one that is named twice, or a file that cannot be read.
    """
    entries: list[Entry] = []
    comparisons: list[Comparison] = []
    folders: list[Path] = []
    tested: list[tuple[Path, Entry]] = []
    for name in names or [""]:
        folder = comparison_folder(name, output)
        if folder is not None:
            comparisons.append(read_comparison(folder))
            entries += comparisons[-1].entries
        else:
            folder = find_run(name, output).folder
            entries.append(read_run(Run(folder)))
            tested.append((folder, entries[-1]))
        folders.append(folder.resolve())
    if len(set(folders)) < len(folders):
        raise InputError(f"a run is named twice in {', '.join(names)}; name each once")
    shown = title or f"Report: {', '.join(folder.name for folder in folders)}"
    told = _told_apart(entries)
    renamed = {id(old): new for old, new in zip(entries, told, strict=True)}
    runs = [(folder, renamed[id(entry)]) for folder, entry in tested]
    against = read_against(
        [folder for folder, _ in runs], [one.name for _, one in runs], [one.results.get("model") for _, one in runs]
    )
    return Report(shown, told, [_renamed(one, renamed) for one in comparisons], against, examples)


def comparison_folder(name: str, output: str) -> Path | None:
    """The folder of a comparison, by itself or by its name under `output`; None where the name is that of no one."""
    if not name:
        return None
    for folder in (Path(name), Path(output) / name, Path(output) / "compare" / name):
        if (folder / CARD).is_file():
            return None
        if (folder / RESULTS).is_file() and "methods" in read_json(folder / RESULTS):
            return folder
    return None


def read_run(run: Run) -> Entry:
    """A tested run.

    Raises:
        InputError: It was not tested, or a file of it cannot be read.
    """
    name = run.folder.resolve().name
    if not run.results.is_file():
        raise InputError(
            f"{run.folder} has no {RESULTS}: it was not tested yet on the test split; "
            f"`querier test run={run.folder}` first"
        )
    found = read_json(run.results)
    try:
        metrics = numbers(found["metrics"])
        cold_start = {
            group: {items: numbers(point) for items, point in curve.items()}
            for group, curve in (found.get("cold_start") or {}).items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(run.results, error) from error
    rest = {key: value for key, value in found.items() if key not in ("metrics", "cold_start")}
    examples = list(_lines(run.examples)) if run.examples.is_file() else []
    return Entry(
        name, run.folder.resolve().parent.name, metrics, rest, cold_start, run.card(), read_curves(run), examples
    )


def read_comparison(folder: Path) -> Comparison:
    """What `querier compare` left: an entry for each method, with card, curves and examples of its first seed.

    Raises:
        InputError: A file cannot be read.
    """
    found = read_json(folder / RESULTS)
    # A comparison of the name `monday/first` lies as deep as that; its runs lie beside the folder `compare`.
    names = [name for each in found.get("runs", {}).values() for name in each]
    above = [one.parent for one in folder.absolute().parents if one.name == "compare"]
    output = next((one for one in above if any((one / name).is_dir() for name in names)), folder.parent.parent)
    examples: dict[str, dict[int, list[dict[str, Any]]]] = {}
    if (folder / EXAMPLES).is_file():
        for row in _lines(folder / EXAMPLES):
            examples.setdefault(str(row.get("method")), {}).setdefault(int(row.get("seed") or 0), []).append(row)
    try:
        entries = []
        for method, values in found["methods"].items():
            first = Run(output / (found.get("runs", {}).get(method) or [method])[0])
            rows = next(iter(examples.get(method, {}).values()), [])
            results = {"settings": found.get("settings") or {}, "seeds": found.get("seeds") or []}
            first_excluded = ((found.get("excluded") or {}).get(method) or [None])[0]  # in each seed the same dialogues
            if first_excluded is not None:
                results["excluded"] = first_excluded
            entries.append(
                Entry(method, folder.name, numbers(values), results, {}, first.card(), read_curves(first), rows)
            )
        differences = {method: numbers(values) for method, values in found["differences"].items()}
        controls = {
            method: (str(values["of"]), numbers({name: value for name, value in values.items() if name != "of"}))
            for method, values in (found.get("controls") or {}).items()
        }
        seeds = list(found.get("seeds") or [])
        return Comparison(folder.name, str(found["baseline"]), seeds, entries, differences, controls)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder / RESULTS, error) from error


def read_curves(run: Run) -> dict[str, Curve]:
    """The columns of `metrics.csv` as (step, value); a value that is no finite number leaves a hole in its line."""
    if not run.metrics.is_file():
        return {}
    curves: dict[str, Curve] = {}
    try:
        with run.metrics.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                step = float(row["step"])
                for name, text in row.items():
                    if name not in KEYS and text:
                        curves.setdefault(name, []).append((step, float(text)))
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise damaged(run.metrics, error) from error
    return curves


def _told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """The entries under names that differ."""
    often = Counter(entry.name for entry in entries)
    told = [replace(one, name=f"{one.apart}/{one.name}") if often[one.name] > 1 else one for one in entries]
    often = Counter(entry.name for entry in told)
    seen: Counter[str] = Counter()
    for place, one in enumerate(told):
        if often[one.name] > 1:
            seen[one.name] += 1
            told[place] = replace(one, name=f"{one.name} ({seen[one.name]})")
    return told


def _renamed(one: Comparison, renamed: Mapping[int, Entry]) -> Comparison:
    entries = [renamed[id(entry)] for entry in one.entries]
    names = {old.name: new.name for old, new in zip(one.entries, entries, strict=True)}
    differences = {names.get(method, method): values for method, values in one.differences.items()}
    controls = {names.get(method, method): (names.get(of, of), values) for method, (of, values) in one.controls.items()}
    baseline = names.get(one.baseline, one.baseline)
    return replace(one, entries=entries, baseline=baseline, differences=differences, controls=controls)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                row["id"], row["query"], row["querier"], row["gold"], row["scores"].items()
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise damaged(path, error, f", line {number}") from error
            yield row
