"""DEP: what a querier was answered, and how that differs from what others were, as vectors beside the items themselves.

Qiu et al., "Latent Inter-User Difference Modeling for LLM Personalization", arXiv 2507.20849. The prompt shows up to
eight items of the own history. Of item j the decoder also reads two vectors: its output o_j, and the difference
d_j = Σ_k w_k (o_j − p_jk) to what the contrast users k of that item were answered, weighted by the distance of the
queriers' mean vectors. One sparse auto-encoder turns both kinds into codes of 512, two small networks lift the codes to
the decoder's width. The decoder is frozen; the loss is L_lm + 100 (L_rebuilt + 10⁻³ L_sparse).

As published (`conditioning.faithful=true`) four things change results and are kept:

- Weights: the distances are divided by their sum and then go through a softmax, so that they are nearly equal.
- Alignment: vectors are made of the newest items that have contrast users, the text shows the newest items, so that a
  vector may stand beside another item than its own; with fewer than eight of them outputs and differences mix.
- Auto-encoder: GELU makes the code, though the KL divergence to 0.05 takes means of activations for shares in (0, 1),
  and does so for one querier's vectors at a time; a GELU at the end keeps it from rebuilding what is below −0.17.
- A place without a vector keeps a random row that nothing trains (the release ends with an error where rows lack).

Mended (default): a softmax of distances over their mean with a learned factor; vectors 2j and 2j + 1 stand beside item
j and nowhere else, an item without contrast users has no place for a difference, a querier without items has the bare
prompt; the code is a sigmoid's, its means are over all vectors of a batch, and what rebuilds is linear; each kind has a
learned row that its vectors are added to, and the vectors have the RMS of the decoder's own embeddings.

What differs from the paper in both: contrast users are those that the preparation chose for the item's own dialogue,
strictly earlier than it; mean vectors hold no more items than a history and nothing later than the query; the frozen
encoder is the project's; the KL is summed over the code. The paper's places are named `[HIS_TOKEN_i]` and
`[DIFF_TOKEN_i]`; here no text names them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from querier.config import Config
from querier.distributed import gather_rows
from querier.losses import Sum
from querier.models.conditioner import Conditioner, Outputs, Step
from querier.models.conditioning import scaled
from querier.models.geometry import Geometry
from querier.types import Batch, ComparedItems, Conditioning, Items

CODE, SHARE = 512, 0.05  # of the released code: size of the sparse code, and the mean activation that is wanted
SHARPNESS = 10.0  # what mended weights start from: a distance one tenth above the mean counts e times as much
SPREAD = 2.0  # standard deviation that the mended encoder's sums start with
UNTRAINED = 0.02  # standard deviation of rows that are added to an embedding matrix
EDGE = 1e-6  # means of activations are kept this far inside (0, 1), where the KL divergence is finite


class DifferencePrompt(Conditioner):
    """Two vectors beside each item of the own history that the prompt shows.

    Args:
        config: Reads `conditioning`, `prompt` and `loss`.
        size: E.
        geometry: Sizes of the decoder.
        embedding_rms: RMS of the decoder's input embeddings.
    """

    def __init__(self, config: Config, size: int, geometry: Geometry, embedding_rms: float) -> None:
        super().__init__()
        loss, width = config.loss, geometry.width
        self.weights = {"rebuilt": loss.autoencoder, "sparse": loss.autoencoder * loss.sparsity}
        self.faithful = config.conditioning.faithful
        self.scales = not self.faithful
        self.slots = config.prompt.items
        self.autoencoder = SparseAutoEncoder(size, self.faithful)
        self.align = nn.ModuleList(_two_layers(CODE, width) for _ in range(2))  # of outputs, of differences
        if self.faithful:
            self.untrained: Tensor
            self.register_buffer("untrained", torch.randn(self.slots, 2, width) * UNTRAINED)
            return
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        self.rows = nn.Parameter(torch.randn(2, width))
        self.log_gain = nn.Parameter(torch.zeros(2))
        self.rms: Tensor
        self.register_buffer("rms", torch.tensor(embedding_rms))

    def condition(self, batch: Batch, strength: float = 1.0) -> Conditioning:
        """Vectors 2j and 2j + 1 for the places beside item j, (B, 2S, W); S is H, or as published `prompt.items`.

        `strength` weighs what the vectors say of the querier; the items' text stays. As published it is always 1.
        """
        vectors, stands = self.read(batch.history)
        return self._speak(self.autoencoder.encode(vectors), stands, strength)

    def training_step(self, batch: Batch) -> Step:
        """The same with what the losses of the auto-encoder need."""
        vectors, stands = self.read(batch.history)
        code = self.autoencoder.encode(vectors)
        kept = {"vectors": vectors, "stands": stands, "code": code, "rebuilt": self.autoencoder.decode(code)}
        return Step(self._speak(code, stands, 1.0), None, kept)

    def auxiliary_losses(self, batch: Batch, outputs: Outputs) -> dict[str, Sum]:
        """What the auto-encoder does not rebuild, and how far its code is from sparse."""
        vectors, stands, code, rebuilt = (outputs.kept[name] for name in ("vectors", "stands", "code", "rebuilt"))
        sparse = sparsity_by_row if self.faithful else sparsity
        return {"rebuilt": reconstruction(rebuilt, vectors, stands), "sparse": sparse(code, stands)}

    def read(self, history: Items) -> tuple[Tensor, Tensor]:
        """Output and difference of each item, (B, S, 2, E), and which of them there are, (B, S, 2) bool.

        Raises:
            ValueError: The history came without what contrast users were answered.
        """
        if not isinstance(history, ComparedItems):
            raise ValueError("method dep reads a history beside its contrast users; build it with Requests")
        difference, has = self.differences(history)
        if self.faithful:
            return _in_order(history.outputs, difference, has, self.slots)
        return torch.stack([history.outputs, difference], 2), torch.stack([history.mask, has], 2)

    def differences(self, history: ComparedItems) -> tuple[Tensor, Tensor]:
        """d_j of each item (B, H, E) and whether it has one, (B, H) bool; zero where it has none."""
        stands = history.stands & history.mask[..., None]
        has = stands.any(-1)
        weights = self.peer_weights(history.distance, stands)
        compared = (weights[..., None] * (history.outputs[:, :, None] - history.others)).sum(2)
        return torch.where(has[..., None], compared, 0.0), has

    def peer_weights(self, distance: Tensor, stands: Tensor) -> Tensor:
        """w_k over the contrast users of each item, (..., K); at first the farther ones weigh more.

        Args:
            distance: Of the queriers' mean vectors, (..., K).
            stands: True where a contrast user is, (..., K) bool; without any the weights are 0.
        """
        kept = torch.where(stands, distance, 0.0)
        total = kept.sum(-1, keepdim=True).clamp(min=EDGE)
        scores = kept / total
        if not self.faithful:  # over the mean
            scores = self.sharpness * scores * stands.sum(-1, keepdim=True)
        known = stands.any(-1, keepdim=True)
        return scores.masked_fill(~stands & known, float("-inf")).softmax(-1) * stands

    def _speak(self, code: Tensor, stands: Tensor, strength: float) -> Conditioning:
        if not self.faithful:
            code = (code - SHARE) / math.sqrt(SHARE * (1 - SHARE))  # else it would be nearly the same of every item
        lifted = torch.stack([lift(code[:, :, kind]) for kind, lift in enumerate(self.align)], 2)
        if self.faithful:
            tokens = torch.where(stands[..., None], lifted, self.untrained)
        else:
            said = self.rows + strength * scaled(lifted, torch.ones_like(self.rms))
            tokens = scaled(said, self.rms * self.log_gain.exp()[:, None])
        return Conditioning(marked=tokens.flatten(1, 2))


class SparseAutoEncoder(nn.Module):
    """E → a code of 512 → E.

    Args:
        size: E.
        faithful: GELU at both ends; else a sigmoid makes the code and what rebuilds is linear.
    """

    def __init__(self, size: int, faithful: bool) -> None:
        super().__init__()
        self.faithful = faithful
        self.into, self.back = nn.Linear(size, CODE), nn.Linear(CODE, size)
        if not faithful:  # unit vectors then spread the sums by SPREAD, and the mean activation starts near SHARE
            nn.init.normal_(self.into.weight, std=SPREAD)
            nn.init.constant_(self.into.bias, math.log(SHARE / (1 - SHARE)) * math.sqrt(1 + math.pi / 8 * SPREAD**2))

    def encode(self, vectors: Tensor) -> Tensor:
        """The code of vectors, (..., E) to (..., 512)."""
        sums = self.into(vectors)
        return functional.gelu(sums) if self.faithful else torch.sigmoid(sums)

    def decode(self, code: Tensor) -> Tensor:
        """What is rebuilt of codes, (..., 512) to (..., E)."""
        found: Tensor = self.back(code)
        return functional.gelu(found) if self.faithful else found


def reconstruction(rebuilt: Tensor, vectors: Tensor, stands: Tensor) -> Sum:
    """Smooth L1 between vectors and what was rebuilt of them, the mean over E.

    Args:
        rebuilt: (..., E).
        vectors: (..., E).
        stands: True where a vector counts, (...) bool.

    Returns:
        Sum over vectors.
    """
    gaps = functional.smooth_l1_loss(rebuilt, vectors, reduction="none").mean(-1)
    return Sum(torch.where(stands, gaps, 0.0).sum(), stands.sum())


def sparsity(code: Tensor, stands: Tensor) -> Sum:
    """KL(0.05 ‖ mean activation), summed over the code; the mean is over all vectors of all processes.

    Args:
        code: (..., 512).
        stands: True where a vector counts, (...) bool.

    Returns:
        One term on each process, all alike; none where no vector is.
    """
    counted = torch.where(stands[..., None], _wide(code), 0.0).flatten(0, -2).sum(0)
    count = gather_rows(stands.sum()[None]).sum()
    mean = gather_rows(counted[None]).sum(0) / count.clamp(min=1)
    return Sum(torch.where(count > 0, _kl(mean), 0.0), (count > 0).to(torch.int64))


def sparsity_by_row(code: Tensor, stands: Tensor) -> Sum:
    """The same as published: the mean is over the vectors of one row.

    Args:
        code: (B, ..., 512).
        stands: (B, ...) bool.

    Returns:
        Sum over rows with a vector.
    """
    code, stands = _wide(code).flatten(1, -2), stands.flatten(1)
    count = stands.sum(1)
    mean = torch.where(stands[..., None], code, 0.0).sum(1) / count.clamp(min=1)[:, None]
    return Sum(torch.where(count > 0, _kl(mean), 0.0).sum(), (count > 0).sum())


def _kl(mean: Tensor) -> Tensor:
    """KL divergence of shares (..., 512) from `SHARE`, summed over the last axis."""
    mean = mean.clamp(EDGE, 1 - EDGE)
    return (SHARE * torch.log(SHARE / mean) + (1 - SHARE) * torch.log((1 - SHARE) / (1 - mean))).sum(-1)


def _wide(code: Tensor) -> Tensor:
    return code.to(torch.promote_types(code.dtype, torch.float32))


def _in_order(outputs: Tensor, difference: Tensor, has: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """As published: outputs, then differences, of the newest items that have one; the first S of these are "outputs".

    Args:
        outputs: (B, H, E).
        difference: (B, H, E).
        has: (B, H) bool.
        slots: S.

    Returns:
        What stands at each place, (B, S, 2, E), and whether anything does, (B, S, 2) bool.
    """
    rows, _, size = outputs.shape
    order = has.to(torch.int64).argsort(dim=1, descending=True, stable=True)[:, :slots, None].expand(-1, -1, size)
    kinds = [vectors.gather(1, order) for vectors in (outputs, difference)]
    whole = torch.cat([functional.pad(kind, (0, 0, 0, slots - kind.shape[1])) for kind in kinds], 1)
    count = has.sum(1, keepdim=True).clamp(max=slots)
    place = torch.arange(2 * slots, device=has.device)[None]
    source = torch.where(place < count, place, slots + place - count).clamp(max=2 * slots - 1)
    stands = place < 2 * count
    found = torch.where(stands[..., None], whole.gather(1, source[..., None].expand(-1, -1, size)), 0.0)
    return found.view(rows, 2, slots, size).transpose(1, 2), stands.view(rows, 2, slots).transpose(1, 2)


def _two_layers(size: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, width), nn.GELU(), nn.Linear(width, width))
