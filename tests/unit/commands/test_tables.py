"""What is kept of a comparison says how it was taken, and holds the metrics that were asked for alone."""

from __future__ import annotations

import json
from pathlib import Path

from querier.commands.tables import main


def test_some_metrics_are_kept(tmp_path: Path) -> None:
    value = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "n_failed": 0, "queriers": 4}
    both = {"rouge_l": value, "chrf": value, "gain": value}
    found = {
        "baseline": "ft",
        "seeds": [0],
        "decoder": "small",
        "settings": {"draws": 2},
        "methods": {"ft": both, "querier": both},
        "differences": {"querier": {"rouge_l": {**value, "sure": False}}},
        "controls": {"querier+permuted_control": {"of": "querier", "chrf": value, "rouge_l": value, "gain": value}},
    }
    (tmp_path / "all.json").write_text(json.dumps(found))
    main(["keep", str(tmp_path / "all.json"), str(tmp_path / "some.json"), "rouge_l", "gain"])
    kept = json.loads((tmp_path / "some.json").read_text())
    kept_alone = {"rouge_l": value, "gain": value}
    assert kept["methods"] == {"ft": kept_alone, "querier": kept_alone}
    assert kept["settings"] == {"draws": 2}
    assert kept["controls"] == {"querier+permuted_control": {"of": "querier", "rouge_l": value, "gain": value}}
    page = tmp_path / "page.md"
    page.write_text("<!-- comparison some.json rouge_l gain -->\n<!-- end -->\n")
    main([str(page)])
    assert ".500 [.400, .600]" in page.read_text()
    assert (
        "n_failed 0. `querier` less `querier+permuted_control`, which is what is personal: gain .5000 [.4000, .6000], "
        "rouge l .500 [.400, .600]."
    ) in page.read_text()


def test_the_cold_start_of_a_run_is_kept_alone(tmp_path: Path) -> None:
    value = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "n_failed": 0, "queriers": 4}
    curves = {"seen": {"0": {"gain": value, "nll_per_token": value}}}
    found = {"metrics": {"rouge_l": value}, "cold_start": curves, "settings": {"draws": 1}}
    (tmp_path / "all.json").write_text(json.dumps(found))
    main(["keep", str(tmp_path / "all.json"), str(tmp_path / "some.json"), "gain"])
    kept = json.loads((tmp_path / "some.json").read_text())
    assert kept == {"cold_start": {"seen": {"0": {"gain": value}}}, "settings": {"draws": 1}}


def test_signals_of_some_corpora_make_one_table(tmp_path: Path) -> None:
    value = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "n_failed": 0, "queriers": 4}
    accuracy = {"query": value, "vectors": value, "stylometry": value, "both": {**value, "value": 0.55}}
    accuracy |= {"query": {**value, "low": -0.0002}, "stylometry": {**value, "low": -0.25}}
    gain = {"vectors": {**value, "value": 0, "low": -1}, "both": {**value, "value": 0.05, "low": 0.01}}
    found = {"cluster": {"accuracy": accuracy, "gain": gain}, "matched": {"accuracy": {}, "gain": {}}}
    (tmp_path / "one.json").write_text(json.dumps({"settings": {}, "histories": found}))
    main(["signal", str(tmp_path / "all.json"), f"court={tmp_path / 'one.json'}"])
    page = tmp_path / "page.md"
    page.write_text("<!-- signal all.json -->\n<!-- end -->\n")
    main([str(page)])
    assert page.read_text().splitlines()[1:-1] == [
        "| corpus | histories | query alone | and vectors | and stylometry | and both | dialogues |",
        "|---|---|---|---|---|---|---|",
        "| court | as they are read | .500 [.000, .600] | .500 [.400, .600] Δ +.000 | .500 [−.250, .600] "
        "| .550 [.400, .600] Δ +.050* | 9 |",
        "| court | of one responder and age | – | – | – | – | 0 |",
    ]
