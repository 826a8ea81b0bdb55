"""A local chat model of `transformers`: prompts in, texts out, in batches; `querier.llm` keeps what it writes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from querier.choices import DecoderKind, Train
from querier.decoder_config import WHOLE, DecoderConfig
from querier.errors import InputError
from querier.models.decoder import Decoder, build_decoder
from querier.models.generation import Sampling, generate_ids
from querier.types import Rendered, Tokens, move

NAMES = ("User", "Assistant")  # for models without a chat template
READ = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")  # files that the answers depend on
SEED = 0  # of the sampling, where temperature > 0


@dataclass(frozen=True)
class Written:
    """What a model wrote for one prompt.

    Attributes:
        text: What it wrote, perhaps nothing.
        ended: Whether it came to its end within the limit.
        tokens_in: Of the prompt.
        tokens_out: Of what was written.
    """

    text: str
    ended: bool
    tokens_in: int
    tokens_out: int


class ChatModel:
    """Answers prompts.

    Args:
        decoder: Of any architecture that `Decoder` takes.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder.eval()
        self.device = decoder.bare.device

    @classmethod
    def load(cls, folder: Path) -> ChatModel:
        """A model from a folder, on the accelerator if there is one.

        Raises:
            InputError: The folder holds none that can be read.
        """
        fast = torch.cuda.is_available()
        config = DecoderConfig(
            kind=DecoderKind.pretrained,
            path=str(folder),
            train=Train.frozen,
            max_length=WHOLE,
            dtype="bfloat16" if fast else "float32",
        )
        try:
            decoder = build_decoder(config, None)
        except InputError as error:
            raise InputError(str(error).replace("decoder.path", "llm.path", 1)) from error
        return cls(decoder.to("cuda" if fast else "cpu"))

    @torch.no_grad()
    def write(self, prompts: Sequence[str], max_new_tokens: int, temperature: float = 0.0) -> list[Written | None]:
        """Answers to a batch of prompts, greedy at temperature 0; None for a prompt that the model has no room for."""
        rendered = [Rendered((("user", prompt),), "", NAMES) for prompt in prompts]
        length = [len(ids.prompt) for ids in self.decoder.tokens.ids(rendered)]
        together = max if self.decoder.seq2seq else sum  # an encoder and a decoder have positions each
        places = [place for place, count in enumerate(length) if together((count, max_new_tokens)) <= self.room]
        found: list[Written | None] = [None] * len(prompts)
        if not places:
            return found
        sampling = Sampling(temperature, torch.Generator(self.device).manual_seed(SEED))
        tokens: Tokens = move(self.decoder.prompt_tokens([rendered[place] for place in places]), self.device)
        written = generate_ids(self.decoder, tokens, None, max_new_tokens, sampling)
        stops = self.decoder.tokens.stops
        for place, ids, text in zip(places, written, self.decoder.tokens.texts(written), strict=True):
            found[place] = Written(text, bool(ids) and ids[-1] in stops, length[place], len(ids))
        return found

    @property
    def room(self) -> int:
        """Tokens of prompt and answer together, or of each for a seq2seq model, that the model has positions for."""
        limit = self.decoder.geometry.positions
        return WHOLE if limit is None else limit


def model_digest(folder: Path) -> str:
    """Names the weights, the tokenizer and the template in a folder.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"llm.path={folder} is no folder; give one that `save_pretrained` of transformers wrote")
    digest = hashlib.sha256()
    for path in sorted({path for pattern in READ for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
