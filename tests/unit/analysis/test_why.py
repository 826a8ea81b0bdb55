from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from fitted import untrained_responder
from IPython.core.formatters import DisplayFormatter

from querier.analysis.clusters import contrast_html
from querier.analysis.html_pieces import gain_html, marked_words, side_by_side
from querier.analysis.why import NOTHING, attention, dialogue, gate, strengths, swapped, token_gain
from querier.data.words import words
from querier.errors import InputError
from querier.responder import Responder
from querier.types import Split

QUERY, REPLY = "how does rust work", "rust works slowly $5 <b>ünder</b> 雨"


@pytest.fixture(scope="module")
def responder(tmp_path_factory: pytest.TempPathFactory) -> Responder:
    return untrained_responder(tmp_path_factory.mktemp("why"))


def corpus_of(responder: Responder) -> Any:
    assert responder.prepared is not None
    return responder.prepared.corpus


def test_attention_is_what_the_conditioner_says_by_item(responder: Responder) -> None:
    request = responder.request(QUERY, "q3")
    found = attention(responder, request)
    assert found["attention"].is_monotonic_decreasing
    assert found["attention"].sum() == pytest.approx(1)
    assert found["even"].tolist() == pytest.approx([1 / 9] * 9)
    told = responder.history_of("q3")[::-1][:8]  # newest first, as many as are read
    assert found.loc[found["rank"].isna(), "query"].tolist() == [NOTHING]
    for _, line in found[found["rank"].notna()].iterrows():
        assert (line["query"], line["reply"]) == (told[line["rank"]].query, told[line["rank"]].reply)


def test_an_item_stands_beside_its_own_rank(responder: Responder) -> None:
    past = [(item.query, item.reply) for item in responder.history_of("q3")[-4:]]
    loud = ("how does gold work", "gold works by law by law by law")
    found = attention(responder, responder.request(QUERY, "q3", [*past[:2], loud, *past[2:]]))
    assert len(found) == 6
    assert found.loc[found["query"] == loud[0], "rank"].item() == 2
    assert attention(responder, responder.request(QUERY, "q3", []))["attention"].tolist() == pytest.approx([1.0])


def test_a_dialogue_of_the_corpus_reads_nothing_of_itself(responder: Responder) -> None:
    corpus = corpus_of(responder)
    row = int(corpus.rows_in(Split.TEST)[0])
    request = dialogue(responder, row)
    told = {(item.query, item.reply) for item in request.items}
    earlier = [one for one in corpus.rows_of(corpus.querier[row]) if corpus.time[one] < corpus.time[row]]
    assert told <= {(corpus.dialogue(int(one)).query, corpus.dialogue(int(one)).reply) for one in earlier}
    assert request.rendered.reply == corpus.dialogue(row).reply


def test_a_swap_is_fair(responder: Responder) -> None:
    corpus = corpus_of(responder)
    row = int(corpus.rows_of(3)[6])  # six items before it, at most
    own, other = swapped(responder, row, "q1")
    assert 0 < len(own.items) == len(other.items) <= 6
    asked = words(corpus.dialogue(row).query)
    assert all(words(item.query) != asked for item in [*own.items, *other.items])
    times = {corpus.dialogue(int(one)).reply: corpus.time[one] for one in corpus.rows_of(1)[::-1]}
    assert all(times[item.reply] < corpus.time[row] for item in other.items)  # of equal replies the first
    assert other.rendered.names[0] == "q1"
    assert swapped(responder, row)[1].rendered.names[0] != "q3"
    with pytest.raises(InputError, match="'q3' asked this themselves"):
        swapped(responder, row, "q3")
    with pytest.raises(InputError, match="no querier 'x' in the corpus of 10"):
        swapped(responder, row, "x")
    with pytest.raises(InputError, match="the true querier had no history before it"):
        swapped(responder, int(corpus.rows_of(3)[0]), "q1")


def test_the_gain_of_tokens_adds_up_to_that_of_the_reply(responder: Responder) -> None:
    own = responder.request(QUERY, "q3")
    nobody = responder.request(QUERY, "q3", [])
    found = token_gain(responder, own, nobody, REPLY)
    whole = [replace(one, rendered=replace(one.rendered, reply=REPLY)) for one in (own, nobody)]
    scored = responder.module.score(whole)
    assert found["own"].sum() == pytest.approx(scored[0].log_prob, abs=1e-4)
    assert found["gain"].sum() == pytest.approx(scored[0].log_prob - scored[1].log_prob, abs=1e-4)
    assert len(found) == scored[0].tokens
    assert "".join(found["token"]).strip() == REPLY  # letters of several tokens included
    assert (token_gain(responder, own, own, REPLY)["gain"] == 0).all()
    with pytest.raises(InputError, match="no reply to look at"):
        token_gain(responder, own, nobody)


