"""Why this reply: what was read of the querier, how much of it counted, and which words of the reply it decided.

A question is a `Request`: `Responder.request` makes one of texts, `dialogue` one of a row of the corpus, and `swapped`
the same row as if another querier had asked it, under the equal conditions of an evaluation. Attention and gate are
what the conditioner says of itself (`Conditioning.explain`); they show what was looked at, not what it did. What it did
is in `token_gain`, the difference that the querier makes to each token, and in `strengths`, the replies with more or
less of the querier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from querier.analysis.extra import need
from querier.analysis.vectors import requests_of
from querier.config import STRONGEST
from querier.data.collate import collate
from querier.data.requests import Request, Requests
from querier.data.words import words
from querier.errors import InputError, check_range
from querier.responder import Responder
from querier.types import Batch, Conditioning, move

if TYPE_CHECKING:
    from pandas import DataFrame

NOTHING = "(nothing: the learned null item)"
STRENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0)


def dialogue(responder: Responder, row: int) -> Request:
    """A dialogue of the corpus with its reply, as the model reads it: the history before it and nothing later.

    Args:
        responder: A run with its corpus.
        row: Of the corpus.

    >>> request = dialogue(responder, int(responder.prepared.corpus.rows_of(3)[-1]))
    >>> len(request.items) == len(request.history) > 0
    True
    """
    return requests_of(responder).matched(row)


def swapped(responder: Responder, row: int, other: str | None = None) -> tuple[Request, Request]:
    """A dialogue under its true querier and under another one, both as an evaluation has them.

    Both histories are cut to before the query, lose what asks the same, and keep the same number of items.

    Args:
        responder: A run with its corpus.
        row: Of the corpus.
        other: Who stands in; None for the first contrast user with a history, else who asked the most similar query.

    Returns:
        The request of the true querier, and that of the other one.

    Raises:
        InputError: An unknown or the same querier, or one of the two had no history then.

    >>> own, other = swapped(responder, int(responder.prepared.corpus.rows_of(3)[-1]), "q1")
    >>> len(own.items) == len(other.items), own.rendered.names[0], other.rendered.names[0]
    (True, 'q3', 'q1')
    """
    requests = requests_of(responder)
    corpus = requests.corpus
    own = _comparable(requests, row, requests.histories.of(row, None))
    for number in _others(responder, row) if other is None else [_number(corpus.queriers, other)]:
        if number == int(corpus.querier[row]):
            raise InputError(f"{other!r} asked this themselves; name another querier")
        theirs = _comparable(requests, row, _before(requests, row, number))
        length = min(len(own), len(theirs), requests.limit)
        if length:
            name = corpus.queriers[number]
            return requests.of(row, own[:length]), requests.of(row, theirs[:length], name)
    raise InputError(
        f"dialogue {corpus.ids[row]!r}: {'the true querier' if not len(own) else other or 'nobody else'} had "
        f"{'no' if not len(own) or other else 'a'} history before it; take a later dialogue, or another querier"
    )


def attention(responder: Responder, request: Request) -> DataFrame:
    """What was looked at in the history, the most first: `rank` from newest, `query`, `reply`, `attention`, `even`.

    `attention` sums to 1 with that on nothing, the learned null item that always stands among the keys, whose rank is
    missing; `even` is what each would have if all were looked at alike.

    Args:
        responder: A run of a method with attention over histories.
        request: What is asked.

    Raises:
        InputError: Where the method has no attention.

    >>> found = attention(responder, responder.request("how does rust work", "q3"))
    >>> round(float(found["attention"].sum()), 4), len(found)
    (1.0, 9)
    """
    weights = _explain(responder, request, "attention")[0].float().mean(0).cpu().numpy()  # (1 + H,)
    pandas = need("pandas")
    items = list(request.items)[: len(weights) - 1]
    lines = {
        "rank": pandas.array([None, *range(len(items))], dtype="Int64"),
        "query": [NOTHING, *(item.query for item in items)],
        "reply": ["", *(item.reply for item in items)],
        "attention": weights[: 1 + len(items)],
        "even": 1 / (1 + len(items)),
    }
    table: DataFrame = pandas.DataFrame(lines)
    return table.sort_values("attention", ascending=False, kind="stable", ignore_index=True)


def gate(responder: Responder, request: Request) -> DataFrame:
    """How far each virtual token is the querier's own: `token`, `specific` and `general`, which sum to 1.

    Args:
        responder: A run with `towers.fusion=gate` and a general tower.
        request: What is asked.

    Raises:
        InputError: Where the run has no gate.

    >>> found = gate(responder, responder.request("how does rust work", "q3"))
    >>> bool(np.allclose(found["specific"] + found["general"], 1))
    True
    """
    values = _explain(responder, request, "gate")[0, :, 0].float().cpu().numpy()
    lines = {"token": range(1, len(values) + 1), "specific": values, "general": 1 - values}
    table: DataFrame = need("pandas").DataFrame(lines)
    return table


def token_gain(responder: Responder, request: Request, other: Request, reply: str | None = None) -> DataFrame:
    """How much likelier each token of a reply is for the one than for the other: `token`, `own`, `other`, `gain`.

    Args:
        responder: A run of any method.
        request: With the true querier.
        other: The same with another one, or with no history.
        reply: Whose tokens; None for the reply of the request's own dialogue.

    Returns:
        Log-probabilities in nats; `gain` = `own` − `other`. The last token ends the turn, and its text may be empty.

    Raises:
        InputError: Where there is no reply.

    >>> asked = "how does rust work"
    >>> own, nobody = responder.request(asked, "q3"), responder.request(asked, "q3", history=[])
    >>> found = token_gain(responder, own, nobody, "rust works slowly")
    >>> "".join(found["token"]).strip()
    'rust works slowly'
    """
    said = request.rendered.reply if reply is None else reply
    if not said.strip():
        raise InputError("there is no reply to look at; give reply=..., or a request of `dialogue` or `swapped`")
    ids, values = _log_prob(responder, request, said)
    _, others = _log_prob(responder, other, said)
    lines = {"token": _pieces(responder, ids), "own": values, "other": others, "gain": values - others}
    table: DataFrame = need("pandas").DataFrame(lines)
    return table


def strengths(
    responder: Responder, request: Request, settings: Sequence[float] = STRENGTHS, max_new_tokens: int | None = None
) -> DataFrame:
    """The reply at each strength of what is personal: 0 as to somebody without a history, 1 as trained.

    Args:
        responder: A run of a method that reads vectors of the querier.
        request: What is asked.
        settings: From 0 to 10.
        max_new_tokens: Length limit; default `evaluation.max_new_tokens`.

    Returns:
        `strength`, `reply`, and `nats_per_token`: minus the mean log-probability that the setting gives to the words of
        the reply at strength 1, smallest where the setting says them most readily; NaN where that reply is empty.

    Raises:
        InputError: On a strength out of range, or for a run that has none.

    >>> strengths(responder, responder.request("how does rust work", "q3"), (0, 1), 4)["strength"].tolist()
    [0.0, 1.0]
    """
    for strength in settings:
        check_range("strength", strength, 0.0, STRONGEST)
    limit = max_new_tokens or responder.config.evaluation.max_new_tokens
    bare = replace(request, rendered=replace(request.rendered, reply=""))
    answer = {one: responder.module.generate([bare], limit, strength=one)[0] for one in dict.fromkeys([*settings, 1.0])}
    trained = answer[1.0]
    lines = [
        {
            "strength": float(one),
            "reply": answer[one],
            "nats_per_token": _surprise(responder, bare, trained, one),
        }
        for one in settings
    ]
    table: DataFrame = need("pandas").DataFrame(lines)
    return table


def _others(responder: Responder, row: int) -> list[int]:
    """Who may stand in for the querier of a row: contrast users, then those who asked the nearest queries."""
    prepared = requests_of(responder).prepared
    users, near = np.asarray(prepared.contrast[row])[:, 0], np.asarray(prepared.neighbours[row])
    rows = np.concatenate([users, near])
    return list(dict.fromkeys(int(number) for number in prepared.corpus.querier[rows[rows >= 0]]))


def _number(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise InputError(f"no querier {name!r} in the corpus of {len(names)}")
    return list(names).index(name)


def _before(requests: Requests, row: int, querier: int) -> np.ndarray:
    """What somebody had said and been answered before a row's query, newest first, (n,)."""
    corpus = requests.corpus
    when, scene, answers = int(corpus.time[row]), int(corpus.scene[row]), int(corpus.responder[row])
    return requests.histories.of_querier(querier, when, scene, answers, None, training=False)


