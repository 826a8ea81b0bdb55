"""The objective, the scores and the replies of a module, whatever the method."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import dialogues, prepared_corpus, requests_of, small_config, small_module
from torch import Tensor

from querier.config import Config
from querier.data.collate import TrainingBatches, collate
from querier.data.preparation import Prepared
from querier.data.requests import Request
from querier.errors import InputError
from querier.models.querier_model import QuerierModel
from querier.module import QuerierModule, reply_mean
from querier.types import Batch, Conditioning, Split, Tokens

STILL = {"feature_dropout": 0.0, "history_dropout": 0.0, "shift_dropout": 0.0}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared")
    return prepared_corpus(dialogues(8, 12), small_config(folder), folder)


def config_of(**changes: Any) -> Config:
    towers = {**vars(small_config(Path()).towers), **STILL, **changes.pop("towers", {})}
    return small_config(Path(), towers={**towers, "fusion": towers["fusion"].name}, **changes)


def training_batch(prepared: Prepared, module: QuerierModule, rows: int = 12) -> Batch:
    requests = requests_of(prepared, module.config)
    builder = TrainingBatches(requests, module.config, module.decoder.score_tokens, module.conditioner is not None)
    return builder.build(prepared.corpus.rows_in(Split.TRAIN)[-rows:], epoch=0, index=0)


def matched(prepared: Prepared, config: Config, count: int = 7) -> list[Request]:
    requests = requests_of(prepared, config)
    return [requests.matched(int(row)) for row in prepared.corpus.rows_in(Split.TEST)[:count]]


def slow_log_prob(module: QuerierModule, tokens: Tokens, conditioning: Any) -> Tensor:
    """Mean log-probability of each row's reply and the sums, token by token from all the logits."""
    log_prob = module.decoder.logits(tokens, conditioning).double().log_softmax(-1)
    rows = []
    for row in range(len(tokens.labels)):
        places = [place for place in range(1, tokens.labels.shape[1]) if tokens.labels[row, place] >= 0]
        rows.append(torch.stack([log_prob[row, place - 1, tokens.labels[row, place]] for place in places]))
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def test_the_objective_is_the_sum_of_its_parts(prepared: Prepared) -> None:
    config = config_of(loss={"specific": 0.3, "general": 0.2, "swap": 0.7, "swap_fraction": 0.5, "swap_margin": 0.1})
    module = small_module(prepared, config).train()
    batch = training_batch(prepared, module)
    parts = module.losses(batch)
    assert set(parts.parts) == {"lm", "specific", "general", "swap"}
    weights = {"lm": 1.0, "specific": 0.3, "general": 0.2, "swap": 0.7}
    assert parts.total.item() == pytest.approx(
        sum(weights[name] * parts.parts[name].item() for name in weights), rel=1e-5
    )

    assert module.conditioner is not None
    assert batch.swap is not None
    matched_sums = slow_log_prob(module, batch.tokens, module.conditioner.condition(batch))
    tokens = (batch.tokens.labels[:, 1:] >= 0).sum(1)
    assert parts.parts["lm"].item() == pytest.approx((-matched_sums.sum() / tokens.sum()).item(), rel=1e-5)

    index = batch.swap.index
    other = part_of(batch, index)
    other.history = batch.swap.history
    swapped_sums = slow_log_prob(module, other.tokens, module.conditioner.condition(other))
    gain = (matched_sums[index].sum(1) - swapped_sums.sum(1)) / tokens[index]
    assert parts.parts["swap"].item() == pytest.approx((0.1 - gain).clamp(min=0).mean().item(), rel=1e-4)


def test_rows_with_an_echo_count_apart_and_read_no_history(prepared: Prepared) -> None:
    settings = {"kind": "residual", "expectation": True}
    config = config_of(loss={"echo": 0.5, "echo_fraction": 0.5, "swap": 0.0}, conditioning=settings)
    module = small_module(prepared, config).train()
    assert isinstance(module.conditioner, QuerierModel)
    assert module.conditioner.expectation is not None
    torch.nn.init.normal_(module.conditioner.expectation.up, generator=torch.Generator().manual_seed(0))
    batch = training_batch(prepared, module)
    assert batch.echo is not None
    parts = module.losses(batch)
    rest = sum(getattr(config.loss, name) * parts.parts[name].item() for name in ("specific", "general"))
    assert parts.total.item() == pytest.approx(
        parts.parts["lm"].item() + 0.5 * parts.parts["echo"].item() + rest, rel=1e-5
    )
    own = np.setdiff1d(np.arange(len(batch)), batch.echo.index.numpy())
    sums = slow_log_prob(module, batch.tokens, module.conditioner.condition(batch))[own]
    tokens = (batch.tokens.labels[own, 1:] >= 0).sum()
    assert parts.parts["lm"].item() == pytest.approx((-sums.sum() / tokens).item(), rel=1e-5)

    def heard() -> float:
        return module.losses(batch).parts["echo"].item()

    before = heard()
    batch.history.outputs[batch.echo.index] += 1.0
    assert heard() == pytest.approx(before, rel=1e-6)
    batch.echo.style.add_(1.0)
    assert heard() != pytest.approx(before, rel=1e-4)


