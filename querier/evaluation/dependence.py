"""How much replies depend on the querier, seen in what is generated rather than in likelihoods.

`diversity` asks the same query as several queriers; `querier_retrieval` finds the querier from the reply, by vectors of
style that no judged model reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from querier.config import EvaluationConfig
from querier.errors import InputError
from querier.evaluation.draws import Draw, generator_of
from querier.evaluation.metrics import rouge
from querier.evaluation.results import Record, RowScores, was_asked
from querier.evaluation.scoring import Key, Scorer
from querier.evaluation.swap import SwapKind, Swaps
from querier.types import Split

Distance = Callable[[str, str], float]

TEMPERATURE = 0.8
SEEDS = 4
QUERIES = 40  # asked as several queriers each
ASKING = 4  # queriers of each
DIRECTIONS = 128  # of the style vectors
FEATURES = 20_000  # character n-grams that are counted


def generated_dependence(
    scorer: Scorer, swaps: Swaps, records: Mapping[int, Record], config: EvaluationConfig
) -> tuple[dict[str, RowScores], dict[str, dict[str, int]]]:
    """What can be told of the querier from generated replies: `diversity`, and `retrieval_*` for seen queriers.

    `retrieval_*_gold` is the same for the true replies: how much there is to be found.

    Args:
        scorer: Asks the model.
        swaps: Finds other queriers.
        records: Of the judged dialogues, by row.
        config: Length of replies, seed.

    Returns:
        By metric, then by row; `diversity` for a sample of the dialogues, the rest for those that were answered. Then
        how many dialogues have none, by reason, for `diversity` and for `retrieval`.
    """
    corpus, places = swaps.corpus, list(records)
    drawn = generator_of(config.seed, Draw.ASKED)  # the same queries for every method
    asked = np.sort(drawn.choice(places, min(QUERIES, len(places)), replace=False))
    found = {"diversity": diversity(scorer, swaps, asked.tolist(), ASKING, config.max_new_tokens)}
    lonely = len(asked) - len(found["diversity"])
    answered = [row for row, record in records.items() if was_asked(record) and not record["unseen"]]
    pool = corpus.rows_in(Split.TRAIN)
    queriers, owner = np.unique(corpus.querier[pool], return_inverse=True)
    known = [row for row in answered if corpus.querier[row] in queriers]
    excluded = {
        "diversity": {"nobody to ask it besides": lonely} if lonely else {},
        "retrieval": {"querier without a training dialogue": len(answered) - len(known)} if answered != known else {},
    }
    if len(queriers) < 2 or not known:
        return found, excluded
    style = Style([corpus.dialogue(int(row)).reply for row in pool])
    profiles = np.stack([style.pool[owner == number].mean(0) for number in range(len(queriers))])
    own = np.searchsorted(queriers, corpus.querier[known])
    for suffix, column in (("", "reply"), ("_gold", "gold")):
        texts = [records[row][column] for row in known]
        vectors = style([text or "" for text in texts])
        failed = np.array([text is None for text in texts])
        for name, scores in querier_retrieval(vectors, own, profiles).items():
            kept = (None if lost else score for score, lost in zip(scores.tolist(), failed, strict=True))
            found[name + suffix] = dict(zip(known, kept, strict=True))  # a failure is not left out
    return found, excluded


class Style:
    """Vectors of how texts are written, by character n-grams: no model that is judged reads them.

    Args:
        pool: Texts that frequencies and directions are taken from.

    Attributes:
        pool: Their vectors, (n, E).
    """

    def __init__(self, pool: Sequence[str]) -> None:
        counts = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=FEATURES, lowercase=False
        )
        counted = counts.fit_transform(pool)
        size = min(DIRECTIONS, min(counted.shape) - 1)
        self._pipeline = make_pipeline(counts, TruncatedSVD(max(1, size), random_state=0))
        self.pool = self._pipeline[-1].fit_transform(counted)
        self._mean = self.pool.mean(0)
        self.pool = self.pool - self._mean

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts, (n, E)."""
        vectors: np.ndarray = self._pipeline.transform(texts) - self._mean
        return vectors


