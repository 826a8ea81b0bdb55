"""The records, batches and protocols that every part of the library shares.

Axis letters, used in every docstring: B examples, V views, H history items, N neighbours, K contrast users,
L tokens, E text-embedding size, S stylometric features, D tower width, T virtual tokens, Q queriers, C clusters,
W decoder width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

Moved = TypeVar("Moved")

STYLE = 19  # S


@dataclass(frozen=True)
class Turn:
    """What one speaker said before the next one spoke."""

    speaker: str
    text: str


@dataclass(frozen=True)
class Dialogue:
    """One example: some turns, the last of which is the responder's reply.

    Args:
        id: Unique in a corpus.
        querier: Who asks.
        responder: Who answers.
        turns: At least two; the last one is the reply.
        time: Any monotone number; a tie is not history.
        scene: Indivisible group that a split never cuts.
        item: What it is about, where several people speak of one thing.
        split: `train`, `validation`, `test` or `history`, for `data.split=given`.
        extra: Unknown fields, kept as they came.
    """

    id: str
    querier: str
    responder: str
    turns: tuple[Turn, ...]
    time: int
    scene: str
    item: str | None = None
    split: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reply(self) -> str:
        """The responder's last turn."""
        return self.turns[-1].text

    @property
    def query(self) -> str:
        """The querier's last turn before the reply."""
        return next(turn.text for turn in reversed(self.turns[:-1]) if turn.speaker != self.responder)

    @property
    def unanswered(self) -> Dialogue:
        """The same with a blank in the place of the reply."""
        return replace(self, turns=(*self.turns[:-1], replace(self.turns[-1], text="")))


