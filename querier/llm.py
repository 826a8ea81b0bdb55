"""A text LLM: prompts in, answers out, from any OpenAI-compatible endpoint or from a local folder.

What fails is an `Answer` without a text and with its reason; nothing is made up in its place. What would fail for every
prompt, as a wrong key, ends at once. Every good answer is kept by content, so that a run that was interrupted asks only
for what is missing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from querier.errors import InputError
from querier.extra import need
from querier.files import write_atomic
from querier.llm_config import LlmConfig

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much

VERSION = 1  # raised when a kept answer could differ from a new one
BYTES_PER_TOKEN = 4  # of English text and, nearly, of Chinese; for estimates only
LONGEST = 300.0  # seconds that an endpoint may ask to wait
AGAIN = (408, 409, 429)  # statuses that another try may change, besides those from 500
HOPELESS = {
    401: "it wants another key; llm.api_key_env names the environment variable that holds it",
    403: "the key may not do this; llm.api_key_env names the environment variable that holds it",
    404: "it knows no such model, or the address is another; see llm.model and llm.base_url",
}  # statuses that every prompt would get
SHOWN = 300  # letters of an endpoint's own words in a reason

CUT = "cut at the token limit; raise llm.max_tokens"
EMPTY = "the answer is empty"
FILTERED = "withheld by a content filter"


@dataclass(frozen=True)
class Answer:
    """What came back for a prompt.

    Attributes:
        text: The answer; None where there is none.
        error: Why there is none.
        tokens_in: Tokens read, 0 where the endpoint does not say.
        tokens_out: Tokens written, 0 where the endpoint does not say.
        cached: Whether it was kept from an earlier call.
    """

    text: str | None
    error: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    cached: bool = False


class Estimate(NamedTuple):
    """What asking would take.

    Attributes:
        calls: Prompts without a kept answer.
        tokens: Tokens of these prompts, approximately.
        cost: At most, in the currency of the prices; None where a price is unknown.
    """

    calls: int
    tokens: int
    cost: float | None


Keep = Callable[[str, Answer], None]


class Completes(Protocol):
    """What answers prompts: an `Llm`, or anything else that says what failed."""

    def complete_all(self, prompts: Sequence[str], progress: Progress | None = None) -> list[Answer]:
        """An answer to each prompt, in their order."""
        ...


class Llm:
    """Asks a text LLM, some prompts at a time, and keeps what it answers.

    Args:
        config: Which LLM, and how it is asked.

    Raises:
        InputError: No LLM is named, its library or key is missing, or its folder does not exist.
    """

    def __init__(self, config: LlmConfig) -> None:
        if not config.base_url and not config.path:
            raise InputError("no LLM is named; give llm.base_url=http://... and llm.model=..., or llm.path=<folder>")
        self.config = config
        self._backend: _Endpoint | _Local = _Endpoint(config) if config.base_url else _Local(config)

    def complete_all(self, prompts: Sequence[str], progress: Progress | None = None) -> list[Answer]:
        """An answer to each prompt, in their order; equal prompts are asked once.

        Args:
            prompts: The texts.
            progress: Called with what is done, how much of it, of how much.

        Raises:
            InputError: The endpoint refuses the key, the model or the address, or the account is empty.
        """
        found = {prompt: self._kept(prompt) for prompt in dict.fromkeys(prompts)}
        missing = [prompt for prompt, answer in found.items() if answer is None]
        with closing(self._backend.answers(missing, self._keep)) as coming:
            for done, (prompt, answer) in enumerate(coming, start=1):
                found[prompt] = answer
                if progress is not None:
                    progress("asking", done, len(missing))
        answers = {prompt: answer for prompt, answer in found.items() if answer is not None}
        if missing:
            self._report([answers[prompt] for prompt in missing])
        return [answers[prompt] for prompt in prompts]

    def estimate(self, prompts: Sequence[str]) -> Estimate:
        """What `complete_all` would ask for; the cost counts `max_tokens` for every answer."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if self._kept(prompt) is None]
        tokens = sum(math.ceil(len(prompt.encode()) / BYTES_PER_TOKEN) for prompt in missing)
        return Estimate(len(missing), tokens, self._cost(tokens, len(missing) * self.config.max_tokens))

    def _cost(self, tokens_in: int, tokens_out: int) -> float | None:
        config = self.config
        if not config.price_in or not config.price_out:
            return None
        return (tokens_in * config.price_in + tokens_out * config.price_out) / 1e6

    def _report(self, answers: Sequence[Answer]) -> None:
        read, written = (sum(getattr(one, name) for one in answers) for name in ("tokens_in", "tokens_out"))
        cost = self._cost(read, written)
        log.info(
            "  %d prompts asked, %d without an answer; %d tokens read, %d written%s",
            len(answers),
            sum(one.text is None for one in answers),
            read,
            written,
            "" if cost is None else f", cost {cost:.4f}",
        )

    def _place(self, prompt: str) -> Path:
        # `max_tokens` is left out: an answer that came to its end under one limit is the answer under another.
        parts = [VERSION, self._backend.source, self.config.temperature, prompt]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return Path(self.config.cache) / digest[:2] / f"{digest}.json"

    def _kept(self, prompt: str) -> Answer | None:
        path = self._place(prompt)
        if not path.is_file():
            return None
        try:
            return replace(Answer(**json.loads(path.read_text(encoding="utf-8"))), cached=True)
        except (ValueError, TypeError):
            log.warning("%s is no kept answer; it is asked again", path)
            return None

    def _keep(self, prompt: str, answer: Answer) -> None:
        if answer.text is None:
            return
        plain = {"text": answer.text, "tokens_in": answer.tokens_in, "tokens_out": answer.tokens_out}
        write_atomic(self._place(prompt), json.dumps(plain, ensure_ascii=False))


