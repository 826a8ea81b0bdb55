"""The options of each command, as dataclasses; those that train share `Config`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from querier.choices import OnError
from querier.config import STRONGEST, Config, EvaluationConfig
from querier.errors import InputError, check_range
from querier.llm_config import LlmConfig
from querier.run import check_name


@dataclass
class RunOptions(Config):
    """What the commands share that write a folder of the name `name`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name:
            check_name(self.name)


@dataclass
class FitOptions(RunOptions):
    """`querier fit`."""


@dataclass
class PrepareOptions(RunOptions):
    """`querier prepare`.

    Args:
        check_only: Read and split, say what was found, write nothing.
        signal: Whether to estimate how much a history tells of the replies to come, before anything is trained.
    """

    check_only: bool = False
    signal: bool = False


@dataclass
class DemoOptions(RunOptions):
    """`querier demo`.

    Args:
        methods: What is compared, the baseline first.
    """

    methods: list[str] = field(default_factory=lambda: ["ft", "querier"])

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_named_once("methods", self.methods)


@dataclass
class TestedOptions:
    """What the commands share that test runs.

    Args:
        dependence: Whether queries are asked as several queriers, and queriers are found from replies.
        bertscore: A local model for BERTScore, `minilm` or a `transformers` folder; empty for none.
        allow_failed: Whether dialogues that could not be scored or answered are accepted.
    """

    dependence: bool = False
    bertscore: str = ""
    allow_failed: bool = False


@dataclass
class CompareOptions(TestedOptions, RunOptions):
    """`querier compare`.

    Args:
        methods: Rows of the table: `ft`, or a method and ablations of it, `querier+no_swap_loss`.
        seeds: Each method is trained with each; what trains nothing runs once.
        baseline: What the others are compared with; empty for `ft`, or the first method where `ft` is none of them.
    """

    methods: list[str] = field(default_factory=lambda: ["ft", "querier"])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    baseline: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_named_once("methods", self.methods)
        _check_named_once("seeds", self.seeds)
        if self.baseline and self.baseline not in self.methods:
            raise InputError(f"baseline={self.baseline} is not among the methods {', '.join(self.methods)}")

    def check(self) -> None:
        """Nothing: each row has a method of its own beside these settings, and is checked with it."""


@dataclass
class BenchOptions(Config):
    """`querier bench`.

    Args:
        name: Which measurement.
        queriers: Sizes of the made-up population.
        steps: Timed steps of each method.
        dialogues: Held-out dialogues that are scored and answered.
        pairs: Users with an item whose contrast users are chosen one by one.
    """

    name: str | None = "step"
    queriers: list[int] = field(default_factory=lambda: [20, 20_000])
    steps: int = 10
    dialogues: int = 512
    pairs: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("steps", self.steps, 1)
        check_range("pairs", self.pairs, 1)
        check_range("dialogues", self.dialogues, 1)


@dataclass
class TestOptions(TestedOptions):
    """`querier test`.

    Args:
        run: A run's folder or its name under `output`; empty for the newest finished one.
        output: Where runs lie.
        evaluation: What is measured, on what.
        cold_start: Whether the curves over the number of history items are taken.
        against: Another run on the same data, by folder or name, that `run` is compared with.
        judge: Whether an LLM compares replies of the two runs.
        judge_limit: Dialogues that it compares at most.
        llm: The judge.
    """

    __test__ = False  # not a test class, whatever its name says

    run: str = ""
    output: str = "outputs"
    cold_start: bool = False
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    against: str = ""
    judge: bool = False
    judge_limit: int = 200
    llm: LlmConfig = field(default_factory=LlmConfig)

    def __post_init__(self) -> None:
        check_range("judge_limit", self.judge_limit, 1)
        if self.judge and not self.against:
            raise InputError("judge=true compares two runs; name the other one with against=<folder or name>")
        alone = [name for name in ("cold_start", "dependence", "bertscore") if getattr(self, name)]
        if self.against and alone:
            raise InputError(
                f"{alone[0]} is measured on one run, against={self.against} compares two; "
                f"run `querier test run=... {alone[0]}={str(getattr(self, alone[0])).lower()}` without against"
            )


