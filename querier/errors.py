"""The one exception that means: what the user gave cannot be used."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input or configuration; the text names the thing, what was got, what is allowed and what to do.

    The command line prints the text alone, without a traceback, and exits with code 2.
    """