@dataclass(frozen=True)
class Again:
    """A failure that another try may change.

    Attributes:
        reason: What happened.
        after: Seconds that the endpoint asks to wait; None where it says nothing.
    """

    reason: str
    after: float | None = None


class _Endpoint:
    """One call for each prompt, `concurrency` at a time."""

    def __init__(self, config: LlmConfig) -> None:
        self.config = config
        self.source = {"base_url": config.base_url, "model": config.model}
        self._openai = need("openai", "llm")
        self._open = threading.BoundedSemaphore(config.concurrency)  # over all that ask at one time
        self._key = _key(config.api_key_env)

    def answers(self, prompts: Sequence[str], keep: Keep) -> Generator[tuple[str, Answer]]:
        """Prompts with their answers, in the order in which they come; each is kept before the next one is asked."""
        if not prompts:
            return
        stopped = threading.Event()
        pool = ThreadPoolExecutor(self.config.concurrency)
        with self._openai.OpenAI(
            base_url=self.config.base_url, api_key=self._key, timeout=self.config.timeout, max_retries=0
        ) as client:
            try:
                asked = {pool.submit(self._answer, client, prompt, stopped, keep): prompt for prompt in prompts}
                for future in as_completed(asked):
                    yield asked[future], future.result()
            finally:
                stopped.set()  # nobody waits for another try
                pool.shutdown(cancel_futures=True)

    def _answer(self, client: Any, prompt: str, stopped: threading.Event, keep: Keep) -> Answer:
        answer = self._ask(client, prompt, stopped)
        keep(prompt, answer)
        return answer

    def _ask(self, client: Any, prompt: str, stopped: threading.Event) -> Answer:
        config = self.config
        for retry in range(config.retries + 1):
            with self._open:
                found = self._try(client, prompt)
            if isinstance(found, Answer):
                return found
            reason = found.reason
            wait = config.backoff * 2**retry if found.after is None else found.after
            if wait > LONGEST:
                return Answer(None, f"{reason}; it asks to wait {wait:.0f} s")
            if retry == config.retries or stopped.wait(wait):
                break
        return Answer(None, f"{reason} (tried {retry + 1} times)")

    def _try(self, client: Any, prompt: str) -> Answer | Again:
        config, openai = self.config, self._openai
        try:
            # Read raw: the library would fill in what an endpoint left out.
            raw = client.chat.completions.with_raw_response.create(
                model=config.model,
                messages=[{"role": "user", "content": prompt}],
                max_tokens=config.max_tokens,
                temperature=config.temperature,
            )
            return read_completion(json.loads(raw.http_response.text))
        except openai.APITimeoutError:
            return Again(f"no answer within {config.timeout:g} s")
        except openai.APIConnectionError as error:
            return Again(f"the connection failed ({_short(error.__cause__ or error)})")
        except openai.APIStatusError as error:
            reason = f"HTTP {error.status_code}: {_short(error)}"
            again = error.status_code in AGAIN or error.status_code >= 500
            hint = "the account is empty" if error.code == "insufficient_quota" else HOPELESS.get(error.status_code)
            if hint:
                raise InputError(f"{config.base_url} says {reason}: {hint}. What was answered is kept") from error
            if not again:
                return Answer(None, reason)
            return Again(reason, retry_after(error.response.headers, time.time()))
        except ValueError as error:
            return Again(f"the answer is no JSON ({_short(error)})")


