from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import write_run
from scipy import stats

from querier.analysis.runs import effects, load_runs, over_seeds, pareto, smaller
from querier.analysis.runs_figures import effects_figure, parallel_coordinates, pareto_figure
from querier.errors import InputError

SWAP, GATE = {0: 0.10, 1: 0.14, 2: 0.03}, 0.02  # gains of a swap loss by seed, and of a gate


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve runs: a swap loss or none, a gate or concat, three seeds; one of them was never tested."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        for swap in (0.0, 0.1):
            for fusion in ("gate", "concat"):
                rouge = 0.3 + (SWAP[seed] if swap else 0.0) + (GATE if fusion == "gate" else 0.0)
                config: dict[str, Any] = {"seed": seed, "loss": {"swap": swap}, "towers": {"fusion": fusion}}
                config["data"] = {"path": f"/home/secret/{seed}", "responders": ["a", "b"]}
                made = write_run(folder / "deep" / f"{swap}-{fusion}-{seed}", rouge, config=config)
                card = json.loads((made / "run.json").read_text())
                card.update(seconds={"prepare": 2.0, "fit": 10.0 + seed}, tokens=1000 * (seed + 1), name="x")
                card.update(best={"val/nll_per_byte": 1.0 - rouge}, output=f"/home/secret/{made.name}")
                (made / "run.json").write_text(json.dumps(card))
    (folder / "deep" / "0.1-gate-2" / "results.json").unlink()
    return folder


def test_one_line_for_each_run_with_what_differs(runs: Path) -> None:
    table = load_runs(runs)
    assert len(table) == 12
    assert table.attrs["settings"] == ["loss.swap", "seed", "towers.fusion"]  # no place of a machine
    assert "secret" not in table.drop(columns="folder").to_csv()
    assert table["seconds"].tolist() == pytest.approx((12 + table["seed"]).tolist())
    assert table["seconds_fit"].tolist() == pytest.approx((10 + table["seed"]).tolist())
    missing = table[~table["tested"]]
    assert missing["run"].tolist() == ["0.1-gate-2"]
    assert missing["rouge_l"].isna().all()  # and no zero
    assert missing["val/nll_per_byte"].notna().all()
    assert len(load_runs(*sorted((runs / "deep").iterdir())[:3], runs / "deep" / "0.0-gate-0")) == 4
    assert len(load_runs(runs, runs)) == 12


def test_the_effect_of_a_setting_is_the_paired_difference_over_seeds(runs: Path) -> None:
    found = effects(load_runs(runs), "rouge_l", references={"loss.swap": 0.0}).set_index(["setting", "value"])
    swap = found.loc[("loss.swap", "0.1")]
    gains = [SWAP[seed] for seed in range(3)]
    assert swap["difference"] == pytest.approx(np.mean(gains))
    low, high = stats.t.interval(0.95, 2, np.mean(gains), stats.sem(gains))
    assert (swap["low"], swap["high"]) == pytest.approx((low, high))
    assert (swap["seeds"], swap["pairs"], swap["missing"]) == (3, 5, 1)
    assert swap["same_sign"]
    gate = found.loc["towers.fusion"]["difference"].dropna()
    assert abs(gate.item()) == pytest.approx(GATE)
    assert np.isnan(found.loc[("loss.swap", "0"), "difference"])


def test_runs_that_differ_in_more_than_one_setting_are_no_pair(tmp_path: Path) -> None:
    for name, seed, method in (("a", 0, "ft"), ("b", 1, "querier")):
        write_run(tmp_path / name, 0.25, config={"seed": seed, "method": method})
    table = load_runs(tmp_path)
    found = effects(table, "rouge_l")
    assert found["pairs"].tolist() == [0, 0]
    assert found["difference"].isna().all()
    with pytest.raises(InputError, match="no two runs with rouge_l differ in one setting alone"):
        effects_figure(table, "rouge_l")


def test_runs_on_other_data_or_tested_otherwise_are_no_pair(tmp_path: Path) -> None:
    for seed in range(2):
        for method, rouge in (("ft", 0.25), ("querier", 0.5)):
            write_run(tmp_path / f"{method}-{seed}", rouge, config={"method": method, "seed": seed})
    table = load_runs(tmp_path)
    assert table.attrs["settings"] == ["method", "seed"]
    for name in ("ft-0", "ft-1"):
        card = json.loads((tmp_path / name / "run.json").read_text())
        (tmp_path / name / "run.json").write_text(json.dumps({**card, "data_digest": "fedcba9876543210"}))
    found = load_runs(tmp_path)
    assert found.attrs["settings"] == ["data_digest", "method", "seed"]
    assert set(found["data_digest"]) == {"01234567", "fedcba98"}
    assert effects(found, "rouge_l", ["method"])["pairs"].tolist() == [0, 0]
    for name in ("querier-0", "querier-1"):
        card = json.loads((tmp_path / name / "run.json").read_text())
        (tmp_path / name / "run.json").write_text(json.dumps({**card, "data_digest": "fedcba9876543210"}))
        results = json.loads((tmp_path / name / "results.json").read_text())
        results["settings"].update(limit=8, repetition_penalty=1.2)
        (tmp_path / name / "results.json").write_text(json.dumps(results))
    found = load_runs(tmp_path)
    assert found.attrs["settings"] == ["method", "seed", "test.limit", "test.repetition_penalty"]
    assert effects(found, "rouge_l", ["method"])["pairs"].tolist() == [0, 0]
    assert "test.limit" in set(effects(found, "rouge_l")["setting"])
    cards = effects(found.assign(**{"val/nll_per_byte": found["rouge_l"]}), "val/nll_per_byte")
    assert cards["setting"].tolist() == ["method", "method"]  # the test says nothing about validation
    assert cards["pairs"].tolist() == [0, 2]


