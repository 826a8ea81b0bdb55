"""A bundled corpus in which one tutor answers the same question differently for different queriers, and its maker."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from querier.data.sample.facet import Facet
from querier.data.sample.generate import CohortStatistics, generate
from querier.data.sample.traits import (
    CHANCE,
    TRAITS,
    Traits,
    admits,
    facet_of,
    fact_right,
    query_only,
    read_traits,
    trait_accuracy,
    traits_of,
)
from querier.errors import InputError

__all__ = [
    "CHANCE",
    "TRAITS",
    "CohortStatistics",
    "Facet",
    "Traits",
    "admits",
    "fact_right",
    "facet_of",
    "generate",
    "query_only",
    "read_traits",
    "sample_folder",
    "trait_accuracy",
    "traits_of",
]

_PACKAGE = "querier.sample_data"  # data/sample in an installed wheel


def sample_folder() -> Path:
    """Where the bundled corpus is.

    Returns:
        The folder with ``dialogues.jsonl`` and ``traits.jsonl``, of the checkout or of the installed package.

    Raises:
        InputError: Neither has it.
    """
    checkout = Path(__file__).resolve().parents[3] / "data" / "sample"
    folders = [checkout]
    try:
        folders.append(Path(str(resources.files(_PACKAGE))))
    except ModuleNotFoundError:
        pass
    for folder in folders:
        if (folder / "dialogues.jsonl").is_file():
            return folder
    raise InputError(
        f"the bundled sample is neither in {checkout} nor in the package {_PACKAGE}; "
        "make it with python -m querier.data.sample --out DIR"
    )
