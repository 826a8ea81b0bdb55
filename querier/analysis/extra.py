"""Imports of libraries that come with the extra `analysis`."""

from __future__ import annotations

from typing import Any

from querier import extra


def need(name: str) -> Any:
    """A library of the extra `analysis`.

    Raises:
        InputError: Where it is not installed.
    """
    return extra.need(name, "analysis")
