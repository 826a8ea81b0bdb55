"""`python -m querier.commands.tables`: what `results/` keeps, and the tables of README.md and EXPERIMENTS.md.

... tables README.md EXPERIMENTS.md                    write the tables of these files from results/
... tables keep <results.json> <into> <metric> ...     keep some metrics of a comparison, or of a run's cold start
... tables signal <into> <corpus>=<signal.json> ...    keep what `querier prepare signal=true` found in some corpora
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from querier.analysis.markdown import fill
from querier.files import write_atomic
from querier.run import write_json


def main(words: Sequence[str]) -> None:
    """Write each file's tables anew; the results are looked for beside the file."""
    if words and words[0] == "keep":
        keep(Path(words[1]), Path(words[2]), words[3:])
        return
    if words and words[0] == "signal":
        named = dict(word.split("=", 1) for word in words[2:])
        write_json(Path(words[1]), {corpus: json.loads(Path(path).read_text()) for corpus, path in named.items()})
        return
    for path in map(Path, words):
        write_atomic(path, fill(path.read_text(encoding="utf-8"), path.parent))


def keep(source: Path, into: Path, metrics: Sequence[str]) -> None:
    """Keep these metrics of what `compare`, or `test cold_start=true`, left, and all that says how they were taken."""
    found = json.loads(source.read_text(encoding="utf-8"))
    if "methods" in found:
        kept = {part: chosen(found[part], metrics) for part in ("methods", "differences")}
        kept["controls"] = chosen(found.get("controls", {}), ["of", *metrics, "gain"])
    else:
        kept = {"cold_start": {group: chosen(curve, metrics) for group, curve in found["cold_start"].items()}}
        del found["metrics"]  # of the whole history: other files have them
    write_json(into, {**found, **kept})


def chosen(table: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """These metrics of each row."""
    return {row: {name: values[name] for name in metrics if name in values} for row, values in table.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
