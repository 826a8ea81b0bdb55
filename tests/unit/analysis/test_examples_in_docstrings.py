"""Every public function of the analysis has an example in its docstring, and the example is true."""

from __future__ import annotations

import doctest
import inspect
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fitted import untrained_responder
from made_runs import cold_start, write_run

from querier.responder import Responder
from querier.types import Split

MODULES = (
    "clusters",
    "cold_start",
    "figures",
    "logs",
    "maps",
    "nearness",
    "html_pieces",
    "report.space",
    "runs",
    "runs_figures",
    "user_space",
    "vectors",
    "why",
    "why_figures",
)


def modules() -> list[ModuleType]:
    return [import_module(f"querier.analysis.{name}") for name in MODULES]


@pytest.fixture(scope="module")
def responder(tmp_path_factory: pytest.TempPathFactory) -> Responder:
    return untrained_responder(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tested runs: two methods, three seeds."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        for method, rouge in (("ft", 0.25), ("querier", 0.5)):
            write_run(
                folder / f"{method}-{seed}",
                rouge + seed / 64,
                config={"method": method, "seed": seed},
                cold_start=cold_start(rouge),
            )
    return folder


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_every_public_function_has_one(module: ModuleType) -> None:
    found = [one for _, one in inspect.getmembers(module, inspect.isfunction) if one.__module__ == module.__name__]
    public = [one for one in found if not one.__name__.startswith("_")]
    assert public
    assert [one.__name__ for one in public if ">>>" not in (one.__doc__ or "")] == []


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_they_are_true(module: ModuleType, responder: Responder, runs: Path, tmp_path: Path) -> None:
    with_it: dict[str, Any] = {"np": np, "pd": pd, "Split": Split, "responder": responder, "runs": runs}
    with_it["tmp_path"] = tmp_path
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    others = {name: value for one in modules() for name, value in vars(one).items() if not name.startswith("_")}
    for test in doctest.DocTestFinder().find(module, extraglobs={**others, **vars(module), **with_it}):
        runner.run(test)
    assert runner.failures == 0
    assert runner.tries > 0
