"""QAR against loops over the paper's formula, and where the released code and the mended one differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import dialogues, prepared_corpus, requests_of, small_config, small_module
from tiny import tiny_decoder
from torch import Tensor

from querier.config import Config, from_plain
from querier.data.collate import TrainingBatches
from querier.data.preparation import Prepared
from querier.errors import InputError
from querier.losses import Sum
from querier.methods.qar import PrototypeMemory, QuerierAwareResponder, prototype_terms
from querier.module import QuerierModule
from querier.types import Batch

SIZE = 6  # P
CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "conditioning": {"model": "qar", "kind": "none"},
    "qar": {"inner": 4, "projected": SIZE},
    "clusters": {"n_clusters": "3"},
    "loss": {"specific": 0.0, "general": 0.0, "swap": 0.0},
}


def made(faithful: bool, clusters: int = 3, **settings: Any) -> QuerierAwareResponder:
    plain = {**SETTINGS, "conditioning": {**SETTINGS["conditioning"], "faithful": faithful}, **settings}
    config: Config = from_plain(Config, plain)
    torch.manual_seed(3)
    return QuerierAwareResponder(config, clusters, tiny_decoder())


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def cosine(one: Tensor, other: Tensor) -> float:
    return float(one @ other) / math.sqrt(float(one @ one) * float(other @ other))


def slow(views: Tensor, own: int, prototypes: Sequence[Tensor], temperature: float) -> float:
    """One row's loss, querier after querier: prototypes (2, P) of its cluster, the row's own at `own`."""
    total = 0.0
    for view, other in ((0, 1), (1, 0)):
        scores = [cosine(views[view], prototype[other]) / temperature for prototype in prototypes]
        total += math.log(sum(math.exp(score) for score in scores)) - scores[own]
    return total / 2


CLUSTER, QUERIER = [0, 1, 1, 2], [7, 7, 9, 4]  # of the rows
PAIRS = [(0, 7), (0, 9), (0, 4), (1, 9), (1, 7), (2, 9)]  # of the prototypes; the last row's own is not among them


def pairing() -> tuple[Tensor, Tensor]:
    """Which prototypes are a row's own, and which are of its cluster."""
    found = [[(c == row[0], (c, q) == row) for c, q in PAIRS] for row in zip(CLUSTER, QUERIER, strict=True)]
    both = torch.tensor(found)
    return both[..., 1], both[..., 0]


def test_the_loss_is_the_papers_sum() -> None:
    views, prototypes = drawn(4, 2, SIZE), drawn(6, 2, SIZE, seed=1)
    own, candidate = pairing()
    found = prototype_terms(views, prototypes, own, candidate, 0.1)
    for row in range(3):
        chosen = [place for place, (cluster, _) in enumerate(PAIRS) if cluster == CLUSTER[row]]
        mine = [PAIRS[place] for place in chosen].index((CLUSTER[row], QUERIER[row]))
        assert found[row].item() == pytest.approx(slow(views[row], mine, prototypes[chosen], 0.1), rel=1e-9)
    scaled = prototype_terms(views * 3, prototypes * torch.rand(6, 1, 1), own, candidate, 0.1)
    assert torch.allclose(scaled, found)


def test_as_published_everybody_else_competes_as_a_constant_vector() -> None:
    views, prototypes, queriers = drawn(4, 2, SIZE), drawn(6, 2, SIZE, seed=1), [4, 7, 9, 12]
    own, candidate = pairing()
    absent = len(queriers) - candidate.sum(1)
    found = prototype_terms(views, prototypes, own, candidate, 0.1, absent)
    for row in range(4):  # the table of the release: a slot for each querier, 10⁻⁶ in the empty ones
        table = [
            prototypes[PAIRS.index((CLUSTER[row], querier))]
            if (CLUSTER[row], querier) in PAIRS
            else torch.full((2, SIZE), 1e-6, dtype=torch.float64)
            for querier in queriers
        ]
        assert found[row].item() == pytest.approx(slow(views[row], queriers.index(QUERIER[row]), table, 0.1), rel=1e-9)
    mended = prototype_terms(views, prototypes, own, candidate, 0.1)
    assert (found[:3] > mended[:3] + 1e-3).all()
    nobody_absent = prototype_terms(views, prototypes, own, candidate, 0.1, torch.zeros(4, dtype=torch.int64))
    assert torch.allclose(nobody_absent[:3], mended[:3])


