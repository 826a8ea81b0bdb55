"""Runs with the cards that `querier fit` and `querier compare` write: which of them may be set against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from made_runs import write_run

from querier.analysis.runs import OF_EFFECTS, effects, load_runs
from querier.analysis.runs_figures import effects_figure, parallel_coordinates, pareto_figure
from querier.commands.compose import compose
from querier.commands.fit import plain_config
from querier.config import to_plain

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "04_sweeps.ipynb"
BROUGHT = {"conditioning.kind", "loss.general", "loss.specific", "loss.swap", "prompt.name_noise"}


def write(folder: Path, words: list[str], loss: float, **more: Any) -> None:
    """A run as `querier fit experiment=demo ...` leaves it."""
    config = to_plain(plain_config(compose("fit", ["experiment=demo", *words])))
    made = write_run(folder, 1 - loss, config=config, **more)
    card = json.loads((made / "run.json").read_text())
    card.update(best={"val/nll_per_byte": loss}, seconds={"prepare": 1.0, "fit": 9.0}, tokens=1000)
    (made / "run.json").write_text(json.dumps(card))


def test_two_methods_pair_though_each_comes_with_settings_of_its_own(tmp_path: Path) -> None:
    for seed in range(2):
        write(tmp_path / f"ft-{seed}", ["method=ft", f"seed={seed}"], 0.5)
        write(tmp_path / f"querier-{seed}", ["method=querier", f"seed={seed}"], 0.375 - seed / 8)
    table = load_runs(tmp_path)
    assert set(table.attrs["settings"]) == {"method", "seed", *BROUGHT}
    found = effects(table, "val/nll_per_byte", references={"method": "ft"})
    assert found["setting"].tolist() == ["method", "method"]  # the others are part of it
    ft, querier = (line for _, line in found.iterrows())
    assert (querier["value"], querier["difference"], querier["pairs"], querier["seeds"]) == ("querier", -0.1875, 2, 2)
    assert set(querier["along"].split(", ")) == BROUGHT
    assert (ft["pairs"], ft["along"]) == (0, "")
    assert "with what comes along" in effects_figure(table, "val/nll_per_byte").get_supxlabel()


def test_an_ablation_is_compared_with_its_method_and_not_with_another(tmp_path: Path) -> None:
    rows = {"ft": ["method=ft"], "querier": ["method=querier"]}
    rows["prefix"] = [*rows["querier"], "ablation=[prefix]"]
    rows["noswap"] = [*rows["querier"], "ablation=[no_swap_loss]"]
    for (name, words), loss in zip(rows.items(), (0.5, 0.25, 0.375, 0.3125), strict=True):
        write(tmp_path / name, words, loss)
    found = effects(load_runs(tmp_path), "val/nll_per_byte", references={"method": "ft"}).set_index(
        ["setting", "value"]
    )
    assert found.loc[("method", "querier"), ["difference", "pairs"]].tolist() == [-0.25, 1]
    kind = effects(load_runs(tmp_path), "val/nll_per_byte", ["conditioning.kind"], {"conditioning.kind": "residual"})
    assert kind.set_index("value").loc["prefix", ["difference", "pairs"]].tolist() == [0.125, 1]
    assert kind.set_index("value").loc["none", "pairs"] == 0  # ft and querier differ in more than that
    swap = effects(load_runs(tmp_path), "val/nll_per_byte", ["loss.swap"], {"loss.swap": 0.1}).set_index("value")
    assert swap.loc["0", ["difference", "pairs"]].tolist() == [0.0625, 1]


def test_methods_on_other_data_or_tested_otherwise_stay_apart(tmp_path: Path) -> None:
    write(tmp_path / "ft", ["method=ft"], 0.5, settings={"split": "test", "limit": 8})
    write(tmp_path / "querier", ["method=querier"], 0.25, settings={"split": "test", "limit": None})
    table = load_runs(tmp_path)
    assert effects(table, "rouge_l", ["method"])["pairs"].tolist() == [0, 0]
    assert effects(table, "val/nll_per_byte", ["method"])["pairs"].tolist() == [0, 1]
    card = json.loads((tmp_path / "ft" / "run.json").read_text())
    (tmp_path / "ft" / "run.json").write_text(json.dumps({**card, "data_digest": "other"}))
    assert effects(load_runs(tmp_path), "val/nll_per_byte", ["method"])["pairs"].tolist() == [0, 0]


def test_a_number_that_is_neither_good_nor_bad_is_drawn_without_a_direction(tmp_path: Path) -> None:
    for name in ("ft", "querier"):
        write(tmp_path / name, [f"method={name}"], 0.5)
    table = load_runs(tmp_path)
    assert "better" not in effects_figure(table, "nll_empty").get_suptitle()
    assert "better" not in parallel_coordinates(table, "nll_empty").layout.title.text
    front = pareto_figure(table, "nll_empty", "tokens", smaller_is_better=True)
    assert "(lower is better)" in front.axes[0].get_ylabel()


@pytest.mark.parametrize("seeds", [1, 3])
def test_with_nothing_to_compare_there_is_a_table_without_lines(tmp_path: Path, seeds: int) -> None:
    for seed in range(seeds):
        write(tmp_path / str(seed), [f"seed={seed}"], 0.5)
    found = effects(load_runs(tmp_path), "rouge_l")
    assert (len(found), list(found.columns)) == (0, list(OF_EFFECTS))


@pytest.mark.parametrize("methods", [["ft"], ["ft", "querier"]], ids=len)
@pytest.mark.parametrize("seeds", [1, 2])
def test_the_notebook_runs_on_one_run_and_on_many(
    methods: list[str], seeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in methods:
        for seed in range(seeds):
            write(tmp_path / f"{method}-{seed}", [f"method={method}", f"seed={seed}"], 0.5 + seed / 8)
    monkeypatch.setenv("QUERIER_RUNS", str(tmp_path))
    space: dict[str, Any] = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, str(NOTEBOOK), "exec"), space)
    assert space["METRIC"] == "val/nll_per_byte"  # settings are chosen on validation
    assert (len(space["found"]) > 0) == (len(methods) > 1)
    assert np.isfinite(space["means"]["val/nll_per_byte"]).all()
