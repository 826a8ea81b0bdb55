"""The folder of one run: its name, its card, and where its parts lie.

    outputs/<name>/  run.json  metrics.csv  checkpoints/{last,best}.ckpt  model/  results.json  examples.jsonl

The default name is `<method>-<digest of configuration and data>`, so that the same command finds its own unfinished
run again, and a finished one is never replaced without being told to.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

from querier import __version__
from querier.config import Config, from_plain, to_plain
from querier.errors import InputError
from querier.files import check_place, locked, write_atomic

CARD = "run.json"
RUNNING, FINISHED = "running", "finished"

# Where things lie and what is shown or measured afterwards does not change what is trained.
APART = ("name", "output", "cache", "overwrite", "evaluation", "logger")
DATA_APART = (
    *("path", "reader", "fields", "items", "filters", "task", "tasks"),
    *("on_error", "split", "split_seed", "unseen", "responders", "limit"),
)
TRAINER_APART = ("enable_progress_bar", "enable_model_summary", "log_every_n_steps", "default_root_dir")
PACKAGES = ("torch", "lightning", "transformers", "peft", "faiss-cpu", "hydra-core", "numpy")


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    folder: Path

    @property
    def checkpoints(self) -> Path:
        """Where `last.ckpt` and `best.ckpt` lie."""
        return self.folder / "checkpoints"

    @property
    def last(self) -> Path:
        """The checkpoint that an interrupted run goes on from."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation value."""
        return self.checkpoints / "best.ckpt"

    @property
    def model(self) -> Path:
        """The best weights as safetensors."""
        return self.folder / "model"

    @property
    def metrics(self) -> Path:
        """What was logged at each step, as CSV."""
        return self.folder / "metrics.csv"

    @property
    def results(self) -> Path:
        """What `querier test` measured on the test split."""
        return self.results_of("test")

    @property
    def examples(self) -> Path:
        """The test split's dialogues as `querier test` scored them, one JSON object a line."""
        return self.examples_of("test")

    def results_of(self, split: str) -> Path:
        """What `querier test` measured on a split; another one than `test` stands in the name."""
        return self.folder / ("results.json" if split == "test" else f"results_{split}.json")

    def examples_of(self, split: str) -> Path:
        """A split's dialogues as scored, as `results_of`."""
        return self.folder / ("examples.jsonl" if split == "test" else f"examples_{split}.jsonl")

    def measured(self, split: str) -> dict[str, Any]:
        """What `querier test` left of a split; empty where nothing was tested."""
        path = self.results_of(split)
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found

    def card(self) -> dict[str, Any]:
        """What the run says about itself; empty for a run that has not begun.

        Raises:
            InputError: The card cannot be read.
        """
        path = self.folder / CARD
        if not path.is_file():
            return {}
        try:
            card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} is not readable JSON ({error}); remove the folder and run again") from error
        return card

    @property
    def cache(self) -> Path | None:
        """The cache that the run reads; None for a run that has not begun.

        It is where it was made, from wherever the command is called; where that is gone, as after a move of the whole
        project, it is sought where the settings say.
        """
        card = self.card()
        if "config" not in card:
            return None
        prepared = card.get("prepared")
        known = [Path(prepared).parents[1]] if prepared else []
        known += [Path(path) for path in (card.get("cache"), card["config"]["cache"]) if path]
        return next((path for path in known if path.is_dir()), known[0])

    def config(self) -> Config:
        """The configuration that the run was made with."""
        config: Config = from_plain(Config, self.card()["config"])
        return config

    def write(self, **entries: Any) -> None:
        """Add entries to the card, atomically."""
        write_json(self.folder / CARD, {**self.card(), **entries})

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no other process train this run until the block ends, or until this process does.

        Raises:
            InputError: Another one trains it.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.folder.with_name(f".{self.folder.name}.lock"), wait=False))
            except BlockingIOError as error:
                raise InputError(
                    f"{self.folder} is being trained by another process; wait until that has ended, or write "
                    "elsewhere: give another output="
                ) from error
            yield

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.card().get("status") == FINISHED

    def check_finished(self) -> None:
        """Refuse a run that has not come to its end.

        Raises:
            InputError: With what to do.
        """
        if not self.finished:
            raise InputError(f"{self.folder} is not finished; run the same `querier fit` again, it goes on")