@pytest.mark.parametrize("absent", [None, torch.tensor([1, 2, 0, 3])])
def test_the_gradient_of_the_sample_is_right(absent: Tensor | None) -> None:
    own, candidate = pairing()
    prototypes, views = drawn(6, 2, SIZE, seed=1), drawn(4, 2, SIZE).requires_grad_()
    chosen = slice(0, 3 if absent is None else 4)

    def total(rows: Tensor) -> Tensor:
        return prototype_terms(rows, prototypes, own, candidate, 0.5, absent)[chosen].sum()

    assert torch.autograd.gradcheck(total, (views,))


@pytest.mark.parametrize("faithful", [False, True])
def test_rows_in_any_order_and_of_extreme_likeness_have_a_finite_loss(faithful: bool) -> None:
    own, candidate = pairing()
    prototypes = drawn(6, 2, SIZE, seed=1).float()
    views = torch.stack([prototypes[3].flip(0), -prototypes[4].flip(0), prototypes[3].flip(0), prototypes[5]])
    absent = torch.tensor([1, 2, 2, 3]) if faithful else None
    views.requires_grad_()
    found = prototype_terms(views, prototypes, own, candidate, 0.01, absent)
    found.sum().backward()
    assert found.isfinite().all()
    assert views.grad is not None
    assert views.grad.isfinite().all()
    order = torch.tensor([2, 0, 3, 1])
    moved = None if absent is None else absent[order]
    again = prototype_terms(views[order], prototypes, own[order], candidate[order], 0.01, moved)
    assert torch.allclose(again, found[order])


# the memory


def told(memory: PrototypeMemory, clusters: set[int]) -> dict[tuple[int, int], Tensor]:
    sums, cluster, querier = memory.prototypes(clusters, CPU)
    return dict(zip(zip(cluster.tolist(), querier.tolist(), strict=True), sums, strict=True))


@pytest.mark.parametrize("renews", [False, True])
def test_prototypes_are_sums_of_what_a_plain_list_would_hold(renews: bool) -> None:
    memory, chance = PrototypeMemory(SIZE, 5, renews), np.random.default_rng(0)
    place = {row: (row % 3, row % 7) for row in range(90)}  # cluster and querier of a dialogue
    held: dict[tuple[int, int], dict[Any, Tensor]] = {}
    for step in range(60):
        rows = chance.choice(90, 8, replace=False).tolist()
        vectors = drawn(8, 2, SIZE, seed=step).float()
        memory.write([[*place[row], row] for row in rows], vectors)
        for row, vector in zip(rows, vectors, strict=True):
            slot = held.setdefault(place[row], {})
            key = row if renews else (row, step)
            if key not in slot and len(slot) == 5:
                slot.pop(next(iter(slot)))
            slot[key] = vector
    found = told(memory, {0, 1, 2})
    assert set(found) == set(held)
    for pair, slot in held.items():
        assert torch.allclose(found[pair], torch.stack(list(slot.values())).sum(0), atol=1e-5)
    assert len(memory) == sum(len(slot) for slot in held.values())


def test_of_two_rows_that_land_in_one_place_the_later_stays() -> None:
    memory = PrototypeMemory(SIZE, 1, renews=False)
    vectors = drawn(3, 2, SIZE).float()
    memory.write([[0, 0, 0], [0, 0, 1], [0, 0, 2]], vectors)
    assert torch.equal(told(memory, {0})[0, 0], vectors[2])
    assert len(memory) == 1


