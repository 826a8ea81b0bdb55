"""Where the dialogues come from: the group `data` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from querier.choices import Filters, History, OnError, Pool, Reader, SplitBy
from querier.errors import InputError, check_range


@dataclass
class TaskConfig:
    """A task of a published set: how its records become dialogues, and what its replies are.

    In `query` and `reply` a name in braces is a field of the record; a line whose field is missing is left out.
    """

    query: str = ""
    reply: str = ""
    labels: list[str] = field(default_factory=list)  # a reply is one of these: accuracy and F1
    low: float | None = None  # a reply is a number from `low` ...
    high: float | None = None  # ... to `high`: mean absolute and root mean squared error

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None) or (self.low or 0.0) > (self.high or 0.0):
            raise InputError(f"data.tasks: low and high go together, low first, got {self.low} and {self.high}")
        if self.labels and self.low is not None:
            raise InputError("data.tasks: a reply is one of `labels` or a number from `low` to `high`, got both")
        if len(set(self.labels)) < len(self.labels) or len(self.labels) == 1:
            raise InputError(f"data.tasks: labels must be two or more, each once, got {self.labels}")


@dataclass
class DataConfig:
    """Where the dialogues come from and how they are split."""

    reader: Reader = Reader.jsonl
    path: str = ""  # a file, a folder, or a hub name; `data=sample` fills it in
    fields: dict[str, str] = field(default_factory=dict)  # field -> name in the file, e.g. {time: order}
    items: str = ""  # of `reader=reviews`: titles and descriptions of the items, a file
    filters: Filters = Filters.none  # of `reader=reviews`: which reviews are used
    task: str = ""  # which of `tasks` the data are; empty for the one that they name or that fits their fields
    tasks: dict[str, TaskConfig] = field(default_factory=dict)  # `data=lamp` and its like fill it in
    responders: list[str] | None = None  # limits examples, not histories
    split: SplitBy = SplitBy.time
    split_seed: int = 0
    unseen: Any = 0.0  # a share of the queriers or a list of their names
    pool: Pool = Pool.shared
    history: History = History.own
    on_error: OnError = OnError.refuse
    limit: int | None = None  # a seeded sample of so many training dialogues

    def __post_init__(self) -> None:
        if isinstance(self.unseen, (int, float)):
            check_range("data.unseen", self.unseen, 0.0, 0.9, "a share of the queriers, or a list of names")
        if self.limit is not None:
            check_range("data.limit", self.limit, 1)
        check_range("data.split_seed", self.split_seed, 0)
        if self.task and self.task not in self.tasks:
            known = ", ".join(self.tasks) or "there are none; take them from a file such as data=lamp"
            raise InputError(f"data.task={self.task} is none of data.tasks: {known}")
