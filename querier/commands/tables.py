"""`python -m querier.commands.tables README.md EXPERIMENTS.md`: write the tables of these files from `results/`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from querier.analysis.markdown import fill
from querier.files import write_atomic


def main(names: Sequence[str]) -> None:
    """Write each file's tables anew; the results are looked for beside the file."""
    for path in map(Path, names):
        write_atomic(path, fill(path.read_text(encoding="utf-8"), path.parent))


if __name__ == "__main__":
    main(sys.argv[1:])
