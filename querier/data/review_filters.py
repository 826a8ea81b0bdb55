"""Which reviews are used, and which of them are trained on, selected by, tested on, or read as history only.

Each step says what it removed. `none` and `min_reviewers_4` split by time inside each querier: of three reviews or
more the latest is test, the one before it validation, the others train; a querier with fewer is in train alone.

* `none`: all reviews.
* `min_reviewers_4`: only reviews of items that four other queriers reviewed are split so; the others are history only.
* `dpl`: what DPL keeps of Amazon's reviews of 2023, in this order:

  1. reviews of 200 characters or more with a rating and a title; runs of white space become one space
  2. items with a title and a description of 100 to 2000 characters
  3. of a querier's reviews of one item, and of those with one text, the newest
  4. items with 8 queriers or more and queriers with 18 to 500 reviews, again and again until nothing changes
  5. a querier's last ten reviews are eight for training, one for validation and one for test; the others are history
  6. of the histories only what is of items with five queriers in the histories, and queriers with eight such reviews,
     again and again until nothing changes

  DPL removes duplicates anew in each round of step 4, and asks of items that they have categories and ratings; here
  step 3 runs once and items are taken by their texts alone.

References:
    Qiu et al.: Measuring what makes you unique: difference-aware user modeling for enhancing LLM personalization, 2025.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from querier.choices import Filters
from querier.data.parsing import counted
from querier.data.sources import Source

LETTERS = 200  # of a review, at least
DESCRIPTION = (100, 2000)  # letters of an item's description
REVIEWERS = 8  # of an item, at least
REVIEWS = (18, 500)  # of a querier
ASKED = 10  # reviews of a querier that are no history: all but two of them for training
SHARED = 8  # reviews in a querier's history of items that others reviewed too
OTHERS = 4  # who must have reviewed an item besides
FEWEST = 3  # reviews of a querier that are split


@dataclass(frozen=True)
class Review:
    """One review.

    Attributes:
        source: Where it stands.
        place: In the order of the file.
        user: Who wrote it.
        item: Of what.
        rating: As it stands there.
        title: Empty for none.
        text: The review.
        time: When.
    """

    source: Source
    place: int
    user: str
    item: str
    rating: Any
    title: str
    text: str
    time: int


@dataclass(frozen=True)
class Item:
    """What is known of an item; empty texts for nothing."""

    title: str
    description: str


Part = tuple[Review, str]
"""A review and its field `split`."""


def filtered(reviews: Sequence[Review], items: Mapping[str, Item], filters: Filters, notes: list[str]) -> list[Part]:
    """The reviews that are used, each with its part.

    Args:
        reviews: All of them.
        items: What is known of the items, for `dpl`.
        filters: Which ones are used.
        notes: Gets what each step removed.
    """
    if filters is Filters.dpl:
        return _dpl(list(reviews), items, notes)
    usable = list(reviews)
    if filters is Filters.min_reviewers_4:
        usable = _of_items(usable, OTHERS + 1)
        _note(notes, f"items that {OTHERS} other queriers reviewed (else history only)", reviews, usable)
    return _last_two(usable) + [(review, "history") for review in _without(reviews, usable)]


def _dpl(reviews: list[Review], items: Mapping[str, Item], notes: list[str]) -> list[Part]:
    steps: tuple[tuple[str, Callable[[list[Review]], list[Review]]], ...] = (
        (f"reviews of {LETTERS} characters or more, with rating and title", _long),
        (
            f"items with a title and a description of {DESCRIPTION[0]} to {DESCRIPTION[1]} characters",
            lambda left: [review for review in left if _described(items.get(review.item))],
        ),
        ("the newest review of an item and of a text by each querier", _newest),
        (
            f"items with {REVIEWERS} queriers or more, queriers with {REVIEWS[0]} to {REVIEWS[1]} reviews",
            lambda left: _until_stable(left, _popular),
        ),
    )
    for name, step in steps:
        before, reviews = reviews, step(reviews)
        _note(notes, name, before, reviews)
    asked = [review for one in _by_user(reviews).values() for review in one[-ASKED:]]
    earlier = _until_stable(_without(reviews, asked), _shared)
    whose = {review.user for review in earlier}
    asked = [review for review in asked if review.user in whose]
    name = f"histories of items that {OTHERS} others have there, queriers with {SHARED} such reviews"
    _note(notes, name, reviews, earlier + asked)
    parts = ["train"] * (ASKED - 2) + ["validation", "test"]
    split = [pair for one in _by_user(asked).values() for pair in zip(one, parts, strict=True)]
    return [(review, "history") for review in earlier] + split


def _long(reviews: list[Review]) -> list[Review]:
    kept = [one for one in reviews if len(one.text) >= LETTERS and one.rating and one.title.strip()]
    return [replace(one, text=re.sub(r"\s+", " ", one.text.strip())) for one in kept]


def _described(item: Item | None) -> bool:
    return item is not None and bool(item.title) and DESCRIPTION[0] <= len(item.description) <= DESCRIPTION[1]


def _newest(reviews: list[Review]) -> list[Review]:
    kept = []
    for own in _by_user(reviews).values():
        items, texts = set(), set()
        for review in reversed(own):
            if review.item not in items and review.text not in texts:
                items.add(review.item)
                texts.add(review.text)
                kept.append(review)
    return sorted(kept, key=lambda review: review.place)


def _popular(reviews: list[Review]) -> list[Review]:
    """Both at once, as counted before either is applied."""
    whose = {user for user, own in _by_user(reviews).items() if REVIEWS[0] <= len(own) <= REVIEWS[1]}
    return [review for review in _of_items(reviews, REVIEWERS) if review.user in whose]


def _shared(earlier: list[Review]) -> list[Review]:
    left = _of_items(earlier, OTHERS + 1)
    whose = {user for user, own in _by_user(left).items() if len(own) >= SHARED}
    return [review for review in left if review.user in whose]


def _of_items(reviews: Sequence[Review], least: int) -> list[Review]:
    """The reviews of items that so many queriers reviewed."""
    queriers: dict[str, set[str]] = defaultdict(set)
    for review in reviews:
        queriers[review.item].add(review.user)
    return [review for review in reviews if len(queriers[review.item]) >= least]


def _until_stable(reviews: list[Review], step: Callable[[list[Review]], list[Review]]) -> list[Review]:
    while len(left := step(reviews)) < len(reviews):
        reviews = left
    return reviews


def _last_two(reviews: list[Review]) -> list[Part]:
    split: list[Part] = []
    for own in _by_user(reviews).values():
        parts = ["train"] * len(own)
        if len(own) >= FEWEST:
            parts[-2:] = ["validation", "test"]
        split += zip(own, parts, strict=True)
    return split


def _by_user(reviews: Iterable[Review]) -> dict[str, list[Review]]:
    """Each querier's reviews, oldest first, ties in the order of the file."""
    own: dict[str, list[Review]] = defaultdict(list)
    for review in sorted(reviews, key=lambda one: (one.time, one.place)):
        own[review.user].append(review)
    return own


def _without(reviews: Sequence[Review], others: Sequence[Review]) -> list[Review]:
    places = {review.place for review in others}
    return [review for review in reviews if review.place not in places]


def _note(notes: list[str], name: str, before: Sequence[Review], after: Sequence[Review]) -> None:
    gone = [len({part(one) for one in before}) - len({part(one) for one in after}) for part in _PARTS]
    left = [len({part(one) for one in after}) for part in _PARTS]
    nouns = ("review", "querier", "item")
    removed, kept = (", ".join(map(counted, numbers, nouns)) for numbers in (gone, left))
    notes.append(f"{name}: {removed} removed; {kept} left")


_PARTS: tuple[Callable[[Review], object], ...] = (
    lambda review: review.place,
    lambda review: review.user,
    lambda review: review.item,
)
