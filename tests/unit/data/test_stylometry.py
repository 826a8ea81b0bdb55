from __future__ import annotations

import math

import numpy as np
import pytest

from querier.data.stylometry import stylometries, stylometry
from querier.types import STYLE


def test_features_by_hand() -> None:
    """`Well, I don't (really) know -- 3?No.`: 7 pieces between spaces, 36 characters."""
    text = "Well, I don't (really) know -- 3?No."
    found = stylometry(text)
    assert len(text) == 36
    wanted = [
        math.log1p(8),  # well i don t really know 3 no
        math.log1p(36),
        1,  # well
        0,
        -1,  # a contraction
        0,
        1,
        1,
        1 / 7,
        1 / 7,
        1,  # ?N
        1 / 7,
        1,
        1 / 7,
        1 / 7,
        3 / 36,  # W, I, N
        0,
        36 / 7,
        1 / 7,
    ]
    assert found.tolist() == pytest.approx(wanted)
    assert found.dtype == np.float32


def test_many_texts_are_read_one_by_one_and_none_is_too_odd() -> None:
    texts = ["", " ", "请告诉我，谢谢！", "ok", "\U0001f600", "A\nB", "x" * 10_000]
    found = stylometries(texts)
    assert found.shape == (len(texts), STYLE)
    assert np.isfinite(found).all()
    for text, row in zip(texts, found, strict=True):
        assert row.tolist() == stylometry(text).tolist()
    assert stylometries([]).shape == (0, STYLE)


def test_what_a_text_is_about_does_not_show() -> None:
    assert stylometry("The cat sat.").tolist() == stylometry("The dog ran.").tolist()


def test_it_reads_chinese_marks() -> None:
    plain, marked = stylometry("今天下雨我不去"), stylometry("今天下雨，我不去！谢谢。")
    assert plain[17] == marked[17] == 1  # characters of a word, which is a character there
    rises = marked > plain
    assert rises[[0, 1, 3, 5, 8, 9]].all()  # words, characters, politeness, exclamation, comma, full stop
