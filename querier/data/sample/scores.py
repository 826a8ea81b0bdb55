"""What the exact rules of the bundled corpus say of a generated reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from querier.data.sample.traits import TRAITS, Traits, fact_right, read_traits, traits_of
from querier.types import Dialogue

Rule = Callable[[Dialogue, str], float]
"""Scores a reply to a dialogue."""


def rules_of(corpus: Path, folder: Path) -> dict[str, Rule]:
    """The rules for replies to the bundled corpus; none for any other one.

    Args:
        corpus: The file of dialogues that a run was made with.
        folder: Of the bundled corpus.

    Returns:
        `trait_accuracy` (share of the four traits), `fact_accuracy` (the fact in the right words), `trait_<name>`.
    """
    if corpus.resolve().parent != folder.resolve():
        return {}
    traits = read_traits(folder / "traits.jsonl")

    def all_traits(dialogue: Dialogue, reply: str) -> float:
        return sum(_right(name, traits, dialogue, reply) for name in TRAITS) / len(TRAITS)

    def fact(dialogue: Dialogue, reply: str) -> float:
        return float(fact_right(dialogue.query, reply, traits[dialogue.querier]))

    each = {f"trait_{name}": partial(_right, name, traits) for name in TRAITS}
    return {"trait_accuracy": all_traits, "fact_accuracy": fact, **each}


def _right(name: str, traits: dict[str, Traits], dialogue: Dialogue, reply: str) -> float:
    return float(traits_of(reply)[name] == asdict(traits[dialogue.querier])[name])