class FinishedBefore(InputError):
    """The run that was asked for is there."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"{run.folder} is finished; overwrite=true trains it again, `querier test` scores it")
        self.run = run


def run_digest(config: Config, data_digest: str) -> str:
    """Eight letters that name all that training depends on.

    Args:
        config: The configuration.
        data_digest: Of the split corpus: it stands for the path, the reader and the split.
    """
    plain = {key: value for key, value in to_plain(config).items() if key not in APART}
    for part, apart in (("data", DATA_APART), ("trainer", TRAINER_APART)):
        plain[part] = {key: value for key, value in plain[part].items() if key not in apart}
    profiles = Path(config.prompt.profiles)
    if config.prompt.profiles and profiles.is_file():  # what is written there counts, not where
        plain["prompt"] = {**plain["prompt"], "profiles": hashlib.sha256(profiles.read_bytes()).hexdigest()}
    text = json.dumps([plain, data_digest], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def check_name(name: str) -> str:
    """The name itself, where it names a folder inside another one; `a/b` does.

    Raises:
        InputError: It is absolute, or leads out of the folder or back to it.
    """
    inside = PurePath(os.path.normpath(name))
    if inside.is_absolute() or not inside.parts or ".." in inside.parts or "\0" in name:
        raise InputError(
            f"name={name} must be a folder inside `output`, such as first or monday/first; "
            "to write elsewhere set output: output=../elsewhere name=first"
        )
    return name


def place_run(config: Config, data_digest: str) -> Run:
    """The folder for a configuration and a corpus; neither makes nor removes anything.

    Raises:
        InputError: The run is finished, or its name belongs to another one, and `overwrite` is not set; or the name
            leads out of `output`; or the folder could not be written.
    """
    digest = run_digest(config, data_digest)
    run = Run(Path(config.output) / check_name(config.name or f"{config.method}-{digest}"))
    check_place(run.folder)
    card = run.card()
    if config.overwrite:
        if not card and run.folder.exists() and any(run.folder.iterdir()):
            raise InputError(f"{run.folder} holds files but no run; nothing was removed: give another name=")
        return run
    if card and card.get("digest") != digest:
        raise InputError(
            f"{run.folder} holds another run (digest {card.get('digest')}, this one is {digest}); "
            "give another name=, or overwrite=true to replace it"
        )
    if card.get("status") == FINISHED:
        raise FinishedBefore(run)
    return run


def open_run(config: Config, data_digest: str) -> Run:
    """The folder for a configuration and a corpus: new, or an unfinished one that goes on.

    Raises:
        InputError: As `place_run`; or the folder cannot be written.
    """
    run = place_run(config, data_digest)
    if config.overwrite and run.folder.exists():
        shutil.rmtree(run.folder)
    card, digest = run.card(), run_digest(config, data_digest)
    begun = card.get("begun", time.strftime("%Y-%m-%dT%H:%M:%S"))
    where = str(Path(config.cache).resolve())
    plain = to_plain(config)
    run.write(
        status=RUNNING, digest=digest, data_digest=data_digest, begun=begun, cache=where, config=plain, **origin()
    )
    return run


def find_run(name: str, output: str) -> Run:
    """A run by its folder or by its name under `output`; the newest finished one where no name is given.

    Raises:
        InputError: There is no such run.
    """
    if name:
        for folder in (Path(name), Path(output) / name):
            if (folder / CARD).is_file():
                return Run(folder)
        known = ", ".join(sorted(path.parent.name for path in Path(output).glob(f"*/{CARD}"))) or "none"
        raise InputError(f"no run {name!r}: neither a folder with {CARD} nor a name under {output} (there: {known})")
    runs = [Run(path.parent) for path in Path(output).glob(f"*/{CARD}")]
    finished = [run for run in runs if run.finished]
    if not finished:
        raise InputError(f"no finished run under {output}; `querier fit` makes one, run=<folder> names one elsewhere")
    return max(finished, key=lambda run: (run.card().get("ended", ""), (run.folder / CARD).stat().st_mtime))


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def origin() -> dict[str, Any]:
    """Versions, revision and machine, for the card."""
    return {
        "querier": __version__,
        "git": _revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": dict(_versions()),
    }


def _versions() -> Mapping[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _revision() -> str | None:
    """The commit of the checkout that runs, with `+` where files differ from it; None outside one."""
    root = Path(__file__).resolve().parents[1]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    head, changed = (
        subprocess.run([git, "-C", str(root), *words], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603  # fixed words
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    )
    return (head + ("+" if changed else "")) or None