def diversity(
    scorer: Scorer,
    swaps: Swaps,
    rows: Sequence[int],
    queriers: int,
    max_new_tokens: int,
    distance: Distance | None = None,
    temperature: float = TEMPERATURE,
    seeds: int = SEEDS,
) -> RowScores:
    """Same query, several queriers: distance between replies to different ones minus within one, over sampled seeds.

    0 for a model that does not tell queriers apart. Each of the queriers has the history that they had before the
    query, as it is cut for a swap of the two: the true one's as for the first of the others.

    Args:
        scorer: Asks the model.
        swaps: Finds the other queriers, at random among those of the same kind.
        rows: Whose queries are asked.
        queriers: How many ask each, the true one among them.
        max_new_tokens: Length limit of a reply.
        distance: Of two replies, in [0, 1]; default 1 − ROUGE-L.
        temperature: Of the sampling.
        seeds: Replies of each querier to each query.

    Returns:
        The distance for each query that has others to ask it; None where a reply is missing.

    Raises:
        InputError: With fewer than two queriers or seeds, which have no distance.
    """
    if queriers < 2 or seeds < 2:
        raise InputError(f"diversity needs at least 2 queriers and 2 seeds, got {queriers} and {seeds}")
    found = swaps.pairs(SwapKind.RANDOM, rows, queriers - 1)
    asked: dict[int, list[Key]] = {}
    for pair in found.pairs:
        known = asked.setdefault(pair.row, [scorer.key(pair.row, pair.own)])
        known.append(scorer.key(pair.row, pair.other, pair.querier))
    keys = [key for known in asked.values() for key in known]
    replies = [scorer.replies(keys, max_new_tokens, temperature, seed, "sampling") for seed in range(seeds)]
    said = iter(zip(*replies, strict=True))
    return {row: _gap([next(said) for _ in known], distance or _distance) for row, known in asked.items()}


def querier_retrieval(replies: np.ndarray, querier: np.ndarray, profiles: np.ndarray) -> dict[str, np.ndarray]:
    """How well the querier is found from the reply, by vectors of an encoder that the model does not use.

    Args:
        replies: Style vectors of generated replies, (n, E).
        querier: Who got each, a row of `profiles`, (n,).
        profiles: Style vectors of each querier's true replies in other dialogues, (Q, E).

    Returns:
        `retrieval_first`: 1 for a reply that is nearest to its own querier, less where several are, chance 1/Q;
        `retrieval_auc`: share of other queriers that are farther than the own one, ties ½, chance ½. Each (n,).

    Raises:
        InputError: With fewer than two queriers, or where a querier has no profile.
    """
    if len(profiles) < 2:
        raise InputError(f"retrieval needs the profiles of at least 2 queriers, got {len(profiles)}")
    if len(querier) and not 0 <= int(np.min(querier)) <= int(np.max(querier)) < len(profiles):
        raise InputError(f"retrieval got a querier outside the {len(profiles)} profiles; give a profile for each")
    similarity = _unit(replies) @ _unit(profiles).T  # (n, Q)
    own = similarity[np.arange(len(querier)), querier][:, None]
    others = similarity.shape[1] - 1
    farther = (similarity < own).sum(1)
    ties = (similarity == own).sum(1) - 1  # itself
    first = np.where(farther + ties == others, 1 / (1 + ties), 0.0)
    return {"retrieval_first": first, "retrieval_auc": (farther + ties / 2) / others}


def _gap(said: Sequence[Sequence[str | None]], distance: Distance) -> float | None:
    """Mean distance between queriers minus within them; None where a reply is missing.

    Args:
        said: For each querier a reply per seed.
        distance: Of two replies.
    """
    texts = [[reply for reply in replies if reply is not None] for replies in said]
    if any(len(full) != len(replies) for full, replies in zip(texts, said, strict=True)):
        return None
    within = [distance(x, y) for replies in texts for x, y in combinations(replies, 2)]
    pairs = [(i, j) for i in range(len(texts[0])) for j in range(len(texts[0])) if i != j]
    # Other seeds on both sides: one that gave everybody the same luck would make queriers look alike.
    between = [distance(a[i], b[j]) for a, b in combinations(texts, 2) for i, j in pairs]
    return float(np.mean(between) - np.mean(within))


def _distance(first: str, second: str) -> float:
    return 1 - rouge(first, second)["rouge_l"]


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=float)
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
