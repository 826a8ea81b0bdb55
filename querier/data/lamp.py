"""Reader of LaMP's published layout, for both of its settings, by user and by time.

`<part>_questions.json` is a list of `{"id", "input", "profile": [{"id", "text", ...}], "user_id" (some)}`, and
`<part>_outputs.json` beside it `{"task", "golds": [{"id", "output"}]}`. What becomes of them is told in
`querier/data/questions.py`; how an entry of a profile becomes a query and a reply stands under `data.tasks`.

Who asks is `user_id`, else the question's id: there each question is somebody else's, and a question of the same id in
another part is the same person's where the two profiles share an entry, as in the setting by time.

The outputs of LaMP's test part are not published. So `dev` is the test part, and a seeded tenth of the people of
`train` is validation; where a test part has outputs, `dev` is validation.

References:
    Salemi et al.: LaMP: When large language models meet personalization, 2024.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from querier.data.parsing import counted
from querier.data.questions import Question, check_split, choose_task, entry_key, fields_of, form_fault, records_of
from querier.data.sources import Source, check_exists, read_json
from querier.data_config import DataConfig
from querier.errors import InputError

QUESTIONS = re.compile(r"(train|dev|val|valid|validation|test)_questions\.json")
FORM = '[{"id", "input", "profile": [{"id", "text", ...}, ...]}, ...]'
GOLDS = '{"task", "golds": [{"id", "output"}, ...]}'
Met = dict[str, dict[str, set[bytes]]]
"""For each id of a question without `user_id` those who asked it, and the entries of their profiles."""


def read_lamp(config: DataConfig, notes: list[str]) -> Iterator[Source]:
    """The questions and profiles of a task: of a folder, or of one `<part>_questions.json` and its outputs.

    Raises:
        InputError: When no file of the layout is found, outputs are missing, or the files contradict each other.
    """
    check_split(config)
    parts = _parts(Path(config.path), notes)
    questions: list[Question] = []
    tasks: dict[str, Path] = {}
    known: Met = {}
    for part, path in parts.items():
        named, golds = _golds(_outputs(path))
        tasks.setdefault(named, path)
        questions += _questions(path, part, golds, known)
    if len(tasks) > 1:
        where = ", ".join(f"{task!r} in {path.parent}" for task, path in tasks.items())
        raise InputError(f"data.path: {config.path} holds several tasks, {where}; give the folder of one")
    apart = sum(len(users) - 1 for users in known.values())
    if apart:
        notes.append(
            f"{counted(apart, 'question id')} of one part {'is' if apart == 1 else 'are'} another person's in another "
            "part: the profiles have nothing in common"
        )
    task = choose_task(next(iter(tasks)), fields_of(questions), config)
    yield from records_of(questions, task, config, notes)


def _parts(root: Path, notes: list[str]) -> dict[str, Path]:
    """The file of questions of each part, in the order train, validation, test."""
    check_exists(root)
    found: dict[str, Path] = {}
    for path in [root] if root.is_file() else sorted(root.rglob("*_questions.json")):
        match = QUESTIONS.fullmatch(path.name)
        if match is None:
            continue
        part = match[1] if match[1] in ("train", "test") else "dev"
        if part in found:
            raise InputError(f"data.path: {root} holds {found[part]} and {path}; give the folder of one task")
        found[part] = path
    if not found:
        raise InputError(
            f"data.path: {root} holds no train_questions.json or dev_questions.json; give the folder of one LaMP task"
        )
    test = found.get("test")
    if test is not None and not _outputs(test).is_file():
        if len(found) == 1:
            raise InputError(f"{test}: {_no_outputs(test)}")
        notes.append(f"{test.name} is left out: {_no_outputs(test)}")
        del found["test"]
    names = {"train": "train", "dev": "validation" if "test" in found else "test", "test": "test"}
    return {names[part]: found[part] for part in names if part in found}


def _outputs(path: Path) -> Path:
    return path.with_name(path.name.replace("_questions", "_outputs"))


def _no_outputs(test: Path) -> str:
    return (
        f"there is no {_outputs(test).name}, for the outputs of LaMP's test part are not published; read train and "
        "dev, of which dev is the test part then"
    )


def _golds(path: Path) -> tuple[str, dict[str, Any]]:
    """The task, and the output of each question."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; the outputs belong beside the questions")
    content = read_json(path)
    golds = content.get("golds") if isinstance(content, dict) else None
    good = isinstance(golds, list) and all(isinstance(one, dict) and {"id", "output"} <= set(one) for one in golds)
    if not good or not isinstance(content.get("task"), str):
        raise InputError(f"{path}: must be {GOLDS}; take the published file")
    return content["task"], {str(one["id"]): one["output"] for one in content["golds"]}


def _questions(path: Path, part: str, golds: dict[str, Any], known: Met) -> Iterator[Question]:
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: must be a JSON list of {FORM}, got {type(content).__name__}")
    for number, raw in enumerate(content, start=1):
        text = json.dumps({name: raw[name] for name in raw if name != "profile"}) if isinstance(raw, dict) else str(raw)
        source = Source(str(path), number, text)
        fault = _fault(raw, golds)
        if fault:
            yield Question(Source(source.file, source.line, source.text, fault=fault))
            continue
        identity, profile = str(raw["id"]), raw["profile"]
        user = str(raw["user_id"]) if raw.get("user_id") is not None else _user(identity, part, profile, known)
        yield Question(source, identity, user, part, raw["input"], _text(golds[identity]), profile)
    left = sorted(set(golds) - {str(raw.get("id")) for raw in content if isinstance(raw, dict)})
    if left:
        raise InputError(
            f"{_outputs(path)}: {counted(len(left), 'output')} without a question, {left[0]!r} first; take the two "
            "files of one download"
        )


def _fault(raw: Any, golds: dict[str, Any]) -> str:
    if fault := form_fault(raw, ("id", "input", "profile"), f"a question must be an object of {FORM}"):
        return fault
    if str(raw["id"]) not in golds:
        return f"no output has the id {str(raw['id'])!r}; take the two files of one download"
    return ""


def _user(identity: str, part: str, profile: list[dict[str, Any]], known: Met) -> str:
    """Who asks a question without `user_id`."""
    entries = {entry_key(entry) for entry in profile}
    users = known.setdefault(identity, {})
    for user, others in users.items():
        if entries & others:
            others |= entries
            return user
    user = identity if not users else f"{identity} ({part})"
    users[user] = entries
    return user


def _text(output: Any) -> Any:
    return str(output) if isinstance(output, int | float) and not isinstance(output, bool) else output
