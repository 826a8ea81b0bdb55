"""The named choices of the configuration. Member names are what a user types and are therefore lower case."""

from __future__ import annotations

from enum import StrEnum


class Choice(StrEnum):
    """An Enum whose text is its name."""


class Reader(Choice):
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"
    huggingface = "huggingface"
    mqdialog = "mqdialog"
    lamp = "lamp"
    longlamp = "longlamp"
    reviews = "reviews"


class Filters(Choice):
    none = "none"
    min_reviewers_4 = "min_reviewers_4"  # items that four other queriers reviewed
    dpl = "dpl"


class SplitBy(Choice):
    time = "time"
    within_querier = "within_querier"
    scene = "scene"
    given = "given"


class Pool(Choice):
    shared = "shared"
    none = "none"


class OnError(Choice):
    refuse = "refuse"
    skip = "skip"


class Train(Choice):
    frozen = "frozen"
    lora = "lora"
    full = "full"


class DecoderKind(Choice):
    small = "small"  # trained from scratch on the pool
    pretrained = "pretrained"  # a transformers folder or hub name


class Attention(Choice):
    auto = "auto"  # what transformers takes for the model
    sdpa = "sdpa"
    eager = "eager"  # its backward is quicker on CPUs in mixed precision; memory grows with the square of the length


class Fusion(Choice):
    gate = "gate"
    concat = "concat"
    film = "film"
    cross_attention = "cross_attention"


class Kind(Choice):
    none = "none"
    soft_prompt = "soft_prompt"
    prefix = "prefix"
    residual = "residual"


class Model(Choice):
    towers = "towers"  # general and querier-specific, fused
    pplug = "pplug"
    qar = "qar"  # a narrow tower inside the decoder
    dep = "dep"


class Contrast(Choice):
    contrast_users = "contrast_users"
    random = "random"
    none = "none"


class Order(Choice):
    clustered = "clustered"
    random = "random"


class History(Choice):
    own = "own"
    permuted = "permuted"  # the control: another querier's history, drawn anew for every dialogue and epoch


class Source(Choice):
    none = "none"
    own = "own"  # the querier's own history
    pool = "pool"  # other queriers' dialogues of the training pool


class Retrieval(Choice):
    bm25 = "bm25"
    dense = "dense"
    recency = "recency"


class Profile(Choice):
    none = "none"
    querier = "querier"
    responder = "responder"
    differences = "differences"  # what sets the querier apart from their contrast users


class Distil(Choice):
    counting = "counting"
    llm = "llm"


class SwapForm(Choice):
    hinge = "hinge"
    logistic = "logistic"


class Schedule(Choice):
    constant = "constant"
    cosine = "cosine"
