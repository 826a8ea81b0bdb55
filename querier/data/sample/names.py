"""Display names of the queriers. A name is drawn apart from the traits and tells nothing about them."""

from __future__ import annotations

import random
from collections.abc import Iterator

_FIRST = (
    "Mara Jonas Aisha Pavel Ines Tomas Keiko Ruben Leila Oskar Nadia Felix Amara Hugo Sana Milo Greta Dario Yuna Elias "
    "Priya Anton Zola Marek Clara Idris Freya Luca Noor Sven Talia Bruno Vera Kofi Alma Rafael Mei Stefan Lena Omar "
    "Rosa Viktor Hana Diego Petra Samir Nora Emil"
).split()
_LAST = (
    "Ellison Novak Okafor Lindqvist Moreau Tanaka Silva Becker Haddad Kowalski Marin Osei Petrov Quist Romero Sato "
    "Turner Ulrich Vance Weber Yilmaz Zhang Abbott Bauer Castell Dahl Eklund Farrow Grimaldi Hale Ivarsson Jansen "
    "Keller Larsen Mendes Nakata Orlov Pohl Reyes Stone Thorne Ueda Varga Winter Xavier York Zeller Amadi Bloom "
    "Corrigan Drury Egan"
).split()


def names(rng: random.Random) -> Iterator[str]:
    """Give names without end, none twice.

    Args:
        rng: Shuffles the pairs of a first and a last name once; after they are used up, a numeral is added.

    Yields:
        A display name such as ``Mara Ellison``, later ``Mara Ellison 2``.
    """
    pairs = [f"{first} {last}" for first in _FIRST for last in _LAST]
    rng.shuffle(pairs)
    yield from pairs
    numeral = 2
    while True:
        for pair in pairs:
            yield f"{pair} {numeral}"
        numeral += 1
