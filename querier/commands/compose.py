"""From a command and its overrides to typed options: the only place where Hydra and the dataclasses meet.

`compose` serves Python, notebooks and tests; `launch` is what the command line runs, multirun included. Both end in
`typed`, which makes real dataclasses, so that every range check has run before anything heavy is imported.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from querier.commands.arguments import asks_for_help, misread
from querier.commands.messages import NEEDS_QUOTES, choices_of, explain, help_page, known_keys, unknown_key
from querier.commands.options import OPTIONS, FitOptions, PrepareOptions
from querier.errors import InputError
from querier.run import check_name

CONFIG_MODULE = "querier.conf"
FREE_MAPPINGS = ("data.fields.",)

# Settings of free text: they arrive as typed, and are not swept over.
FREE_TEXT = ("query", "history", "input", "into", "run", "against", "querier", "responder", "title")
MISSING, STANDS_FOR_MISSING = "???", "\0???"  # what OmegaConf takes for no value, and a text that nobody can type

# A text in quotes, a text without them (a backslash keeps what follows it), or a single sign.
PIECES = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|((?:\\.|[^][,"'\\])+)|(.)""", re.DOTALL)
ESCAPED = re.compile(r"\\[][(){}\\:=,\s]")


def compose(command: str, overrides: Sequence[str] = ()) -> Any:
    """The options of a command, checked.

    Args:
        command: A key of `OPTIONS`.
        overrides: As on the command line: `["method=ft", "trainer.max_epochs=2"]`.

    Returns:
        An instance of `OPTIONS[command]`.

    Raises:
        InputError: Unknown command, group, field or choice; wrong type; bad range; a value still missing.
    """
    return typed(_composed(command, overrides), command)


def _composed(command: str, overrides: Sequence[str]) -> DictConfig:
    """The settings of a command as they stand in its files and overrides, unchecked."""
    if command not in OPTIONS:
        raise InputError(f"no command {command!r}; there are {', '.join(OPTIONS)}")
    register()
    try:
        with _alone(), hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            return hydra.compose(command, [_readable(word) for word in overrides])
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise InputError(explain(error, command)) from error


@contextmanager
def _alone() -> Iterator[None]:
    """Set a running command's Hydra aside, so that a command can compose the options of another one."""
    running = GlobalHydra.instance()
    outer, running.hydra = running.hydra, None
    try:
        yield
    finally:
        running.hydra = outer


def launch(command: str, arguments: Sequence[str], run: Callable[[Any], float | None], about: str = "") -> None:
    """Run a command under Hydra's own command line (`-m`, `--cfg job`, `--config-dir`, sweepers, launchers).

    Args:
        command: A key of `OPTIONS`.
        arguments: What stands after the command.
        run: The command's function; its return value is what a sweep optimises.
        about: What the command does, for its help.

    Raises:
        InputError: As for `compose`, words that are no settings, and what `run` refuses.
    """
    if fault := misread(command, arguments):
        raise InputError(fault)
    if asks_for_help(arguments):  # Hydra would copy all that it knows for each group that it lists: seconds
        settings = _composed(command, [word for word in arguments if "=" in word and not word.startswith("-")])
        sys.stdout.write(help_page(command, about, choices_of(command), OmegaConf.to_yaml(settings)))
        return
    register()
    started = False

    def job(config: DictConfig) -> float | None:
        nonlocal started
        started = True
        sys.argv = [shown[0], command, *_of_this_job(arguments)]  # what a trainer that starts processes repeats
        try:
            return run(placed(typed(config, command)))
        except InputError as error:
            # Hydra wraps and prints exceptions of a job; a refusal leaves as an exit, which it lets pass.
            raise Refusal(str(error)) from error

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us instead of being printed by Hydra
    shown, sys.argv = sys.argv, [f"querier {command}", *(_readable(word) for word in arguments)]
    try:
        hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name=command, version_base="1.3")(job)()
    except Refusal as refusal:
        raise InputError(refusal.text) from refusal
    except SystemExit as done:  # how Hydra leaves after a page of its own
        if done.code:
            raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if started:  # the command's own fault, with its traceback
            raise
        raise InputError(explain(error, command)) from error
    finally:
        sys.argv = shown


