"""Imports of libraries that come with an extra: `pip install 'querier[name of the extra]'`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from querier.errors import InputError


def need(name: str, extra: str) -> Any:
    """A library of an extra.

    Args:
        name: Of the module.
        extra: What brings it.

    Raises:
        InputError: Where it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"{name.split('.')[0]} is not installed ({error}); pip install 'querier[{extra}]'") from error
