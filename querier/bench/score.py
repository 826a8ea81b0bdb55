"""What testing costs over the decoder's own time: building requests, batching, the towers, keeping count.

Scoring and answering as `querier test` does them, against the bare decoder on the same texts in the same batches. The
two are taken in turn, chunk by chunk, in one process. Weights are random: only their number matters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from querier.choices import Train
from querier.config import Config
from querier.data.embeddings import Progress
from querier.data.history import Histories
from querier.data.preparation import Prepared
from querier.data.requests import Requests
from querier.methods.prompts import renderer
from querier.methods.registry import build_conditioner
from querier.models.decoder import Decoder
from querier.models.shapes import SMOLLM2_135M, random_decoder
from querier.models.small import new_small_decoder, train_tokenizer
from querier.module import QuerierModule
from querier.types import Rendered, Split

CHUNK = 128  # dialogues between two looks at the clock
NEW_TOKENS = 16  # of each generated reply


class Tester(Protocol):
    """What `querier test` asks a model with: `evaluation.scoring.Scorer`."""

    def key(self, row: int, history: np.ndarray) -> Any:
        """Names a dialogue with a history."""

    def add(self, keys: Any) -> None:
        """Score what the keys name."""

    def replies(self, keys: Any, max_new_tokens: int) -> Any:
        """Answer what the keys name."""


MakeTester = Callable[[QuerierModule, Requests], Tester]


def measure_score(
    config: Config, prepared: Prepared, dialogues: int, make_tester: MakeTester, progress: Progress
) -> dict[str, Any]:
    """Time testing and the bare decoder.

    Args:
        config: Method, batch size and lengths.
        prepared: Its test rows are scored, from the first again where there are fewer than `dialogues`.
        dialogues: How many are scored and answered.
        make_tester: From a model and what builds its requests to what tests it.
        progress: Told of each chunk.

    Returns:
        `ratio` of scoring and of answering to the decoder's own time, by decoder (`smollm2`: SmolLM2-135M's shape;
        `small`: the small decoder), and the `seconds` of each.
    """
    corpus = prepared.corpus
    texts = [turn.text for row in corpus.rows_in(Split.TRAIN).tolist() for turn in corpus.dialogue(row).turns]
    tokenizer = train_tokenizer(texts, config.decoder.vocabulary)
    frozen = replace(config.decoder, train=Train.frozen)
    decoders = {
        "smollm2": random_decoder(SMOLLM2_135M, frozen, 0, tokenizer),
        "small": new_small_decoder(frozen, tokenizer, 0),
    }
    ratio: dict[str, dict[str, float]] = {}
    seconds: dict[str, dict[str, float]] = {}
    for name, decoder in decoders.items():
        taken = _alternate(config, prepared, decoder, dialogues, make_tester, partial(progress, f"testing, {name}"))
        seconds[name] = {key: round(value, 3) for key, value in taken.items()}
        ratio[name] = {what: round(taken[what] / taken[f"{what}_bare"], 4) for what in ("score", "answer")}
    return {
        "ratio": ratio,
        "seconds": seconds,
        "dialogues": dialogues,
        "batch": config.evaluation.batch_size,
        "new_tokens": NEW_TOKENS,
        "threads": torch.get_num_threads(),
    }


def _alternate(
    config: Config,
    prepared: Prepared,
    decoder: Decoder,
    dialogues: int,
    make_tester: MakeTester,
    tell: Callable[[int, int], None],
) -> dict[str, float]:
    """Seconds of scoring and answering, as `querier test` does it and by the decoder alone."""
    conditioner = build_conditioner(config, decoder, len(prepared.clusters), prepared.matrix.shape[1])
    module = QuerierModule(config, decoder, conditioner).eval()
    requests = Requests(prepared, Histories(prepared.corpus), config, renderer(config.prompt))
    rows = np.resize(prepared.corpus.rows_in(Split.TEST), dialogues)
    taken = dict.fromkeys(("score", "score_bare", "answer", "answer_bare"), 0.0)
    for start in range(0, dialogues, CHUNK):
        chunk = rows[start : start + CHUNK].tolist()
        scorer = make_tester(module, requests)
        keys = [scorer.key(row, requests.history_rows(row)) for row in chunk]
        rendered = [requests.matched(row).rendered for row in dict.fromkeys(chunk)]
        taken["score"] += _timed(scorer.add, keys)
        taken["score_bare"] += _timed(_score, decoder, _batches(rendered, config, prompt_only=False))
        taken["answer"] += _timed(_answer, scorer, keys)
        taken["answer_bare"] += _timed(_generate, decoder, _batches(rendered, config, prompt_only=True))
        tell(min(start + CHUNK, dialogues), dialogues)
    return taken


def _batches(rendered: Sequence[Rendered], config: Config, prompt_only: bool) -> list[list[Rendered]]:
    """The same batches of like length that scoring makes, or answering, which does not know the replies."""
    size = config.evaluation.batch_size
    reply = [0 if prompt_only else len(one.reply) for one in rendered]
    length = [sum(len(text) for _, text in one.turns) + said for one, said in zip(rendered, reply, strict=True)]
    ordered = [rendered[place] for place in sorted(range(len(rendered)), key=lambda place: -length[place])]
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


@torch.no_grad()
def _score(decoder: Decoder, batches: Sequence[list[Rendered]]) -> None:
    for batch in batches:
        decoder.log_prob(decoder.score_tokens(batch))


def _generate(decoder: Decoder, batches: Sequence[list[Rendered]]) -> None:
    for batch in batches:
        decoder.generate(decoder.prompt_tokens(batch), None, NEW_TOKENS)


def _answer(scorer: Tester, keys: Sequence[Any]) -> None:
    scorer.replies(list(dict.fromkeys(keys)), NEW_TOKENS)


def _timed(work: Callable[..., None], *arguments: Any) -> float:
    begun = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begun
