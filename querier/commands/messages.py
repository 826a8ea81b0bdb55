"""What a user reads when Hydra or OmegaConf refuses: what is wrong, what is allowed, what to type; and the help."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from querier.commands.options import OPTIONS
from querier.config import Config

QUOTING = (
    "a value with a comma, brackets, quotes or an apostrophe needs quotes of its own inside those of the shell: "
    "'name=\"Ann, the first\"'; a list is 'name=[\"Ann Lee\",Bob]'"
)
NEEDS_QUOTES = re.compile(r"[^A-Za-z0-9_/\-\\+.$%*@?|: \t(){}\[\],\"']")  # brackets, commas and quotes may be grammar
KEY = re.compile(r"[\w.@/:$+~-]+", re.ASCII)
SIGNS = {"'": "the apostrophe", '"': "the quote", "=": "the equals sign", ",": "the comma"}
SIGNS.update(dict.fromkeys("()[]{}", "the bracket"))
# An item of a list: in quotes of its own, or up to the next comma.
QUOTED = r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
ITEM = re.compile(rf"[ \t]*({QUOTED}|(?:\\.|[^,])*?)[ \t]*(?:,|$)", re.DOTALL)
ESCAPED = re.compile(r"\\([][(){}\\:=,\s])")

EXAMPLES = {
    "prepare": "querier prepare data=jsonl data.path=my_dialogues.jsonl check_only=true",
    "fit": "querier fit data=sample method=querier name=first",
    "test": "querier test run=first cold_start=true",
    "compare": "querier compare data=sample 'methods=[ft,querier]' 'seeds=[0,1,2]'",
    "predict": "querier predict run=first input=queries.jsonl into=replies.jsonl",
    "ask": "querier ask run=first query='What makes sourdough sour?' 'queriers=[Ann,Bob]'",
    "report": "querier report 'runs=[first,second]' into=report.html",
    "forget": "querier forget run=first querier=Ann",
    "bench": "querier bench name=step steps=10",
    "demo": "querier demo",
}

TYPES = {"Integer": "a whole number", "Float": "a number", "Bool": "true or false"}


def explain(error: Exception, command: str | None = None) -> str:
    """One message for an error of Hydra or OmegaConf, without its internals.

    Args:
        error: What was raised.
        command: Whose options were composed; lets unknown keys be compared with the known ones.
    """
    cause = _cause(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, command)
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
        return _several(text.splitlines()[0].partition("'")[2].rstrip("'"), command)
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


def choices_of(command: str | None) -> dict[str, list[str]]:
    """The groups that a command takes and what each offers; none for those that only read runs."""
    if command is None or not issubclass(OPTIONS[command], Config):
        return {}
    apart = {"hydra", "local"} | (set() if command == "compare" else {"table"})
    found = {}
    for folder in files("querier.conf").iterdir():
        if folder.is_dir() and folder.name not in apart:
            found[folder.name] = sorted(
                file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")
            )
    return {group: choices for group, choices in sorted(found.items()) if choices}


def shell(word: str) -> str:
    """A word as a shell takes it."""
    if re.fullmatch(r"[\w@%+=:,./-]+", word):
        return word
    if "'" not in word:
        return f"'{word}'"
    return '"' + re.sub(r'([\\"$`])', r"\\\1", word) + '"'


def type_of(command: str | None, key: str) -> str:
    """How the dataclass writes the type of a setting; empty for no such setting."""
    *above, last = key.split(".")
    found: Any = OPTIONS[command]() if command else None
    for name in above:
        found = getattr(found, name, None)
    return next((str(entry.type) for entry in fields(found) if entry.name == last), "") if is_dataclass(found) else ""


def _unreadable(override: str, command: str | None) -> str:
    """What to say of an override that is no sentence of Hydra's grammar: the sign at fault, and what to write."""
    key, equals, value = override.lstrip("+").partition("=")
    if not equals:
        return f"cannot read the override {override!r}: settings are written name=value"
    if not KEY.fullmatch(key):
        return unknown_key(key, command)
    listed = value.startswith("[")
    if listed and not value.endswith("]"):
        return f"cannot read the override {override!r}: a list ends with ]; write {shell(f'{key}={value}]')}"
    items = _items(value[1:-1]) if listed else [value]
    if listed and value != "[]" and "" in items:
        right = shell(f"{key}=[{','.join(filter(None, items))}]")
        return f"cannot read the override {override!r}: an item of the list is empty; write {right}"
    faulty = next((item for item in items if not _whole(item) and _fault(item)), None)
    if faulty is None or (listed and re.search(r"[][{}]", "".join(item for item in items if not _whole(item)))):
        return f"cannot read the override {override!r}: {QUOTING}"
    written = ",".join(_in_quotes(item) for item in items)
    sign, right = _fault(faulty), shell(f"{key}=[{written}]" if listed else f"{key}={written}")
    return (
        f"cannot read the override {override!r}: {SIGNS.get(sign, 'the sign')} {sign} in {faulty} needs quotes of its "
        f"own around the {'item' if listed else 'value'}; write {right}"
    )


