"""`python -m querier.commands.tables`: what `results/` keeps, and the tables of README.md and EXPERIMENTS.md.

... tables README.md EXPERIMENTS.md                    write the tables of these files from results/
... tables keep <results.json> <into> <metric> ...     keep some metrics of a comparison
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from querier.analysis.markdown import fill
from querier.files import write_atomic
from querier.run import write_json


def main(words: Sequence[str]) -> None:
    """Write each file's tables anew; the results are looked for beside the file."""
    if words and words[0] == "keep":
        keep(Path(words[1]), Path(words[2]), words[3:])
        return
    for path in map(Path, words):
        write_atomic(path, fill(path.read_text(encoding="utf-8"), path.parent))


def keep(source: Path, into: Path, metrics: Sequence[str]) -> None:
    """Keep these metrics of what `querier compare` left, with everything that says how they were taken."""
    found = json.loads(source.read_text(encoding="utf-8"))
    for part in ("methods", "differences"):
        found[part] = {
            method: {name: values[name] for name in metrics if name in values} for method, values in found[part].items()
        }
    write_json(into, found)


if __name__ == "__main__":
    main(sys.argv[1:])
