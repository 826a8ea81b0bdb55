"""Tables in Markdown hold the numbers of their files, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from querier.analysis.markdown import fill
from querier.errors import InputError

ROOT = Path(__file__).parents[3]


def value(number: float, **changes: Any) -> dict[str, Any]:
    return {
        "value": number,
        "low": number - 0.1,
        "high": number + 0.1,
        "n": 50,
        "n_failed": 1,
        "queriers": 9,
        **changes,
    }


def write(folder: Path, difference: dict[str, Any], decoder: str = "small") -> None:
    found = {
        "baseline": "ft",
        "seeds": [0, 1, 2],
        "decoder": decoder,
        "methods": {"ft": {"rouge_l": value(0.5)}, "querier": {"rouge_l": value(0.75)}},
        "differences": {"querier": {"rouge_l": difference}},
    }
    (folder / "r.json").write_text(json.dumps(found), encoding="utf-8")


@pytest.mark.parametrize(
    ("sure", "mark", "decoder", "shown"),
    [(True, "*", "small", "small decoder"), (False, "", "small", "small decoder"), (True, "*", "SmolLM2", "SmolLM2")],
)
def test_a_comparison(tmp_path: Path, sure: bool, mark: str, decoder: str, shown: str) -> None:
    write(tmp_path, {"value": 0.25, "low": 0.1, "high": 0.4, "sure": sure}, decoder)
    filled = fill("before\n<!-- comparison r.json rouge_l -->\nold\n<!-- end -->\nafter\n", tmp_path)
    assert filled.splitlines() == [
        "before",
        "<!-- comparison r.json rouge_l -->",
        "| method | rouge l |",
        "|---|---|",
        "| `ft` | .500 [.400, .600] |",
        f"| `querier` | .750 [.650, .850] Δ +.250{mark} |",
        "",
        f"{shown}, 3 seeds, Δ to `ft`; dialogues: rouge l 50; 9 queriers; n_failed 2.",
        "<!-- end -->",
        "after",
    ]
    assert fill(filled, tmp_path) == filled


def test_cold_start(tmp_path: Path) -> None:
    point = {"gain": value(0.25)}
    curves = {"seen": {"0": {"gain": {**value(0.5), "value": None}}, "all": point}, "unseen": {"all": point}}
    (tmp_path / "r.json").write_text(json.dumps({"cold_start": curves}), encoding="utf-8")
    filled = fill("<!-- cold_start r.json gain -->\n<!-- end -->\n", tmp_path)
    assert filled.splitlines()[1:-1] == [
        "| items read | 0 | all |",
        "|---|---|---|",
        "| gain, seen | – | .2500 [.1500, .3500] |",
        "| gain, unseen | – | .2500 [.1500, .3500] |",
        "| dialogues, seen | 50 | 50 |",
        "| dialogues, unseen | – | 50 |",
        "| queriers, seen | 9 | 9 |",
        "| queriers, unseen | – | 9 |",
        "",
        "n_failed 3.",
    ]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which is not under"):
        fill("<!-- comparison r.json rouge_l -->\n<!-- end -->", tmp_path)
    write(tmp_path, value(0.25, sure=True))
    with pytest.raises(InputError, match="no metric bleu in these results; there are rouge_l"):
        fill("<!-- comparison r.json bleu -->\n<!-- end -->", tmp_path)


@pytest.mark.parametrize("name", ["README.md", "EXPERIMENTS.md"])
def test_the_tables_of_the_project_are_those_of_its_results(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert fill(text, ROOT) == text, "run `make tables`"
