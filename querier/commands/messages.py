"""What a user reads when Hydra or OmegaConf refuses: what is wrong, what is allowed, what to type."""

from __future__ import annotations

import difflib
import re
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from querier.commands.options import OPTIONS

QUOTING = (
    "a value with a comma, brackets, quotes or an apostrophe needs quotes of its own inside those of the shell: "
    "'name=\"Ann, the first\"'; a list is 'name=[\"Ann Lee\",Bob]'"
)


TYPES = {"Integer": "a whole number", "Float": "a number", "Bool": "true or false"}


def explain(error: Exception, command: str | None = None) -> str:
    """One message for an error of Hydra or OmegaConf, without its internals.

    Args:
        error: What was raised.
        command: Whose options were composed; lets unknown keys be compared with the known ones.
    """
    cause = _cause(error)
    if isinstance(error, OverrideParseException):
        return f"cannot read the override {error.override!r}: {QUOTING}"
    if isinstance(error, MissingConfigException):
        return _missing_file(error)
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)):
        return unknown_key(_key(error, cause), command)
    if isinstance(cause, ValidationError):
        return _wrong_value(cause, _value(error))
    text = str(error)
    if "raised while resolving interpolation: " in text:  # a resolver of ours refused: its own words say why
        return text.partition("raised while resolving interpolation: ")[2].splitlines()[0]
    if "group override must be" in text:
        return f"a group takes the name of one of its files, not a number or a list: {text}"
    if "Ambiguous value" in text:
        return f"{text.splitlines()[0].rstrip('.')}: {QUOTING}; to run one job for each value, add -m"
    group = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
    if group:
        return unknown_key(group.group(1), command)
    return text.strip() or type(error).__name__


def known_keys(options: Any, prefix: str = "") -> list[str]:
    """The dotted names of all fields of a dataclass and of the dataclasses in it."""
    found = []
    for entry in fields(options):
        name = prefix + entry.name
        value = getattr(options, entry.name, None)
        found.append(name)
        if is_dataclass(value) and not isinstance(value, type):
            found.extend(known_keys(value, f"{name}."))
    return found


def _cause(error: BaseException) -> BaseException:
    """The innermost OmegaConf error; Hydra wraps it once or twice."""
    while isinstance(error.__cause__, OmegaConfBaseException):
        error = error.__cause__
    return error


def _key(error: Exception, cause: BaseException) -> str:
    found = re.search(r"Could not override '([^']+)'", str(error))
    return found.group(1) if found else str(getattr(cause, "full_key", None) or getattr(cause, "key", ""))


def unknown_key(key: str, command: str | None) -> str:
    """What to say of a setting that the options of `command` do not have."""
    key = key.lstrip("+~")
    if command is None:
        return f"there is no setting `{key}`"
    known = known_keys(OPTIONS[command]())
    parent, _, last = key.rpartition(".")
    near = [name for name in known if name.rpartition(".")[2] == last]  # the right name in the wrong place
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        return f"`querier {command}` has no setting `{key}`; did you mean `{near[0]}`?"
    beside = [name for name in known if name.rpartition(".")[0] == parent]
    beside = beside or [name for name in known if "." not in name]
    return f"`querier {command}` has no setting `{key}`; there are {', '.join(beside)}"


def _missing_file(error: MissingConfigException) -> str:
    path = str(error.missing_cfg_file or "").removesuffix(".yaml")
    group, _, choice = path.rpartition("/")
    options = list(error.options or [])
    if not options:
        return str(error).splitlines()[0]
    close = difflib.get_close_matches(choice, options, n=1, cutoff=0.6)
    hint = f"; did you mean `{group}={close[0]}`?" if close else ""
    return f"{group} has no choice `{choice}`; it has {', '.join(sorted(options))}{hint}"


def _value(error: Exception) -> str:
    found = re.search(r"Error merging override (\S+)", str(error))
    return f" in {found.group(1)}" if found else ""


def _wrong_value(cause: ValidationError, where: str) -> str:
    text = str(getattr(cause, "msg", None) or cause).splitlines()[0]
    key = str(getattr(cause, "full_key", None) or "")
    choice = re.search(r"Invalid value '([^']*)', expected one of \[(.*)\]", text)
    if choice:
        given, names = choice.group(1), choice.group(2).split(", ")
        close = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
        hint = f"; did you mean `{key}={close[0]}`?" if close else ""
        return f"{key} must be one of {', '.join(names)}, got {given!r}{hint}"
    typed = re.search(r"Value '(.*)' of type '.*' could not be converted to (\w+)", text)
    if typed:
        return f"{key} must be {TYPES.get(typed.group(2), typed.group(2))}, got {typed.group(1)!r}"
    if "is not a ListConfig" in text:
        return f"{key} must be a list, e.g. '{key}=[a,b]', also with one entry"
    return f"{key}: {text}" if key else f"{text}{where}"
