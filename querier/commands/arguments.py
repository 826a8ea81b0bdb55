"""Words of a command line that are neither settings nor flags: what was meant, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence

from querier.commands.messages import EXAMPLES, choices_of, known_keys, shell, type_of
from querier.commands.options import OPTIONS

FLAGS = ("--help", "--hydra-help", "--resolve", "--run", "--multirun", "--shell-completion", "-h", "-m", "-r", "-sc")
FLAGS_WITH_VALUE = (
    *("--cfg", "--package", "--config-path", "--config-name", "--config-dir", "--experimental-rerun", "--info"),
    *("-c", "-p", "-cp", "-cn", "-cd", "-i"),
)
BARE = {"ask": "query", "predict": "input", "test": "run", "forget": "querier"}  # what a word alone stands for
PROSE = ("query", "title")  # whose words are no settings, whatever they are


def misread(command: str, words: Sequence[str]) -> str | None:
    """What to say of the first word that is neither a setting nor a flag; None where there is none.

    Args:
        command: A key of `OPTIONS`.
        words: What stands after it.
    """
    taken = False  # by the flag before it
    for place, word in enumerate(words):
        if taken:
            taken = False
        elif word.startswith("-") and word != "--":
            flag, equals, _ = word.partition("=")
            if not _is_flag(flag, command):
                return _dashed(command, word, words[place + 1 :])
            taken = not equals and any(flag == one or _shortens(flag, one) for one in FLAGS_WITH_VALUE)
        elif word.startswith("=") or ("=" not in word and not word.startswith("~") and word != "--"):
            return _lone(command, words, place)
    return None


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether a flag among the words asks for the command's help."""
    return any(word in ("-h", "--help") or _shortens(word, "--help") for word in words)


def _is_flag(flag: str, command: str) -> bool:
    known = any(flag == one or _shortens(flag, one) for one in (*FLAGS, *FLAGS_WITH_VALUE))
    return known and not (flag.startswith("--") and _knows(command, flag[2:]))  # `--run first` means run=first


def _shortens(flag: str, whole: str) -> bool:
    return len(flag) > len("--c") and whole.startswith(flag)


def _knows(command: str, key: str) -> bool:
    return key in choices_of(command) or key in known_keys(OPTIONS[command]())


def _dashed(command: str, word: str, rest: Sequence[str]) -> str:
    name, equals, value = word.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if not _knows(command, key):
        return (
            f"`querier {command}` has no flag `{word}`; it has --help, --version, --cfg job, -m and --config-dir; "
            f"settings are written without dashes: {EXAMPLES[command]}"
        )
    following = [one for one in rest if one != "="][:1]
    if not equals and following and "=" not in following[0] and not following[0].startswith("-"):
        value = following[0]
    elif not equals:
        value = "true" if type_of(command, key).startswith("bool") else "..."
    return f"settings are written without dashes; for `{word}` write {_setting(command, key, value)}"


def _setting(command: str, key: str, value: str) -> str:
    """A setting as a shell takes it, with the brackets of a list."""
    if type_of(command, key).startswith("list") and not value.startswith("["):
        value = f"[{value}]"
    return shell(f"{key}={value}")


def _lone(command: str, words: Sequence[str], place: int) -> str:
    """What to say of a word without `=`: what it was meant for, as far as its neighbours tell."""
    word, before, after = words[place], words[place - 1] if place else "", words[place + 1 : place + 3]
    key, equals, start = before.partition("=")
    if before.endswith("=") and not word.startswith("="):
        return f"a setting has no space at its `=`; write {_setting(command, key, word)}"
    fell_apart = bool(equals) and type_of(command, key).startswith(("str", "list")) and not word.startswith("=")
    fell_apart = fell_apart and key not in choices_of(command)
    known = _knows(command, word)
    if known and not (fell_apart and (key in PROSE or key == word)):
        if after and after[0].startswith("="):
            value = after[0][1:] or "".join(after[1:]) or "..."
            return f"a setting has no space at its `=`; write {_setting(command, word, value)}"
        if after and "=" not in after[0] and not after[0].startswith("-"):
            return f"a setting and its value are one word; write {_setting(command, word, after[0])}"
        choices = choices_of(command).get(word)
        return f"`{word}` has no value; write {word}=..." + (f" with one of {', '.join(choices)}" if choices else "")
    if fell_apart:
        end = next((i for i, one in enumerate(words) if i > place and ("=" in one or one[:1] == "-")), len(words))
        whole = shell(" ".join([before, *words[place:end]]))
        return f"`{word}` is no setting; a value with spaces stands in quotes: write {whole}"
    if command in BARE and not word.startswith("="):
        return f"`{word}` is no setting; settings are written name=value: {_setting(command, BARE[command], word)}"
    group = next((group for group, choices in choices_of(command).items() if word in choices), None)
    example = f"did you mean {group}={word}?" if group else f"e.g. {EXAMPLES[command]}"
    return f"`{word}` is no setting; settings are written name=value; {example}"
