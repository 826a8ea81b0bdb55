"""What a swap is scored by: which querier wins a pair, and the likelihoods on both sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from querier.evaluation.results import Record
from querier.evaluation.scoring import Key, Scorer
from querier.evaluation.swap import SwapKind, SwapPair, names_querier
from querier.types import Scored

TIE = 1e-5  # nats per token: less than this is the arithmetic of another batch, not the querier
SWAPPED = tuple(f"swap_accuracy_{kind.name.lower()}" for kind in SwapKind)
UNNAMED = "swap_accuracy_cluster_unnamed"  # over the dialogues alone whose reply does not name the querier


class SwapScores:
    """Reads the scores of pairs.

    Args:
        scorer: Has scored the keys of the pairs when one is asked for.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def keys(self, pair: SwapPair) -> tuple[Key, Key]:
        """What is to be scored for a pair: the true querier's side and the other's."""
        return self._scorer.key(pair.row, pair.own), self._scorer.key(pair.row, pair.other, pair.querier)

    def of(self, kind: SwapKind) -> dict[str, Callable[[SwapPair], float | None]]:
        """The metrics of a swap, and what each is of a pair, None where a side failed.

        The swap within a cluster has the likelihoods of both sides besides.
        """
        found: dict[str, Callable[[SwapPair], float | None]] = {SWAPPED[kind.value]: self._outcome}
        if kind is SwapKind.CLUSTER:
            found["nll_swapped"] = lambda pair: self._likelihoods(pair)[1]
            found["nll_swapped_own"] = lambda pair: self._likelihoods(pair)[0]
        return found

    def _outcome(self, pair: SwapPair) -> float | None:
        own, other = self._likelihoods(pair)
        return None if own is None or other is None else wins(own, other)

    def _likelihoods(self, pair: SwapPair) -> tuple[float | None, float | None]:
        own, other = (per_token(self._scorer[key]) for key in self.keys(pair))
        return own, other


def add_unnamed(records: Sequence[Record]) -> None:
    """The swap within a cluster once more over replies without the querier's name, where some have it.

    A name is the easiest cue: a decoder that reads who asks knows it without knowing anything of the querier.
    """
    named = [names_querier(record["gold"], record["querier"]) for record in records]
    for record, calls in zip(records, named, strict=True):
        scores = record["scores"]
        if any(named) and not calls and SWAPPED[SwapKind.CLUSTER.value] in scores:
            scores[UNNAMED] = scores[SWAPPED[SwapKind.CLUSTER.value]]


def per_token(scored: Scored | None) -> float | None:
    """Negative log-likelihood per token, nats."""
    return None if scored is None else -scored.log_prob / scored.tokens


def wins(own: float, other: float) -> float:
    """1 where the true querier's likelihood is the better one, ½ for a tie."""
    return 0.5 if abs(own - other) <= TIE else float(own < other)
