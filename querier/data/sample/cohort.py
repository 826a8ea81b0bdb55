"""Who asks: names, traits, splits and the number of dialogues of every querier, drawn one at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from querier.data.sample.names import names
from querier.data.sample.texts import DOMAIN, EXPERTISE, LENGTH, MANNER
from querier.data.sample.traits import Traits

MEAN = 17
SPREAD = 3
_BLOCK = ("seen",) * 8 + ("validation", "test")
_BAG = 6  # the smallest number that 3, 3, 2 and 6 values all divide


@dataclass(frozen=True, slots=True)
class Person:
    """A querier before the first question.

    Attributes:
        name: The display name, which is the querier's id.
        traits: What the replies to this querier depend on.
        part: ``seen``, or ``validation`` / ``test`` for queriers no training dialogue has.
        dialogues: How many dialogues this querier has, 14 to 20.
    """

    name: str
    traits: Traits
    part: str
    dialogues: int

    def split(self, number: int) -> str:
        """The split of one of the querier's dialogues.

        Args:
            number: Which dialogue, from 0 in order of time.

        Returns:
            ``train``, ``validation`` or ``test``.
        """
        if self.part != "seen":
            return self.part
        held_out = max(1, round(0.1 * self.dialogues))
        if number >= self.dialogues - held_out:
            return "test"
        return "validation" if number >= self.dialogues - 2 * held_out else "train"


class _Deal:
    """Deals traits so that within each part every value of a trait is equally frequent and traits are independent."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._bags: dict[tuple[str, str], list[str]] = {}

    def _draw(self, part: str, trait: str, values: tuple[str, ...]) -> str:
        bag = self._bags.setdefault((part, trait), [])
        if not bag:
            bag.extend(values * (_BAG // len(values)))
            self._rng.shuffle(bag)
        return bag.pop()

    def traits(self, part: str) -> Traits:
        return Traits(
            expertise=self._draw(part, "expertise", EXPERTISE),
            manner=self._draw(part, "manner", MANNER),
            length=self._draw(part, "length", LENGTH),
            domain=self._draw(part, "domain", DOMAIN),
        )


def _counts(rng: random.Random, dialogues: int) -> Iterator[int]:
    """Counts of 14 to 20 that add up to ``dialogues``: mirrored pairs around the mean, after the remainder."""
    queriers = max(1, round(dialogues / MEAN))
    remainder = dialogues - MEAN * queriers
    for _ in range(abs(remainder)):
        yield MEAN + (1 if remainder > 0 else -1)
    left = queriers - abs(remainder)
    for _ in range(left // 2):
        away = rng.randint(-SPREAD, SPREAD)
        yield MEAN + away
        yield MEAN - away
    if left % 2:
        yield MEAN


def people(rng: random.Random, dialogues: int) -> Iterator[Person]:
    """Draw the queriers of a corpus one by one.

    Args:
        rng: The source of every draw.
        dialogues: How many dialogues all queriers have together.

    Yields:
        Queriers: of each ten, eight seen, one for validation and one for test, in random order.
    """
    name = names(rng)
    deal = _Deal(rng)
    block: list[str] = []
    for count in _counts(rng, dialogues):
        if not block:
            block = list(_BLOCK)
            rng.shuffle(block)
        part = block.pop()
        yield Person(next(name), deal.traits(part), part, count)