def test_it_grows_with_what_was_seen_and_not_with_queriers_and_clusters() -> None:
    memory = PrototypeMemory(512, 512, renews=True)
    for epoch in range(3):
        memory.write([[cluster, 10**6 + cluster, cluster] for cluster in range(40)], drawn(40, 2, 512, seed=epoch))
    state = memory.get_extra_state()
    assert len(memory) == len(state["vectors"]) == len(state["sums"]) == 40
    assert told(memory, {99}) == {}


@pytest.mark.parametrize("renews", [False, True])
def test_a_memory_that_was_saved_goes_on_as_if_it_had_not_been(renews: bool, tmp_path: Path) -> None:
    one, other = (PrototypeMemory(SIZE, 3, renews) for _ in range(2))
    rows = [[row % 2, row % 3, row] for row in range(20)]
    one.write(rows, drawn(20, 2, SIZE).float())
    torch.save(one.state_dict(), tmp_path / "memory.pt")
    other.load_state_dict(torch.load(tmp_path / "memory.pt", weights_only=True))
    for memory in (one, other):
        memory.write(rows[15:] + [[5, 5, 50]], drawn(6, 2, SIZE, seed=1).float())
        memory.write(rows[:9], drawn(9, 2, SIZE, seed=2).float())
    one_state, other_state = one.get_extra_state(), other.get_extra_state()
    assert all(torch.equal(value, other_state[name]) for name, value in one_state.items())
    assert one.queriers == other.queriers == {0, 1, 2, 5}


# the faults


def against(model: QuerierAwareResponder, views: Tensor, cluster: Sequence[int], querier: Sequence[int]) -> Sum:
    seen = [[c, q, 1000 + place] for place, (c, q) in enumerate(zip(cluster, querier, strict=True))]
    return model.contrast(views, torch.tensor(cluster), torch.tensor(querier), seen)


def test_published_heads_never_train_and_mended_ones_do() -> None:
    for faithful in (True, False):
        model = made(faithful)
        assert ("heads" in dict(model.named_parameters())) is not faithful
        model.memory.write([[0, 1, 1], [0, 2, 2]], drawn(2, 2, SIZE).float())
        against(model, model.project(drawn(2, 32).float(), torch.tensor([0, 0])), [0, 0], [1, 2]).total.backward()
        assert (model.heads.grad is None) is faithful
        assert "heads" in model.own_state()  # trained or not, they are not to be drawn anew


def test_who_was_not_seen_in_the_cluster_competes_as_published_and_not_when_mended() -> None:
    views = drawn(2, 2, SIZE).float()
    found = {}
    for faithful in (True, False):
        model = made(faithful)
        model.memory.write([[0, 1, 1], [0, 2, 2], [1, 3, 3], [1, 4, 4]], drawn(4, 2, SIZE, seed=1).float())
        found[faithful] = float(against(model, views, [0, 0], [1, 2]).mean)
    table = [*drawn(4, 2, SIZE, seed=1)[:2], *torch.full((2, 2, SIZE), 1e-6, dtype=torch.float64)]
    rows = views.double()
    wanted = (slow(rows[0], 0, table, 0.1) + slow(rows[1], 1, table, 0.1)) / 2
    assert found[True] == pytest.approx(wanted, rel=1e-4)
    wanted = (slow(rows[0], 0, table[:2], 0.1) + slow(rows[1], 1, table[:2], 0.1)) / 2
    assert found[False] == pytest.approx(wanted, rel=1e-4)


