"""Makes a corpus from the command line: ``python -m querier.data.sample --out DIR --dialogues N --seed S``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from querier.data.sample.generate import DIALOGUES, FEWEST, generate
from querier.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    """Write a corpus and tell its statistics.

    Args:
        arguments: The command line after the name of the program; that of the process where None.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m querier.data.sample", description="Make a sample corpus.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write dialogues.jsonl and traits.jsonl to")
    parser.add_argument("--dialogues", type=int, default=DIALOGUES, help=f"how many, at least {FEWEST}")
    parser.add_argument("--seed", type=int, default=0, help="the same seed and size give the same bytes")
    options = parser.parse_args(arguments)
    try:
        statistics = generate(options.out, options.dialogues, options.seed)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    told = {**asdict(statistics), "mean_reply_words": round(statistics.mean_reply_words, 2)}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