def _comparable(requests: Requests, row: int, history: np.ndarray) -> np.ndarray:
    """Without the items that ask the same, from which the answer could be copied, (n,)."""
    asked = words(requests.asked(row))
    kept = [item for item in history.tolist() if words(requests.asked(item)) != asked]
    return np.array(kept, dtype=np.int64)


def _explain(responder: Responder, request: Request, what: str) -> torch.Tensor:
    """A number that the conditioner says of itself, for one request, (1, ...)."""
    conditioning = _conditioned(responder, _batch(responder, request, scored=False), 1.0)
    if conditioning is None or what not in conditioning.explain:
        config = responder.config
        told = ", ".join(sorted(conditioning.explain)) if conditioning is not None else ""
        raise InputError(
            f"a run of method {config.method} with towers.fusion={config.towers.fusion.name} tells nothing of its "
            f"{what}, only of {told or 'nothing at all'}; use a run of method querier with towers.fusion=gate"
        )
    return conditioning.explain[what]


def _surprise(responder: Responder, request: Request, reply: str, strength: float) -> float:
    """Minus the mean log-probability of a reply's words; its end is left out, as the length limit may have set it."""
    ids, values = _log_prob(responder, request, reply, strength)
    closing = list(responder.module.decoder.tokens.closing)
    spoken = values[: -len(closing)] if ids[-len(closing) :] == closing else values
    return -float(spoken.mean()) if len(spoken) else float("nan")