def test_published_prototypes_are_stale_and_loud_and_mended_ones_are_neither() -> None:
    batch = torch.tensor([0, 0])
    directions = {}
    for faithful in (True, False):
        model = made(faithful)
        pooled = drawn(3, 32).float()
        for step, states in enumerate((pooled[:2], pooled[1:])):  # two dialogues of one querier, each seen twice
            views = model.project(states, batch).detach()
            if not faithful:
                assert torch.allclose(views.norm(dim=-1), torch.ones(2, 2))
            model.memory.write([[0, 0, 1], [0, 0, 2]], views * (1 if step else 9) if faithful else views)
        directions[faithful] = torch.nn.functional.normalize(told(model.memory, {0})[0, 0], dim=-1)
        unit = torch.nn.functional.normalize(model.project(pooled, torch.zeros(3, dtype=torch.int64)), dim=-1)
        weights = torch.tensor([0.0, 1.0, 1.0])  # of the three states: only the last visits, each alike
        now = torch.nn.functional.normalize((weights[:, None, None] * unit).sum(0), dim=-1)
        assert torch.allclose(directions[faithful], now, atol=1e-5) is not faithful
    assert len(model.memory) == 2


@pytest.mark.parametrize("faithful", [False, True])
def test_a_loss_above_ten_teaches_nothing_as_published(faithful: bool) -> None:
    model = made(faithful)
    one, other = torch.eye(SIZE)[0], -torch.eye(SIZE)[0]
    model.memory.write([[0, 1, 1], [0, 2, 2]], torch.stack([one, other])[:, None].expand(2, 2, SIZE))
    views = torch.stack([other, one])[:, None].expand(2, 2, SIZE).clone()
    views[..., 1] = 0.05  # or the sample would stand on a pole, where the gradient is zero
    views.requires_grad_()
    loss = against(model, views, [0, 0], [1, 2])
    loss.total.backward()
    assert views.grad is not None
    mean = loss.mean.item()
    assert mean == 10.0 if faithful else mean > 19
    assert (views.grad.abs().max() > 1e-3).item() is not faithful


def test_a_row_without_a_prototype_of_its_own_or_without_a_rival_has_no_term() -> None:
    model, views = made(False), drawn(3, 2, SIZE).float().requires_grad_()
    first = against(model, views, [0, 0, 1], [1, 2, 3])
    assert (first.total.item(), int(first.count)) == (0.0, 0)
    model.memory.write([[0, 1, 1], [0, 2, 2], [1, 3, 3]], drawn(3, 2, SIZE, seed=1).float())
    later = against(model, views, [0, 0, 1], [1, 5, 3])
    assert int(later.count) == 1
    (first.total + later.total).backward()
    assert views.grad is not None
    assert views.grad[0].abs().sum() > 0
    assert views.grad[1:].abs().sum() == 0
    published = against(made(True), drawn(3, 2, SIZE).float(), [0, 0, 1], [1, 2, 3])
    assert published.mean.item() == pytest.approx(math.log(3), rel=1e-5)  # nobody is told from the constant vector


# through the one path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("qar")
    return prepared_corpus(dialogues(6, 10), small_config(folder, **SETTINGS), folder)


def config_of(**changes: Any) -> Config:
    small = {"layers": 2, "width": 32, "vocabulary": 300, "max_length": 96, "train": "lora"}
    return small_config(Path(), **{**SETTINGS, "decoder": small, **changes})


def module_of(prepared: Prepared, config: Config) -> QuerierModule:
    torch.manual_seed(3)
    module = small_module(prepared, config).train()
    assert isinstance(module.conditioner, QuerierAwareResponder)
    return module