def test_strength_0_answers_as_without_a_history(responder: Responder) -> None:
    request = responder.request(QUERY, "q3")
    found = strengths(responder, request, (0, 1, 3), max_new_tokens=6)
    direct = [responder.respond(QUERY, "q3", strength=one, max_new_tokens=6) for one in (0, 1, 3)]
    assert found["reply"].tolist() == direct
    assert found["reply"][0] == responder.respond(QUERY, "q3", history=[], max_new_tokens=6)
    with pytest.raises(InputError, match="strength must be in"):
        strengths(responder, request, (11,))


def test_a_setting_says_its_own_reply_most_readily(responder: Responder, monkeypatch: pytest.MonkeyPatch) -> None:
    request = responder.request(QUERY, "q3", [])
    monkeypatch.setattr(responder.module, "generate", lambda requests, limit, strength: ["rust works slowly"])
    found = strengths(responder, request, (1,))
    scored = token_gain(responder, request, request, "rust works slowly")
    assert found["nats_per_token"].item() == pytest.approx(-scored["own"].iloc[:-1].mean(), abs=1e-5)  # not its end
    monkeypatch.setattr(responder.module, "generate", lambda requests, limit, strength: [""])
    assert strengths(responder, request, (1,))["nats_per_token"].isna().all()


def test_a_gate_that_is_not_there_is_not_made_up(responder: Responder, tmp_path: Path) -> None:
    found = gate(responder, responder.request(QUERY, "q3"))
    assert found["token"].tolist() == [1, 2]
    assert found["specific"].between(0, 1).all()
    mixed = untrained_responder(tmp_path / "concat", 4, 6, towers={"fusion": "concat"})
    with pytest.raises(InputError, match=r"fusion=concat tells nothing of its gate, only of attention"):
        gate(mixed, mixed.request(QUERY, "q1"))
    bare = untrained_responder(tmp_path / "ft", 4, 6, method="ft", conditioning={"kind": "none"})
    with pytest.raises(InputError, match=r"method ft .* nothing of its attention, only of nothing at all"):
        attention(bare, bare.request(QUERY, "q1"))
    assert (token_gain(bare, bare.request(QUERY, "q1"), bare.request(QUERY, "q1", []), "so")["gain"] == 0).all()


def test_the_gate_follows_its_bias(responder: Responder) -> None:
    request = responder.request(QUERY, "q3")
    model: Any = responder.module.conditioner
    with torch.no_grad():
        before = model.fusion.gate.bias.clone()
        model.fusion.gate.bias.fill_(-50.0)
        assert gate(responder, request)["general"].tolist() == pytest.approx([1.0, 1.0])
        model.fusion.gate.bias.copy_(before)


def test_coloured_text_is_escaped_and_self_contained(responder: Responder, tmp_path: Path) -> None:
    found = token_gain(responder, responder.request(QUERY, "q3"), responder.request(QUERY, "q3", []), REPLY)
    page = gain_html(found, "<q3>", 'no"body', "run7")
    assert "<b>" not in page
    assert "<q3>" not in page
    assert page.count("<span title=") == len(found)
    assert "run7" in page
    assert DisplayFormatter().format(page, include={"text/html"})[0] == {"text/html": page}
    page.save(tmp_path / "gain.html", "<why>")
    text = (tmp_path / "gain.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert "src=" not in text
    assert "&lt;why&gt;" in text


def test_the_stronger_gain_has_the_stronger_colour() -> None:
    table = pd.DataFrame({"token": ["a", "b", "c"], "own": [0, 0, 0.0], "other": [-2, -1, 1.0], "gain": [2, 1, -1.0]})
    page = gain_html(table, "Ann", "Bob", "run7")
    assert [
        page.count(f"rgba({shade})") for shade in ("0, 114, 178, 0.75", "0, 114, 178, 0.38", "230, 159, 0, 0.38")
    ] == [
        2,
        1,
        1,
    ]


def test_words_that_differ_are_marked_and_nothing_is_lost() -> None:
    assert marked_words("a <b> d", "a c d") == "a <mark>&lt;b&gt;</mark> d"
    assert marked_words("", "a") == ""
    assert marked_words("Same", "same") == "Same"
    page = side_by_side("<why>", ("Ann", "it rises"), [("<Bob>", "it falls")])
    assert "<Bob>" not in page
    assert "it <mark>falls</mark>" in page


def test_a_name_turns_nothing_around_and_a_text_runs_as_its_letters_do() -> None:
    turned, table = "Ann\u202e", pd.DataFrame({"token": ["a"], "own": [0.0], "other": [-1.0], "gain": [1.0]})
    for page in (gain_html(table, turned, "Bob", "run7"), side_by_side("Why?", (turned, "It rises."), [])):
        bare = page.replace(f"<bdi>{turned}</bdi>", "").replace(f"\u2068{turned}\u2069", "")
        assert turned in page
        assert turned not in bare
        assert ' dir="auto"' in page
    named = pd.DataFrame({"querier": [turned] * 2, "query": "Why?", "reply": ["a", "b"], "cell": [1, 2]})
    assert contrast_html(named).count(f"<bdi>{turned}</bdi>") == 3