@torch.no_grad()
def _log_prob(
    responder: Responder, request: Request, reply: str, strength: float = 1.0
) -> tuple[list[int], np.ndarray]:
    """Ids of a reply's tokens and their log-probabilities, nats."""
    batch = _batch(responder, replace(request, rendered=replace(request.rendered, reply=reply)), scored=True)
    with responder.module.precision():
        values = responder.module.decoder.log_prob(batch.tokens, _conditioned(responder, batch, strength))
    labelled = batch.tokens.labels[0] >= 0
    return batch.tokens.labels[0][labelled].tolist(), values[0][labelled].double().cpu().numpy()


@torch.no_grad()
def _conditioned(responder: Responder, batch: Batch, strength: float) -> Conditioning | None:
    model = responder.module.conditioner
    return None if model is None else model.condition(batch, strength)


def _batch(responder: Responder, request: Request, scored: bool) -> Batch:
    decoder = responder.module.decoder
    tokens = decoder.score_tokens([request.rendered]) if scored else decoder.prompt_tokens([request.rendered])
    return move(collate([request], tokens, responder.config.towers.history), responder.module.device)


def _pieces(responder: Responder, ids: Sequence[int]) -> list[str]:
    """The text that each token adds; a letter of several tokens stands with the last of them."""
    tokenizer: Any = responder.module.decoder.tokenizer
    pieces, before = [], ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(list(ids[:end]), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        whole = text.rstrip("\N{REPLACEMENT CHARACTER}")  # of a letter that the next token completes
        pieces.append(whole[len(before) :])
        before = whole if len(whole) >= len(before) else before
    return pieces
