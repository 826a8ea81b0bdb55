"""How near a generated reply is to the true one, by the measures that others report.

All scores lie in [0, 1], but for cosines of sentence vectors, which lie in [−1, 1]. Words are runs of letters and
digits, lower-cased; Chinese and Japanese are cut into characters, so that nothing here depends on a segmenter. On ASCII
text the words are those of the package `rouge-score` without stemming. Identical texts score 1 in every language, also
those without a letter.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from querier.data.words import apart, words

REPEATED = 4  # words that, said twice in one reply, count as a repetition
BERT_TOKENS = 256  # of a text that BERTScore reads
REPLY_METRICS = ("rouge_1", "rouge_2", "rouge_l", "bleu", "chrf", "meteor_no_synonyms", "repeat_rate")


def reply_scores(reply: str, gold: str) -> dict[str, float]:
    """All of `REPLY_METRICS` for one reply."""
    return {
        **rouge(reply, gold),
        "bleu": bleu(reply, gold),
        "chrf": chrf(reply, gold),
        "meteor_no_synonyms": meteor_no_synonyms(reply, gold),
        "repeat_rate": repeats(reply),
    }


def rouge(reply: str, gold: str) -> dict[str, float]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L, computed by `rouge-score`."""
    if words(reply) == words(gold):  # a single word has no pair of words to match
        return dict.fromkeys(("rouge_1", "rouge_2", "rouge_l"), 1.0)
    scores = _rouge_scorer().score(gold, reply)
    return {f"rouge_{name[5:].lower()}": float(score.fmeasure) for name, score in scores.items()}


def bleu(reply: str, gold: str) -> float:
    """BLEU of one reply by `sacrebleu`: tokens `13a`, orders above the reply's length left out, exponential smoothing.

    Chinese and Japanese characters are set apart first.
    """
    import sacrebleu

    score = sacrebleu.sentence_bleu(apart(reply), [apart(gold)], use_effective_order=True).score
    return min(1.0, float(score) / 100)


def chrf(reply: str, gold: str) -> float:
    """Character F-score chrF (characters up to 6, β = 2) of one reply by `sacrebleu`."""
    import sacrebleu

    return min(1.0, float(sacrebleu.sentence_chrf(reply, [gold]).score) / 100)


def meteor_no_synonyms(reply: str, gold: str) -> float:
    """METEOR by `nltk` with exact and stem matches alone, because WordNet is not at hand.

    A reply of the same words in the same order has no fragmentation, as in METEOR's own release.
    """
    from nltk.translate.meteor_score import single_meteor_score  # type: ignore[import-untyped]

    said, wanted = words(reply), words(gold)
    if said == wanted:
        return 1.0
    if not said or not wanted:
        return 0.0
    return float(single_meteor_score(wanted, said, wordnet=_NoSynonyms()))


def repeats(reply: str) -> float:
    """1 where some four words stand in this order twice in the reply, else 0."""
    said = words(reply)
    grams = Counter(zip(*(said[start:] for start in range(REPEATED)), strict=False))
    return float(any(count > 1 for count in grams.values()))


def embedding_similarity(
    replies: Sequence[str], golds: Sequence[str], encode: Callable[[Sequence[str]], np.ndarray]
) -> np.ndarray:
    """Cosine of each reply's vector and the true reply's, (n,).

    Args:
        replies: Texts, n.
        golds: Texts, n.
        encode: Gives unit vectors, (n, E).
    """
    if not replies:
        return np.zeros(0)
    said, wanted = (np.asarray(encode(texts), dtype=float) for texts in (replies, golds))
    cosine: np.ndarray = np.clip((said * wanted).sum(1), -1.0, 1.0)
    return cosine


def bert_score(replies: Sequence[str], golds: Sequence[str], folder: str) -> np.ndarray:
    """BERTScore's F1 of each reply and the true reply, without idf and rescaling, (n,).

    Args:
        replies: Texts, n.
        golds: Texts, n.
        folder: A `transformers` encoder on this machine; all of its layers are used, the last one's vectors compared.

    References:
        Zhang et al.: BERTScore: evaluating text generation with BERT, 2020.
    """
    from torchmetrics.functional.text.bert import bert_score as scored  # reads a model: only where it is asked for

    layers = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    found = scored(
        list(replies),
        list(golds),
        model_name_or_path=folder,
        num_layers=layers,
        truncation=True,
        max_length=BERT_TOKENS,
    )
    f1: np.ndarray = np.atleast_1d(np.asarray(found["f1"], dtype=float))
    return f1


class _Words:
    """What `rouge-score` calls to cut a text."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


class _NoSynonyms:
    """Stands for WordNet and knows no word."""

    def synsets(self, word: str) -> list[Any]:
        return []


@lru_cache(maxsize=1)
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

    return RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=_Words())
