"""Which text LLM is asked, how, and at what price: `llm.*` of the commands that ask one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from querier.errors import InputError, check_range

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass
class LlmConfig:
    """An OpenAI-compatible endpoint (`base_url` and `model`) or a local model (`path`); neither for none."""

    base_url: str = ""  # e.g. http://localhost:8000/v1
    model: str = ""  # its name at the endpoint
    path: str = ""  # folder of a transformers model with a chat template
    api_key_env: str = ""  # environment variable that holds the key; empty where none is needed
    concurrency: int = 8  # calls at a time; of a local model prompts in a batch
    timeout: float = 60.0  # seconds without an answer
    retries: int = 4  # after the first try
    backoff: float = 1.0  # seconds before the first retry, twice as long before each further one
    max_tokens: int = 256  # of an answer; one that needs more counts as failed
    temperature: float = 0.0
    price_in: float = 0.0  # of a million tokens read; 0 for unknown
    price_out: float = 0.0  # of a million tokens written; 0 for unknown
    cache: str = "outputs/cache/llm"

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_tokens"):
            check_range(f"llm.{name}", getattr(self, name), 1)
        for name in ("retries", "backoff", "price_in", "price_out"):
            check_range(f"llm.{name}", getattr(self, name), 0)
        check_range("llm.timeout", self.timeout, 0.01)
        check_range("llm.temperature", self.temperature, 0.0, 2.0)
        if self.base_url and self.path:
            raise InputError("llm.base_url and llm.path are both set; give an endpoint or a local folder, not both")
        if bool(self.base_url) != bool(self.model):
            raise InputError("an endpoint needs llm.base_url and llm.model, got only one of them")
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise InputError(f"llm.base_url must begin with http:// or https://, got {self.base_url!r}")
        if self.api_key_env and not VARIABLE.fullmatch(self.api_key_env):
            # The value is not repeated: it may be a key.
            raise InputError("llm.api_key_env is the name of an environment variable, as MY_KEY, never the key itself")
