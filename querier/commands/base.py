"""The base: a small decoder trained from random weights on the pool, blind to the querier.

Every method starts from this checkpoint as from a pretrained model, so it depends on the data and on the
decoder's settings and on nothing else: not on the method and not on the seed of a run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from querier.choices import DecoderKind, Train
from querier.commands.prepare import say
from querier.commands.progress import Progress
from querier.config import Config, to_plain
from querier.data.records import Corpus
from querier.decoder_config import DecoderConfig
from querier.errors import InputError
from querier.files import atomic_folder, locked
from querier.methods.prompts import render_plain
from querier.models.decoder import Decoder
from querier.models.small import new_small_decoder, train_tokenizer
from querier.run import write_json
from querier.types import Rendered, Split, Tokens

VERSION = 1  # raised when the same settings would give other weights
SEED = 0
BUCKET = 16  # batches whose dialogues are sorted by length together
WARMUP = 0.05
LONGEST = 192  # tokens of a prompt


def base_folder(config: Config, corpus: Corpus, progress: Progress | None = None) -> Path | None:
    """The folder of the base for a configuration; trains it where the cache has none.

    Returns:
        None for a pretrained decoder, which is its own base.

    Raises:
        InputError: The pool is empty.
    """
    if config.decoder.kind is not DecoderKind.small:
        return None
    folder = Path(config.cache) / "bases" / base_digest(config.decoder, corpus)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if not (folder / "base.json").is_file():
            decoder, report = train_base(config.decoder, corpus, progress)
            with atomic_folder(folder) as new:
                decoder.save(new)
                write_json(new / "base.json", report)
    report = json.loads((folder / "base.json").read_text(encoding="utf-8"))
    say([f"base: {report['epochs']:.0f} epochs, validation nll per token {report['nll']:.4f} ({folder})"])
    return folder


def base_digest(config: DecoderConfig, corpus: Corpus) -> str:
    """Names the data and the settings that the base's weights depend on."""
    names = ("kind", "max_length", "dtype", "layers", "width", "vocabulary", "dropout", "base")
    plain = to_plain(shortened(config))
    text = json.dumps([VERSION, corpus.digest, {name: plain[name] for name in names}], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shortened(config: DecoderConfig) -> DecoderConfig:
    """The decoder as its base is trained: methods that read longer prompts start from the base of the others."""
    return replace(config, max_length=min(config.max_length, LONGEST))


@torch.random.fork_rng()
def train_base(
    config: DecoderConfig, corpus: Corpus, progress: Progress | None = None
) -> tuple[Decoder, dict[str, float]]:
    """Train tokenizer and weights on the pool; keeps the weights that were best on the validation split.

    Args:
        config: The small decoder and, in `base`, its training.
        corpus: Split.
        progress: Shows the steps.

    Returns:
        The decoder, and `epochs`, `steps` and `nll` (of the validation replies, per token).

    Raises:
        InputError: The pool is empty.
    """
    train, held_out = (_rendered(corpus, split) for split in (Split.TRAIN, Split.VALIDATION))
    if not train:
        raise InputError("the training split holds no dialogue; loosen data.unseen, data.responders or data.split")
    texts = [text for one in train for text in (*(words for _, words in one.turns), one.reply)]
    whole = replace(shortened(config), train=Train.full, rows_at_once=None)  # whatever a method does later
    decoder = new_small_decoder(whole, train_tokenizer(texts, config.vocabulary), SEED)
    base = config.base
    torch.manual_seed(SEED)  # of dropout
    per_epoch = math.ceil(len(train) / base.batch_size)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=base.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _factor(step, base.epochs * per_epoch))
    best = (reply_nll(decoder, held_out, base.batch_size), _copy(decoder))
    done = since_best = 0
    for epoch in range(base.epochs):
        decoder.train()
        for batch in _batches(train, base.batch_size, np.random.default_rng([SEED, epoch])):
            _step(decoder, batch, optimizer)
            schedule.step()
            done += 1
            if progress is not None:
                progress("base", done, base.epochs * per_epoch, f"val {best[0]:.3f}")
        nll = reply_nll(decoder, held_out, base.batch_size)
        since_best += 1
        if not held_out or nll < best[0]:
            best, since_best = (nll, _copy(decoder)), 0
        if held_out and since_best >= base.patience:
            break
    if progress is not None:
        progress("base", done, done, f"val {best[0]:.3f}")
    decoder.load_state_dict(best[1])
    return decoder.eval(), {"epochs": float(math.ceil(done / per_epoch)), "steps": float(done), "nll": best[0]}


@torch.no_grad()
def reply_nll(decoder: Decoder, rendered: list[Rendered], batch_size: int) -> float:
    """Negative log-likelihood of the replies per token; NaN where there are none."""
    decoder.eval()
    total, count = 0.0, 0
    for batch in _batches(rendered, batch_size, None):
        tokens = decoder.score_tokens(batch)
        total -= float(decoder.log_prob(tokens, None).sum())
        count += int((tokens.labels >= 0).sum())
    return total / count if count else float("nan")


def _step(decoder: Decoder, batch: list[Rendered], optimizer: torch.optim.Optimizer) -> None:
    tokens = decoder.score_tokens(batch)
    # The whole text is learned here, the query too: a decoder from random weights has the language itself to learn.
    labels = torch.where(tokens.attention_mask.bool(), tokens.input_ids, -100)
    log_prob = decoder.log_prob(Tokens(tokens.input_ids, tokens.attention_mask, labels), None)
    loss = -log_prob.sum() / (labels >= 0).sum()
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss of the base is {loss.item()}; lower decoder.base.lr")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own stub
    torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
    optimizer.step()


def _rendered(corpus: Corpus, split: Split) -> list[Rendered]:
    return [render_plain(corpus.dialogue(int(row)), None) for row in corpus.rows_in(split)]


def _batches(rendered: list[Rendered], size: int, rng: np.random.Generator | None) -> Iterator[list[Rendered]]:
    """Batches of dialogues of similar length; without a generator in order of length."""
    length = np.array([sum(len(text) for _, text in one.turns) + len(one.reply) for one in rendered])
    if rng is None:
        order = np.argsort(length, kind="stable")
    else:
        shuffled = rng.permutation(len(rendered))
        parts = [shuffled[start : start + size * BUCKET] for start in range(0, len(shuffled), size * BUCKET)]
        order = np.concatenate([part[np.argsort(length[part], kind="stable")] for part in parts])
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    places = range(len(batches)) if rng is None else rng.permutation(len(batches))
    for place in places:
        yield [rendered[int(row)] for row in batches[place]]


def _factor(step: int, steps: int) -> float:
    """Linear warmup, then a cosine to a tenth."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def _copy(decoder: Decoder) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in decoder.state_dict().items()}
