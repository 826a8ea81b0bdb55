"""Settings of the published method QAR: `qar.*`, read by `method=qar` alone."""

from __future__ import annotations

from dataclasses import dataclass

from querier.errors import check_range


@dataclass
class QarConfig:
    """The narrow tower and the contrast of queriers; the defaults are those of the released code."""

    inner: int = 64  # width of the narrow MLPs
    projected: int = 512  # size of the vectors that are compared
    memory: int = 512  # vectors kept of a querier in a cluster
    weight: float = 0.5  # of the contrast beside the language model's loss

    def __post_init__(self) -> None:
        for name in ("inner", "projected", "memory"):
            check_range(f"qar.{name}", getattr(self, name), 1)
        check_range("qar.weight", self.weight, 0.0)