def batches(prepared: Prepared, config: Config, module: QuerierModule, size: int = 12) -> list[Batch]:
    build = TrainingBatches(requests_of(prepared, config), config, module.decoder.score_tokens).build
    rows = prepared.pool
    return [build(rows[start : start + size], 0, start // size) for start in range(0, len(rows) - size + 1, size)]


def test_it_trains_through_the_one_path_and_remembers_each_dialogue(prepared: Prepared) -> None:
    config = config_of()
    module = module_of(prepared, config)
    model = module.conditioner
    read = batches(prepared, config, module)
    for batch in [*read, read[0]]:
        parts = module.losses(batch)
    assert isinstance(model, QuerierAwareResponder)
    assert set(parts.parts) == {"lm", "prototypes"}
    assert parts.total.item() == pytest.approx(parts.parts["lm"].item() + 0.5 * parts.parts["prototypes"].item())
    assert len(model.memory) == sum(len(batch) for batch in read)
    parts.total.backward()
    still = {name for name, value in module.named_parameters() if value.requires_grad and value.grad is None}
    assert not still
    grown = [model.tower.share, model.heads, *model.tower.mlps.parameters()]
    assert all(isinstance(value, Tensor) and value.grad is not None and value.grad.abs().sum() > 0 for value in grown)
    fuse = {"tower.norm.weight"}  # reads the loss only once the share has left zero
    assert {name for name, value in model.named_parameters() if not value.grad.abs().sum()} == fuse  # type: ignore[union-attr]


def test_without_its_weight_there_is_no_contrast_and_no_head(prepared: Prepared) -> None:
    config = config_of(qar={**SETTINGS["qar"], "weight": 0.0})
    module = module_of(prepared, config)
    parts = module.losses(batches(prepared, config, module)[0])
    parts.total.backward()
    assert set(parts.parts) == {"lm"}
    assert all(value.grad is not None for value in module.parameters() if value.requires_grad)


@pytest.mark.parametrize("faithful", [False, True])
def test_a_checkpoint_brings_the_memory_back_and_a_model_leaves_it_behind(prepared: Prepared, faithful: bool) -> None:
    config = config_of(conditioning={**SETTINGS["conditioning"], "faithful": faithful})
    module, other = module_of(prepared, config), module_of(prepared, config)
    read = batches(prepared, config, module)
    for batch in read:
        module.losses(batch)
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"], strict=False)
    assert module.losses(read[1]).parts["prototypes"] == other.losses(read[1]).parts["prototypes"]
    model, fresh = module.conditioner, module_of(prepared, config).conditioner
    assert isinstance(model, QuerierAwareResponder)
    assert isinstance(fresh, QuerierAwareResponder)
    state = model.own_state()
    assert not any(name.startswith("memory") for name in state)
    fresh.load_own_state({name: value + 1 for name, value in state.items()})
    assert torch.equal(fresh.heads, model.heads + 1)
    assert len(fresh.memory) == 0


def test_the_name_in_the_prompt_reaches_the_reply_through_the_tower(prepared: Prepared) -> None:
    config = config_of()
    module = module_of(prepared, config)
    model = module.conditioner
    assert isinstance(model, QuerierAwareResponder)
    requests = requests_of(prepared, config)
    row, none = int(prepared.pool[-1]), np.zeros(0, dtype=np.int64)
    asked = [requests.of(row, none, name) for name in ("q1", "q2")]
    bare = [one.log_prob for one in module.score(asked)]
    with torch.no_grad():
        for value in (model.tower.share, *model.tower.mlps.parameters()):
            assert isinstance(value, Tensor)
            value.normal_(std=0.3)
    personal = [one.log_prob for one in module.score(asked)]
    assert personal[0] != pytest.approx(personal[1], abs=1e-4)
    assert all(abs(one - other) > 1e-3 for one, other in zip(personal, bare, strict=True))
    loud = module.generate(asked, 4, strength=1.0)
    assert len(loud) == 2
    model.condition(batches(prepared, config, module)[0], strength=0.0)
    scored = module.decoder.log_prob(module.decoder.score_tokens([one.rendered for one in asked])).sum(1)
    assert scored.tolist() == pytest.approx(bare, abs=1e-4)


def test_a_batch_in_parts_is_refused() -> None:
    parts = {"decoder": {"rows_at_once": 4}}
    with pytest.raises(InputError, match=r"qar reads its batch as a whole; set decoder\.rows_at_once=null"):
        from_plain(Config, {**SETTINGS, **parts})
    from_plain(Config, {**SETTINGS, **parts, "qar": {"weight": 0.0}})  # without its loss it needs no states
    with pytest.raises(InputError, match=r"fsdp .* equally often; set decoder\.rows_at_once=null"):
        from_plain(Config, {**parts, "trainer": {"strategy": "fsdp"}})