def test_seeds_tested_under_different_settings_are_not_averaged(tmp_path: Path) -> None:
    for seed, limit in ((0, None), (1, 8), (2, 8)):
        settings = {"split": "test", "limit": limit, "seed": 0}
        write_run(tmp_path / str(seed), 0.25 + seed / 8, config={"seed": seed}, settings=settings)
    (tmp_path / "2" / "results.json").unlink()
    found = over_seeds(load_runs(tmp_path), ["rouge_l"]).set_index("test.limit")
    assert found.loc[8.0, ["rouge_l", "rouge_l_seeds"]].tolist() == [0.375, 1]
    assert found["rouge_l"].tolist() == [0.375, 0.25]


def test_how_data_are_read_is_compared_on_one_file(tmp_path: Path) -> None:
    for name, path, limit, rouge in (("a", "/x", 10, 0.25), ("b", "/x", 20, 0.5), ("c", "/y", 20, 0.75)):
        made = write_run(tmp_path / name, rouge, config={"data": {"path": path, "limit": limit}})
        card = json.loads((made / "run.json").read_text())
        (made / "run.json").write_text(json.dumps({**card, "data_digest": f"{name}123456789"}))
    found = effects(load_runs(tmp_path), "rouge_l", references={"data.limit": 10}).set_index(["setting", "value"])
    assert found.loc[("data.limit", "20"), ["difference", "pairs"]].tolist() == [0.25, 1]


def test_one_seed_has_no_interval(runs: Path) -> None:
    table = load_runs(runs)
    one = table[table["seed"] == 0]
    found = effects(one, "rouge_l", ["loss.swap"])
    line = found[found["difference"].notna()].iloc[0]
    assert abs(line["difference"]) == pytest.approx(SWAP[0])
    assert np.isnan(line["low"])
    whole = over_seeds(one, ["rouge_l"])
    assert whole["rouge_l_seeds"].tolist() == [1] * 4
    assert whole["rouge_l_low"].isna().all()


def test_means_over_seeds_leave_out_what_was_not_measured(runs: Path) -> None:
    found = over_seeds(load_runs(runs), ["rouge_l", "seconds"]).set_index(["loss.swap", "towers.fusion"])
    line = found.loc[(0.1, "gate")]
    assert (line["rouge_l_seeds"], line["seconds_seeds"]) == (2, 3)  # one was never tested
    assert line["rouge_l"] == pytest.approx(0.3 + GATE + (SWAP[0] + SWAP[1]) / 2)
    assert line["seconds"] == pytest.approx(13)


def test_the_front_is_what_nobody_beats() -> None:
    table = pd.DataFrame({"quality_": [1.0, 2.0, 2.0, 3.0, 0.5], "seconds": [1.0, 2.0, 3.0, 4.0, 1.0]})
    found = pareto(table, "quality_", "seconds", smaller_is_better=False)
    assert found["on_front"].tolist() == [True, False, True, False, True]
    other = pareto(table, "quality_", "seconds", smaller_is_better=True)
    assert other.loc[other["on_front"], "quality"].tolist() == [0.5]
    with pytest.raises(InputError, match="which way quality_ is better is not known"):
        pareto(table, "quality_", "seconds")
    with pytest.raises(InputError, match="no run has both"):
        pareto(table.assign(seconds=np.nan), "quality_", "seconds", smaller_is_better=True)


def test_which_way_is_better() -> None:
    assert smaller("val/nll_per_byte")
    assert smaller("nll_per_token_unseen")
    assert not smaller("swap_accuracy_cluster_seen")
    assert not smaller("rouge_l_macro")
    with pytest.raises(InputError, match="say smaller_is_better"):
        smaller("nll_empty")


def test_what_is_not_there_is_said(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run in .*querier fit"):
        load_runs(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        load_runs(tmp_path / "none")
    table = load_runs(runs)
    with pytest.raises(InputError, match="no column rouge_9; they have .*rouge_l"):
        effects(table, "rouge_9")
    with pytest.raises(InputError, match=r"no run has loss.swap=7; there are 0, 0.1"):
        effects(table, "rouge_l", references={"loss.swap": 7})
    bare = table.copy()
    bare.attrs.clear()
    with pytest.raises(InputError, match="no longer says which columns are settings"):
        effects(bare, "rouge_l")
    made = write_run(tmp_path / "broken")
    (made / "results.json").write_text("{")
    with pytest.raises(InputError, match="not as `querier test` writes it"):
        load_runs(tmp_path)


def test_figures_say_what_they_show(runs: Path, tmp_path: Path) -> None:
    table = load_runs(runs)
    figure = parallel_coordinates(table, "rouge_l")
    fusion = next(axis for axis in figure.data[0].dimensions if axis.label == "towers.fusion")
    assert list(fusion.ticktext) == ["concat", "gate"]
    assert "n = 11 runs (higher is better)" in figure.layout.title.text
    shown = effects_figure(table, "rouge_l", path=tmp_path / "effects.svg")
    assert "n = 12 runs" in shown.get_suptitle()
    assert (tmp_path / "effects.svg").read_text().startswith("<?xml")
    front = pareto_figure(table, "val/nll_per_byte", "seconds", path=tmp_path / "front.png")
    assert "lower is better" in front.axes[0].get_ylabel()
    assert (tmp_path / "front.png").read_bytes()[:4] == b"\x89PNG"
