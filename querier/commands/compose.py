"""From a command and its overrides to typed options: the only place where Hydra and the dataclasses meet.

`compose` serves Python, notebooks and tests; `launch` is what the command line runs, multirun included. Both end in
`typed`, which makes real dataclasses, so that every range check has run before anything heavy is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from querier.commands.messages import explain, known_keys, unknown_key
from querier.commands.options import OPTIONS, FitOptions, PrepareOptions
from querier.errors import InputError

CONFIG_MODULE = "querier.conf"
FREE_MAPPINGS = ("data.fields.",)


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
    if command not in OPTIONS:
        raise InputError(f"no command {command!r}; there are {', '.join(OPTIONS)}")
    register()
    try:
        with _alone(), hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            composed = hydra.compose(command, [_added(word) for word in overrides])
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise InputError(explain(error, command)) from error
    return typed(composed, command)


@contextmanager
def _alone() -> Iterator[None]:
    """Set a running command's Hydra aside, so that a command can compose the options of another one."""
    running = GlobalHydra.instance()
    outer, running.hydra = running.hydra, None
    try:
        yield
    finally:
        running.hydra = outer


def launch(command: str, arguments: Sequence[str], run: Callable[[Any], float | None]) -> None:
    """Run a command under Hydra's own command line (`-m`, `--cfg job`, `--config-dir`, sweepers, launchers).

    Args:
        command: A key of `OPTIONS`.
        arguments: What stands after the command.
        run: The command's function; its return value is what a sweep optimises.

    Raises:
        InputError: As for `compose`, and what `run` refuses.
    """
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
    shown, sys.argv = sys.argv, [f"querier {command}", *(_added(word) for word in arguments)]
    try:
        hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name=command, version_base="1.3")(job)()
    except Refusal as refusal:
        raise InputError(refusal.text) from refusal
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
        return OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise InputError(explain(error, command)) from error


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Dotted names of the fields of a configuration; the keys of a free mapping are not fields."""
    for key in map(str, config):
        yield f"{prefix}{key}"
        value = config._get_node(key)
        if isinstance(value, DictConfig) and OmegaConf.get_type(value) is not dict:
            yield from _keys(value, f"{prefix}{key}.")


def _added(override: str) -> str:
    """An override of a free mapping, as Hydra wants it: with a leading `++`."""
    return f"++{override}" if override.startswith(FREE_MAPPINGS) else override


def placed(options: Any) -> Any:
    """Options of a job of a sweep; those of a command that makes runs, with its output under the sweep's folder."""
    settings = HydraConfig.get()
    if settings.mode is RunMode.MULTIRUN and isinstance(options, FitOptions | PrepareOptions):
        options.output = str(Path(settings.sweep.dir))
        options.name = None  # each job has a name of its own: its method and the digest of its settings
    return options


def register() -> None:
    """Make the dataclasses and resolvers known to Hydra; may be called again."""
    store = ConfigStore.instance()
    for command, options in OPTIONS.items():
        store.store(name=f"{command}_options", node=options, provider="querier")
    OmegaConf.register_new_resolver("or", _first, replace=True)
    OmegaConf.register_new_resolver("of_method", _of_method, replace=True)
    OmegaConf.register_new_resolver("sample_corpus", _sample_corpus, replace=True)


def _first(*values: Any) -> Any:
    return next((value for value in values if value), None)


def _of_method(method: str, values: Any) -> Any:
    """What an experiment says for each method, e.g. `${of_method:${method},{ft: 1e-3, querier: 5e-4}}`."""
    if method not in values:
        raise InputError(f"this experiment has values for {', '.join(values)}, not for method={method}")
    return values[method]


def _sample_corpus() -> str:
    from querier.data.sample import sample_folder  # only where the bundled corpus is asked for

    return str(sample_folder() / "dialogues.jsonl")
