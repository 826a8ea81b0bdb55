"""Writes a corpus of any size, dialogue by dialogue."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from querier.data.sample.cohort import MEAN, SPREAD, Person, people
from querier.data.sample.compose import RESPONDER, turns
from querier.data.sample.facet import Facet
from querier.data.sample.texts import FACETS
from querier.errors import InputError

DIALOGUES = 300 * MEAN
FEWEST = 1_000
CROWD = 20_000  # queriers whose dialogues interleave at one time: bounds the memory
SHARED_SCENE = 0.04


@dataclass(slots=True)
class CohortStatistics:
    """What was written.

    Attributes:
        queriers: How many of each part: ``seen``, ``validation``, ``test``.
        dialogues: How many of each split.
        scenes: How many scenes.
        reply_words: Words in all replies together.
    """

    queriers: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("seen", "validation", "test"), 0))
    dialogues: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("train", "validation", "test"), 0))
    scenes: int = 0
    reply_words: int = 0

    @property
    def mean_reply_words(self) -> float:
        """Words per reply."""
        return self.reply_words / max(1, sum(self.dialogues.values()))


@dataclass(slots=True)
class _Asker:
    """A querier in the crowd: the facets still to ask, and the scene of the dialogue before."""

    person: Person
    facets: list[Facet]
    scene: str = ""
    scene_shared: bool = False

    @property
    def asked(self) -> int:
        return self.person.dialogues - len(self.facets)


def _crowd(rng: random.Random, persons: Iterator[Person], entered: list[Person]) -> Iterator[_Asker]:
    """Who asks next; of all dialogues left in the crowd each is equally likely to be the next.

    A querier who enters the crowd is put into ``entered``, which the caller empties.
    """
    crowd: list[_Asker] = []

    def enter() -> bool:
        person = next(persons, None)
        if person is not None:
            crowd.append(_Asker(person, rng.sample(FACETS, person.dialogues)))
            entered.append(person)
        return person is not None

    while len(crowd) < CROWD and enter():
        pass
    while crowd:
        place = rng.randrange(len(crowd))
        asker = crowd[place]
        if rng.random() * (MEAN + SPREAD) >= len(asker.facets):
            continue
        yield asker
        if not asker.facets:
            crowd[place] = crowd[-1]
            crowd.pop()
            enter()


def _record(rng: random.Random, asker: _Asker, time: int, scenes: int) -> dict[str, Any]:
    """The next dialogue of one querier."""
    person = asker.person
    number = asker.asked
    split = person.split(number)
    may_share = number > 0 and not asker.scene_shared and person.split(number - 1) == split
    asker.scene_shared = may_share and rng.random() < SHARED_SCENE
    if not asker.scene_shared:
        asker.scene = f"s{scenes + 1:07d}"
    return {
        "id": f"d{time:08d}",
        "querier": person.name,
        "responder": RESPONDER,
        "turns": turns(rng, asker.facets.pop(), person.name, person.traits, split),
        "time": time,
        "scene": asker.scene,
        "split": split,
    }


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _generator(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 (no secret depends on it)


def generate(out: Path, dialogues: int = DIALOGUES, seed: int = 0) -> CohortStatistics:
    """Write ``dialogues.jsonl`` and ``traits.jsonl``.

    Args:
        out: The folder; it is made where it does not exist, and files of these names in it are replaced at the end.
        dialogues: How many dialogues, at least 1,000; there is about one querier per 17 of them.
        seed: The same seed and size give the same bytes.

    Returns:
        What was written.

    Raises:
        InputError: There are too few dialogues.
    """
    if dialogues < FEWEST:
        raise InputError(f"dialogues is {dialogues}, allowed are {FEWEST} or more; ask for more")
    source = _generator(seed)
    persons = people(_generator(source.getrandbits(64)), dialogues)
    order = _generator(source.getrandbits(64))
    wording = _generator(source.getrandbits(64))
    statistics = CohortStatistics()
    entered: list[Person] = []
    out.mkdir(parents=True, exist_ok=True)
    parts = [out / "dialogues.jsonl.part", out / "traits.jsonl.part"]
    with (
        parts[0].open("w", encoding="utf-8", newline="\n") as talk,
        parts[1].open("w", encoding="utf-8", newline="\n") as truth,
    ):
        for time, asker in enumerate(_crowd(order, persons, entered), 1):
            record = _record(wording, asker, time, statistics.scenes)
            talk.write(_line(record))
            statistics.scenes += not asker.scene_shared
            statistics.dialogues[record["split"]] += 1
            statistics.reply_words += len(record["turns"][-1]["text"].split())
            for person in entered:
                truth.write(_line({"querier": person.name, **asdict(person.traits)}))
                statistics.queriers[person.part] += 1
            entered.clear()
    for part in parts:
        os.replace(part, part.with_suffix(""))
    return statistics
