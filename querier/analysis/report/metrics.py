"""What the report says about each metric: its name in words, its unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass

LOWER, HIGHER, NEITHER = "lower", "higher", ""
SHARE, SCORE = "share, 0 to 1", "score, 0 to 1"
WITHOUT = "_empty_history"
GROUPS = {"all": "", "seen": "_seen", "unseen": "_unseen", "macro": "_macro"}
"""Whose dialogues, or that each querier counts the same, and what stands behind a metric's name for it."""


@dataclass(frozen=True)
class Metric:
    """One column.

    Attributes:
        name: As in `results.json`.
        label: In words.
        unit: Of its numbers.
        better: `lower` or `higher`; empty where neither is.
        chance: What a model that knows nothing of the querier comes to; None where that is not known.
    """

    name: str
    label: str
    unit: str = SHARE
    better: str = HIGHER
    chance: float | None = None

    @property
    def digits(self) -> int:
        """Decimals that are shown."""
        return 4 if self.name.startswith(("nll", "gain")) else 3


KNOWN = {
    one.name: one
    for one in (
        Metric("nll_per_byte", "NLL per byte", "nats per byte", LOWER),
        Metric("nll_per_token", "NLL per token", "nats per token", LOWER),
        Metric("rouge_1", "ROUGE-1", SCORE),
        Metric("rouge_2", "ROUGE-2", SCORE),
        Metric("rouge_l", "ROUGE-L", SCORE),
        Metric("bleu", "BLEU, mean over replies", SCORE),
        Metric("meteor", "METEOR", SCORE),
        Metric("meteor_no_synonyms", "METEOR, no synonyms", SCORE),
        Metric("chrf", "chrF", SCORE),
        Metric("embedding_similarity", "Embedding similarity", "cosine"),
        Metric("bert_score", "BERTScore", "F1"),
        Metric("accuracy", "Accuracy"),
        Metric("f1", "F1, mean over labels", SCORE),
        Metric("mae", "Mean absolute error", "as the label", LOWER),
        Metric("rmse", "Root mean squared error", "as the label", LOWER),
        Metric("trait_accuracy", "Traits right"),
        Metric("fact_accuracy", "Fact in the right words"),
        Metric("repeat_rate", "Replies that repeat themselves", SHARE, LOWER),
        Metric("swap_accuracy_random", "Swap accuracy, random querier", chance=0.5),
        Metric("swap_accuracy_cluster", "Swap accuracy, same cluster", chance=0.5),
        Metric("swap_accuracy_contrast", "Swap accuracy, contrast users", chance=0.5),
        Metric("swap_accuracy_matched", "Swap accuracy, same cluster, histories of one responder and age", chance=0.5),
        Metric(
            "swap_accuracy_cluster_unnamed", "Swap accuracy, same cluster, querier not named in the reply", chance=0.5
        ),
        Metric("nll_swapped", "NLL, another querier of the cluster", "nats per token", NEITHER),
        Metric("nll_swapped_own", "NLL, true querier, history cut as for the swap", "nats per token", LOWER),
        Metric("nll_empty", "NLL, no history", "nats per token", NEITHER),
        Metric("gain", "Gain over no history", "nats per token"),
        Metric("diversity", "Distance of replies between queriers less that within one", "1 - ROUGE-L", chance=0.0),
        Metric("retrieval_first", "Querier found first from the reply"),
        Metric("retrieval_auc", "Querier found from the reply, AUC", chance=0.5),
        Metric("retrieval_first_gold", "Querier found first from the true reply", SHARE, NEITHER),
        Metric("retrieval_auc_gold", "Querier found from the true reply, AUC", SHARE, NEITHER, chance=0.5),
        Metric("probe_specific", "Querier found from the specific tower by a linear probe, AUC", chance=0.5),
        Metric(
            "probe_general", "Querier found from the general tower by a linear probe, AUC", SHARE, LOWER, chance=0.5
        ),
    )
}
SWAPS = (
    "swap_accuracy_random",
    "swap_accuracy_cluster",
    "swap_accuracy_contrast",
    "swap_accuracy_matched",
    "swap_accuracy_cluster_unnamed",
)
PERSONAL = ("gain", *SWAPS)
LIKELIHOODS = {
    "nll_per_token": "true querier",
    "nll_swapped_own": "true querier, history cut as for the swap",
    "nll_swapped": "another querier of the cluster",
    "nll_empty": "no history",
}
MORE_DEPENDENCE = ("diversity", "retrieval_first", "retrieval_auc", "probe_specific", "probe_general")
LABELS = ("accuracy", "f1", "mae", "rmse")  # of replies that are labels or numbers
MAIN = (
    "nll_per_byte",
    "rouge_l",
    "meteor",
    "meteor_no_synonyms",
    "chrf",
    "embedding_similarity",
    "bert_score",
    *LABELS,
    "trait_accuracy",
    "fact_accuracy",
    *SWAPS,
)


def metric(name: str) -> Metric:
    """What is known about a metric; one that nobody described goes by its own name and claims no direction."""
    bare = name.removesuffix(WITHOUT)
    found = KNOWN.get(bare) or Metric(bare, bare.replace("_", " "), "", NEITHER)
    label = f"{found.label}, without history" if bare != name else found.label
    return Metric(name, label, found.unit, found.better, found.chance)


def bases(names: list[str]) -> list[str]:
    """The metrics themselves, without those over seen or unseen queriers or over queriers instead of dialogues."""
    known = set(names)
    ends = tuple(end for end in GROUPS.values() if end)
    return [name for name in names if not any(name.endswith(end) and name[: -len(end)] in known for end in ends)]


def is_help(name: str) -> bool:
    """Whether a metric says how good a reply is, not how far it depends on the querier."""
    apart = {*PERSONAL, *LIKELIHOODS, *MORE_DEPENDENCE} - {"nll_per_token"}
    return name not in apart and not name.startswith("retrieval_")
