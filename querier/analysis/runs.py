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
from querier.analysis.report.metrics import GROUPS, LOWER, NEITHER, metric
from querier.errors import InputError
from querier.run import APART, CARD, DATA_APART, Run

if TYPE_CHECKING:
    from pandas import DataFrame

DEPTH = 4  # folders below the one that is named
WITHOUT_RUNS = ("cache", "model", "checkpoints")
PLACES = ("data.path", "prompt.profiles", "trainer.default_root_dir")  # of a machine: no setting
COUNTED = ("steps", "tokens", "seconds", "seconds_fit")
SMALLER = (*COUNTED, "seconds_prepare", "seconds_base")
SEED, DIGEST, TEST = "seed", "data_digest", "test."
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
    flat = [settings for settings, _, _ in found]
    names = sorted({name for settings in flat for name in settings})
    differing = [name for name in names if _differ(name, flat)]
    metrics = list(dict.fromkeys(name for _, values, _ in found for name in values))
    lines = [
        {
            **about,
            **{name: _plain(settings.get(name)) for name in differing},
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
    keys = table[by].map(_text).agg("\n".join, axis=1) if by else ["all"] * len(table)
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

    A setting of how the data are read brings other data with it; there only the file has to be the same.

    Args:
        table: As `load_runs` gives it.
        column: The number that changes.
        settings: Which; None for all that differ but the seed, and but those of the test where it did not measure the
            column.
        references: The value of a setting that the others are compared with; by default its most frequent one.

    Returns:
        `setting`, `value`, `reference`, `mean` over the runs with the value, `difference` to the reference over pairs
        of runs that differ in nothing else, `low` and `high` of its 95 % interval over seeds, `same_sign` in every
        seed, two at least, `seeds`, `pairs`, and `missing`, the runs with this value that lack the number. Without a
        pair there is no difference, and with one seed no interval.

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
    lines: list[dict[str, Any]] = []
    for setting in chosen:
        values = table[setting].map(_text)
        reference = _text((references or {}).get(setting, table.loc[values == values.mode().iloc[0], setting].iloc[0]))
        if reference not in set(values):
            raise InputError(f"no run has {setting}={reference}; there are {', '.join(sorted(set(values)))}")
        keys = _others(table, everything, setting)
        for value in sorted(set(values), key=lambda one: (one != reference, one)):
            rows = table[values == value]
            line = {
                "setting": setting,
                "value": value,
                "reference": reference,
                "mean": rows[column].astype(float).mean(),
            }
            differences = _paired(table, column, values == value, values == reference, keys)
            by_seed = [part.mean() for _, part in differences.groupby(_of_seeds(table)[differences.index])]
            own = value == reference
            line["difference"], line["low"], line["high"] = _interval([] if own else by_seed)
            line["same_sign"] = not own and len(by_seed) > 1 and {np.sign(one) for one in by_seed} in ({1.0}, {-1.0})
            line["seeds"] = len(by_seed)
            line["pairs"] = 0 if own else len(differences)
            line["missing"] = int(rows[column].isna().sum())
            lines.append(line)
    found: DataFrame = need("pandas").DataFrame(lines)
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
    if name in SMALLER:
        return True
    bare = name.removeprefix("val/").removesuffix("_macro")
    for end in GROUPS.values():
        bare = bare.removesuffix(end) if end else bare
    better = metric(bare).better
    if better == NEITHER:
        raise InputError(f"which way {name} is better is not known; say smaller_is_better=True or False")
    return better == LOWER


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
    flat = {name: value for name, value in _flat(settings) if name not in PLACES}
    flat[DIGEST] = str(card.get(DIGEST) or "")[:DIGITS] or None
    flat.update({f"{TEST}{name}": value for name, value in under.items()})
    return flat, values, about


def _flat(plain: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _differ(name: str, flat: Sequence[Mapping[str, Any]]) -> bool:
    """Whether runs differ in a setting; in how they were tested those alone that were."""
    return len({_text(one.get(name)) for one in flat if name in one or not name.startswith(TEST)}) > 1


def _by_test(column: str) -> bool:
    """Whether `querier test` measured a column."""
    return not column.startswith(("val/", "seconds")) and column not in SMALLER


def _others(table: DataFrame, everything: Sequence[str], setting: str) -> Any:
    """What has to be the same of two runs of which only one setting differs, as a text for each run."""
    names = [name for name in everything if name != setting]
    kept = table[names].map(_text)
    if setting.removeprefix("data.") in DATA_APART and setting.startswith("data.") and DIGEST in names:
        kept[DIGEST] = table["folder"].map(table.attrs.get("paths", {})).map(str)
    return kept.agg("\n".join, axis=1) if names else table["run"].map(lambda _: "")


def _plain(value: Any) -> Any:
    """As a table holds it: lists as text."""
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _text(value: Any) -> str:
    """The same text for the same setting, whatever a table made of it."""
    plain = _plain(value)
    if plain is None or plain != plain:
        return "none"
    return str(int(plain)) if isinstance(plain, (float, np.floating)) and float(plain).is_integer() else str(plain)


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


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and Student's 95 % interval; missing ends with one value, all missing with none."""
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half
