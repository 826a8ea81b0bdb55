"""A trained run answers whoever asks, and a saved model holds nothing of anybody."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import WordEncoder, dialogues, small_config, write_jsonl

from querier import responder
from querier.choices import Kind
from querier.commands import fit
from querier.config import Config
from querier.data.requests import Exchange
from querier.errors import InputError
from querier.responder import Responder

PAST = [("how does bread work briefly", "bread works slowly"), ("how does snow work briefly", "snow works slowly")]


def config_of(folder: Path) -> Config:
    config = small_config(folder, name="run")
    data = replace(config.data, path=str(folder / "log.jsonl"), unseen=["q7"])
    return replace(config, data=data, trainer=replace(config.trainer, max_epochs=1))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_jsonl(folder / "log.jsonl", dialogues(8, 12))
    config = config_of(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "encoder", lambda _: WordEncoder())
        fit.run_fit(config)
        fit.run_fit(replace(config, name="ft", method="ft", conditioning=replace(config.conditioning, kind=Kind.none)))
    return folder / "outputs"


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responder, "SentenceEncoder", lambda _: WordEncoder())


@pytest.fixture
def loaded(runs: Path) -> Responder:
    return Responder.load(runs / "run")


def test_it_answers_alone_as_in_company(loaded: Responder) -> None:
    queries, names = ["how does bread work", "how do tides work now"], ["q1", "q2"]
    replies = loaded.respond_all(queries, names, [None, None], max_new_tokens=5)
    assert replies == [loaded.respond(*pair, max_new_tokens=5) for pair in zip(queries, names, strict=True)]


def test_a_known_querier_brings_their_history_oldest_first(loaded: Responder) -> None:
    assert loaded.prepared is not None
    corpus = loaded.prepared.corpus
    rows = corpus.rows_of(corpus.queriers.index("q3") if isinstance(corpus.queriers, list) else 3)
    found = [(item.query, item.reply) for item in loaded.history_of("q3")]
    told = [(corpus.dialogue(int(row)).query, corpus.dialogue(int(row)).reply) for row in rows]
    assert found == told
    assert len(told) > loaded.config.towers.history
    request = loaded.request("how does rust work", "q3")
    assert np.allclose(request.history.outputs[0], WordEncoder()([found[-1][1]])[0], atol=1e-3)


def test_a_history_that_is_given_stands_instead_of_the_known_one(loaded: Responder) -> None:
    assert len(loaded.request("how does rust work", "q3", PAST).history) == 2
    assert len(loaded.request("how does rust work", "q3", []).history) == 0
    newest = loaded.request("how does rust work", "q3", PAST).history.outputs[0]
    assert np.allclose(newest, WordEncoder()([PAST[-1][1]])[0])


def test_what_this_responder_answered_is_read_before_what_is_newer(loaded: Responder) -> None:
    assert loaded.prepared is not None
    limit = loaded.config.towers.history
    past = [Exchange(f"how does rust work {i}", "rust works", "other" if i else "tutor") for i in range(limit + 2)]
    loaded._added["new"] = [*past, Exchange("how does bread work", "bread works", "tutor")]
    history = loaded.request("how does rust work", "new", responder="tutor").history
    assert len(history) == limit
    assert history.same_responder.tolist() == [True, True] + [False] * (limit - 2)


def test_an_unknown_querier_is_answered_as_one_without_history(loaded: Responder) -> None:
    assert loaded.history_of("nobody") == []
    assert loaded.request("how does rust work", "nobody").querier == -1
    assert loaded.respond("how does rust work", "nobody", max_new_tokens=4) == loaded.respond(
        "how does rust work", "nobody", history=[], max_new_tokens=4
    )


def test_strength_zero_answers_as_without_history(loaded: Responder) -> None:
    assert loaded.module.conditioner is not None
    prompts = []
    for history, strength in ((PAST, 0.0), ([], 1.0), (PAST, 1.0)):
        request = loaded.request("how does rust work", "q3", history)
        ((_, batch),) = loaded.module._batches([request], None, prompt_only=True)
        with torch.no_grad():
            prompts.append(loaded.module.conditioner.condition(batch, strength).soft_prompt)
    zero, empty, whole = prompts
    assert torch.equal(zero, empty)
    assert not torch.allclose(whole, empty, atol=1e-4)


def test_what_is_added_is_remembered_until_it_is_forgotten(loaded: Responder) -> None:
    before = loaded.history_of("q3")
    loaded.add_history("q3", "how does iron work", "iron works")
    loaded.add_history("new", "how does iron work", "iron works")
    assert [item.query for item in loaded.history_of("q3")] == [*(item.query for item in before), "how does iron work"]
    assert len(loaded.request("how does rust work", "new").history) == 1
    assert len(loaded.request("how does rust work", "q3").history) == loaded.config.towers.history  # the newest ones
    loaded.forget("q3")
    loaded.forget("new")
    loaded.forget("new")
    assert loaded.history_of("q3") == before
    assert loaded.history_of("new") == []


def test_vectors_of_queriers(loaded: Responder) -> None:
    names = ["q1", "q2"]
    vectors = loaded.embed_queriers(names)
    assert vectors.shape == (2, loaded.config.towers.width)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors[1], loaded.embed_queriers(["q2"])[0], atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-4)
    assert loaded.embed_queriers([]).shape == (0, loaded.config.towers.width)


def test_a_name_that_nobody_knows_has_no_vector(loaded: Responder) -> None:
    with pytest.raises(InputError, match=r"no querier 'q33' is known; nearest: q3.*add_history"):
        loaded.embed_queriers(["q1", "q33"])
    loaded.add_history("q33", "how does iron work", "iron works")
    assert loaded.embed_queriers(["q33"]).shape == (1, loaded.config.towers.width)


def test_a_method_without_towers_has_no_vectors(runs: Path) -> None:
    with pytest.raises(InputError, match=r"method ft has no vectors.*querier"):
        Responder.load(runs / "ft").embed_queriers(["q1"])


def test_a_saved_model_answers_the_same_and_holds_nothing_of_anybody(loaded: Responder, tmp_path: Path) -> None:
    loaded.save_pretrained(tmp_path / "model")
    again = Responder.from_pretrained(tmp_path / "model")
    assert again.prepared is None
    assert again.history_of("q3") == []
    for history in (PAST, []):
        requests = [each.request("how does rust work", "Zoe", history) for each in (loaded, again)]
        bare = [replace(request, neighbours=requests[1].neighbours) for request in requests]  # none without a corpus
        known = replace(bare[0].rendered, reply="rust works slowly", names=bare[1].rendered.names)
        first, second = (
            each.module.score([replace(request, rendered=known)])[0]
            for each, request in zip((loaded, again), bare, strict=True)
        )
        assert first.log_prob == second.log_prob
    kept = b"".join(path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file())
    for one in dialogues(8, 12):
        assert one.query.encode() not in kept
        assert one.reply.encode() not in kept
    assert b"log.jsonl" not in kept
    assert b'"q7"' not in (tmp_path / "model" / "parts.json").read_bytes()
    assert not list((tmp_path / "model").rglob("*.bin")) + list((tmp_path / "model").rglob("*.pt"))


def test_wrong_folders_and_queries_are_refused(loaded: Responder, runs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a run.*querier fit"):
        Responder.load(tmp_path)
    with pytest.raises(InputError, match=r"holds no model.*parts\.json"):
        Responder.from_pretrained(tmp_path)
    for query in ("", "  \n"):
        with pytest.raises(InputError, match="query: must not be empty"):
            loaded.respond(query, "q1")
    copied = shutil.copytree(runs / "run", tmp_path / "run")
    card = copied / "run.json"
    whole = card.read_text()
    card.write_text(json.dumps({"status": "running", "config": json.loads(whole)["config"]}))
    with pytest.raises(InputError, match=r"run is not finished; run the same `querier fit` again"):
        Responder.load(copied)
    card.write_text(whole)
    card.write_text(card.read_text().replace(str(runs.parent / "cache"), str(tmp_path / "gone")))
    with pytest.raises(InputError, match=r"prepared corpus .* is gone; make it again .*: querier prepare"):
        Responder.load(copied)


def test_arguments_of_the_wrong_kind_are_refused(loaded: Responder) -> None:
    with pytest.raises(InputError, match=r"history is a list of \(query, reply\) pairs .* got 'why'"):
        loaded.respond("how?", history=["why", "so"])  # type: ignore[list-item]  # as it is typed at first
    with pytest.raises(InputError, match=r"names is a list of names, got the text 'q1'; give \['q1'\]"):
        loaded.embed_queriers("q1")
    with pytest.raises(InputError, match="strength must be in"):
        loaded.respond("how?", strength=20.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda one: one.respond(None), r"query: must be text, got None \(NoneType\)"),
        (lambda one: one.respond("how \ud800?"), "query: holds half of a surrogate pair at character 5"),
        (lambda one: one.respond("how?", max_new_tokens=0), "max_new_tokens must be >= 1, got 0"),
        (lambda one: one.respond("how?", history=[None]), "history is a list of .* got None"),
        (lambda one: one.respond("how?", history=[{"query": "why?"}]), "history is a list of .* pairs"),
        (lambda one: one.respond("how?", history=[("why?", None)]), "history: must be text, got None"),
        (lambda one: one.respond_all(["how?", "why?"], ["q1"], [None, None]), "must be as many, got 2, 1 and 2"),
        (lambda one: one.add_history("Zed", None, "so"), "query: must be text"),
        (lambda one: one.add_history(None, "why?", "so"), "querier: must be text"),
    ],
)
def test_what_a_service_passes_by_mistake_is_refused(
    loaded: Responder, call: Callable[[Responder], object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(loaded)


def test_a_device_that_is_not_there_is_refused(runs: Path) -> None:
    with pytest.raises(InputError, match="device='cudda': "):
        Responder.load(runs / "run", device="cudda")


def test_a_history_of_objects_is_one_of_pairs(loaded: Responder) -> None:
    objects = [{"query": query, "reply": reply} for query, reply in PAST]
    one, other = (loaded.request("how does rust work", "Zoe", history) for history in (PAST, objects))
    assert list(one.items) == list(other.items)
    np.testing.assert_array_equal(one.history.outputs, other.history.outputs)


def test_threads_that_share_a_responder_wait_for_each_other(loaded: Responder, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, together = [0], []
    generate = loaded.module.decoder.generate

    def watched(*arguments: Any, **more: Any) -> list[str]:
        inside[0] += 1
        together.append(inside[0])
        time.sleep(0.02)
        replies: list[str] = generate(*arguments, **more)
        inside[0] -= 1
        return replies

    asked = [("how does bread work", f"q{number}") for number in range(1, 7)]
    alone = [loaded.respond(*one, max_new_tokens=4) for one in asked]
    monkeypatch.setattr(loaded.module.decoder, "generate", watched)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda one: loaded.respond(*one, max_new_tokens=4), asked)) == alone
    assert together == [1] * 6


def test_a_project_that_moved_as_a_whole_is_loaded(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: Responder
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(runs.parent, moved)
    card = moved / "outputs" / "run" / "run.json"
    entries = json.loads(card.read_text())
    entries["prepared"] = entries["prepared"].replace(str(runs.parent), str(tmp_path / "before"))
    entries["cache"] = str(tmp_path / "before" / "cache")
    entries["config"]["cache"] = "cache"
    card.write_text(json.dumps(entries))
    monkeypatch.chdir(moved)
    again = Responder.load("outputs/run")
    assert again.history_of("q3") == loaded.history_of("q3")


def test_a_saved_model_takes_no_folder_of_other_files(loaded: Responder, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(InputError, match="holds files but no model; nothing was written"):
        loaded.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    loaded.save_pretrained(tmp_path / "model")
    loaded.save_pretrained(tmp_path / "model")
    assert Responder.from_pretrained(tmp_path / "model").prepared is None


def test_a_strength_of_what_reads_words_alone_is_refused(runs: Path) -> None:
    plain = Responder.load(runs / "ft")
    with pytest.raises(InputError, match=r"strength=0 scales what vectors say of the querier, and ft reads none"):
        plain.respond("how?", strength=0.0)


def test_a_strength_that_a_published_method_does_not_heed_is_refused(
    loaded: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.module.conditioner, "scales", False)
    with pytest.raises(InputError, match="as published does not scale them"):
        loaded.respond("how?", strength=0.0)
    assert loaded.respond("how?", max_new_tokens=2) is not None


def test_by_default_answers_who_was_trained_for(loaded: Responder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another responder of the corpus may have answered last, or stand first in it."""
    assert loaded.prepared is not None
    monkeypatch.setattr(loaded.prepared.corpus, "answering", ["Bea", "Cy"])
    past = [Exchange("how?", "so", name) for name in ("Cy", "Bea", "Ann")]
    monkeypatch.setattr(loaded, "history_of", lambda name: past if name else [])
    assert loaded.request("why?", "q1").rendered.names[1] == "Bea"
    assert loaded.request("why?").rendered.names[1] == "Bea"
    assert loaded.request("why?", "q1", responder="Ann").rendered.names[1] == "Ann"


def test_a_query_far_from_the_pool_is_known_as_such(loaded: Responder) -> None:
    known = loaded.prepared.corpus.dialogue(int(loaded.prepared.pool[0])).query  # type: ignore[union-attr]  # loaded
    assert not loaded.is_far(known)
    assert loaded.is_far("zebra quartz violin")
