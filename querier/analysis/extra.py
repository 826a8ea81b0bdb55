"""Imports of libraries that come with the extra `analysis`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from querier.errors import InputError


def need(name: str) -> Any:
    """A library of the extra `analysis`.

    Raises:
        InputError: Where it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"{name.split('.')[0]} is not installed ({error}); pip install 'querier[analysis]'") from error
