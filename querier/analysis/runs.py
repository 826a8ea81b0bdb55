"""Many runs in one table: what they were told, what came out, what it cost, and which setting made the difference.

The unit is the seed: two runs that differ in one setting and in nothing else, seed included, are a pair; pairs are
averaged for each seed, and the interval is Student's over seeds. With three seeds it is wide, as it should be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy has no types

from querier.analysis.extra import need
from querier.analysis.report.facts import tested
from querier.analysis.report.metrics import GROUPS, LOWER, metric
from querier.analysis.runs_pairs import DIGEST, SEED, TEST, Pairing, as_text, flat, storable
from querier.errors import InputError
from querier.run import APART, CARD, Run

if TYPE_CHECKING:
    from pandas import DataFrame

DEPTH = 4  # folders below the one that is named
WITHOUT_RUNS = ("cache", "model", "checkpoints")
PLACES = ("data.path", "prompt.profiles", "trainer.default_root_dir")  # of a machine: no setting
COUNTED = ("steps", "tokens", "seconds", "seconds_fit")
SMALLER = (*COUNTED, "seconds_prepare", "seconds_base")
OF_EFFECTS = (
    *("setting", "value", "reference", "mean", "difference", "low", "high", "same_sign", "seeds", "pairs", "missing"),
    "along",
)
DIGITS = 8  # of a digest


def load_runs(*places: str | Path) -> DataFrame:
    """One line for each run under some folders, finished or not.

    Args:
        places: Runs, or folders with runs at any depth down to four, such as `outputs`.

    Returns:
        `run`, `folder`, `status`, `tested`; a column for each setting in which the runs differ, by its dotted name,
        `data_digest` (which data, however they were read and split) and what they were tested under (`test.limit`)
        among them; the best validation values (`val/...`), the metrics of `querier test` by name; `steps`, `tokens`,
        `seconds` and those of each part (`seconds_fit`). What a run does not have is missing. `table.attrs` names the
        `settings` and the `metrics`, and keeps of each folder the path of the data (`paths`).

    Raises:
        InputError: No folder, no run in it, or a file that cannot be read.

    >>> table = load_runs(runs)
    >>> len(table), table.attrs["settings"]
    (6, ['method', 'seed'])
    """
    pandas = need("pandas")
    folders = list(dict.fromkeys(folder for place in places for folder in _folders(Path(place))))
    if not folders:
        named = ", ".join(map(str, places)) or "nothing"
        raise InputError(f"no run in {named}: `querier fit` leaves runs under `output`, by default outputs/")
    cards = [Run(folder).card() for folder in folders]
    found = [_line(Run(folder), card) for folder, card in zip(folders, cards, strict=True)]
    told = [settings for settings, _, _ in found]
    names = sorted({name for settings in told for name in settings})
    differing = [name for name in names if _differ(name, told)]
    metrics = list(dict.fromkeys(name for _, values, _ in found for name in values))
    lines = [
        {
            **about,
            **{name: storable(settings.get(name)) for name in differing},
            **{name: values.get(name, np.nan) for name in metrics},
        }
        for settings, values, about in found
    ]
    table: DataFrame = pandas.DataFrame(lines)
    paths = {
        str(folder): (card.get("config") or {}).get("data", {}).get("path")
        for folder, card in zip(folders, cards, strict=True)
    }
    table.attrs.update(settings=differing, metrics=metrics, paths=paths)
    return table


def over_seeds(table: DataFrame, columns: Sequence[str], settings: Sequence[str] | None = None) -> DataFrame:
    """One line for what differs in more than the seed: mean of columns with 95 % intervals over seeds.

    Args:
        table: As `load_runs` gives it.
        columns: Numbers.
        settings: By which runs are told apart; None for all that differ but the seed.

    Returns:
        The settings, and for each column its mean, `<column>_low`, `<column>_high` and `<column>_seeds`, the seeds of
        the runs that have the number; the ends are missing with one seed, and runs that lack it are left out.

    >>> over_seeds(load_runs(runs), ["rouge_l"])[["method", "rouge_l", "rouge_l_seeds"]].values.tolist()
    [['ft', 0.265625, 3], ['querier', 0.515625, 3]]
    """
    by = [name for name in _settings(table, settings) if name != SEED]
    _check(table, [*columns, *by])
    lines: list[dict[str, Any]] = []
    keys = table[by].map(as_text).agg("\n".join, axis=1) if by else ["all"] * len(table)
    for _, rows in table.groupby(keys, sort=True):
        line = {name: rows[name].iloc[0] for name in by}
        seeds = _of_seeds(rows)
        for column in columns:
            values = [
                part.mean() for _, part in rows[column].astype(float).dropna().groupby(seeds[rows[column].notna()])
            ]
            line[column], line[f"{column}_low"], line[f"{column}_high"] = _interval(values)
            line[f"{column}_seeds"] = len(values)
        lines.append(line)
    found: DataFrame = need("pandas").DataFrame(lines)
    return found


def effects(
    table: DataFrame,
    column: str,
    settings: Sequence[str] | None = None,
    references: Mapping[str, Any] | None = None,
) -> DataFrame:
    """What each value of each setting changes, other things equal: the data too, and how the runs were tested.

    A method brings settings of its own, such as its losses: of two runs with what is their methods' own only the method
    differs. A setting of how the data are read brings other data with it; there only the file has to be the same.

    Args:
        table: As `load_runs` gives it.
        column: The number that changes.
        settings: Which; None for all that differ but the seed, but what follows from the method in every run, and but
            those of the test where it did not measure the column.
        references: The value of a setting that the others are compared with; by default its most frequent one.

    Returns:
        `setting`, `value`, `reference`, `mean` over the runs with the value, `difference` to the reference over pairs
        of runs that differ in nothing else, `low` and `high` of its 95 % interval over seeds, `same_sign` in every
        seed, two at least, `seeds`, `pairs`, `missing`, the runs with this value that lack the number, and `along`,
        what came with the value. Without a pair there is no difference, with one seed no interval, and with runs that
        differ in no more than the seed no line.

    Raises:
        InputError: A column, setting or reference that is not there.

    >>> found = effects(load_runs(runs), "rouge_l", references={"method": "ft"})
    >>> found[["value", "difference", "seeds"]].values.tolist()
    [['ft', nan, 3], ['querier', 0.25, 3]]
    """
    everything = _settings(table, None if settings is None else [*table.attrs.get("settings", ()), *settings])
    if SEED in table.columns and SEED not in everything:
        everything.append(SEED)
    if not _by_test(column):
        everything = [name for name in everything if not name.startswith(TEST)]
    chosen = [name for name in (everything if settings is None else settings) if name != SEED]
    _check(table, [column, *everything, *chosen])
    pairing = Pairing(table, everything)
    chosen = [name for name in chosen if settings is not None or name not in pairing.bound]
    lines: list[dict[str, Any]] = []
    for setting in chosen:
        values = table[setting].map(as_text)
        reference = as_text(
            (references or {}).get(setting, table.loc[values == values.mode().iloc[0], setting].iloc[0])
        )
        if reference not in set(values):
            raise InputError(f"no run has {setting}={reference}; there are {', '.join(sorted(set(values)))}")
        keys = pairing.others(setting)
        for value in sorted(set(values), key=lambda one: (one != reference, one)):
            rows = table[values == value][column].astype(float)
            line = {"setting": setting, "value": value, "reference": reference, "mean": rows.mean()}
            line.update(_difference(table, _paired(table, column, values == value, values == reference, keys)))
            if value == reference:
                line.update(difference=np.nan, low=np.nan, high=np.nan, same_sign=False, pairs=0)
            line.update(missing=int(rows.isna().sum()), along=pairing.along(setting, value, reference))
            lines.append(line)
    found: DataFrame = need("pandas").DataFrame(lines, columns=list(OF_EFFECTS))
    return found


def pareto(table: DataFrame, quality: str, cost: str, smaller_is_better: bool | None = None) -> DataFrame:
    """Which lines nobody beats: no other is as good at no greater cost, or better at the same cost.

    Args:
        table: As `load_runs` or `over_seeds` gives it.
        quality: A metric.
        cost: What is to be small, such as `seconds`.
        smaller_is_better: Of the metric; None for what is known about it.

    Returns:
        The lines that have both numbers, cheapest first, with a column `on_front`.

    Raises:
        InputError: A column that is not there, nothing with both numbers, or a metric without a known direction.

    >>> found = pareto(load_runs(runs).assign(seconds=[1, 2, 3, 4, 5, 6]), "rouge_l", "seconds")
    >>> found["on_front"].tolist()[0], found["cost"].tolist() == sorted(found["cost"])
    (True, True)
    """
    _check(table, [quality, cost])
    sign = -1.0 if (smaller(quality) if smaller_is_better is None else smaller_is_better) else 1.0
    kept = table[table[quality].notna() & table[cost].notna()]
    if not len(kept):
        raise InputError(f"no run has both {quality} and {cost}; `querier test` measures, `querier fit` counts")
    good, price = sign * kept[quality].to_numpy(dtype=float), kept[cost].to_numpy(dtype=float)
    beaten = [
        bool((((good >= g) & (price < p)) | ((good > g) & (price <= p))).any())
        for g, p in zip(good, price, strict=True)
    ]
    found: DataFrame = kept.assign(quality=kept[quality], cost=kept[cost], on_front=~np.array(beaten))
    return found.sort_values(["cost", "quality"], ascending=[True, sign < 0], kind="stable", ignore_index=True)


def smaller(name: str) -> bool:
    """Whether less of a number is better.

    Args:
        name: A column of `load_runs`.

    Raises:
        InputError: Where neither is known to be.

    >>> smaller("val/nll_per_byte"), smaller("rouge_l_unseen"), smaller("seconds")
    (True, False, True)
    """
    if not (better := direction(name)):
        raise InputError(f"which way {name} is better is not known; say smaller_is_better=True or False")
    return better == LOWER


def direction(name: str) -> str:
    """Which way a number is better: `lower`, `higher`, or empty where neither is known to be.

    Args:
        name: A column of `load_runs`.

    >>> direction("val/nll_per_byte"), direction("rouge_l_unseen"), direction("nll_empty")
    ('lower', 'higher', '')
    """
    if name in SMALLER:
        return LOWER
    bare = name.removeprefix("val/").removesuffix("_macro")
    for end in GROUPS.values():
        bare = bare.removesuffix(end) if end else bare
    return metric(bare).better


def _folders(place: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Runs at or under a folder, in order of their names."""
    if not place.is_dir():
        raise InputError(f"{place} is no folder; give a run or a folder with runs, such as outputs")
    if (place / CARD).is_file():
        yield place.resolve()
    elif depth:
        for path in sorted(place.iterdir()):
            if path.is_dir() and path.name not in WITHOUT_RUNS and not path.name.startswith("."):
                yield from _folders(path, depth - 1)


