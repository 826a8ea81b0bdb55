"""DEP against loops over the paper's formulas, which vector stands beside which item, and what was mended."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import WordEncoder, dialogues, prepared_corpus, requests_of, small_config, small_module
from tiny import tiny_decoder
from torch import Tensor

from querier.config import Config, from_plain
from querier.data.collate import TrainingBatches, collate
from querier.data.preparation import Prepared
from querier.data.requests import Request
from querier.methods.dep import DifferencePrompt
from querier.models.conditioner import Outputs
from querier.module import QuerierModule
from querier.responder import Responder, load_module, save_module
from querier.types import STYLE, Batch, ComparedItems, Items, MarkedTokens, Tokens

SIZE, USERS, SLOTS = 16, 3, 4
DEP = {"model": "dep", "kind": "soft_prompt"}
OWN = {"source": "own", "items": SLOTS, "by": "recency"}


def made(faithful: bool, prompt: dict[str, Any] | None = None, **conditioning: Any) -> DifferencePrompt:
    plain = {"conditioning": {**DEP, "faithful": faithful, **conditioning}, "prompt": {**OWN, **(prompt or {})}}
    config: Config = from_plain(Config, plain)
    decoder = tiny_decoder()
    torch.manual_seed(3)
    return DifferencePrompt(config, SIZE, decoder.geometry, decoder.embedding_rms).eval()


def history_of(stands: list[list[list[int]]], seed: int = 0) -> ComparedItems:
    """Rows of items of contrast users who are there (1) or not (0)."""
    chance = torch.Generator().manual_seed(seed)
    slots = max(1, *(len(row) for row in stands))
    there = torch.zeros(len(stands), slots, USERS, dtype=torch.bool)
    mask = torch.zeros(len(stands), slots, dtype=torch.bool)
    for row, items in enumerate(stands):
        mask[row, : len(items)] = True
        for place, users in enumerate(items):
            there[row, place] = torch.tensor(users, dtype=torch.bool)
    unit = torch.nn.functional.normalize
    inputs, outputs = (unit(torch.randn(*mask.shape, SIZE, generator=chance), dim=-1) for _ in "ab")
    others = unit(torch.randn(*there.shape, SIZE, generator=chance), dim=-1) * there[..., None]
    distance = torch.rand(there.shape, generator=chance) * there
    numbers = torch.zeros_like(mask, dtype=torch.int64)
    return ComparedItems(
        inputs=inputs,
        outputs=outputs * mask[..., None],
        style=torch.zeros(*mask.shape, STYLE),
        cluster=numbers,
        rank=numbers,
        same_responder=mask,
        mask=mask,
        others=others,
        distance=distance,
        stands=there & mask[..., None],
    )


def batch_of(history: Items) -> Batch:
    rows = torch.arange(len(history.mask))
    empty = torch.zeros(len(rows), 1, dtype=torch.int64)
    return Batch(rows, rows, rows, rows, torch.zeros(len(rows), SIZE), history, history, Tokens(empty, empty, empty))


def marked(model: DifferencePrompt, history: Items, strength: float = 1.0) -> Tensor:
    found = model.condition(batch_of(history), strength).marked
    assert found is not None
    return found


FULL, SOME, NOBODY = [1, 1, 1], [1, 0, 1], [0, 0, 0]


def slow_difference(model: DifferencePrompt, history: ComparedItems, row: int, item: int) -> np.ndarray:
    """Σ_k w_k (o − p_k), one contrast user after the other."""
    users = [user for user in range(USERS) if history.stands[row, item, user]]
    distance = [float(history.distance[row, item, user]) for user in users]
    if model.faithful:
        powers = [math.exp(one / sum(distance)) for one in distance]
    else:
        mean = sum(distance) / len(distance)
        powers = [math.exp(float(model.sharpness) * one / mean) for one in distance]
    own, found = history.outputs[row, item].double().numpy(), np.zeros(SIZE)
    for user, power in zip(users, powers, strict=True):
        found += power / sum(powers) * (own - history.others[row, item, user].double().numpy())
    return found


@torch.no_grad()
@pytest.mark.parametrize("faithful", [False, True])
def test_a_difference_is_the_papers_sum(faithful: bool) -> None:
    model, history = made(faithful), history_of([[FULL, SOME, NOBODY], [[0, 1, 0]], []])
    assert model.scales is not faithful
    found, has = model.differences(history)
    assert has.tolist() == [[True, True, False], [True, False, False], [False] * 3]
    for row, item in has.nonzero().tolist():
        np.testing.assert_allclose(found[row, item], slow_difference(model, history, row, item), rtol=1e-4, atol=1e-6)
    assert not found[~has].any()


@torch.no_grad()
def test_published_weights_are_nearly_equal_and_mended_ones_are_not() -> None:
    distance = torch.tensor([[0.1, 1.0, 3.0, 7.0], [0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]])
    stands = torch.ones_like(distance, dtype=torch.bool)
    flat, sharp = (made(faithful).peer_weights(distance, stands) for faithful in (True, False))
    assert flat[0].tolist() == pytest.approx([0.19, 0.20, 0.25, 0.36], abs=0.01)
    assert sharp[0, 3] > 0.99
    for weights in (flat, sharp):
        assert torch.allclose(weights[1:], torch.full((2, 4), 0.25))


def test_the_sharpness_of_mended_weights_is_learned() -> None:
    model, history = made(False), history_of([[FULL, SOME]])
    model.differences(history)[0].square().sum().backward()
    assert model.sharpness.grad is not None
    assert model.sharpness.grad != 0


@torch.no_grad()
def test_mended_vectors_are_those_of_the_item_they_stand_beside() -> None:
    model, history = made(False), history_of([[FULL, NOBODY, SOME]])
    found = marked(model, history).view(3, 2, -1)
    for item in range(3):
        kinds = [history.outputs[0, item].numpy()]
        kinds += [slow_difference(model, history, 0, item)] if history.stands[0, item].any() else []
        for kind, vector in enumerate(kinds):
            code = torch.sigmoid(model.autoencoder.into(torch.as_tensor(vector, dtype=torch.float32)))
            lifted = model.align[kind]((code - 0.05) / math.sqrt(0.05 * 0.95))
            said = model.rows[kind] + lifted / lifted.square().mean().sqrt()
            wanted = said / said.square().mean().sqrt() * model.rms
            assert torch.allclose(found[item, kind], wanted, rtol=1e-2, atol=1e-4)
    other = history_of([[FULL, NOBODY, SOME]])
    other.outputs[0, 1] = -other.outputs[0, 1]
    changed = (marked(model, other).view(3, 2, -1) - found).abs().amax(-1) > 1e-5
    assert not changed[0].any()
    assert changed[1, 0]
    assert not changed[2].any()


@torch.no_grad()
def test_published_vectors_stand_beside_other_items_once_one_has_no_contrast_users() -> None:
    model, history = made(True), history_of([[NOBODY, FULL, SOME, FULL, FULL]])
    assert history.outputs.shape[1] > SLOTS
    vectors, stands = model.read(history)
    assert stands.all()
    for place in range(SLOTS):  # the text shows item `place`, the vectors are of the next one
        assert torch.equal(vectors[0, place, 0], history.outputs[0, place + 1])
        wanted = slow_difference(model, history, 0, place + 1)
        np.testing.assert_allclose(vectors[0, place, 1], wanted, rtol=1e-4, atol=1e-6)
    mended = made(False).read(history)[0]
    assert torch.equal(mended[:, :, 0], history.outputs)


@torch.no_grad()
def test_published_kinds_mix_where_fewer_items_have_contrast_users_than_there_are_places() -> None:
    model, history = made(True), history_of([[FULL, NOBODY, SOME], [NOBODY]])
    vectors, stands = model.read(history)
    difference = model.differences(history)[0]
    rows = [history.outputs[0, 0], history.outputs[0, 2], difference[0, 0], difference[0, 2]]
    for place, row in enumerate(rows):  # all four stand where outputs are read, and none where differences are
        assert torch.equal(vectors[0, place, 0], row)
    assert stands[0, :, 0].all()
    assert not stands[0, :, 1].any()
    assert not stands[1].any()
    found = marked(model, history).view(2, SLOTS, 2, -1)
    assert torch.equal(found[0, :, 1], model.untrained[:, 1])  # a random row
    assert torch.equal(found[1], model.untrained)
    assert not any(name == "untrained" for name, _ in model.named_parameters())


@pytest.mark.parametrize("faithful", [False, True])
def test_without_any_item_the_losses_are_nothing_with_finite_gradients(faithful: bool) -> None:
    model, batch = made(faithful).train(), batch_of(history_of([[], []]))
    step = model.training_step(batch)
    sums = model.auxiliary_losses(batch, Outputs(torch.zeros(1), step.kept))
    assert [float(one.total.detach()) for one in sums.values()] == [0.0, 0.0]
    assert [int(one.count) for one in sums.values()] == [0, 0]
    assert step.conditioning is not None
    assert step.conditioning.marked is not None
    (step.conditioning.marked.sum() + sum(one.total for one in sums.values())).backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())


@torch.no_grad()
def test_at_strength_zero_the_vectors_say_nothing_of_the_querier() -> None:
    model, one, other = made(False), history_of([[FULL]], seed=1), history_of([[FULL]], seed=2)
    assert torch.equal(marked(model, one, 0.0), marked(model, other, 0.0))
    assert not torch.equal(marked(model, one), marked(model, other))


def test_a_history_without_contrast_users_is_an_error() -> None:
    compared = vars(history_of([[FULL]]))
    plain = Items(**{each.name: compared[each.name] for each in fields(Items)})
    with pytest.raises(ValueError, match="beside its contrast users"):
        made(False).condition(batch_of(plain))


# the whole path


def config_of(folder: Path, faithful: bool = False, **changes: Any) -> Config:
    return small_config(
        folder,
        conditioning={**DEP, "faithful": faithful},
        prompt=OWN,
        loss={"specific": 0.0, "general": 0.0, "swap": 0.0},
        decoder={"train": "frozen", "layers": 1, "width": 32, "vocabulary": 300, "max_length": 600},
        towers={"history": SLOTS, "neighbours": 0, "history_dropout": 0.0},
        **changes,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared")
    return prepared_corpus(dialogues(6, 10), config_of(folder), folder)


def batch_for(module: QuerierModule, requests: list[Request]) -> Batch:
    return collate(requests, module.decoder.score_tokens([one.rendered for one in requests]), SLOTS)


def test_each_vector_stands_before_the_text_of_its_item(prepared: Prepared, tmp_path: Path) -> None:
    config, corpus = config_of(tmp_path), prepared.corpus
    module, requests = small_module(prepared, config), requests_of(prepared, config)
    rows = [int(row) for row in prepared.pool[-6:]]
    batch = batch_for(module, [requests.matched(row) for row in rows])
    assert isinstance(batch.tokens, MarkedTokens)
    assert isinstance(batch.history, ComparedItems)
    tokenizer, kinds = module.decoder.tokenizer, []
    for place, row in enumerate(rows):
        items = requests.history_rows(row)
        ids, marks = batch.tokens.input_ids[place], batch.tokens.marks[place]
        for start in (marks >= 0).nonzero()[:, 0].tolist():
            item, kind = divmod(int(marks[start]), 2)
            kinds.append(kind)
            shown = corpus.dialogue(int(items[item]))
            assert tokenizer.decode(ids[start:][marks[start:] < 0]).startswith(f"{shown.querier}: {shown.query}")
            assert np.array_equal(batch.history.outputs[place, item], prepared.replies([items[item]])[0])
        wanted = [2 * item for item in range(len(items))]
        wanted += [2 * item + 1 for item in batch.history.stands[place].any(-1).nonzero()[:, 0].tolist()]
        assert sorted(marks[marks >= 0].tolist()) == sorted(wanted)
    assert kinds.count(0) > kinds.count(1) > 0  # an item without contrast users has no place for a difference
    published = requests_of(prepared, config_of(tmp_path, faithful=True)).matched(rows[0]).rendered
    assert [numbers for _, numbers in published.marks] == [(6, 7), (4, 5), (2, 3), (0, 1)]  # the newest stands last


def test_it_trains_through_the_one_path_and_leaves_the_decoder_alone(prepared: Prepared, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    module = small_module(prepared, config).train()
    builder = TrainingBatches(requests_of(prepared, config), config, module.decoder.score_tokens)
    batch = builder.build(np.array([0, *prepared.pool[-5:]]), 0, 0)
    parts = module.losses(batch)
    assert set(parts.parts) == {"lm", "rebuilt", "sparse"}
    found = {name: value.item() for name, value in parts.parts.items()}
    assert parts.total.item() == pytest.approx(
        found["lm"] + 100 * (found["rebuilt"] + 1e-3 * found["sparse"]), rel=1e-5
    )
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    adam = torch.optim.Adam([value for value in module.parameters() if value.requires_grad], lr=1e-2)
    parts.total.backward()
    adam.step()
    moved = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.startswith("conditioner.")}
    lm = module.losses(batch).parts
    assert lm["rebuilt"] < found["rebuilt"]


def test_the_language_model_teaches_everything_that_speaks(prepared: Prepared, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    module = small_module(prepared, replace(config, loss=replace(config.loss, autoencoder=0.0))).train()
    requests = requests_of(prepared, config)
    module.losses(batch_for(module, [requests.matched(int(row)) for row in prepared.pool[-4:]])).total.backward()
    assert module.conditioner is not None
    taught = {
        name for name, value in module.conditioner.named_parameters() if value.grad is not None and value.grad.any()
    }
    silent = {"autoencoder.back.weight", "autoencoder.back.bias"}  # what rebuilds says nothing
    assert taught == {name for name, _ in module.conditioner.named_parameters()} - silent


@torch.no_grad()
def test_without_history_the_decoder_reads_the_bare_prompt(prepared: Prepared, tmp_path: Path) -> None:
    none = np.zeros(0, dtype=np.int64)
    for faithful in (False, True):
        config = config_of(tmp_path, faithful)
        module, requests = small_module(prepared, config).eval(), requests_of(prepared, config)
        row = int(prepared.pool[-1])
        alone = batch_for(module, [requests.of(row, none)])
        assert module.conditioner is not None
        bare = module.decoder.log_prob(alone.tokens, None)
        assert torch.equal(module.decoder.log_prob(alone.tokens, module.conditioner.condition(alone)), bare)
        both = batch_for(module, [requests.matched(row), requests.of(row, none)])
        found = module.decoder.log_prob(both.tokens, module.conditioner.condition(both))
        assert found[1].sum() == pytest.approx(float(bare.sum()), abs=1e-4)
        assert found.isfinite().all()
        assert len(module.generate([requests.of(row, none), requests.matched(row)], 3)) == 2


@torch.no_grad()
def test_another_history_brings_its_own_items_and_vectors(prepared: Prepared, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    module, requests = small_module(prepared, config).eval(), requests_of(prepared, config)
    row, corpus = int(prepared.pool[-1]), prepared.corpus
    other = (int(corpus.querier[row]) + 1) % 6
    swapped = requests.histories.of_querier(other, int(corpus.time[row]), int(corpus.scene[row]), 0, SLOTS)
    own, theirs = requests.matched(row), requests.of(row, swapped)
    assert theirs.history.beside is not None
    np.testing.assert_array_equal(theirs.history.outputs, prepared.replies(swapped))
    one, two = (module.score([request])[0].log_prob for request in (own, theirs))
    assert one != two
    deaf = replace(theirs, history=replace(theirs.history, outputs=-theirs.history.outputs))  # the text stays
    assert module.score([deaf])[0].log_prob != two


@torch.no_grad()
@pytest.mark.parametrize("faithful", [False, True])
def test_what_is_saved_says_the_same_when_it_is_loaded(prepared: Prepared, tmp_path: Path, faithful: bool) -> None:
    config = config_of(tmp_path, faithful)
    module = small_module(prepared, config).eval()
    save_module(module, prepared.clusters, 32, tmp_path / "model")
    loaded = load_module(tmp_path / "model")[0].eval()
    requests = requests_of(prepared, config)
    batch = batch_for(module, [requests.matched(int(row)) for row in prepared.pool[-3:]])
    logits = []
    for one in (module, loaded):
        assert one.conditioner is not None
        logits.append(one.decoder.logits(batch.tokens, one.conditioner.condition(batch)))
    assert torch.equal(*logits)


def test_somebody_known_is_answered_beside_contrast_users_and_texts_from_outside_without(
    prepared: Prepared, tmp_path: Path
) -> None:
    config = config_of(tmp_path)
    module = small_module(prepared, config).eval()
    asked = "how does rust work"
    for corpus, known in ((prepared, True), (None, False)):
        responder = Responder(module, WordEncoder(), prepared.clusters, corpus)
        beside = responder.request(asked, "q1").history.beside
        assert beside is not None
        assert beside.stands.any() == known
    responder = Responder(module, WordEncoder(), prepared.clusters, prepared)
    given = [("how does bread work", "bread works slowly"), ("how does snow work", "snow works by law")]
    told = responder.request(asked, "q1", given)
    assert told.history.beside is not None
    assert not told.history.beside.stands.any()
    assert told.rendered.marks == ((0, (2,)), (2, (0,)))  # outputs alone, the newest last
    replies = responder.respond_all([asked] * 3, ["q1", None, "nobody"], [None, given, None], max_new_tokens=3)
    assert replies[2] == responder.respond(asked, history=[], max_new_tokens=3)
