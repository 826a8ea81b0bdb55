"""DPL: whom an item is held against, what is described, and where the published one and the mended one differ."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from llm_server import Behaviour, cut, fails, late, raw, says, serving
from planted import WordEncoder, prepared_corpus, requests_of, small_config

from querier.choices import Distil, Profile, Train
from querier.config import Config, PromptConfig
from querier.data.preparation import Prepared
from querier.data.requests import Exchange, Reading, Request, Requests, outside_request
from querier.errors import InputError, Unanswered
from querier.evaluation.scoring import Scorer
from querier.llm import Answer, Llm
from querier.llm_config import LlmConfig
from querier.methods.dpl import ITEMS, Situations, ask_differences, read_differences
from querier.methods.prompts import renderer
from querier.types import Dialogue, Scored, Split, Turn

WAYS = (
    ("{} works, tag{}", "{} is old, tag{}", "see {}, tag{}"),
    ("wow! {} is great fun, tag{}!", "super! lovely {} again, tag{}!", "yay! I love {} so much, tag{}!"),
    (
        "however {} is sufficient, although considerable care is required of whoever wants to know all of it, tag{}",
        "therefore one should purchase a book on {} and, moreover, read it to its very end with patience, tag{}",
        "indeed {} has been known for centuries; nevertheless much of it is still not understood today, tag{}",
    ),
)
TOLD = {
    0: ("shorter",),
    1: ("more exclamation marks", "a gladder tone"),
    2: ("longer", "more formal words"),
}
LISTS = {"writing": ["terse"], "emotion": [], "semantics": ["dwells on ships"]}


def reviews(queriers: int = 12, items: int = 32, seed: int = 0) -> list[Dialogue]:
    """Everybody speaks of every item, one item after the other, in one of three ways; two talk in a scene."""
    rng = np.random.default_rng(seed)
    made: list[Dialogue] = []
    for item in range(items):
        for querier in rng.permutation(queriers).tolist():
            number = len(made)
            reply = WAYS[querier % 3][int(rng.integers(3))].format(f"thing{item}", number)
            turns = (Turn(f"q{querier:02d}", f"what of thing{item}"), Turn("tutor", reply))
            made.append(
                Dialogue(f"d{number}", f"q{querier:02d}", "tutor", turns, number, f"s{number // 2}", f"item {item}")
            )
    return made


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("dpl")
    return small_config(folder, contrast={"k": 2}, towers={"history": 64}, prompt={"profile": "differences"})


@pytest.fixture(scope="module")
def prepared(config: Config) -> Prepared:
    return prepared_corpus(reviews(), config, Path(config.cache))


@pytest.fixture(scope="module")
def requests(prepared: Prepared, config: Config) -> Requests:
    return requests_of(prepared, config)


def line(request: Request) -> str:
    """The description in a prompt; empty where there is none."""
    found = re.match(r"\[About [^:]+: (.*)\]\n", request.rendered.turns[0][1])
    return found[1] if found else ""


def reading_of(requests: Requests, row: int, history: np.ndarray | None = None) -> Reading:
    """What a prompt is made of."""
    kept: list[Reading] = []
    plain = requests.render
    spy = Requests(
        requests.prepared, requests.histories, requests.config, lambda one: (kept.append(one), plain(one))[1]
    )
    spy.rendered(row, spy.history_rows(row) if history is None else history)
    return kept[0]


# whom an item is held against


def test_whoever_is_held_against_an_item_spoke_before_it_and_is_neither_its_querier_nor_who_asks(
    prepared: Prepared, requests: Requests
) -> None:
    corpus, situations, dropped, found = prepared.corpus, Situations(prepared), 0, 0
    for row in corpus.rows_in(Split.VALIDATION, Split.TEST).tolist():
        asker = int(corpus.querier[row])
        for owner in (asker, (asker + 1) % 12, (asker + 2) % 12):
            history = requests.histories.of_querier(owner, int(corpus.time[row]), int(corpus.scene[row]), 0)
            rows = situations.rows(reading_of(requests, row, history))
            for item, chosen in zip(history.tolist(), rows, strict=True):
                for user in chosen[chosen >= 0].tolist():
                    found += 1
                    assert corpus.split[user] == Split.TRAIN.value
                    assert corpus.time[user] < corpus.time[item] < corpus.time[row]
                    assert corpus.querier[user] not in (owner, asker)
                    assert corpus.scene[user] not in (corpus.scene[item], corpus.scene[row])
                    assert corpus.item[user] == corpus.item[item]
                first = np.asarray(prepared.contrast[item, :, 0])
                dropped += int((corpus.querier[first[first >= 0]] == asker).sum())
    assert found > 500
    assert dropped > 0  # in a swapped history the asker was a contrast user, and was passed over


def test_the_scene_of_the_query_is_passed_over(
    prepared: Prepared, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = int(prepared.corpus.rows_in(Split.TEST)[-1])
    reading = reading_of(requests, row)
    rows = Situations(prepared).rows(reading)
    user = int(rows[rows >= 0][0])
    together = prepared.corpus.scene.copy()
    together[user] = together[row]
    monkeypatch.setattr(prepared.corpus, "scene", together)
    assert user not in Situations(prepared).rows(reading)


def test_a_contrast_user_who_spoke_later_is_found_out(prepared: Prepared, requests: Requests) -> None:
    """The published code takes other people's test-time profiles; nothing of the kind comes through here."""
    row = int(prepared.corpus.rows_in(Split.TEST)[-1])
    reading = reading_of(requests, row)
    late = np.array(prepared.contrast)
    item = reading.history[-1].row
    after = [
        other
        for other in prepared.pool.tolist()
        if prepared.corpus.time[other] > prepared.corpus.time[item]
        and prepared.corpus.querier[other] not in (prepared.corpus.querier[item], prepared.corpus.querier[row])
    ]
    late[item, 0, 0] = after[0]
    with pytest.raises(InputError, match="is not earlier than its query"):
        Situations(replace(prepared, contrast=late)).rows(reading)


