"""The client over real HTTP: what it retries, what it counts as failed, what it keeps."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from llm_server import Behaviour, cut, fails, late, raw, says, serving
from tiny import tiny_model, tiny_tokenizer

from querier.config import to_plain
from querier.errors import InputError
from querier.llm import CUT, EMPTY, FILTERED, Answer, Llm, read_completion, retry_after
from querier.llm_config import LlmConfig
from querier.models.chat import model_digest

pytest.importorskip("openai")


def client(url: str, folder: Path, **changes: Any) -> Llm:
    settings: dict[str, Any] = {"backoff": 0.005, "retries": 2, "timeout": 2.0, "cache": str(folder / "llm"), **changes}
    return Llm(LlmConfig(base_url=url, model="tiny", **settings))


def ask(behaviour: list[Behaviour], folder: Path, **changes: Any) -> tuple[Answer, int]:
    """The answer to one prompt and how many calls it took; the last behaviour repeats."""
    with serving(lambda prompt, before: behaviour[min(before, len(behaviour) - 1)]) as served:
        found = client(served.url, folder, **changes).complete_all(["Why?"])
        return found[0], len(served.bodies)


def test_answers_come_in_the_order_of_the_prompts(tmp_path: Path) -> None:
    done: list[tuple[str, int, int]] = []
    with serving(lambda prompt, before: late(0.02 * (3 - int(prompt)), says(f"to {prompt}"))) as served:
        llm = client(served.url, tmp_path, temperature=0.3, max_tokens=9)
        found = llm.complete_all(["0", "1", "2", "1"], lambda *words: done.append(words))
    assert [answer.text for answer in found] == ["to 0", "to 1", "to 2", "to 1"]
    assert found[0] == Answer("to 0", tokens_in=7, tokens_out=3)
    assert sorted(served.prompts) == ["0", "1", "2"]
    assert {(body["model"], body["temperature"], body["max_tokens"]) for body in served.bodies} == {("tiny", 0.3, 9)}
    assert done == [("asking", 1, 3), ("asking", 2, 3), ("asking", 3, 3)]


@pytest.mark.parametrize(
    "first",
    [
        fails(500),
        fails(503),
        fails(429),
        fails(408),
        cut,
        raw(b'{"choices": [{"mess'),
        raw(b"<html>busy</html>", Content_Type="text/html"),
        raw(b'{"error": {"message": "upstream"}}'),
        raw(b"[]"),
        raw(b'{"choices": []}'),
        raw(b'{"choices": [null]}'),
        late(0.4, says("too late")),
    ],
)
def test_what_passes_is_tried_again(first: Behaviour, tmp_path: Path) -> None:
    answer, calls = ask([first, says("yes")], tmp_path, timeout=0.2)
    assert (answer.text, answer.error, calls) == ("yes", None, 2)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (fails(500, "broken"), r"HTTP 500: .*broken.* \(tried 3 times\)"),
        (cut, r"the connection failed .* \(tried 3 times\)"),
        (raw(b'{"choices"'), r"no JSON .* \(tried 3 times\)"),
        (raw(b'{"error": {"message": "upstream"}}'), r"no message .*upstream.* \(tried 3 times\)"),
        (late(0.3, says("late")), r"no answer within 0.1 s \(tried 3 times\)"),
    ],
)
def test_what_does_not_pass_fails_with_its_reason(behaviour: Behaviour, reason: str, tmp_path: Path) -> None:
    answer, calls = ask([behaviour], tmp_path, timeout=0.1 if "0.1" in reason else 2.0)
    assert answer.text is None
    assert re.search(reason, answer.error or "")
    assert calls == 3


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (fails(400, "no such setting"), "HTTP 400: "),
        (says("Half an ans", finish="length"), CUT),
        (says("", finish="content_filter"), FILTERED),
        (says("Verdict: A", finish="content_filter"), FILTERED),
        (says(None, refusal="I cannot judge people"), "refused: I cannot judge people"),
        (says(""), EMPTY),
        (says(" \n"), EMPTY),
        (says(None), EMPTY),
        (says(None, finish="tool_calls", tool_calls=[]), EMPTY),
    ],
)
def test_refusals_and_unfinished_answers_are_failures_at_once(
    behaviour: Behaviour, reason: str, tmp_path: Path
) -> None:
    answer, calls = ask([behaviour], tmp_path)
    assert answer.text is None
    assert (answer.error or "").startswith(reason)
    assert calls == 1
    assert not list((tmp_path / "llm").rglob("*.json"))


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (fails(401, "bad key"), r"/v1 says HTTP 401: .*bad key.*llm\.api_key_env"),
        (fails(403, "not yours"), r"HTTP 403: .*not yours.*llm\.api_key_env"),
        (fails(404, "no such model"), r"HTTP 404: .*no such model.*llm\.model and llm\.base_url"),
        (fails(429, "pay first", code="insufficient_quota"), "HTTP 429: .*pay first.*the account is empty"),
    ],
)
def test_what_every_prompt_would_get_ends_at_once(behaviour: Behaviour, reason: str, tmp_path: Path) -> None:
    with serving(lambda prompt, before: says("yes") if prompt == "0" else behaviour) as served:
        with pytest.raises(InputError, match=reason):
            client(served.url, tmp_path, concurrency=1).complete_all([str(number) for number in range(20)])
        assert len(served.bodies) < 5
        found = client(served.url, tmp_path, concurrency=1).complete_all(["0"])
        assert found[0].cached


def test_the_endpoint_says_how_long_to_wait(tmp_path: Path) -> None:
    began = time.monotonic()
    answer, calls = ask([fails(429, Retry_After="0.3"), says("yes")], tmp_path)
    assert (answer.text, calls) == ("yes", 2)
    assert time.monotonic() - began >= 0.3
    answer, calls = ask([fails(429, Retry_After="0"), says("yes")], tmp_path / "no wait", backoff=30.0)
    assert (answer.text, calls) == ("yes", 2)
    answer, calls = ask([fails(429, Retry_After="86400")], tmp_path / "a day")
    assert calls == 1
    assert "asks to wait 86400 s" in (answer.error or "")


def test_a_wait_may_be_a_date() -> None:
    assert retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1792567680.0 - 5) == pytest.approx(5)
    assert retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1792567680.0 + 5) == 0
    assert [retry_after(one, 0.0) for one in ({}, {"retry-after": "soon"}, {"retry-after": "nan"})] == [None] * 3


def test_waits_double(tmp_path: Path) -> None:
    began = time.monotonic()
    _, calls = ask([fails(500)], tmp_path, backoff=0.05, retries=3)
    assert calls == 4
    assert 0.05 + 0.1 + 0.2 <= time.monotonic() - began < 2


def test_no_more_calls_at_a_time_than_allowed(tmp_path: Path) -> None:
    with serving(lambda prompt, before: late(0.03, says("yes"))) as served:
        client(served.url, tmp_path, concurrency=3).complete_all([str(number) for number in range(12)])
        assert served.most == 3
        served.most = 0
        client(served.url, tmp_path, concurrency=1).complete_all([f"again {number}" for number in range(3)])
        assert served.most == 1
        served.most, shared = 0, client(served.url, tmp_path, concurrency=3)
        with ThreadPoolExecutor(4) as pool:  # the limit is of all who ask
            list(pool.map(lambda who: shared.complete_all([f"{who} asks {number}" for number in range(4)]), range(4)))
        assert served.most == 3


# keeping


def test_a_good_answer_is_asked_for_once_and_a_failed_one_again(tmp_path: Path) -> None:
    with serving(lambda prompt, before: fails(400) if prompt == "bad" and not before else says(prompt)) as served:
        prompts = ["good", "bad"]
        first = client(served.url, tmp_path).complete_all(prompts)
        second = client(served.url, tmp_path).complete_all(prompts)
        third = client(served.url, tmp_path).complete_all(prompts)
    assert [(one.text, one.cached) for one in first] == [("good", False), (None, False)]
    assert [(one.text, one.cached) for one in second] == [("good", True), ("bad", False)]
    assert [(one.text, one.cached, one.tokens_in) for one in third] == [("good", True, 7), ("bad", True, 7)]
    assert served.prompts.count("good") == 1
    assert served.prompts.count("bad") == 2


def test_what_changes_an_answer_asks_anew(tmp_path: Path) -> None:
    with serving(lambda prompt, before: says(str(before))) as served, serving(lambda *_: says("other")) as other:
        assert client(served.url, tmp_path).complete_all(["p"])[0].text == "0"
        assert client(served.url, tmp_path, temperature=1.0).complete_all(["p"])[0].text == "1"
        assert client(other.url, tmp_path).complete_all(["p"])[0].text == "other"
        assert client(served.url, tmp_path, max_tokens=9, retries=0, concurrency=1).complete_all(["p"])[0].text == "0"
        config = LlmConfig(base_url=served.url, model="larger", cache=str(tmp_path / "llm"))
        assert Llm(config).complete_all(["p"])[0].text == "2"


def test_a_broken_file_in_the_cache_is_asked_again(tmp_path: Path) -> None:
    with serving(lambda prompt, before: says(str(before))) as served:
        client(served.url, tmp_path).complete_all(["p"])
        (path,) = (tmp_path / "llm").rglob("*.json")
        assert "p" not in json.loads(path.read_text())  # prompts quote people: only their digest is kept
        for broken in ('{"te', '{"words": "x"}', "[]"):
            path.write_text(broken)
            assert not client(served.url, tmp_path).complete_all(["p"])[0].cached
        assert client(served.url, tmp_path).complete_all(["p"])[0].cached


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    program = (
        "import sys; from querier.llm import Llm; from querier.llm_config import LlmConfig\n"
        "config = LlmConfig(base_url=sys.argv[1], model='tiny', cache=sys.argv[2], concurrency=1)\n"
        "Llm(config).complete_all([str(number) for number in range(6)])"
    )
    with serving(lambda prompt, before: late(30 if prompt == "3" and not before else 0, says(prompt))) as served:
        process = subprocess.Popen([sys.executable, "-c", program, served.url, str(tmp_path / "llm")])
        while "3" not in served.prompts:
            time.sleep(0.01)
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        found = client(served.url, tmp_path).complete_all([str(number) for number in range(6)])
        assert [answer.text for answer in found] == ["0", "1", "2", "3", "4", "5"]
        assert [served.prompts.count(str(number)) for number in range(6)] == [1, 1, 1, 2, 1, 1]


def test_an_interrupted_run_does_not_ask_the_rest(tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with serving(lambda prompt, before: says("yes")) as served:
        prompts = [str(number) for number in range(50)]
        with pytest.raises(KeyboardInterrupt):
            client(served.url, tmp_path, concurrency=1).complete_all(prompts, stop)
        assert len(served.bodies) < 10


def test_the_estimate_counts_what_is_not_kept(tmp_path: Path) -> None:
    with serving(lambda prompt, before: says("yes")) as served:
        llm = client(served.url, tmp_path, price_in=2.0, price_out=10.0, max_tokens=50)
        prompts = ["x" * 400, "y" * 400, "y" * 400]
        assert llm.estimate(prompts) == (2, 200, pytest.approx((200 * 2 + 100 * 10) / 1e6))
        llm.complete_all(prompts[:1])
        assert llm.estimate(prompts)[:2] == (1, 100)
        assert client(served.url, tmp_path, price_in=2.0).estimate(prompts) == (1, 100, None)
        assert len(served.bodies) == 1


# settings


def test_the_key_comes_from_the_environment_and_stands_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-others")
    with serving(lambda prompt, before: says("yes")) as served:
        llm = client(served.url, tmp_path, api_key_env="JUDGE_KEY")
        llm.complete_all(["p"])
        client(served.url, tmp_path).complete_all(["q"])
    assert served.keys == ["Bearer sk-secret", "Bearer none"]
    kept = "".join(path.read_text() for path in (tmp_path / "llm").rglob("*.json"))
    assert "sk-" not in kept + json.dumps(to_plain(llm.config))


def test_settings_that_cannot_be_used() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"base_url": "http://x", "model": "m", "path": "p"}, "not both"),
        ({"base_url": "http://x"}, "only one of them"),
        ({"model": "m"}, "only one of them"),
        ({"base_url": "localhost:8000", "model": "m"}, "must begin with http"),
        ({"concurrency": 0}, "llm.concurrency must be >= 1"),
        ({"retries": -1}, "llm.retries must be >= 0"),
        ({"temperature": 3.0}, "llm.temperature"),
        ({"timeout": 0.0}, "llm.timeout"),
    ]
    for settings, message in wrong:
        with pytest.raises(InputError, match=message):
            LlmConfig(**settings)
    with pytest.raises(InputError, match="never the key itself") as caught:
        LlmConfig(api_key_env="sk-abc123")
    assert "abc123" not in str(caught.value)
    with pytest.raises(InputError, match="no LLM is named"):
        Llm(LlmConfig())


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = LlmConfig(base_url="http://127.0.0.1:1/v1", model="m", api_key_env="NO_SUCH_KEY")
    with pytest.raises(InputError, match="NO_SUCH_KEY: this environment variable is not set"):
        Llm(config)
    with pytest.raises(InputError, match=r"llm.path=.* is no folder"):
        Llm(LlmConfig(path=str(tmp_path / "nowhere")))
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match=r"pip install 'querier\[llm\]'"):
        Llm(config)


def test_counts_that_are_no_numbers_are_none() -> None:
    body = {"choices": [{"finish_reason": "stop", "message": {"content": "yes"}}], "usage": {"prompt_tokens": "many"}}
    assert read_completion(body) == Answer("yes")
    assert read_completion({**body, "usage": None}) == Answer("yes")


# a local model


def test_a_local_model_answers_and_its_answers_are_kept(tmp_path: Path) -> None:
    model: Any = tiny_model("llama")
    model.lm_head.weight.data[1] *= 4  # its end is likely, so that some answers come to one
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(str(tmp_path / "model"))
    config = LlmConfig(path=str(tmp_path / "model"), max_tokens=24, concurrency=2, cache=str(tmp_path / "llm"))
    prompts = [*(f"What is yeast {number}?" for number in range(8)), "word " * 3000]
    first = Llm(config).complete_all(prompts)
    ended = [answer.text is not None for answer in first]
    assert 0 < sum(ended) < 9
    assert {answer.error for answer in first[:8]} <= {None, CUT, EMPTY}
    assert "more than the model's 2048" in (first[8].error or "")
    again = Llm(config).complete_all(prompts)
    assert [(answer.text, answer.cached) for answer in again] == [
        (answer.text, good) for answer, good in zip(first, ended, strict=True)
    ]


def test_other_weights_answer_anew(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tiny_tokenizer().save_pretrained(str(folder))
    (folder / "README.md").write_text("one")
    digests = [model_digest(folder)]
    for seed in (0, 0, 1):
        (folder / "model.safetensors").write_bytes(bytes([seed]))
        (folder / "README.md").write_text(f"{seed}, again")
        digests.append(model_digest(folder))
    assert digests[0] != digests[1] == digests[2] != digests[3]