@dataclass
class AnswerOptions:
    """What `predict` and `ask` share.

    Args:
        run: A run's folder or its name under `output`; empty for the newest finished one.
        output: Where runs lie.
        strength: 0 answers as without a history, 1 as trained, more exaggerates.
        max_new_tokens: Length limit of a reply.
        temperature: 0 takes the likeliest token.
        seed: Of the sampling, where temperature > 0.
        repetition_penalty: Above 1 what a reply has said becomes less likely; None for what the run is judged with.
    """

    run: str = ""
    output: str = "outputs"
    strength: float = 1.0
    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        check_range("strength", self.strength, 0.0, STRONGEST, "1 is as trained")
        check_range("max_new_tokens", self.max_new_tokens, 1)
        check_range("temperature", self.temperature, 0.0, 10.0)
        check_range("seed", self.seed, 0)
        if self.repetition_penalty is not None:
            check_range("repetition_penalty", self.repetition_penalty, 1, 10)


@dataclass
class PredictOptions(AnswerOptions):
    """`querier predict`.

    Args:
        input: JSONL with `query`, optionally `querier`, `responder`, `id` and `history` (a list of query and reply).
        into: JSONL that is written: the input's fields and `reply`.
        on_error: What happens to a line that cannot be used.
        overwrite: Whether an existing `into` is replaced.
        batch_size: Queries answered together.
    """

    input: str = ""
    into: str = ""
    on_error: OnError = OnError.refuse
    overwrite: bool = False
    batch_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("batch_size", self.batch_size, 1)


@dataclass
class AskOptions(AnswerOptions):
    """`querier ask`.

    Args:
        query: What is asked.
        queriers: Who asks; empty for three of the run's own, drawn by `seed`, and nobody.
        history: JSONL of what somebody whom the run has not seen said and was answered.
        responder: Who answers; empty for who answered the querier last, else the first, of those trained for.
    """

    query: str = ""
    queriers: list[str] = field(default_factory=list)
    history: str = ""
    responder: str = ""


@dataclass
class ForgetOptions:
    """`querier forget`.

    Args:
        querier: Who is forgotten.
        run: A run's folder or its name under `output`; empty for the newest finished one.
        output: Where runs lie.
    """

    querier: str = ""
    run: str = ""
    output: str = "outputs"


@dataclass
class ReportOptions:
    """`querier report`.

    Args:
        runs: Folders of tested runs or their names under `output`; `compare/<name>` for what `querier compare` left;
            empty for the newest finished run.
        output: Where runs lie.
        into: The page, a name that ends in `.html`; empty for `report_<runs>.html` under `output`.
        title: Of the page; empty for the names of the runs.
        examples: Dialogues on the page at most; 0 leaves out all text of queriers.
        maps: Whether the space of the queriers is drawn, of each run that has towers; loads these runs.
        labels: A file of labels by which maps are coloured, `{"querier": "Ann", "team": "north"}` on each line.
    """

    runs: list[str] = field(default_factory=list)
    output: str = "outputs"
    into: str = ""
    title: str = ""
    examples: int = 2000
    maps: bool = False
    labels: str = ""

    def __post_init__(self) -> None:
        check_range("examples", self.examples, 0)
        if self.labels and not self.maps:
            raise InputError(f"labels={self.labels} colours maps, and there are none; add maps=true")
        if self.into and not self.into.endswith(".html"):
            raise InputError(f"into={self.into} must end in .html; a report is one HTML page")


def _check_named_once(name: str, values: Sequence[object]) -> None:
    if not values or len(set(values)) < len(values):
        raise InputError(f"{name} must name one or more, each once, got {values}; e.g. 'methods=[ft,querier]'")


OPTIONS: dict[str, type[Any]] = {
    "prepare": PrepareOptions,
    "fit": FitOptions,
    "test": TestOptions,
    "predict": PredictOptions,
    "ask": AskOptions,
    "forget": ForgetOptions,
    "compare": CompareOptions,
    "report": ReportOptions,
    "bench": BenchOptions,
    "demo": DemoOptions,
}
