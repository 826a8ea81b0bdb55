"""The blocks of README.md do what they say: run one after another, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS = 900


def blocks() -> list[tuple[str, str]]:
    """The blocks that can be run here: those that call make are run on their own, as whole commands."""
    found = [(language, text) for language, text in BLOCK.findall(README) if not text.startswith("make ")]
    return [(language, text) for language, text in found if "$QUERIER_DATA" not in text or "QUERIER_DATA" in os.environ]


@pytest.mark.slow
def test_the_blocks_run(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, text in blocks():
        command = ["bash", "-euo", "pipefail", "-c", text] if language == "bash" else [sys.executable, "-c", text]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_the_first_screen_has_what_a_newcomer_needs() -> None:
    screen = "\n".join(README.splitlines()[:40])
    for needed in ("make demo", "make test", "pip install", "querier fit data=sample", "Responder.load"):
        assert needed in screen, needed


def test_every_file_that_the_readme_links_is_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_command_is_in_the_readme() -> None:
    from querier.cli import COMMANDS

    for command in COMMANDS:
        assert f"`querier {command}" in README, command