def _line(run: Run, card: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float], dict[str, Any]]:
    """Settings, measured numbers, and what the run says of itself."""
    values = {name: float(value) for name, value in (card.get("best") or {}).items()}
    under: dict[str, Any] = {}
    if run.results.is_file():
        try:
            found = json.loads(run.results.read_text(encoding="utf-8"))
            values.update({name: one["value"] for name, one in found["metrics"].items() if one["value"] is not None})
            under = tested(found)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{run.results}: not as `querier test` writes it ({error!r}); test again") from error
    spent = card.get("seconds") or {}
    about = {"run": run.folder.name, "folder": str(run.folder), "status": card.get("status")}
    about.update(tested=run.results.is_file(), steps=card.get("steps"), tokens=card.get("tokens"))
    about["seconds"] = float(sum(spent.values())) if spent else np.nan
    about.update({f"seconds_{name}": float(value) for name, value in spent.items()})
    settings = {name: value for name, value in (card.get("config") or {}).items() if name not in APART}
    told = {name: value for name, value in flat(settings) if name not in PLACES}
    told[DIGEST] = str(card.get(DIGEST) or "")[:DIGITS] or None
    told.update({f"{TEST}{name}": value for name, value in under.items()})
    return told, values, about


def _differ(name: str, told: Sequence[Mapping[str, Any]]) -> bool:
    """Whether runs differ in a setting; in how they were tested those alone that were."""
    return len({as_text(one.get(name)) for one in told if name in one or not name.startswith(TEST)}) > 1


