"""Where data, methods and losses meet: one Lightning module for every method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from querier.choices import Schedule
from querier.config import Config, to_plain
from querier.data.collate import collate
from querier.data.requests import Request
from querier.distributed import sum_over_processes
from querier.errors import InputError
from querier.losses import Sum, combine, lm_loss, mean_log_prob, swap_loss
from querier.models.conditioner import Conditioner, Outputs, Step
from querier.models.decoder import Decoder
from querier.models.generation import Sampling
from querier.types import Batch, Conditioning, LossParts, Scored, Tokens, move, take

MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # of `trainer.precision`


class QuerierModule(lightning.LightningModule):
    """Trains, scores and generates.

    Args:
        config: The run's configuration.
        decoder: The language model.
        conditioner: What tells it of the querier; None for methods that read text alone.
    """

    def __init__(self, config: Config, decoder: Decoder, conditioner: Conditioner | None) -> None:
        super().__init__()
        self.config = config
        self.decoder = decoder
        self.conditioner = conditioner
        self.save_hyperparameters({"config": to_plain(config)})
        trainer = config.trainer  # in whose 16-mixed a CPU has bfloat16; and FSDP shards weights of one type alone
        if MIXED.get(trainer.precision) is torch.bfloat16 and "fsdp" not in trainer.strategy:
            decoder.hold_frozen_in(torch.bfloat16)
        self.strict_loading = False  # checkpoints hold what is trained, not a frozen decoder
        self._validation: list[tuple[float, int, int]] = []

    # training

    def losses(self, batch: Batch) -> LossParts:
        """The objective L = L_lm + λ_s L_specific + λ_g L_general + λ_w L_swap of one batch."""
        step = Step(None) if self.conditioner is None else self.conditioner.training_step(batch)
        log_prob = self.decoder.log_prob(batch.tokens, step.conditioning)
        sums: dict[str, Sum] = {}
        if self.conditioner is not None:
            sums = self.conditioner.auxiliary_losses(batch, Outputs(log_prob, step.kept))
        mask = reply_mask(batch.tokens)
        if batch.echo is not None:
            echo = torch.zeros_like(mask).index_fill(0, batch.echo.index, True)
            sums["echo"] = lm_loss(log_prob, mask & echo)
            mask = mask & ~echo
        sums["lm"] = lm_loss(log_prob, mask)
        if batch.swap is not None and step.swapped is not None:
            sums["swap"] = self._swap(batch, log_prob, step.swapped)
        return combine(sums, self._weights())

    def _weights(self) -> dict[str, float]:
        return {"lm": 1.0, **({} if self.conditioner is None else self.conditioner.weights)}

    def _swap(self, batch: Batch, log_prob: Tensor, swapped: Conditioning) -> Sum:
        loss = self.config.loss
        index = batch.swap.index if batch.swap is not None else batch.rows[:0]
        tokens = take(batch.tokens, index)
        # With gradients taken, though not always kept: without, the decoder computes in another arithmetic, whose
        # difference would be taken for the querier's.
        other = reply_mean(self.decoder.log_prob(tokens, swapped), tokens)
        other = other if loss.push_away else other.detach()
        return swap_loss(reply_mean(log_prob[index], tokens), other, loss.swap_margin, loss.swap_form)

    def on_fit_start(self) -> None:
        """Put all of it into training mode: a decoder that was loaded is not, and the trainer leaves it as it is."""
        self.train()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout by the step, so that a resumed run draws what an unbroken one draws."""
        torch.manual_seed(self.config.seed * 1_000_003 + self.trainer.fit_loop.total_batch_idx)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step; stops the run at a loss that is not finite.

        Raises:
            FloatingPointError: With the rows of the batch.
        """
        parts = self.losses(batch)
        if not torch.isfinite(parts.total):
            raise FloatingPointError(
                f"the loss is {parts.total.item()} at step {self.global_step} ({_show(parts)}), rows "
                f"{batch.rows.tolist()}; lower optim.lr or optim.decoder_lr, or look at these dialogues"
            )
        absent = torch.full_like(parts.total.detach(), math.nan)  # or the trainer would log a part's last value again
        trained = [name for name, weight in self._weights().items() if weight and name not in never_had(self.config)]
        values = {f"train/{name}": parts.parts.get(name, absent).detach() for name in trained}
        self.log_dict({"train/loss": parts.total.detach(), **values}, batch_size=len(batch))
        return parts.total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Negative log-likelihood of the replies."""
        conditioning = None if self.conditioner is None else self.conditioner.condition(batch)
        log_prob = self.decoder.log_prob(batch.tokens, conditioning)
        mask = reply_mask(batch.tokens)
        self._validation.append((-float(log_prob.sum()), int(mask.sum()), sum(self._bytes(batch.tokens))))

    def on_validation_epoch_end(self) -> None:
        """Log `val/nll_per_token` and `val/nll_per_byte` over all rows of all processes."""
        sums = torch.tensor(self._validation or [(0.0, 0, 0)], dtype=torch.float64).sum(0)
        self._validation.clear()
        if self.trainer.world_size > 1:
            sums = sum_over_processes(sums.to(self.device))  # Apple's devices have none, and there is one
        nll, tokens, size = sums.tolist()
        values = {"val/nll_per_token": nll / max(1.0, tokens), "val/nll_per_byte": nll / max(1.0, size)}
        self.log_dict(values, prog_bar=True)

    def _bytes(self, tokens: Tokens) -> list[int]:
        """Length in UTF-8 of each reply as far as it is labelled: a reply that was cut counts what is left of it."""
        rows = [row[row >= 0].tolist() for row in tokens.labels.cpu()]
        return [len(text.encode()) for text in self.decoder.tokens.texts(rows)]

    def configure_optimizers(self) -> Any:
        """AdamW, a learning rate for each of towers, sentence encoder and decoder.

        Weights of one axis or none are not decayed; all others are, and with them the temperature of each attention
        head in the towers, which is kept as (heads, 1, 1).
        """
        decay = self.config.optim.weight_decay
        groups = [group for weights, lr in self._learning_rates() for group in _groups(weights, lr, decay)]
        optimizer = torch.optim.AdamW(groups)
        steps = int(self.trainer.estimated_stepping_batches)
        factor = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._factor(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": factor, "interval": "step"}}

    def _learning_rates(self) -> list[tuple[list[nn.Parameter], float]]:
        optim, decoder = self.config.optim, list(self.decoder.parameters())
        if self.conditioner is None:
            return [(decoder, optim.decoder_lr)]
        encoder = [] if self.conditioner.encoder is None else list(self.conditioner.encoder.parameters())
        apart = {id(value) for value in encoder}
        towers = [value for value in self.conditioner.parameters() if id(value) not in apart]
        return [(towers, optim.lr), (encoder, optim.encoder_lr), (decoder, optim.decoder_lr)]

    def _factor(self, step: int, steps: int) -> float:
        warmup = max(1, round(self.config.optim.warmup * steps))
        if step < warmup:
            return (step + 1) / warmup
        if self.config.optim.schedule is Schedule.constant:
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only what is trained or fitted; frozen weights are found where they came from."""
        weights = self.named_parameters(remove_duplicate=False)  # tied ones stand in the state under both names
        frozen = {name for name, value in weights if not value.requires_grad}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if name not in frozen}

    # use

    def precision(self) -> AbstractContextManager[Any]:
        """Mixed precision where training had it: what is judged is what was trained, in the same arithmetic."""
        dtype = MIXED.get(self.config.trainer.precision)
        if dtype is torch.float16 and self.device.type == "cpu":
            dtype = torch.bfloat16  # as the trainer has it there
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    @torch.no_grad()
    def score(self, requests: Sequence[Request], batch_size: int | None = None) -> list[Scored]:
        """Log-probability of each request's reply, batched by length."""
        scored: dict[int, Scored] = {}
        for places, batch in self._batches(requests, batch_size, prompt_only=False):
            with self.precision():
                log_prob = self.decoder.log_prob(batch.tokens, self._condition(batch, 1.0))
            counts = reply_mask(batch.tokens).sum(1).tolist()
            values = log_prob.cpu().double().sum(1).tolist()  # Apple's devices have no float64
            for place, value, count, size in zip(places, values, counts, self._bytes(batch.tokens), strict=True):
                scored[place] = Scored(value, int(count), size)
        return [scored[place] for place in range(len(requests))]

    @torch.no_grad()
    def generate(
        self,
        requests: Sequence[Request],
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        strength: float = 1.0,
        repetition_penalty: float | None = None,
    ) -> list[str]:
        """A reply to each request, the likeliest at temperature 0, batched by length; by default as it is judged.

        Raises:
            InputError: For a `strength` of a method that tells the decoder of the querier in words alone, or of one as
                published that has none.
        """
        if strength != 1 and (self.conditioner is None or not self.conditioner.scales):
            reads = "reads none" if self.conditioner is None else "as published does not scale them"
            raise InputError(
                f"strength={strength:g} scales what vectors say of the querier, and {self.config.method} {reads}; "
                "leave it at 1 (ask with an empty history to leave out what is read)"
            )
        generator = torch.Generator(self.device).manual_seed(seed)
        sampling = Sampling(temperature, generator, repetition_penalty or self.config.evaluation.repetition_penalty)
        replies: dict[int, str] = {}
        for places, batch in self._batches(requests, None, prompt_only=True):
            with self.precision():
                conditioning = self._condition(batch, strength)
                texts = self.decoder.generate(batch.tokens, conditioning, max_new_tokens, sampling)
            replies.update(zip(places, texts, strict=True))
        return [replies[place] for place in range(len(requests))]

    @torch.no_grad()
    def represent(self, requests: Sequence[Request]) -> dict[str, np.ndarray]:
        """What the towers make of requests, averaged over the T vectors: `specific` and `general`, each (n, D).

        Raises:
            InputError: Where the method has no towers.
        """
        found: dict[str, dict[int, Tensor]] = {}
        for places, batch in self._batches(requests, None, prompt_only=True):
            with self.precision():
                vectors = {} if self.conditioner is None else self.conditioner.represent(batch)
            for name, rows in vectors.items():
                found.setdefault(name, {}).update(zip(places, rows.float().cpu(), strict=True))
        if not found:
            raise InputError(f"method {self.config.method} has no towers; use a run of method querier")
        return {name: torch.stack([rows[place] for place in range(len(rows))]).numpy() for name, rows in found.items()}

    def _condition(self, batch: Batch, strength: float) -> Conditioning | None:
        return None if self.conditioner is None else self.conditioner.condition(batch, strength)

    def _batches(
        self, requests: Sequence[Request], batch_size: int | None, prompt_only: bool
    ) -> Iterator[tuple[list[int], Batch]]:
        self.eval()
        size = batch_size or self.config.evaluation.batch_size
        length = [sum(len(text) for _, text in request.rendered.turns) for request in requests]
        if not prompt_only:
            length = [prompt + len(request.rendered.reply) for prompt, request in zip(length, requests, strict=True)]
        order = sorted(range(len(requests)), key=lambda place: -length[place])
        for start in range(0, len(order), size):
            places = order[start : start + size]
            chosen = [requests[place] for place in places]
            rendered = [request.rendered for request in chosen]
            tokens = self.decoder.prompt_tokens(rendered) if prompt_only else self.decoder.score_tokens(rendered)
            yield places, move(collate(chosen, tokens, self.config.towers.history), self.device)


def never_had(config: Config) -> set[str]:
    """Losses of the towers that no batch has under a configuration, whatever their weight."""
    loss, conditioning = config.loss, config.conditioning
    had = {
        "general": config.towers.general,
        "swap": loss.swap_fraction > 0,
        "echo": conditioning.expects and loss.echo_fraction > 0,
    }
    return {name for name, has in had.items() if not has}


def reply_mask(tokens: Tokens) -> Tensor:
    """True at the tokens of the reply, (B, L), the places at which `Decoder.log_prob` says something."""
    return tokens.labels >= 0


def reply_mean(log_prob: Tensor, tokens: Tokens) -> Tensor:
    """Mean log-probability of the reply's tokens, (B, L) to (B,)."""
    return mean_log_prob(log_prob, reply_mask(tokens))


def _groups(weights: Sequence[nn.Parameter], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    trained = [value for value in weights if value.requires_grad]
    wide = [value for value in trained if value.ndim > 1]
    narrow = [value for value in trained if value.ndim <= 1]
    groups = [
        {"params": wide, "lr": lr, "weight_decay": weight_decay},
        {"params": narrow, "lr": lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _show(parts: LossParts) -> str:
    return ", ".join(f"{name} {value.item():.4g}" for name, value in parts.parts.items())