class Split(Enum):
    """Which part of an experiment a dialogue belongs to; the value is stored in the corpus."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2
    HISTORY = 3  # may be read as history, is never trained on or scored
    EXCLUDED = 4  # neither: it stands in a scene whose other dialogues are scored in another split


@dataclass
class Items:
    """History items or neighbours as vectors.

    Args:
        inputs: Embeddings of what was asked, (..., H, E) float32.
        outputs: Embeddings of what was answered, (..., H, E) float32.
        style: Stylometry of what was answered, (..., H, S) float32.
        cluster: Cluster of each item's query, (..., H) int64.
        rank: Place from the newest, 0 first, (..., H) int64.
        same_responder: Whether this dialogue's responder answered, (..., H) bool.
        mask: True where an item stands, (..., H) bool.
    """

    inputs: Tensor
    outputs: Tensor
    style: Tensor
    cluster: Tensor
    rank: Tensor
    same_responder: Tensor
    mask: Tensor


@dataclass
class ComparedItems(Items):
    """History items beside what contrast users were answered where each of them stood.

    Args:
        others: Embeddings of what contrast users were answered, (..., H, K, E) float32.
        distance: From the mean of the items' outputs to that of each contrast user's, (..., H, K) float32.
        stands: True where a contrast user stands, (..., H, K) bool.
    """

    others: Tensor
    distance: Tensor
    stands: Tensor


@dataclass
class Tokens:
    """Token ids of prompt and reply, right-padded for scoring, left-padded for generation.

    Args:
        input_ids: (B, L) int64. For a seq2seq decoder the encoder's ids.
        attention_mask: 1 where a token stands, (B, L) int64.
        labels: The reply's ids and −100 elsewhere, (B, L) int64; for a seq2seq decoder the decoder's ids, (B, L').
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


@dataclass
class MarkedTokens(Tokens):
    """Tokens, some of which only hold a place for a vector of `Conditioning.marked`.

    Args:
        marks: Number of the vector that stands there, −1 at tokens of the text, (B, L) int64.
    """

    marks: Tensor


@dataclass
class Batch:
    """What a conditioner and a decoder read of B dialogues.

    Args:
        rows: Row of each dialogue in the corpus, (B,) int64.
        querier: Querier's number, (B,) int64.
        scene: Scene's number, (B,) int64.
        cluster: Cluster of the query, (B,) int64.
        query: Embedding of the query, (B, E) float32.
        history: The querier's earlier items, (B, H).
        neighbours: Nearest pool dialogues of other queriers, (B, N).
        tokens: Prompt and reply.
        contrastive: Views, contrast users and pair masks; None where no contrastive loss is computed.
        swap: Rows and histories of the swap loss; None where it is not computed.
        asked: Texts of the queries, B of them, for a sentence encoder that is trained; else empty.
        echo: Rows that read the style of their own reply; None where none does, as at all times outside training.
    """

    rows: Tensor
    querier: Tensor
    scene: Tensor
    cluster: Tensor
    query: Tensor
    history: Items
    neighbours: Items
    tokens: Tokens
    contrastive: Contrastive | None = None
    swap: Swap | None = None
    asked: tuple[str, ...] = ()
    echo: Echo | None = None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass
class Contrastive:
    """What the two contrastive losses compare, inside one batch.

    Args:
        views: For each of two views True where a history item belongs to it, (2, B, H) bool; disjoint scenes.
        neighbour_views: The same for the neighbours, (2, B, N) bool.
        hard: Histories of contrast users, cut to before the anchor's query, (B, K, H').
        hard_mask: True where a contrast user stands, (B, K) bool.
        own_query: Embeddings of the anchor's own other queries, in whatever cluster, (B, K, E).
        own_neighbours: The neighbours of those queries, (B, K, N).
        own_mask: True where such a query stands, (B, K) bool.
        mutual: True where two rows' queries are mutual nearest neighbours of different queriers, (B, B) bool.
        near: True where two rows' queries have cosine ≥ 0.95, (B, B) bool.
        own_asked: Texts of the own other queries, B K of them, for a sentence encoder that is trained; else empty.
    """

    views: Tensor
    neighbour_views: Tensor
    hard: Items
    hard_mask: Tensor
    own_query: Tensor
    own_neighbours: Items
    own_mask: Tensor
    mutual: Tensor
    near: Tensor
    own_asked: tuple[str, ...] = ()


@dataclass
class Swap:
    """Rows of the batch that are scored a second time as a contrast user would have been answered.

    Args:
        index: Places in the batch, (R,) int64.
        history: The contrast users' histories, cut to before the query, (R, H).
    """

    index: Tensor
    history: Items


@dataclass
class Echo:
    """Rows of the batch that read, instead of a history, the style of their own reply under noise; in training alone.

    Args:
        index: Places in the batch, (R,) int64.
        style: Stylometry of their replies, (R, S).
        cluster: Cluster of their queries, (R,) int64.
        reliability: Share of the variance that is not noise, (R,).
        noise: Standard normal, (R, S).
    """

    index: Tensor
    style: Tensor
    cluster: Tensor
    reliability: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Scored:
    """How likely a reply is.

    Args:
        log_prob: Sum over the reply's tokens, nats.
        tokens: Number of the reply's tokens.
        bytes: Length in UTF-8 of the text of these tokens: the reply, or what was left of one that was cut.
    """

    log_prob: float
    tokens: int
    bytes: int


def move(value: Moved, device: torch.device | str) -> Moved:
    """A copy of a (nested) dataclass of tensors on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)  # type: ignore[return-value]  # Tensor.to keeps the type
    if hasattr(value, "__dataclass_fields__"):
        moved = {f.name: move(getattr(value, f.name), device) for f in fields(value)}  # type: ignore[arg-type]
        return replace(value, **moved)  # type: ignore[type-var]  # a dataclass instance
    return value


def take(value: Moved, rows: Tensor) -> Moved:
    """Some rows of each tensor in (nested) dataclasses, sequences and mappings; `rows` (R,) int64."""
    if isinstance(value, Tensor):
        return value[rows]  # type: ignore[return-value]  # indexing keeps the type
    if hasattr(value, "__dataclass_fields__"):
        return replace(value, **take(vars(value), rows))  # type: ignore[type-var]  # a dataclass instance
    if isinstance(value, dict):
        return {name: take(part, rows) for name, part in value.items()}  # type: ignore[return-value]
    if isinstance(value, (list, tuple)):
        return type(value)(take(part, rows) for part in value)
    return value


@dataclass
class Conditioning:
    """What a conditioner gives to a decoder; at most one of the four kinds is set.

    Args:
        soft_prompt: Input embeddings that stand before the prompt, (B, T, W).
        marked: Input embeddings that stand inside the prompt, where `MarkedTokens` say, (B, S, W) for S numbers.
        prefix: For each layer keys and values, each (B, heads, T, head size), as its cache holds them.
        residual: For each layer a shift of the hidden states, (B, 1, W).
        explain: Numbers for the analyst by name: gate (B, T, 1), attention (B, T, 1 + H).
    """

    soft_prompt: Tensor | None = None
    marked: Tensor | None = None
    prefix: list[tuple[Tensor, Tensor]] | None = None
    residual: list[Tensor] | None = None
    explain: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class LossParts:
    """The weighted total and each unweighted part by name (`lm`, `specific`, ...), all scalars."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class EncodeTexts(Protocol):
    """Turns texts into vectors; `digest` names the weights, tokenizer, length limit and pooling."""

    digest: str
    size: int

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of the texts, (n, E) float32."""
        ...


@dataclass(frozen=True)
class Rendered:
    """Text that a decoder reads: the prompt's turns by role (`system`, `user`, `assistant`) and the reply.

    Vectors that stand in the prompt are no text: `marks` says before which turn's words, and no words can feign one.
    """

    turns: tuple[tuple[str, str], ...]
    reply: str
    names: tuple[str, str]  # querier and responder, for decoders without a chat template
    named: tuple[int, ...] = ()  # places of the turns whose text says by itself who speaks
    marks: tuple[tuple[int, tuple[int, ...]], ...] = ()  # place of a turn, numbers of the vectors before its words

    @property
    def characters(self) -> int:
        """Of prompt and reply together."""
        return sum(len(text) for _, text in self.turns) + len(self.reply)
