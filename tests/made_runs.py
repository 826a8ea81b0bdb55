"""Folders of tested runs and of comparisons with numbers made up by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REPLY = "It rises because of the yeast."


def number(value: float | None, n: int = 40, failed: int = 0, **more: Any) -> dict[str, Any]:
    """As in `results.json`, with an interval of ±0.05."""
    low, high = (None, None) if value is None else (value - 0.05, value + 0.05)
    return {"value": value, "low": low, "high": high, "n": n, "n_failed": failed, "queriers": 8, "mde": 0.07, **more}


def metrics(rouge: float) -> dict[str, Any]:
    """A few metrics over all, seen and unseen queriers."""
    found = {}
    named = {"rouge_l": rouge, "nll_per_token": 2.5 - rouge, "nll_swapped": 2.75 - rouge, "nll_empty": 2.625}
    named |= {"swap_accuracy_cluster": 0.5 + rouge / 2, "trait_warmth": rouge / 4}
    for name, value in named.items():
        for end, by in (("", 0.0), ("_seen", 0.0625), ("_unseen", -0.0625), ("_macro", 0.0)):
            found[name + end] = number(value + by)
    return found


def cold_start(rouge: float) -> dict[str, Any]:
    """Curves at three numbers of items."""
    return {
        group: {
            items: {
                "nll_per_token": number(2.5 - step * rouge, n=40 - step),
                "gain": number(step * rouge, n=40 - step),
                "swap_accuracy_cluster": number(0.5 + step * rouge / 8 if step else None, n=40 - step if step else 0),
            }
            for step, items in enumerate(("0", "4", "all"))
        }
        for group in ("seen", "unseen")
    }


def examples(count: int, rouge: float) -> list[dict[str, Any]]:
    """Dialogues of four queriers, each second one with a reply."""
    return [
        {
            "id": f"d{place}",
            "query": f"Why does bread number {place} rise?",
            "querier": f"querier {place % 4}",
            "unseen": place % 4 == 3,
            "history": place,
            "gold": "Because of the yeast, my friend.",
            "reply": f"{REPLY} ({place})" if place % 2 else None,
            "tokens": 8,
            "bytes": 30,
            "scores": {"nll_per_byte": 0.5, **({"rouge_l": rouge * (1 + place) / (1 + count)} if place % 2 else {})},
            "error": None,
        }
        for place in range(count)
    ]


def card(**config: Any) -> dict[str, Any]:
    """A run card."""
    return {
        "status": "finished",
        "data_digest": "0123456789abcdef",
        "config": {
            "method": "querier",
            "seed": 7,
            "data": {"path": "/home/secret/log.jsonl", "split": "time"},
            **config,
        },
        "querier": "0.1.0",
        "versions": {"torch": "2.13.0"},
        "steps": 123,
        "prepared": "/home/secret/cache/prepared",
    }


def write_run(folder: Path, rouge: float = 0.25, rows: list[dict[str, Any]] | None = None, **more: Any) -> Path:
    """A tested run.

    Args:
        folder: Its folder.
        rouge: What its numbers are made of.
        rows: Its examples; eight by default.
        more: What replaces entries of `results.json`; `config` what replaces entries of the configuration.
    """
    folder.mkdir(parents=True)
    changed = card(**more.pop("config", {}))
    results = {
        "n": 40,
        "n_generated": 20,
        "n_failed": 0,
        "queriers": 8,
        "queriers_unseen": 2,
        "metrics": metrics(rouge),
        "cold_start": {},
        "excluded": {"main": {}, "cluster": {"nobody to swap with": 5}},
        "settings": {"split": "test", "draws": 4, "bootstrap": 1000, "seed": 0, "interval": "95 %"},
        "run": folder.name,
        "model": "feedfeedfeedfeed",
        **more,
    }
    (folder / "run.json").write_text(json.dumps(changed), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    write_lines(folder / "examples.jsonl", examples(8, rouge) if rows is None else rows)
    (folder / "metrics.csv").write_text(
        "step,epoch,train/loss,val/nll_per_byte\n9,0,3.5,\n19,0,2.5,0.75\n29,1,1.5,\n39,1,1.25,0.625\n",
        encoding="utf-8",
    )
    return folder


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_comparison(folder: Path) -> Path:
    """What `querier compare` leaves for three methods over two seeds."""
    folder.mkdir(parents=True)
    methods = {"ft": 0.25, "querier": 0.5, "querier+no_gate": 0.375}
    found = {
        "baseline": "ft",
        "methods": {name: metrics(rouge) for name, rouge in methods.items()},
        "differences": {
            "querier": {
                "rouge_l": number(0.25, p=0.0001, by_seed=[0.2, 0.3], sure=True),
                "rouge_l_unseen": number(0.375, n=9, p=0.5, by_seed=[0.3, 0.4], sure=True),
            },
            "querier+no_gate": {"rouge_l": number(0.125, p=0.25, by_seed=[0.3, -0.1], sure=False)},
        },
        "seeds": [0, 1],
        "runs": {name: [f"{name}-0", f"{name}-1"] for name in methods},
        "settings": {"split": "test"},
        "excluded": {"ft": [None, None], "querier": [{"cluster": {"nobody to swap with": 5}}] * 2},
    }
    (folder / "results.json").write_text(json.dumps(found), encoding="utf-8")
    rows = [
        {"method": name, "seed": seed, **row, "reply": f"{name} of seed {seed}" if row["reply"] else None}
        for name, rouge in methods.items()
        for seed in (0, 1)
        for row in examples(6, rouge)
    ]
    write_lines(folder / "examples.jsonl", rows)
    return folder


def write_against(a: Path, b: str, models: tuple[str, str] = ("feedfeedfeedfeed",) * 2, judged: bool = True) -> Path:
    """What `querier test run=a against=b` leaves in the folder of a."""
    rates = {"win_rate": number(0.625, n=16, failed=1), "longer_wins": number(0.75)}
    rates |= {"bytes_first": number(31.0), "bytes_second": number(29.0)}
    found = {
        "a": a.name,
        "b": b,
        "models": dict(zip("ab", models, strict=True)),
        "settings": {"split": "test"},
        "values": {"rouge_l": {"a": 0.5, "b": 0.25}, "nll_empty": {"a": 2.0, "b": None}},
        "differences": {"rouge_l": number(0.25, p=0.01), "nll_empty": number(None, n=0)},
    }
    if judged:
        found["judge"] = {"model": "<wise> one", "arms": {"runs": {**rates, "n_tied": 3, "n_inconsistent": 2}}}
    path = a / f"against_{b}.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    return path