def test_a_history_that_is_given_as_text_is_held_against_the_nearest_of_the_pool(
    prepared: Prepared, config: Config
) -> None:
    given = [Exchange(f"what of thing{item}", f"wow! thing{item} is great fun!") for item in range(6)]
    seen: list[Reading] = []
    render = renderer(config.prompt, prepared)
    request = outside_request(
        "what of thing3",
        None,
        given,
        WordEncoder(),
        prepared.clusters,
        lambda reading: (seen.append(reading), render(reading))[1],
        config,
        prepared,
    )
    rows, corpus = Situations(prepared).rows(seen[0]), prepared.corpus
    for item, chosen in zip(seen[0].history, rows, strict=True):
        assert len(set(corpus.querier[chosen].tolist())) == 2
        assert {corpus.dialogue(int(user)).query for user in chosen} == {item.query}
    assert "more exclamation marks" in line(request)
    nobody = outside_request("what of thing3", None, [], WordEncoder(), prepared.clusters, render, config, prepared)
    assert line(nobody) == ""


# what is described by counting


def test_what_sets_a_querier_apart_is_told(prepared: Prepared, requests: Requests) -> None:
    corpus = prepared.corpus
    for row in corpus.rows_in(Split.TEST).tolist():
        request = requests.matched(row)
        kind = int(corpus.queriers[corpus.querier[row]][1:]) % 3
        for phrase in TOLD[kind]:
            assert phrase in line(request)
        for other in {0, 1, 2} - {kind}:
            assert not any(phrase in line(request) for phrase in TOLD[other])
        assert line(request).startswith("compared with others in the same situation, writing: ")


def test_a_swap_replaces_the_description_and_without_history_there_is_none(
    prepared: Prepared, requests: Requests
) -> None:
    corpus = prepared.corpus
    row = int(corpus.rows_in(Split.TEST)[-1])
    own = int(corpus.querier[row])
    other = (own + 1) % 12
    theirs = requests.histories.of_querier(other, int(corpus.time[row]), int(corpus.scene[row]), 0)
    kind = int(corpus.queriers[other][1:]) % 3
    swapped = line(requests.of(row, theirs))
    assert swapped != line(requests.matched(row))
    assert all(phrase in swapped for phrase in TOLD[kind])
    assert line(requests.of(row, theirs[:0])) == ""