class _Local:
    """A model of a folder, `concurrency` prompts in a batch."""

    def __init__(self, config: LlmConfig) -> None:
        from querier.models.chat import model_digest  # brings in torch and transformers

        self.config = config
        self.source = {"weights": model_digest(Path(config.path))}
        self._model: Any = None

    def answers(self, prompts: Sequence[str], keep: Keep) -> Generator[tuple[str, Answer]]:
        """Prompts with their answers, batches of like length."""
        from querier.models.chat import ChatModel

        config = self.config
        order = sorted(prompts, key=len, reverse=True)
        for start in range(0, len(order), config.concurrency):
            self._model = self._model or ChatModel.load(Path(config.path))
            part = order[start : start + config.concurrency]
            for prompt, one in zip(part, self._model.write(part, config.max_tokens, config.temperature), strict=True):
                if one is None:
                    room = self._model.room
                    answer = Answer(None, f"prompt and {config.max_tokens} new tokens are more than the model's {room}")
                else:
                    answer = _checked(one.text, None if one.ended else CUT, one.tokens_in, one.tokens_out)
                keep(prompt, answer)
                yield prompt, answer


def read_completion(body: Any) -> Answer | Again:
    """An answer out of the JSON of a chat completion; the form of every part is checked."""
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        said = body.get("error") if isinstance(body, dict) else None
        return Again(f"no message in the answer{f' ({_short(said)})' if said else ''}")
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    read, written = (
        count if isinstance(count := counts.get(name), int) else 0 for name in ("prompt_tokens", "completion_tokens")
    )
    error = {"length": CUT, "content_filter": FILTERED}.get(str(choice.get("finish_reason")))
    if error is None and message.get("refusal"):
        error = f"refused: {_short(message['refusal'])}"
    return _checked(message.get("content"), error, read, written)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that `Retry-After` asks to wait, which is a number or a date; None without a readable one."""
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _checked(text: Any, error: str | None, tokens_in: int, tokens_out: int) -> Answer:
    """An answer whose text is there, whole and not empty; else the reason."""
    if error is None and not (isinstance(text, str) and text.strip()):
        error = EMPTY
    return Answer(text if error is None else None, error, tokens_in, tokens_out)


def _key(variable: str) -> str:
    """The key in an environment variable.

    Raises:
        InputError: It is not set.
    """
    if not variable:
        return "none"  # the library sends one in any case; endpoints without keys do not read it
    if not os.environ.get(variable):
        raise InputError(f"llm.api_key_env={variable}: this environment variable is not set; export it first")
    return os.environ[variable]


def _short(what: object) -> str:
    text = " ".join(str(what).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