def _of_this_job(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments of one job, which in a sweep are its own values."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode is RunMode.MULTIRUN:
        return list(hydra_config.overrides.task)
    return arguments


def job_overrides() -> list[str] | None:
    """The overrides of the command that runs; None from Python."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else None


def in_sweep() -> bool:
    """Whether the command that runs is a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


class Refusal(SystemExit):
    """An `InputError` on its way out of Hydra."""

    def __init__(self, text: str) -> None:
        super().__init__(2)
        self.text = text


def typed(config: DictConfig, command: str) -> Any:
    """The dataclasses that a composed configuration stands for.

    Raises:
        InputError: A key that no dataclass has (`+key=value`), or a range check refuses.
    """
    known = {*known_keys(OPTIONS[command]())}
    for key in _keys(config):
        if key not in known:
            raise InputError(unknown_key(key, command))
    try:
        options = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise InputError(explain(error, command)) from error
    for name in FREE_TEXT:
        if getattr(options, name, None) == STANDS_FOR_MISSING:
            setattr(options, name, MISSING)
    return options


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Dotted names of the fields of a configuration; the keys of a free mapping are not fields."""
    for key in map(str, config):
        yield f"{prefix}{key}"
        value = config._get_node(key)
        if isinstance(value, DictConfig) and OmegaConf.get_type(value) is not dict:
            yield from _keys(value, f"{prefix}{key}.")


def _readable(word: str) -> str:
    """An override as Hydra's grammar takes it: free text in quotes, free mappings with a leading `++`."""
    name, equals, value = word.partition("=")
    if not equals or word.startswith("-"):
        return word
    if name in FREE_TEXT:
        return f"{name}={_exactly(value)}" if value else word
    return f"{'++' if name.startswith(FREE_MAPPINGS) else ''}{name}={_quoted_items(value)}"


def _exactly(text: str) -> str:
    """A text that comes out of Hydra and OmegaConf as it went in."""
    if text == MISSING:
        text = STANDS_FOR_MISSING
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # no interpolation; backslashes before one count double
    return QuotedString(escaped, Quote.single).with_quotes()


def _quoted_items(value: str) -> str:
    """A value, or the items of a list, with quotes around what the grammar takes only so: letters beyond ASCII, `&`.

    What has a meaning in the grammar stays as it is: quotes, functions, mappings, interpolations, escapes.
    """
    if not NEEDS_QUOTES.search(value):
        return value
    pieces = [found.groups() for found in PIECES.finditer(value)]
    plain = [text for _, text, _ in pieces if text]
    if any(re.search(r"[(){}]", text) for text in plain):
        return value
    written = []
    for place, (quoted, text, sign) in enumerate(pieces):
        beside = pieces[max(place - 1, 0) : place] + pieces[place + 1 : place + 2]
        alone = all(other[2] and other[2] in "[]," for other in beside)
        if text and alone and NEEDS_QUOTES.search(text) and not ESCAPED.search(text):
            bare = text.strip(" \t")
            text = text.replace(bare, QuotedString(bare, Quote.double).with_quotes())
        written.append(quoted or text or sign)
    return "".join(written)


def placed(options: Any) -> Any:
    """Options of a job of a sweep; those of a command that makes runs, with its output under the sweep's folder."""
    if in_sweep() and isinstance(options, FitOptions | PrepareOptions):
        options.output = str(Path(HydraConfig.get().sweep.dir))
        options.name = None  # each job has a name of its own: its method and the digest of its settings
    return options


@cache
def register() -> None:
    """Make the dataclasses and resolvers known to Hydra, once; may be called again."""
    store = ConfigStore.instance()
    for command, options in OPTIONS.items():
        store.store(name=f"{command}_options", node=options, provider="querier")
    OmegaConf.register_new_resolver("or", _first, replace=True)
    OmegaConf.register_new_resolver("folder_name", check_name, replace=True)
    OmegaConf.register_new_resolver("of_method", _of_method, replace=True)
    OmegaConf.register_new_resolver("sweep_root", _sweep_root, replace=True)
    OmegaConf.register_new_resolver("sample_corpus", _sample_corpus, replace=True)


def _sweep_root(output: str) -> str:
    """Where the folder of a sweep stands: under the output that was given, else beside the default one."""
    return "multirun" if output == FitOptions.output else output


def _first(*values: Any) -> Any:
    return next((value for value in values if value), None)


def _of_method(method: str, values: Any) -> Any:
    """What an experiment says for each method, e.g. `${of_method:${method},{ft: 1e-3, other: 5e-4}}`."""
    if method not in values and "other" in values:
        return values["other"]
    if method not in values:
        raise InputError(f"this experiment has values for {', '.join(values)}, not for method={method}")
    return values[method]


def _sample_corpus() -> str:
    from querier.data.sample import sample_folder  # only where the bundled corpus is asked for

    return str(sample_folder() / "dialogues.jsonl")