def _by_test(column: str) -> bool:
    """Whether `querier test` measured a column."""
    return not column.startswith(("val/", "seconds")) and column not in SMALLER


def _settings(table: DataFrame, settings: Sequence[str] | None) -> list[str]:
    if settings is not None:
        return list(dict.fromkeys(settings))
    if "settings" not in table.attrs:
        raise InputError("the table no longer says which columns are settings; give settings=[...]")
    return list(table.attrs["settings"])


def _check(table: DataFrame, names: Sequence[str]) -> None:
    absent = [name for name in names if name not in table.columns]
    if absent:
        shown = [name for name in table.columns if name not in ("run", "folder", "status", "tested")]
        raise InputError(f"these runs have no column {', '.join(absent)}; they have {', '.join(shown)}")


def _of_seeds(table: DataFrame) -> Any:
    """The seed of each run; one and the same where the runs do not differ in it."""
    return table[SEED] if SEED in table.columns else need("pandas").Series(0, index=table.index)


def _paired(table: DataFrame, column: str, one: Any, other: Any, keys: Any) -> Any:
    """Differences of runs that are equal but for the setting, at the places of the runs with the value."""
    reference = table.loc[other, column].astype(float).groupby(keys[other]).mean()
    mine = table.loc[one, column].astype(float)
    return (mine - keys[one].map(reference)).dropna()


def _difference(table: DataFrame, differences: Any) -> dict[str, Any]:
    """What the pairs come to, a seed at a time."""
    by_seed = [part.mean() for _, part in differences.groupby(_of_seeds(table)[differences.index])]
    middle, low, high = _interval(by_seed)
    same = len(by_seed) > 1 and {np.sign(one) for one in by_seed} in ({1.0}, {-1.0})
    counts = {"seeds": len(by_seed), "pairs": len(differences)}
    return {"difference": middle, "low": low, "high": high, "same_sign": same, **counts}


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and Student's 95 % interval; missing ends with one value, all missing with none."""
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half
