from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from querier.evaluation import metrics
from querier.evaluation.metrics import bert_score, reply_scores, rouge

SAME = {
    "english": "It is a long story, my friend.",
    "one word": "Yes.",
    "chinese": "今天天气很好，我们去公园吧。",
    "japanese": "今日はとても良い天気ですね。コーヒーを飲みます。",
    "korean": "오늘 날씨가 좋네요",
    "russian": "Сегодня хорошая погода",
    "hindi": "आज मौसम अच्छा है",
    "arabic": "الطقس جميل اليوم",
    "thai": "วันนี้อากาศดี",
    "accents": "Où est le café ?",
    "mixed": "我喜欢 Python 3.11",
    "marks": "?!",
    "emoji": "👍",
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_identical_texts_score_one_in_every_language(text: str) -> None:
    scores = reply_scores(text, text)
    assert scores.pop("repeat_rate") == 0
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0))


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_an_empty_reply_scores_zero(text: str) -> None:
    assert reply_scores("", text) == dict.fromkeys(metrics.REPLY_METRICS, 0.0)


def test_rouge_by_hand() -> None:
    """Gold of 6 words, reply of 4, 3 in common, all in order: P = 3/4, R = 3/6, F = 0.6.

    Pairs: `the cat` alone is common of 3 and 5: P = 1/3, R = 1/5, F = 1/4.
    """
    found = rouge("the cat lay there", "the cat sat and lay down")
    assert found == pytest.approx({"rouge_1": 0.6, "rouge_2": 0.25, "rouge_l": 0.6})


def test_rouge_l_keeps_the_order_and_rouge_1_does_not() -> None:
    found = rouge("b a", "a b")
    assert found == pytest.approx({"rouge_1": 1.0, "rouge_2": 0.0, "rouge_l": 0.5})


def test_rouge_of_chinese_by_hand() -> None:
    """天气好 and 天气很好: 3 characters in common of 3 and 4: F = 2 · 1 · 0.75 / 1.75."""
    assert rouge("天气好", "天气很好")["rouge_l"] == pytest.approx(6 / 7)


def test_bleu_by_hand() -> None:
    """Four of five words: precisions 4/5, 3/4, 2/3, 1/2 of equal length: (0.2)^(1/4)."""
    assert metrics.bleu("a b c d x", "a b c d e") == pytest.approx(0.2**0.25)


def test_bleu_punishes_what_is_too_short() -> None:
    """All orders right, 4 words for 5: exp(1 − 5/4)."""
    assert metrics.bleu("a b c d", "a b c d e") == pytest.approx(math.exp(-0.25))


def test_meteor_by_hand() -> None:
    """3 of 3 and 4 words match in two chunks: F = 10·1·0.75/(0.75 + 9·1) and a penalty of 0.5·(2/3)³."""
    value = metrics.meteor_no_synonyms("the cat slept", "the cat has slept")
    mean = 1 * 0.75 / (0.9 * 1 + 0.1 * 0.75)
    assert value == pytest.approx(mean * (1 - 0.5 * (2 / 3) ** 3))


def test_meteor_matches_stems_and_no_synonyms() -> None:
    assert metrics.meteor_no_synonyms("walking home now", "walked home now") > 0.9
    assert metrics.meteor_no_synonyms("big", "large") == 0


def test_repeats_finds_four_words_said_twice() -> None:
    assert metrics.repeats("a b c d and a b c d") == 1
    assert metrics.repeats("a b c and a b c") == 0
    assert metrics.repeats("很好很好很好") == 1
    assert metrics.repeats("") == 0


def test_embedding_similarity_is_the_cosine() -> None:
    table = {"a": [1.0, 0.0], "b": [0.6, 0.8]}
    found = metrics.embedding_similarity(
        ["a", "b"], ["b", "b"], lambda texts: np.array([table[text] for text in texts])
    )
    assert found == pytest.approx([0.6, 1.0])


def test_bert_score_against_the_formula(tmp_path: Path) -> None:
    """A tiny encoder of random weights: F1 of the best cosines of tokens, without the two that frame a text."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "dog", "ran", "far"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    size = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertModel(BertConfig(vocab_size=len(words), **size)).eval()
    model.save_pretrained(tmp_path)
    tokenizer = BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path)
    replies, golds = ["a cat sat", "a dog ran far"], ["a cat sat", "cat sat"]

    def vectors(text: str) -> torch.Tensor:
        with torch.no_grad():
            found = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1:-1]
        return torch.nn.functional.normalize(found, dim=-1)

    wanted = []
    for reply, gold in zip(replies, golds, strict=True):
        cosine = vectors(reply) @ vectors(gold).T
        precision, recall = cosine.max(1).values.mean(), cosine.max(0).values.mean()
        wanted.append(float(2 * precision * recall / (precision + recall)))
    np.testing.assert_allclose(bert_score(replies, golds, str(tmp_path)), wanted, atol=1e-5)
    assert bert_score(["a cat"], ["a cat"], str(tmp_path)) == pytest.approx([1.0], abs=1e-5)
