"""Questions that come with a profile of who asks, as LaMP's do: from them to records in the order of time.

A profile is what a person wrote before. Each entry becomes a record that is read as history and never trained on or
scored; each question a dialogue whose query is its input and whose reply is its true output. Entries that several
questions of one person share stand once.

What a question may read of its person are the entries of its own profile: another question's profile often holds its
answer. A history is all that is earlier, so an entry is placed before the first question from which on every question
of the person lists it, and left out, and counted, where the last one does not. Questions of one person in one part
are one scene, hence no history of each other; one of an earlier part is earlier.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from querier.choices import SplitBy
from querier.data.labels import read_label, read_rating
from querier.data.parsing import counted
from querier.data.sources import Source
from querier.data.templates import Template
from querier.data_config import DataConfig, TaskConfig
from querier.errors import InputError

Entry = dict[str, Any]
PARTS = {"train": 0, "validation": 1, "test": 2}
HELD_OUT = 0.1  # of the people of the training part, for a part that a published set does not have
DATES = ("date", "year")
ASSISTANT = "assistant"


@dataclass
class Question:
    """One question as it stands in a published set.

    Attributes:
        source: Where it stands; has a fault where it cannot be used, and then nothing else counts.
        id: Unique in its part.
        user: Who asks.
        part: `train`, `validation` or `test`.
        query: What is asked.
        reply: The true answer.
        profile: What the person wrote before.
    """

    source: Source
    id: str = ""
    user: str = ""
    part: str = "train"
    query: Any = None
    reply: Any = None
    profile: list[Entry] = field(default_factory=list)


class Task:
    """A task by name, with its templates.

    Args:
        name: A key of `data.tasks`.
        config: Its settings.

    Raises:
        InputError: On a template that cannot be used.
    """

    def __init__(self, name: str, config: TaskConfig) -> None:
        self.name, self.config = name, config
        self.query = Template(config.query, f"data.tasks.{name}.query")
        self.reply = Template(config.reply, f"data.tasks.{name}.reply")

    @property
    def fields(self) -> set[str]:
        """The fields of an entry that the templates name."""
        return self.query.fields | self.reply.fields

    def unreadable(self, reply: Any) -> str:
        """What is wrong with a true reply of a task with labels or numbers; empty where nothing is."""
        config, text = self.config, str(reply)
        if config.labels and read_label(text, config.labels) is None:
            return f"{text!r} is none of the labels of {self.name}: {', '.join(config.labels)}"
        low, high = config.low, config.high
        if low is not None and high is not None and read_rating(text, low, high) is None:
            return f"{text!r} is no number from {low:g} to {high:g}, as {self.name} has"
        return ""


def check_split(config: DataConfig) -> None:
    """Refuse a split that would train on profiles.

    Raises:
        InputError: On any other than `given`.
    """
    if config.split is not SplitBy.given:
        raise InputError(
            f"data.split={config.split} would train on and score the entries of profiles; data.reader={config.reader} "
            "brings its own parts: data.split=given"
        )


def choose_task(named: str, entries: set[str], config: DataConfig) -> Task:
    """The task of `data.task`, or the one that the data name, or the only one whose templates fit the entries.

    Args:
        named: What the data say that they are; empty where they say nothing. `LaMP_2` names `LaMP_2N` and `LaMP_2M`.
        entries: The names of all fields of the profiles' entries.
        config: Reads `task` and `tasks`.

    Raises:
        InputError: When there is no such task, or several fit.
    """
    if not config.tasks:
        raise InputError(f"data.tasks is empty; take them from the file: data={config.reader} data.path=...")
    tasks = {name: Task(name, one) for name, one in config.tasks.items()}
    wanted = config.task or named
    if wanted in tasks:
        for template in (tasks[wanted].query, tasks[wanted].reply) if entries else ():
            template.check(entries)
        return tasks[wanted]
    # Every name starts with an empty one.
    fitting = [task for name, task in tasks.items() if name.startswith(named) and task.fields <= entries]
    if len(fitting) == 1:
        return fitting[0]
    which = f"several of data.tasks fit ({', '.join(task.name for task in fitting)})" if fitting else "none fits"
    raise InputError(
        f"data.task: the data name the task {named!r}, their profiles have {', '.join(sorted(entries)) or 'no entry'}, "
        f"and {which}; say data.task=<one of {', '.join(tasks)}>, or add one to a file like conf/data/lamp.yaml"
    )


def form_fault(record: Any, names: Sequence[str], wanted: str) -> str:
    """What is wrong with the form of a question, `profile` included; empty where nothing is.

    Args:
        record: As it was read.
        names: What it must have.
        wanted: The form, in words.
    """
    if not isinstance(record, dict):
        return f"{wanted}, got {type(record).__name__}"
    missing = next((name for name in names if record.get(name) is None), "")
    if missing:
        return f"field `{missing}`: missing; {wanted}"
    if not isinstance(record["profile"], list) or not all(isinstance(entry, dict) for entry in record["profile"]):
        return "field `profile`: must be a list of objects; take the published file"
    return ""


def fields_of(questions: Sequence[Question]) -> set[str]:
    """The names of all fields of all entries."""
    return {name for question in questions for entry in question.profile for name in entry}


def records_of(questions: Sequence[Question], task: Task, config: DataConfig, notes: list[str]) -> Iterator[Source]:
    """The records of questions and profiles, each person's in the order of time.

    Args:
        questions: In the order of the files.
        task: Makes queries and replies of entries.
        config: Reads `split_seed`.
        notes: Gets what was held out and left out.
    """
    good = [_checked(question, task) for question in questions]
    yield from (question.source for question in good if question.source.fault)
    good = [question for question in good if not question.source.fault]
    _hold_out(good, config.split_seed, notes)
    good.sort(key=lambda question: PARTS[question.part])  # stable: the order of the files inside a part
    placed, left_out = _place(good)
    if left_out:
        notes.append(
            f"{_entries(left_out)} left out: a later question of the same person does not list what may be its answer"
        )
    time, empty = 0, 0
    numbers: Counter[str] = Counter()
    for question, entries in zip(good, placed, strict=True):
        for entry in entries:
            query, reply = task.query(entry), task.reply(entry)
            numbers[question.user] += 1
            if not query or not reply:
                empty += 1
                continue
            yield _history(question, entry, numbers[question.user], time, query, reply, task.name)
            time += 1
        yield _asked(question, time, task.name)
        time += 1
    if empty:
        notes.append(f"{_entries(empty)} left out, without a text for the query or the reply")


def _entries(number: int) -> str:
    return f"{number} {'entry' if number == 1 else 'entries'} of profiles"


def _checked(question: Question, task: Task) -> Question:
    fault = "" if question.source.fault or question.reply is None else task.unreadable(question.reply)
    if fault:
        source = question.source
        return Question(Source(source.file, source.line, source.text, fault=f"field `output`: {fault}"))
    return question


def _hold_out(questions: Sequence[Question], seed: int, notes: list[str]) -> None:
    """Where the set has no test or no validation part, a seeded tenth of the people of the training part is it."""
    given = {question.part for question in questions}
    people = sorted({question.user for question in questions if question.part == "train"})
    count = round(HELD_OUT * len(people))
    order = [people[place] for place in np.random.default_rng(seed).permutation(len(people))]
    for part in ("test", "validation"):
        if part in given or not count:
            continue
        drawn, order = set(order[:count]), order[count:]
        for question in questions:
            if question.part == "train" and question.user in drawn:
                question.part = part
        notes.append(
            f"there is no {part} part: the training questions of {counted(count, 'querier')}, drawn by "
            "data.split_seed, are it"
        )


def _place(questions: Sequence[Question]) -> tuple[list[list[Entry]], int]:
    """For each question the entries that stand right before it, and how many entries stand nowhere."""
    of_user: dict[str, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        of_user[question.user].append(place)
    placed: list[list[Entry]] = [[] for _ in questions]
    left_out = 0
    for places in of_user.values():
        listed: dict[bytes, list[int]] = {}
        entries: dict[bytes, Entry] = {}
        for turn, place in enumerate(places):
            for entry in questions[place].profile:
                key = entry_key(entry)
                entries.setdefault(key, entry)
                turns = listed.setdefault(key, [])
                if turns[-1:] != [turn]:  # the same entry twice in one profile counts once
                    turns.append(turn)
        for key, turns in listed.items():
            first = len(places)
            while turns and turns[-1] == first - 1:  # back from the last question as long as each lists it
                first = turns.pop()
            if first == len(places):
                left_out += 1
            else:
                placed[places[first]].append(entries[key])
    return [in_time(one) for one in placed], left_out


def entry_key(entry: Mapping[str, Any]) -> bytes:
    """Equal for entries of equal content."""
    return hashlib.blake2b(_text(entry).encode(errors="surrogatepass"), digest_size=16).digest()


def in_time(entries: list[Entry]) -> list[Entry]:
    """Entries by their dates, oldest first, ties as they came; as they came where one has none."""
    dates = [_date(entry) for entry in entries]
    if not all(dates):
        return entries
    return [entries[place] for place in sorted(range(len(entries)), key=lambda place: dates[place])]


def _date(entry: Mapping[str, Any]) -> tuple[int, ...]:
    """`2015-03-01` and `2015` as numbers."""
    given = next((entry[name] for name in DATES if entry.get(name)), "")
    return tuple(int(part) for part in re.findall(r"\d+", str(given)))


def _asked(question: Question, time: int, task: str) -> Source:
    record = {
        "id": f"{question.part}/{question.id}",
        "querier": question.user,
        "responder": ASSISTANT,
        "query": question.query,
        "reply": question.reply,
        "time": time,
        "scene": f"{question.user}/{question.part}",
        "split": question.part,
        "task": task,
    }
    source = question.source
    return Source(source.file, source.line, source.text, record)


def _history(question: Question, entry: Entry, number: int, time: int, query: str, reply: str, task: str) -> Source:
    record = {
        "id": f"{question.user}/profile/{number}",
        "querier": question.user,
        "responder": ASSISTANT,
        "query": query,
        "reply": reply,
        "time": time,
        "split": "history",
        "task": task,
        **{name: entry[name] for name in DATES if entry.get(name)},
    }
    return Source(question.source.file, question.source.line, _text(entry), record)


def _text(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True, ensure_ascii=False, default=str)
