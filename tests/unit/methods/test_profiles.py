"""Descriptions of queriers and responders: of the history that is read, of the pool, from a file, by an LLM."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import prepared_corpus, requests_of, small_config

from querier.choices import Distil, Profile
from querier.config import PromptConfig
from querier.data.preparation import Prepared
from querier.data.requests import Exchange, Reading
from querier.errors import InputError, Unanswered
from querier.llm import Answer
from querier.methods.profiles import profiler
from querier.methods.prompts import renderer
from querier.types import Dialogue, Split, Turn

ASKS = ("how does {} work", "pray tell! how does {} work!", "say how {} works and why it is so, as I like to know all")
TOPICS = ("bread", "tides", "bees", "maps", "rust", "snow")


def talk(responders: int = 1, queriers: int = 6, each: int = 12) -> list[Dialogue]:
    """Three ways of asking; every second responder exclaims and speaks of ships."""
    made = []
    for moment in range(each):
        for querier in range(queriers):
            number = len(made)
            topic = TOPICS[(moment + querier) % len(TOPICS)]
            loud = (moment + querier) % responders % 2
            who = f"tutor {(moment + querier) % responders}"
            reply = f"ahoy! {topic} and ships! ships!" if loud else f"{topic} works slowly"
            turns = (Turn(f"q{querier}", ASKS[querier % 3].format(topic)), Turn(who, reply))
            made.append(Dialogue(f"d{number}", f"q{querier}", who, turns, number, f"s{number}"))
    return made


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared")
    return prepared_corpus(talk(), small_config(folder), folder)


def first_turn(request: Any) -> str:
    return str(request.rendered.turns[0][1])


def test_a_querier_is_described_by_what_stands_out_in_the_history(prepared: Prepared, tmp_path: Path) -> None:
    requests = requests_of(prepared, small_config(tmp_path, prompt={"profile": "querier"}))
    corpus = prepared.corpus
    for row in corpus.rows_in(Split.TEST).tolist():
        line, query = first_turn(requests.matched(row)).split("\n")
        kind = int(corpus.querier[row]) % 3
        name = corpus.queriers[corpus.querier[row]]
        assert line.startswith(f"[About {name}: compared with others, writes ")
        assert line.endswith(".]")
        assert query.startswith(f"{name}: ")
        assert ("many exclamation marks" in line) == (kind == 1)
        assert ("short messages" in line) == (kind == 0)
        assert ("long messages" in line) == (kind == 2)


def test_a_swap_replaces_the_description_and_an_empty_history_has_none(prepared: Prepared, tmp_path: Path) -> None:
    corpus = prepared.corpus
    row = int(corpus.rows_in(Split.TEST)[-1])
    mine = int(corpus.querier[row])
    for name_querier in (True, False):
        prompt = {"profile": "querier", "name_querier": name_querier}
        requests = requests_of(prepared, small_config(tmp_path, prompt=prompt))
        theirs = requests.histories.of_querier((mine + 1) % 6, int(corpus.time[row]), -1, 0, 8)
        own, swapped = requests.matched(row), requests.of(row, theirs, "somebody")
        assert first_turn(own) != first_turn(swapped)
        assert first_turn(swapped).startswith(f"[About {'somebody' if name_querier else 'the user'}: ")
        assert corpus.queriers[mine] not in first_turn(swapped)
        assert "About" not in first_turn(requests.of(row, theirs[:0]))


def test_responders_are_held_against_each_other(tmp_path: Path) -> None:
    config = small_config(tmp_path, prompt={"profile": "responder"})
    prepared = prepared_corpus(talk(responders=4), config, tmp_path)
    requests = requests_of(prepared, config)
    for row in prepared.corpus.rows_in(Split.TEST).tolist():
        number = int(prepared.corpus.dialogue(row).responder[-1])
        line = first_turn(requests.matched(row)).split("\n")[0]
        assert line.startswith(f"[About tutor {number}: compared with others, gives ")
        assert ("many exclamation marks" in line) == (number % 2 == 1)
        assert ('"ships"' in line) == (number % 2 == 1)
        nothing = requests.of(row, np.zeros(0, dtype=np.int64))
        assert nothing.rendered == requests.matched(row).rendered  # the history has no part in it


def test_who_answers_alone_is_held_against_those_who_ask(prepared: Prepared, tmp_path: Path) -> None:
    requests = requests_of(prepared, small_config(tmp_path, prompt={"profile": "responder"}))
    row = int(prepared.corpus.rows_in(Split.TEST)[0])
    assert '"slowly"' in first_turn(requests.matched(row))


def test_a_lone_querier_is_compared_with_nobody(tmp_path: Path) -> None:
    config = small_config(tmp_path, prompt={"profile": "querier"})
    prepared = prepared_corpus(talk(queriers=1, each=20), config, tmp_path)
    row = int(prepared.corpus.rows_in(Split.TEST)[0])
    assert "long" not in first_turn(requests_of(prepared, config).matched(row))


def file_of(folder: Path, content: Any) -> str:
    path = folder / "profiles.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name_querier", [True, False])
def test_a_description_from_a_file_belongs_to_whose_history_is_read(
    prepared: Prepared, tmp_path: Path, name_querier: bool
) -> None:
    path = file_of(tmp_path, {f"q{number}": f"number\n{number}" for number in range(5)})
    prompt = {"profile": "querier", "profiles": path, "name_querier": name_querier}
    requests, corpus = requests_of(prepared, small_config(tmp_path, prompt=prompt)), prepared.corpus
    row = next(row for row in corpus.rows_in(Split.TEST).tolist() if corpus.querier[row] == 2)
    assert ": number 2]\n" in first_turn(requests.matched(row))
    theirs = requests.histories.of_querier(3, int(corpus.time[row]), -1, 0, 8)
    assert ": number 3]\n" in first_turn(requests.of(row, theirs))
    assert ": number 4]\n" in first_turn(requests.of(row, theirs[:0], "q4"))
    assert "About" not in first_turn(requests.of(row, theirs[:0], "q5"))  # nobody wrote one


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        (["a"], "must hold an object"),
        ({}, "must hold an object"),
        ({"q1": ""}, "'q1' must be a text"),
        ({"q1": 3}, "'q1' must be a text"),
        ({"somebody": "else"}, "describes no querier of the corpus: it has 'somebody', the corpus 'q0'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(prepared: Prepared, tmp_path: Path, content: Any, said: str) -> None:
    config = PromptConfig(profile=Profile.querier, profiles=file_of(tmp_path, content))
    with pytest.raises(InputError, match=said):
        profiler(config, prepared)
    with pytest.raises(InputError, match=r"no file .*nowhere\.json"):
        profiler(replace(config, profiles=str(tmp_path / "nowhere.json")), prepared)


class Told:
    """Says how many items it was shown, or nothing."""

    def __init__(self, text: str | None = "counted {}") -> None:
        self.text = text
        self.prompts: list[str] = []

    def complete_all(self, prompts: Sequence[str], progress: Any = None) -> list[Answer]:
        self.prompts += prompts
        given = [self.text and self.text.format(prompt.count("Asked: ")) for prompt in prompts]
        return [Answer(text, None if text else "it broke") for text in given]


def test_an_llm_describes_a_history_once(prepared: Prepared) -> None:
    llm = Told()
    render = renderer(PromptConfig(profile=Profile.querier, distil=Distil.llm), None, llm)
    dialogue = prepared.corpus.dialogue(0)
    history = [Exchange("a {b}?", "c"), Exchange("d?", "e")]
    for _ in range(2):
        rendered = render(Reading(dialogue, history=history))
        assert rendered.turns[0][1].startswith(f"[About {dialogue.querier}: counted 2]\n")
    assert len(llm.prompts) == 1
    assert "Asked: a {b}?\nAnswered: c" in llm.prompts[0]
    assert "About" not in render(Reading(dialogue)).turns[0][1]
    responder = renderer(PromptConfig(profile=Profile.responder, distil=Distil.llm), prepared, llm)
    assert responder(Reading(dialogue)).turns[0][1].startswith("[About tutor 0: counted 20]\n")


def test_without_an_llm_or_an_answer_nothing_is_made_up(prepared: Prepared) -> None:
    config = PromptConfig(profile=Profile.querier, distil=Distil.llm)
    with pytest.raises(InputError, match=r"prompt\.distil=llm needs a text LLM.*prompt\.profiles"):
        profiler(config, prepared)
    describe = profiler(config, prepared, Told(None))
    assert describe is not None
    with pytest.raises(Unanswered, match="it broke"):  # this dialogue counts as failed, the others go on
        describe(Reading(prepared.corpus.dialogue(0), history=[Exchange("a", "b")]))
    describe = profiler(PromptConfig(profile=Profile.responder, distil=Distil.llm), prepared, Told(None))
    assert describe is not None
    with pytest.raises(InputError, match="it broke") as found:
        describe(Reading(prepared.corpus.dialogue(0)))
    assert not isinstance(found.value, Unanswered)


def test_counting_needs_a_pool() -> None:
    config = PromptConfig(profile=Profile.querier)
    with pytest.raises(InputError, match=r"prompt\.profile=querier reads the training pool"):
        profiler(config, None)
    assert profiler(PromptConfig(), None) is None