def part_of(batch: Batch, index: Tensor) -> Batch:
    def rows(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[index]
        return replace(value, **{each.name: rows(getattr(value, each.name)) for each in fields(value)})

    kept = {
        each.name: rows(getattr(batch, each.name))
        for each in fields(batch)
        if each.name not in ("contrastive", "swap", "asked", "echo")
    }
    return Batch(**kept)


@pytest.mark.parametrize("name", ["specific", "general", "swap"])
def test_a_part_without_weight_is_not_computed(prepared: Prepared, name: str) -> None:
    module = small_module(prepared, config_of(loss={name: 0.0, "swap_fraction": 0.5})).train()
    parts = module.losses(training_batch(prepared, module))
    assert name not in parts.parts
    assert len(parts.parts) == 3


def test_all_parts_but_the_first_need_a_conditioner(prepared: Prepared) -> None:
    module = small_module(prepared, config_of(conditioning={"kind": "none"})).train()
    parts = module.losses(training_batch(prepared, module))
    assert set(parts.parts) == {"lm"}
    assert torch.equal(parts.total.detach(), parts.parts["lm"])


@pytest.mark.parametrize("push_away", [False, True])
def test_only_push_away_moves_what_a_contrast_user_would_have_got(prepared: Prepared, push_away: bool) -> None:
    config = config_of(loss={"swap_fraction": 1.0, "swap_margin": 100.0, "push_away": push_away})
    module = small_module(prepared, config).train()
    batch = training_batch(prepared, module)
    assert module.conditioner is not None
    assert batch.swap is not None
    step = module.conditioner.training_step(batch)
    conditioning, swapped = step.conditioning, step.swapped
    assert conditioning is not None
    assert swapped is not None
    assert conditioning.soft_prompt is not None
    assert swapped.soft_prompt is not None
    prompts = [
        each.soft_prompt.detach().requires_grad_() for each in (conditioning, swapped) if each.soft_prompt is not None
    ]
    conditioning.soft_prompt, swapped.soft_prompt = prompts
    loss = module._swap(batch, module.decoder.log_prob(batch.tokens, conditioning), swapped).total
    gradients = torch.autograd.grad(loss, [*prompts, *module.decoder.parameters()], allow_unused=True)
    assert gradients[0] is not None
    assert (gradients[1] is not None) is push_away

    index = batch.swap.index
    tokens = Tokens(**{name: value[index] for name, value in vars(batch.tokens).items()})
    true = reply_mean(module.decoder.log_prob(batch.tokens, conditioning)[index], tokens)
    other = reply_mean(module.decoder.log_prob(tokens, swapped), tokens)
    by_hand = (100.0 - true + (other if push_away else other.detach())).sum()
    wanted = torch.autograd.grad(by_hand, [*prompts, *module.decoder.parameters()], allow_unused=True)
    for one, two in zip(gradients, wanted, strict=True):
        assert (one is None) is (two is None)
        assert one is None or torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("push_away", [False, True])
def test_a_swap_between_two_equal_readings_finds_no_difference(prepared: Prepared, push_away: bool) -> None:
    """In mixed precision too: both sides of a training step's swap are computed alike."""
    loss = {"swap_fraction": 1.0, "swap_margin": 0.1, "push_away": push_away}
    module = small_module(prepared, config_of(loss=loss, trainer={"precision": "bf16-mixed"})).train()
    with torch.no_grad():
        for value in module.decoder.parameters():
            value.mul_(8 if value.ndim > 1 else 1)  # or else untrained logits are too small to round
    batch = training_batch(prepared, module)
    assert batch.swap is not None
    with torch.autocast("cpu", torch.bfloat16):
        log_prob = module.decoder.log_prob(batch.tokens)
        found = module._swap(batch, log_prob, Conditioning())
    assert float(found.total.detach()) / float(found.count) == pytest.approx(0.1, abs=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_rows(prepared: Prepared) -> None:
    module = small_module(prepared, config_of()).train()
    batch = training_batch(prepared, module, rows=3)
    with torch.no_grad():
        next(module.decoder.parameters()).fill_(float("inf"))
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 0 \(.*lm nan.*rows ") as caught:
        module.training_step(batch, 0)
    assert str(batch.rows.tolist()) in str(caught.value)


def test_scores_do_not_depend_on_company_or_order(prepared: Prepared, generator: np.random.Generator) -> None:
    config = config_of()
    module = small_module(prepared, config)
    requests = matched(prepared, config)
    together = module.score(requests, batch_size=3)
    order = generator.permutation(len(requests))
    shuffled = module.score([requests[place] for place in order])
    for place, request in enumerate(requests):
        alone = module.score([request])[0]
        assert together[place].log_prob == pytest.approx(alone.log_prob, abs=1e-4)
        assert shuffled[list(order).index(place)].log_prob == pytest.approx(alone.log_prob, abs=1e-4)
        assert together[place].tokens == alone.tokens
        assert together[place].bytes == len(request.rendered.reply.encode())
    assert not module.training
    assert module.score([]) == []


def test_a_reply_that_is_cut_counts_the_bytes_that_were_scored(prepared: Prepared) -> None:
    config = config_of()
    module = small_module(prepared, config)
    request = matched(prepared, config, 1)[0]
    long = replace(request, rendered=replace(request.rendered, reply=request.rendered.reply + " naïvely" * 200))
    scored = module.score([long, request])
    ((_, batch),) = module._batches([long], None, prompt_only=False)
    read = module.decoder.tokenizer.decode(batch.tokens.labels[batch.tokens.labels >= 0]).rstrip()
    assert long.rendered.reply.startswith(read)
    assert scored[0].bytes == len(read.encode()) < len(long.rendered.reply.encode())
    assert scored[1].bytes == len(request.rendered.reply.encode())


def test_scores_are_what_the_logits_say(prepared: Prepared) -> None:
    config = config_of()
    module = small_module(prepared, config).eval()
    request = matched(prepared, config, 1)[0]
    scored = module.score([request])[0]
    ((_, batch),) = module._batches([request], None, prompt_only=False)
    assert module.conditioner is not None
    with torch.no_grad():
        slow = slow_log_prob(module, batch.tokens, module.conditioner.condition(batch))
    assert scored.log_prob == pytest.approx(slow.sum().item(), rel=1e-5)
    assert scored.tokens == slow.shape[1]


def test_the_towers_are_read_in_the_order_of_the_requests(prepared: Prepared) -> None:
    config = config_of(evaluation={"batch_size": 3})
    module = small_module(prepared, config)
    requests = matched(prepared, config)
    found = module.represent(requests)
    assert set(found) == {"specific", "general"}
    for vectors in found.values():
        assert vectors.shape == (len(requests), config.towers.width)
    alone = [module.represent([request]) for request in requests]
    for name, vectors in found.items():
        assert np.abs(vectors - np.concatenate([one[name] for one in alone])).max() < 1e-5
    with pytest.raises(InputError, match="no towers"):
        small_module(prepared, config_of(conditioning={"kind": "none"})).represent(requests)


def test_replies_come_in_the_order_of_the_requests(prepared: Prepared, generator: np.random.Generator) -> None:
    config = config_of(evaluation={"batch_size": 3})
    module = small_module(prepared, config)
    with torch.no_grad():
        for value in module.decoder.parameters():
            value.mul_(8 if value.ndim > 1 else 1)  # or else untrained weights say nothing
    requests = matched(prepared, config)
    replies = module.generate(requests, 6)
    assert len(set(replies)) > 1
    assert [module.generate([request], 6)[0] for request in requests] == replies
    order = generator.permutation(len(requests))
    assert module.generate([requests[place] for place in order], 6) == [replies[place] for place in order]
    assert module.generate(requests, 6, temperature=1.0, seed=1) == module.generate(
        requests, 6, temperature=1.0, seed=1
    )
    assert module.generate(requests, 6, temperature=1.0, seed=1) != module.generate(
        requests, 6, temperature=1.0, seed=2
    )
    careful = module.generate(requests, 6, repetition_penalty=10.0)
    assert careful != replies
    module.config = replace(config, evaluation=replace(config.evaluation, repetition_penalty=10.0))
    assert module.generate(requests, 6) == careful
    assert module.generate(requests, 6, repetition_penalty=1.0) == replies


def test_swapped_queriers_are_answered_differently(prepared: Prepared) -> None:
    config = config_of()
    module = small_module(prepared, config).eval()
    requests = requests_of(prepared, config)
    row, other = (int(row) for row in prepared.corpus.rows_in(Split.TEST)[-2:])
    assert prepared.corpus.querier[row] != prepared.corpus.querier[other]
    theirs = requests.histories.of_querier(
        int(prepared.corpus.querier[other]), int(prepared.corpus.time[row]), -1, 0, 8
    )
    own, swapped = module.score([requests.matched(row), requests.of(row, theirs)])
    assert abs(own.log_prob - swapped.log_prob) > 1e-4


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16"])
def test_a_run_is_judged_in_the_precision_that_it_was_trained_in(prepared: Prepared, precision: str) -> None:
    """Under mixed precision scores, replies and vectors come from the same arithmetic as a training step's."""
    config = config_of(trainer={"precision": precision})
    module, requests = small_module(prepared, config).eval(), matched(prepared, config)
    seen: set[torch.dtype] = set()
    layer = module.decoder.layers[0].mlp.down_proj
    handle = layer.register_forward_hook(lambda _, given, output: seen.add(output.dtype))
    scores = [one.log_prob for one in module.score(requests, len(requests))]
    assert seen == {torch.bfloat16}
    module.generate(requests, 2)
    assert seen == {torch.bfloat16}
    handle.remove()
    assert module.represent(requests)["specific"].dtype == np.float32
    tokens = module.decoder.score_tokens([one.rendered for one in requests])
    batch = collate(requests, tokens, config.towers.history)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted = module.decoder.log_prob(tokens, module._condition(batch, 1.0)).double().sum(1).tolist()
    assert sorted(scores) == pytest.approx(sorted(wanted))
    module.config = replace(config, trainer=replace(config.trainer, precision=None))
    full = [one.log_prob for one in module.score(requests, len(requests))]
    assert full == pytest.approx(scores, rel=0.02)
    assert full != scores


def test_in_mixed_precision_logits_are_exact_outside_of_training(prepared: Prepared) -> None:
    """The output layer takes rounded hidden states, and adds no rounding of its own but in a training step."""
    config = config_of(trainer={"precision": "bf16-mixed"})
    module, requests = small_module(prepared, config).eval(), matched(prepared, config)
    head, seen = module.decoder.bare.get_output_embeddings(), []
    handle = head.register_forward_hook(lambda _, given, output: seen.append((given[0].detach(), output.detach())))
    module.score(requests, len(requests))
    module.generate(requests, 2)
    for given, output in seen:
        torch.testing.assert_close(output, torch.nn.functional.linear(given, head.weight), rtol=0, atol=0)
    tokens = module.decoder.score_tokens([one.rendered for one in requests])
    with torch.autocast("cpu", torch.bfloat16):
        module.decoder.log_prob(tokens)
        assert torch.is_autocast_enabled("cpu")
    assert seen[-1][1].dtype == torch.bfloat16
    handle.remove()


def test_without_conditioning_it_is_the_bare_decoder(prepared: Prepared) -> None:
    config = config_of(conditioning={"kind": "none"})
    module = small_module(prepared, config).eval()
    assert module.conditioner is None
    request = matched(prepared, config, 1)[0]
    ((_, batch),) = module._batches([request], None, prompt_only=False)
    with torch.no_grad():
        bare = module.decoder.bare(input_ids=batch.tokens.input_ids, attention_mask=batch.tokens.attention_mask).logits
        assert torch.equal(module.decoder.logits(batch.tokens, module._condition(batch, 1.0)), bare)
        labels = batch.tokens.labels[:, 1:]
        wanted = bare[:, :-1].log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    assert module.score([request])[0].log_prob == pytest.approx(wanted[labels >= 0].sum().item(), rel=1e-5)


def test_checkpoints_leave_out_a_frozen_decoder(prepared: Prepared) -> None:
    frozen = small_module(prepared, config_of(decoder={"train": "frozen", "layers": 1, "width": 32, "vocabulary": 300}))
    checkpoint = {"state_dict": frozen.state_dict()}
    frozen.on_save_checkpoint(checkpoint)
    kept = set(checkpoint["state_dict"])
    assert kept == {name for name in frozen.state_dict() if name.startswith("conditioner.")}
    assert "conditioner.items.centre_in.means" in kept  # fitted, not trained
    whole = small_module(prepared, config_of())
    checkpoint = {"state_dict": whole.state_dict()}
    whole.on_save_checkpoint(checkpoint)
    assert any(name.startswith("decoder.") for name in checkpoint["state_dict"])


def test_validation_counts_the_bytes_of_the_replies(prepared: Prepared) -> None:
    config = config_of()
    module = small_module(prepared, config).eval()
    requests = matched(prepared, config, 4)
    ((_, batch),) = module._batches(requests, None, prompt_only=False)
    with torch.no_grad():
        module.validation_step(batch, 0)
    scored = module.score(requests)
    ((nll, tokens, size),) = module._validation
    assert nll == pytest.approx(-sum(each.log_prob for each in scored), rel=1e-5)
    assert tokens == sum(each.tokens for each in scored)
    assert size == sum(each.bytes for each in scored)
