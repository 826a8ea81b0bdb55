"""One question a querier can ask, with its wordings and its answer in three degrees of expertise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facet:
    """A facet of a topic: four ways to ask, three ways to answer.

    Attributes:
        topic: What it is about.
        wordings: Four questions; the last one is reserved for validation and test dialogues.
        lay: The fact in everyday words.
        practitioner: The fact as someone with the thing in hand needs it.
        expert: The mechanism in technical terms.
    """

    topic: str
    wordings: tuple[str, str, str, str]
    lay: str
    practitioner: str
    expert: str

    @property
    def common(self) -> tuple[str, ...]:
        """The wordings that may be asked in any dialogue."""
        return self.wordings[:-1]

    @property
    def reserved(self) -> str:
        """The wording that no training dialogue uses."""
        return self.wordings[-1]

    def clause(self, expertise: str) -> str:
        """The fact for one expertise.

        Args:
            expertise: ``lay``, ``practitioner`` or ``expert``.

        Returns:
            A clause without a full stop, starting in lower case.
        """
        clauses = {"lay": self.lay, "practitioner": self.practitioner, "expert": self.expert}
        return clauses[expertise]