def test_a_pool_without_contrast_users_describes_nobody(prepared: Prepared, config: Config) -> None:
    lonely = replace(prepared, contrast=np.full_like(np.array(prepared.contrast), -1))
    assert line(requests_of(lonely, config).matched(int(prepared.corpus.rows_in(Split.TEST)[0]))) == ""


# as published and mended, by an LLM


class Told:
    """Answers with the lists, or with a summary, and remembers what it was asked."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def complete_all(self, prompts: Sequence[str], progress: Any = None) -> list[Answer]:
        self.prompts += prompts
        return [Answer(json.dumps(LISTS) if "one JSON object" in one else "A terse sailor.") for one in prompts]


def by_llm(faithful: bool) -> PromptConfig:
    return PromptConfig(profile=Profile.differences, distil=Distil.llm, faithful=faithful)


def with_llm(prepared: Prepared, config: Config, llm: Any, faithful: bool) -> Requests:
    settings = replace(config, prompt=by_llm(faithful), decoder=replace(config.decoder, train=Train.frozen))
    requests = requests_of(prepared, config)
    return Requests(prepared, requests.histories, settings, renderer(settings.prompt, prepared, llm))


def fullest(prepared: Prepared, requests: Requests) -> int:
    """The test dialogue in whose history most items have K contrast users."""
    rows = prepared.corpus.rows_in(Split.TEST).tolist()
    return max(rows, key=lambda row: int((Situations(prepared).rows(reading_of(requests, row)) >= 0).all(1).sum()))


def full_history(prepared: Prepared, requests: Requests, row: int, count: int) -> np.ndarray:
    """The newest items with K contrast users, so many of them."""
    history = requests.history_rows(row)
    rows = Situations(prepared).rows(reading_of(requests, row))
    found = history[(rows >= 0).all(1)][:count]
    assert len(found) == count
    return found


def test_the_published_one_takes_a_call_for_each_of_eight_items_and_the_mended_one_a_single_call(
    prepared: Prepared, config: Config, requests: Requests
) -> None:
    row = fullest(prepared, requests)
    history = full_history(prepared, requests, row, 10)
    published, mended = Told(), Told()
    assert line(with_llm(prepared, config, published, True).of(row, history)) == "A terse sailor."
    assert len(published.prompts) == ITEMS + 1
    assert [prompt.count("This person was given") for prompt in published.prompts] == [1] * ITEMS + [ITEMS]
    assert published.prompts[-1].count(json.dumps(LISTS)) == ITEMS
    told = line(with_llm(prepared, config, mended, False).of(row, history))
    assert told == "compared with others in the same situation, writing: terse; semantics: dwells on ships."
    assert len(mended.prompts) == 1
    assert mended.prompts[0].count("This person was given") == ITEMS


def test_the_published_one_reads_what_bm25_finds_and_the_mended_one_the_newest(
    prepared: Prepared, config: Config, requests: Requests
) -> None:
    row = fullest(prepared, requests)
    history = full_history(prepared, requests, row, 10)
    oldest = prepared.corpus.dialogue(int(history[-1]))
    asked = prepared.corpus.dialogue(row)
    near = replace(asked, turns=(replace(asked.turns[0], text=oldest.query), asked.turns[1]))
    reading = replace(reading_of(requests, row, history), dialogue=near)
    for faithful, reads in ((True, True), (False, False)):
        llm = Told()
        renderer(by_llm(faithful), prepared, llm)(reading)
        assert any(oldest.reply in prompt for prompt in llm.prompts) is reads


def test_fewer_than_eight_items_have_no_published_answer_and_any_number_a_mended_one(
    prepared: Prepared, config: Config, requests: Requests
) -> None:
    row = fullest(prepared, requests)
    published, mended = (with_llm(prepared, config, Told(), faithful) for faithful in (True, False))
    history = full_history(prepared, requests, row, 8)
    assert line(published.of(row, history))
    for count in (7, 1, 0):
        with pytest.raises(Unanswered, match=rf"needs 8 items .* with 2 contrast users each, got {count} for a query"):
            published.of(row, history[:count])
        assert bool(line(mended.of(row, history[:count]))) is (count > 0)


def test_no_call_for_a_history_that_was_described_and_one_for_a_history_that_grew(
    prepared: Prepared, config: Config, requests: Requests
) -> None:
    row = fullest(prepared, requests)
    history, llm = full_history(prepared, requests, row, 10), Told()
    mended = with_llm(prepared, config, llm, False)
    calls = []
    for items in (history[3:], history[3:], history[2:], history, history[:9], history[:8]):
        mended.of(row, items)
        calls.append(len(llm.prompts))
    assert calls == [1, 1, 2, 3, 3, 3]  # the newest eight are the same in the last three


class Slow(Told):
    """Answers when so many are waiting; sees how many waited at once."""

    def __init__(self, together: int) -> None:
        super().__init__()
        self.all_here = Barrier(together, timeout=20)

    def complete_all(self, prompts: Sequence[str], progress: Any = None) -> list[Answer]:
        self.all_here.wait()
        return super().complete_all(prompts, progress)


def test_an_endpoint_is_asked_for_several_dialogues_at_a_time_and_once_for_each(
    prepared: Prepared, config: Config, requests: Requests
) -> None:
    row = fullest(prepared, requests)
    history, llm = full_history(prepared, requests, row, 10), Slow(3)
    several = replace(config, llm=LlmConfig(base_url="http://localhost:1/v1", model="m", concurrency=3))
    wanted = [(row, history[start:], None) for start in (0, 1, 2, 0, 1, 2)]
    found = with_llm(prepared, several, llm, False).each(wanted)  # breaks off unless three are waited for at once
    assert len(llm.prompts) == 3
    serial = with_llm(prepared, config, Told(), False).each(wanted)
    assert [line(one) for one in found] == [line(one) for one in serial]
    assert "compared with others" in line(found[0])


def test_no_prompt_of_either_holds_a_reply_from_after_its_item(
    prepared: Prepared, config: Config, requests: Requests
) -> None:
    llm, row = Told(), fullest(prepared, requests)
    for faithful in (True, False):
        with_llm(prepared, config, llm, faithful).matched(row)
    asked = [prompt for prompt in llm.prompts if "Another person" in prompt]
    assert len(asked) == ITEMS + 1
    for part in (part for prompt in asked for part in prompt.split("Asked: ")[1:]):
        own, *others = (int(tag) for tag in re.findall(r"tag(\d+)", part))  # the number is the time
        assert others
        assert max(others) < own < int(prepared.corpus.time[row])


def test_what_has_no_answer_is_recorded_and_never_scored(
    prepared: Prepared, config: Config, requests: Requests
) -> None:
    published = with_llm(prepared, config, Told(), True)
    row = fullest(prepared, requests)

    class Model:
        def score(self, asked: Sequence[Request]) -> list[Scored]:
            return [Scored(-1.0, 2, 3) for _ in asked]

        def generate(self, asked: Sequence[Request], limit: int, temperature: float = 0.0, seed: int = 0) -> list[str]:
            return ["a reply" for _ in asked]

    scorer = Scorer(Model(), published)
    good, bad = (scorer.key(row, full_history(prepared, requests, row, count)) for count in (8, 3))
    scorer.add([bad, good])
    assert scorer[good] == Scored(-1.0, 2, 3)
    assert scorer[bad] is None
    assert "got 3 for a query of" in scorer.reasons[bad]
    assert scorer.replies([bad, good, bad], 4) == [None, "a reply", None]
    assert scorer.replies([bad], 4) == [None]


# what an LLM may answer


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(LISTS),
        f"Here it is:\n```json\n{json.dumps(LISTS, indent=1)}\n```",
        json.dumps({**LISTS, "note": "more", "writing": [" terse\n"], "emotion": [""]}),
    ],
)
def test_lists_are_read_out_of_an_answer(text: str) -> None:
    assert read_differences(text) == LISTS


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("I cannot judge people.", "no JSON object"),
        ('{"writing": ["terse"', "no JSON object"),
        ("[]", "no JSON object"),
        ('{"writing": "terse", "emotion": [], "semantics": []}', "`writing` is no list"),
        ('{"writing": [], "emotion": [1], "semantics": []}', "`emotion` is no list"),
        ('{"writing": [], "emotion": []}', "`semantics` is no list"),
    ],
)
def test_an_answer_of_another_form_is_none(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_differences(text)


GOOD = says(json.dumps(LISTS))


def client(url: str, folder: Path, **changes: Any) -> Llm:
    settings: dict[str, Any] = {"backoff": 0.005, "retries": 1, "timeout": 0.3, "cache": str(folder / "llm"), **changes}
    return Llm(LlmConfig(base_url=url, model="tiny", **settings))


@pytest.mark.parametrize(
    "first",
    [
        late(0.6, GOOD),
        fails(429),
        fails(500),
        cut,
        raw(b'{"choices": [{"mess'),
        says("I cannot judge people."),
        says('{"writing": ["terse"'),
    ],
)
def test_what_passes_is_asked_again(first: Behaviour, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    asked: list[str] = []

    def decide(prompt: str, before: int) -> Behaviour:
        asked.append(prompt)
        return first if len(asked) == 1 else GOOD

    with serving(decide) as served:
        assert ask_differences(client(served.url, tmp_path), ["a text"]) == [LISTS]
        assert len(asked) == 2
        ask_differences(client(served.url, tmp_path), ["a text"])
        assert len(asked) == 2  # all of it is kept


@pytest.mark.parametrize(
    ("always", "reason", "calls"),
    [
        (late(0.6, GOOD), "no answer within 0.3 s", 2),
        (fails(429), "HTTP 429", 2),
        (fails(500), "HTTP 500", 2),
        (cut, "the connection failed", 2),
        (raw(b'{"choices": [{"mess'), "the answer is no JSON", 2),
        (says(None, refusal="I cannot judge people"), "refused: I cannot judge people", 1),
        (says('{"writing": ["ter', finish="length"), "cut at the token limit", 1),
        (says("I cannot judge people."), "no JSON object, 3 times", 3),
        (says('{"writing": 1}'), "`writing` is no list of texts, 3 times", 3),
    ],
)
def test_what_does_not_pass_has_no_answer_and_its_reason(
    always: Behaviour, reason: str, calls: int, tmp_path: Path
) -> None:
    pytest.importorskip("openai")
    with serving(lambda prompt, before: always) as served:
        with pytest.raises(Unanswered, match=f"the text LLM gave no differences: .*{re.escape(reason)}"):
            ask_differences(client(served.url, tmp_path), ["a text"])
        assert len(served.bodies) == calls


def test_a_killed_run_asks_for_nothing_twice(tmp_path: Path) -> None:
    pytest.importorskip("openai")
    program = (
        "import sys; from querier.llm import Llm; from querier.llm_config import LlmConfig\n"
        "from querier.methods.dpl import ask_differences\n"
        "config = LlmConfig(base_url=sys.argv[1], model='tiny', cache=sys.argv[2], concurrency=1)\n"
        "ask_differences(Llm(config), [f'text {number}' for number in range(8)])"
    )
    with serving(lambda prompt, before: late(30 if "text 5" in prompt and not before else 0, GOOD)) as served:
        process = subprocess.Popen([sys.executable, "-c", program, served.url, str(tmp_path / "llm")])
        while not any("text 5" in prompt for prompt in served.prompts):
            time.sleep(0.01)
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        texts = [f"text {number}" for number in range(8)]
        assert ask_differences(client(served.url, tmp_path, timeout=2.0), texts) == [LISTS] * 8
        times = [sum(text in prompt for prompt in served.prompts) for text in texts]
    assert times == [1, 1, 1, 1, 1, 2, 1, 1]


# settings


def test_what_it_reads_must_be_there(prepared: Prepared, config: Config) -> None:
    with pytest.raises(InputError, match=r"prompt\.distil=llm needs a text LLM"):
        renderer(by_llm(False), prepared)
    with pytest.raises(InputError, match=r"prompt\.profile=differences reads the training pool"):
        renderer(config.prompt, None)