def _items(body: str) -> list[str]:
    found, place = [], 0
    while place < len(body):
        match = ITEM.match(body, place)
        if match is None:
            break
        found.append(match.group(1))
        place = match.end()
    return found


def _whole(item: str) -> bool:
    """Whether an item of a list stands in quotes from end to end."""
    return re.fullmatch(QUOTED, item, re.DOTALL) is not None


def _fault(item: str) -> str:
    """The first sign that the grammar does not take outside quotes; empty where it takes all."""
    found = re.search(r"[][(){},\"']", item) or NEEDS_QUOTES.search(item)
    return found.group() if found else ""


def _in_quotes(item: str) -> str:
    """An item in quotes where it needs them; those that it has by halves go."""
    if _whole(item) or not _fault(item):
        return item
    bare = item[1:].removesuffix(item[0]) if item[0] in "\"'" else item
    return str(QuotedString(ESCAPED.sub(r"\1", bare), Quote.double).with_quotes())


def _several(override: str, command: str | None) -> str:
    """What to say of a value with a comma outside quotes and brackets, which stands for several jobs."""
    key, _, value = override.lstrip("+").partition("=")
    # Without the quotes around single words, which are ours where they were not typed.
    value = ",".join(re.sub(r"^\"([^\"',\\]*)\"$", r"\1", item) for item in _items(value))
    each = f"to run one job for each, add -m: querier {command or 'fit'} {shell(f'{key}={value}')} -m"
    kind, methods = type_of(command, key), shell(f"methods=[{value}]")
    if key == "method" and type_of(command, "methods"):
        return f"method takes one choice, got {value}; querier {command} names several so: {methods}"
    if key in choices_of(command):
        table = f"; for one table of all: querier compare {methods}" if key == "method" else ""
        return f"{key} takes one choice, got {value}; {each}{table}"
    if kind.startswith("list"):
        return f"{key} is a list, got {value} without brackets; write {shell(f'{key}=[{value}]')}"
    if not kind.startswith("str"):
        return f"{key} takes one value, got {value}; {each}"
    right = shell(f"{key}={QuotedString(value, Quote.double).with_quotes()}")
    return f"{key} takes one value, got {value}; if the comma is part of it, write {right}; {each}"


def help_page(command: str, about: str, groups: Mapping[str, Sequence[str]], settings: str) -> str:
    """The help of a command.

    Args:
        command: A key of `OPTIONS`.
        about: What it does.
        groups: Those that it takes, and what each offers.
        settings: Its settings as YAML.
    """
    listed = "".join(f"  {group}: {', '.join(choices)}\n" for group, choices in groups.items())
    return (
        f"querier {command}: {about}\n\n  {EXAMPLES[command]}\n\n"
        + (f"Groups and their choices (group=choice):\n\n{listed}\n" if listed else "")
        + "Settings (name=value; those inside another one with a dot: outer.inner=value) and their values:\n\n"
        + f"{settings}\n"
        + "Flags: -m runs one job for each value of key=1,2; --cfg job shows the settings alone; --version.\n"
    )


def _missing_file(error: MissingConfigException) -> str:
    path = str(error.missing_cfg_file or "").removesuffix(".yaml")
    group, _, choice = path.rpartition("/")
    options = list(error.options or choices_of("compare").get(group, []))  # of several choices Hydra names none
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
