"""What can be read of a reply that is a label or a number, and what cannot."""

from __future__ import annotations

import pytest

from querier.data.labels import read_label, read_rating


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("sci-fi", "sci-fi"),
        ("It is Sci-Fi.", "sci-fi"),
        ("comedy", "comedy"),
        ("a dark comedy", "dark comedy"),  # a label inside another one is not both
        ("comedy or sci-fi", None),
        ("comedy and dark comedy", None),
        ("a comedian", None),
        ("", None),
    ],
)
def test_a_reply_must_name_exactly_one_label(reply: str, label: str | None) -> None:
    assert read_label(reply, ["sci-fi", "comedy", "dark comedy"]) == label


def test_letters_of_another_label_are_no_label() -> None:
    assert read_label("art, party", ["art", "party"]) is None
    assert read_label("a party", ["art", "party"]) == "party"


def test_labels_in_brackets_are_read_with_and_without_them() -> None:
    assert [read_label(reply, ["[1]", "[2]"]) for reply in ("[1]", "2", "Paper [2].", "[3]", "[1] and [2]")] == [
        "[1]",
        "[2]",
        "[2]",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("5", 5),
        ("rating: 2.0", 2),
        ("4.", 4),
        ("4.5 points", 4.5),
        ("no idea", None),
        ("17", None),
        ("0", None),
        ("-3", None),
        ("4 of 5", None),
        ("v3", None),
        ("", None),
    ],
)
def test_a_reply_must_hold_exactly_one_number_of_the_scale(reply: str, rating: float | None) -> None:
    assert read_rating(reply, 1, 5) == rating
