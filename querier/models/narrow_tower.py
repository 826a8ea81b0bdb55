"""A second, narrow tower inside a causal decoder: attention shared, a small MLP in the place of each large one (QAR).

A decoder with a tower still reads B rows and gives B rows. In between its layers carry 2B, [general; specific]. Both
towers are equal until the first MLP, so the first attention runs once, on B rows; from there on attention, norms and
the cache of keys and values see 2B rows like any others. The last norm gives one fused state a row, so that neither
the output layer nor whoever calls the decoder need know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from querier.errors import InputError
from querier.models.decoder import Decoder

PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}  # of a layer, no more and no fewer
BY_ROW = ("attention_mask", "position_ids", "position_embeddings")  # what a layer is given for each row
HALF = 0.5  # share of the specific tower in a plain average


class NarrowTower(nn.Module):
    """The specific tower and how it is fused with the general one, which is the decoder itself.

    Fused is `general + strength · share · (specific − general)`, after the last norm, of which each tower has its own.

    Args:
        decoder: A causal decoder with layers as Llama's and Qwen's; it is read here and changed by `attach` alone.
        inner: Width of the narrow MLPs.
        averaged: Whether the share is one half for good; else it is learned for each of W numbers and starts at 0.

    Attributes:
        strength: Of the specific tower, 1 as trained.

    Raises:
        InputError: Where the decoder's layers are of another make.
    """

    def __init__(self, decoder: Decoder, inner: int, averaged: bool) -> None:
        super().__init__()
        layers, norm = _find_trunk(decoder)
        width = decoder.geometry.width
        _check_mlps(decoder, layers)
        self.mlps = nn.ModuleList(NarrowMlp(width, inner) for _ in decoder.layers)
        self.norm = nn.RMSNorm(width, eps=float(norm.variance_epsilon))
        if averaged:
            self.share: float | nn.Parameter = HALF
        else:
            self.share = nn.Parameter(torch.zeros(width))
            with torch.no_grad():
                self.norm.weight.copy_(norm.weight)
        self.strength = 1.0
        self._undo: list[Callable[[], None]] = []
        self._doubled: dict[int, tuple[Tensor, Tensor]] = {}  # what all layers are given, doubled once
        self._listens = False
        self._heard: Tensor | None = None

    def attach(self, decoder: Decoder) -> None:
        """Let the decoder run with this tower.

        Raises:
            RuntimeError: It does already.
        """
        if self._undo:
            raise RuntimeError("the tower is attached already; detach it first")
        layers, norm = _find_trunk(decoder)
        first, *others = layers
        mlps: Iterator[Any] = iter(self.mlps)
        self._undo = [
            _around(first.mlp, partial(_split, next(mlps))),
            first.register_forward_hook(_join).remove,
            *(_around(layer.mlp, partial(_each_half, narrow)) for layer, narrow in zip(others, mlps, strict=True)),
            *(layer.register_forward_pre_hook(self._double, with_kwargs=True).remove for layer in others),
            _around(norm, self._fuse),
        ]

    def detach(self) -> None:
        """Leave the decoder as it was before `attach`."""
        for undo in self._undo:
            undo()
        self._undo = []

    def listen(self) -> None:
        """Keep the specific tower's last states of the decoder's next pass for `heard`."""
        self._listens, self._heard = True, None

    def heard(self) -> Tensor:
        """The states (B, L, W) of the last layer, before the norm, of the pass after `listen`; given out once.

        Raises:
            RuntimeError: No such pass has run.
        """
        states, self._heard = self._heard, None
        if states is None:
            raise RuntimeError("the decoder has not run since `listen`, or the tower is not attached to it")
        return states

    def _fuse(self, norm: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
        """Both towers' last states (2B, L, W) as one normed state a row, (B, L, W)."""
        self._doubled.clear()
        general, specific = states.chunk(2)
        if self._listens:
            self._listens, self._heard = False, specific
        said = norm(general)
        personal = self.norm(specific.to(self.norm.weight.dtype))
        fused: Tensor = said + self.strength * self.share * (personal - said)
        return fused.to(said.dtype)

    def _double(self, layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """A layer's arguments with what stands for each of B rows once for each of 2B."""
        rows = len(given[0]) // 2
        return given, {name: self._twice(value, rows) if name in BY_ROW else value for name, value in named.items()}

    def _twice(self, value: Any, rows: int) -> Any:
        if isinstance(value, tuple):
            return tuple(self._twice(part, rows) for part in value)
        if not isinstance(value, Tensor) or len(value) != rows:  # nothing, or one row that stands for all
            return value
        known = self._doubled.get(id(value))
        if known is None or known[0] is not value:
            known = self._doubled[id(value)] = (value, torch.cat([value, value]))
        return known[1]


class NarrowMlp(nn.Module):
    """A gated MLP (SiLU), (..., W) to (..., W), in the data type of its own weights inside.

    Args:
        width: W.
        inner: Its width inside.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """What is added to a state, from the state after its norm."""
        wide = states.to(self.gate.weight.dtype)
        added: Tensor = self.down(functional.silu(self.gate(wide)) * self.up(wide))
        return added.to(states.dtype)


def _split(narrow: NarrowMlp, mlp: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """The first MLPs: one state a row becomes two, (B, L, W) to (2, B, L, W), to which the layer adds the state."""
    return torch.stack([mlp(states), narrow(states)])


def _join(layer: nn.Module, given: Any, output: Tensor) -> Tensor:
    return output.flatten(0, 1)


def _each_half(narrow: NarrowMlp, mlp: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """The other MLPs: the large one reads the first half of the rows, the narrow one the second, (2B, L, W)."""
    general, specific = states.chunk(2)
    return torch.cat([mlp(general), narrow(specific)])


def _around(module: Any, wrap: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> Callable[[], None]:
    """Put `wrap(forward, states)` in the place of a module's forward; what comes back undoes it.

    The module stays where it is, so that no weight changes its name.
    """
    own = module.__dict__.get("forward")  # of another wrapper; mostly the class's is used
    module.forward = partial(wrap, module.forward)

    def undo() -> None:
        del module.forward
        if own is not None:
            module.forward = own

    return undo


@torch.no_grad()
def _check_mlps(decoder: Decoder, layers: Any) -> None:
    """Refuse a decoder whose MLPs give more than what is added to a state."""
    state = next(decoder.bare.parameters()).new_zeros(1, 1, decoder.geometry.width)
    if not all(isinstance(layer.mlp(state), Tensor) for layer in layers):
        raise InputError(
            f"conditioning.model=qar needs MLPs that give states alone; those of {type(decoder.bare).__name__} give "
            "more, as some mixtures of experts do; use decoder=small, decoder=smollm2 or another one as Llama and Qwen"
        )


def _find_trunk(decoder: Decoder) -> tuple[Any, Any]:
    """A decoder's layers and its last norm.

    Raises:
        InputError: They are not as Llama's and Qwen's.
    """
    layers: Any = decoder.layers
    fit = not decoder.seq2seq and all({name for name, _ in layer.named_children()} == PARTS for layer in layers)
    trunks = [part for part in decoder.bare.modules() if getattr(part, "layers", None) is layers]
    norm = getattr(trunks[0], "norm", None) if trunks else None
    if not fit or not hasattr(norm, "variance_epsilon"):
        found = sorted({name for layer in layers for name, _ in layer.named_children()})
        raise InputError(
            "conditioning.model=qar needs a causal decoder with an RMS norm behind its layers and in each of them just "
            f"{', '.join(sorted(PARTS))}, as Llama and Qwen have; got {type(decoder.bare).__name__} with "
            f"{', '.join(found)}; use decoder=small, decoder=smollm2 or another of that make"
        )
    return layers, norm
