"""Measured numbers as they stand in the JSON files of runs, and how such files are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from querier.errors import InputError


@dataclass(frozen=True)
class Number:
    """A measured number; None where nothing was measured.

    Attributes:
        value: The number.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n: Dialogues measured.
        n_failed: Dialogues that could not be.
        queriers: Queriers measured.
        mde: Minimum detectable effect.
        p: Of a difference.
        sure: Of a difference: its interval excludes 0, p is below .05 and the seeds share its sign.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    n_failed: int = 0
    queriers: int = 0
    mde: float | None = None
    p: float | None = None
    sure: bool = False

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Number:
        """From `results.json`."""
        numbers = {name: _finite(found.get(name)) for name in ("value", "low", "high", "mde", "p")}
        counts = {name: int(found.get(name) or 0) for name in ("n", "n_failed", "queriers")}
        return cls(**numbers, **counts, sure=bool(found.get("sure")))  # type: ignore[arg-type]


NOTHING = Number(None)


def numbers(found: Mapping[str, Any]) -> dict[str, Number]:
    """Each entry as a number."""
    return {name: Number.read(value) for name, value in found.items()}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: The file cannot be read or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise damaged(path, error) from error
    if not isinstance(found, dict):
        raise InputError(f"{path} must hold a JSON object, got a {type(found).__name__}; write it anew")
    return found


def damaged(path: Path, error: Exception, where: str = "") -> InputError:
    """What to say of a file that is not as it was written."""
    reason = f"no {error}" if isinstance(error, KeyError) else str(error)
    return InputError(f"{path}{where}: not as `querier test` writes it ({reason}); test again to write it anew")


def _finite(value: Any) -> float | None:
    return None if value is None or not math.isfinite(float(value)) else float(value)
