"""QAR: a narrow tower inside the decoder that learns to tell queriers apart by how they are answered.

"Personalized LLM for Generating Customized Responses to the Same Query from Different Users" (Querier-Aware Responder),
arXiv 2412.11736. The batch runs through the decoder twice, as general and as specific tower (`models/narrow_tower.py`);
the decoder learns who asks from the name in the prompt alone. In training the specific tower's last states, averaged
over the reply, go through two projection heads of the query's cluster (view 1 and 2). A memory keeps such vectors for
each querier in each cluster; their mean is a prototype, and a row must find its querier:

    ℓ_i = −½ Σ_v log [ exp(cos(p_v,i, m_v′,q(i))/T) / Σ_q exp(cos(p_v,i, m_v′,q)/T) ],  q in the cluster, v′ not v

As published (`conditioning.faithful=true`) five things change results and are kept: the heads are never trained; a
querier who has not been seen in the cluster competes as a constant vector; the memory is not normalised and takes a
dialogue anew at each visit, stale features included; both towers are averaged one to one from the first step on, which
damages a pretrained decoder; and a loss above 10 counts as 10 and teaches nothing. Mended (default) the heads train;
who was not seen is no candidate, and a row whose querier has no prototype or no rival has no term; a memory of unit
vectors holds each dialogue once, as last seen; a learned share of the specific tower starts at 0, so that the first
step is the bare decoder's.

What differs from the release in both: the memory holds what was seen instead of a full table of clusters × queriers ×
`qar.memory`, so that who was never seen in any cluster does not compete; the reply alone is averaged over, not the
responder's earlier turns too; both views still come from one vector, as published. Several processes hold one memory.
It lies in the checkpoints of training, not in a finished model, which does not read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from querier.config import Config
from querier.distributed import gather_rows, sum_over_processes
from querier.losses import Sum
from querier.models.conditioner import Conditioner, Outputs, Step
from querier.models.decoder import Decoder
from querier.models.narrow_tower import NarrowTower
from querier.types import Batch

HIGHEST = 10.0  # loss that counts, as published
FIRST_SIZE = 64  # rows that a memory makes room for
SHORTEST = 1e-12  # length that a vector is divided by, as `functional.normalize` does


class QuerierAwareResponder(Conditioner):
    """The narrow tower, its projection heads and the memory of prototypes.

    Args:
        config: Reads `qar`, `conditioning` and `loss.temperature`.
        clusters: C.
        decoder: Which the tower is made for.

    Raises:
        InputError: Where the decoder is not as Llama's and Qwen's.
    """

    def __init__(self, config: Config, clusters: int, decoder: Decoder) -> None:
        super().__init__()
        width, size = decoder.geometry.width, config.qar.projected
        self.faithful = config.conditioning.faithful
        self.temperature = config.loss.temperature
        self.weights = {"prototypes": config.qar.weight}
        self.tower = NarrowTower(decoder, config.qar.inner, averaged=self.faithful)
        self.heads: Tensor
        if config.qar.weight:  # weights that no loss reads would stop several processes from training together
            self.projection_norm = nn.RMSNorm(width)
            heads = torch.empty(clusters, 2, size, width).uniform_(-(width**-0.5), width**-0.5)
            if self.faithful:
                self.register_buffer("heads", heads)
            else:
                self.heads = nn.Parameter(heads)
        self.memory = PrototypeMemory(size, config.qar.memory, renews=not self.faithful)

    def attach(self, decoder: Decoder) -> None:
        """Let the decoder run with the narrow tower."""
        self.tower.attach(decoder)

    def detach(self) -> None:
        """The decoder is bit-identical to what it was."""
        self.tower.detach()

    def condition(self, batch: Batch, strength: float = 1.0) -> None:
        """Nothing: the tower works inside the decoder; `strength` 0 leaves the general tower alone.

        The name in the prompt is not taken back by it: both towers read it.
        """
        self.tower.strength = strength

    def training_step(self, batch: Batch) -> Step:
        """Nothing for the decoder to read; the tower's states of its next pass are kept for the loss."""
        self.tower.strength = 1.0
        if self.weights["prototypes"]:
            self.tower.listen()
        return Step(None)

    def auxiliary_losses(self, batch: Batch, outputs: Outputs) -> dict[str, Sum]:
        """The contrast of queriers; afterwards the memory takes the batch of all processes."""
        if not self.weights["prototypes"]:
            return {}
        views = self.project(reply_mean(self.tower.heard(), batch.tokens.labels >= 0), batch.cluster)
        numbers = torch.stack([batch.cluster, batch.querier, batch.rows], dim=1)
        seen: list[list[int]] = gather_rows(numbers).tolist()
        loss = self.contrast(views, batch.cluster, batch.querier, seen)
        self.memory.write(seen, gather_rows(views.detach()))
        return {"prototypes": loss}

    def project(self, pooled: Tensor, cluster: Tensor) -> Tensor:
        """Both views of the specific tower's means, (B, W) and (B,) to (B, 2, P); of unit length unless faithful."""
        normed = self.projection_norm(pooled.to(self.heads.dtype))
        # All clusters' heads in one product: cheaper than a copy of the heads for each row.
        found = functional.linear(normed, self.heads.flatten(0, 2)).view(len(normed), *self.heads.shape[:3])
        views = found[torch.arange(len(found), device=found.device), cluster].float()
        return views if self.faithful else functional.normalize(views, dim=-1)

    def contrast(self, views: Tensor, cluster: Tensor, querier: Tensor, seen: Sequence[Sequence[int]]) -> Sum:
        """The loss of views (B, 2, P) against the memory; `seen` are cluster, querier and row of all processes."""
        sums, its_cluster, its_querier = self.memory.prototypes({one[0] for one in seen}, views.device)
        candidate = cluster[:, None] == its_cluster
        own = candidate & (querier[:, None] == its_querier)
        if not self.faithful:
            counted = own.any(1) & (candidate.sum(1) > 1)
            terms = prototype_terms(views, sums, own, candidate, self.temperature)
            return Sum(torch.where(counted, terms, 0.0).sum(), counted.sum())
        known = len(self.memory.queriers | {one[1] for one in seen})
        terms = prototype_terms(views, sums, own, candidate, self.temperature, known - candidate.sum(1))
        count = torch.tensor(len(terms), device=terms.device)
        mean = sum_over_processes(terms.sum()) / sum_over_processes(count)
        return Sum(torch.where(mean > HIGHEST, HIGHEST * count, terms.sum()), count)


def reply_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of the states (B, L, W) where the mask (B, L) is true, (B, W)."""
    weights = mask.to(states.dtype) / mask.sum(1, keepdim=True).clamp(min=1)
    return (weights[:, None] @ states)[:, 0]


def prototype_terms(
    views: Tensor,
    prototypes: Tensor,
    own: Tensor,
    candidate: Tensor,
    temperature: float,
    absent: Tensor | None = None,
) -> Tensor:
    """ℓ_i of each row, averaged over both directions, (B,); finite, but without meaning where no prototype is its own.

    Args:
        views: Vectors of the rows, (B, 2, P); scale does not matter.
        prototypes: Vectors of S pairs of cluster and querier, (S, 2, P); scale does not matter.
        own: True at the prototype of the row's own querier, (B, S) bool.
        candidate: True at the prototypes of the row's cluster, (B, S) bool.
        temperature: T > 0.
        absent: Queriers without a prototype in the row's cluster, (B,) int64, each of whom counts as the constant
            vector; a row whose own querier is one of them must find that. None where they do not compete.
    """
    prototypes = prototypes.to(views.dtype)
    lowest = torch.finfo(views.dtype).min  # finite: a row without a candidate has a finite value and no gradient
    with torch.autocast(views.device.type, enabled=False):
        sample = functional.normalize(views, dim=-1).flip(1)  # at v what is compared with the prototypes' view v
        length = torch.linalg.vector_norm(prototypes, dim=-1).clamp(min=SHORTEST)  # (S, 2); no copy of so many vectors
        logits = torch.einsum("bvp,svp->bvs", sample, prototypes) / (temperature * length.T)
        nobody = sample.sum(-1) / sample.shape[-1] ** 0.5 / temperature  # cosine to a vector of equal numbers, (B, 2)
        said = torch.where(own[:, None], logits, 0.0).sum(-1)
        if absent is None:
            crowd = torch.full_like(nobody, lowest)
        else:
            said = torch.where(own.any(1, keepdim=True), said, nobody)
            shared = absent.clamp(min=1).to(views.dtype).log()[:, None]  # as many equal classes as there are of them
            crowd = torch.where(absent[:, None] > 0, nobody + shared, lowest)
        rivals = torch.cat([logits.masked_fill(~candidate[:, None], lowest), crowd[..., None]], dim=-1)
        return (rivals.logsumexp(-1) - said).mean(-1)


class PrototypeMemory(nn.Module):
    """Vectors of what was seen, by pair of cluster and querier, and their sum: as a direction, the pair's prototype.

    It grows with the dialogues seen and with nothing else; a pair holds `limit` at most, then its oldest give way. It
    moves as torch's extra state, as its size changes and several processes have no need to copy it to each other.

    Args:
        size: P.
        limit: Vectors of one pair at most.
        renews: Whether a dialogue that is seen again takes the place of what is held of it; else it is one more.

    Attributes:
        queriers: Who was seen.
    """

    def __init__(self, size: int, limit: int, renews: bool) -> None:
        super().__init__()
        self.limit, self.renews = limit, renews
        self._sums, self._vectors = torch.zeros(0, 2, size), torch.zeros(0, 2, size)  # with room to grow
        self._clear()

    def _clear(self) -> None:
        self.queriers: set[int] = set()
        self._pairs: dict[tuple[int, int], int] = {}  # (cluster, querier) -> its number
        self._in_cluster: dict[int, tuple[list[int], list[int]]] = {}  # pairs and their queriers
        self._rings: list[list[int]] = []  # of a pair the entries, in the order in which they were first filled
        self._placed: list[int] = []  # of a pair how many entries were ever filled
        self._owners: list[tuple[int, int]] = []  # of an entry pair and dialogue
        self._of_dialogue: dict[int, int] = {}  # its entry, where dialogues are renewed

    def __len__(self) -> int:
        """Vectors that are held."""
        return len(self._owners)

    def prototypes(self, clusters: set[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Prototypes of all pairs in some clusters.

        Returns:
            Sums of their vectors (S, 2, P), clusters (S,) and queriers (S,).
        """
        found = {cluster: self._in_cluster[cluster] for cluster in sorted(clusters) if cluster in self._in_cluster}
        pairs = [pair for numbers, _ in found.values() for pair in numbers]
        querier = [one for _, queriers in found.values() for one in queriers]
        lengths = torch.tensor([len(numbers) for numbers, _ in found.values()], dtype=torch.int64)
        cluster = torch.tensor(list(found), dtype=torch.int64).repeat_interleave(lengths)
        self._sums = self._sums.to(device)
        chosen = torch.tensor(pairs, dtype=torch.int64, device=device)
        return self._sums[chosen], cluster.to(device), torch.tensor(querier, dtype=torch.int64, device=device)

    def write(self, seen: Sequence[Sequence[int]], vectors: Tensor) -> None:
        """Take vectors (G, 2, P) of dialogues, each with its cluster, querier and row."""
        filled = {self._entry(cluster, querier, row): place for place, (cluster, querier, row) in enumerate(seen)}
        device = vectors.device
        self._vectors = _with_room(self._vectors.to(device), len(self._owners))
        self._sums = _with_room(self._sums.to(device), len(self._rings))
        entries = torch.tensor(list(filled), dtype=torch.int64, device=device)
        pairs = torch.tensor([self._owners[entry][0] for entry in filled], dtype=torch.int64, device=device)
        new = vectors[torch.tensor(list(filled.values()), dtype=torch.int64, device=device)].float()
        self._sums.index_add_(0, pairs, new - self._vectors[entries])  # an entry without a vector yet holds zeros
        self._vectors[entries] = new

    def _entry(self, cluster: int, querier: int, row: int) -> int:
        """The place for a dialogue's vector: its own, a new one, or that of the pair's oldest."""
        if self.renews and row in self._of_dialogue:
            return self._of_dialogue[row]
        pair = self._pairs.get((cluster, querier))
        if pair is None:
            pair = self._add_pair(cluster, querier)
        ring = self._rings[pair]
        if len(ring) < self.limit:
            entry = len(self._owners)
            ring.append(entry)
            self._owners.append((pair, row))
        else:
            entry = ring[self._placed[pair] % self.limit]
            self._of_dialogue.pop(self._owners[entry][1], None)
            self._owners[entry] = (pair, row)
        self._placed[pair] += 1
        if self.renews:
            self._of_dialogue[row] = entry
        return entry

    def _add_pair(self, cluster: int, querier: int) -> int:
        pair = self._pairs[cluster, querier] = len(self._rings)
        numbers, queriers = self._in_cluster.setdefault(cluster, ([], []))
        numbers.append(pair)
        queriers.append(querier)
        self._rings.append([])
        self._placed.append(0)
        self.queriers.add(querier)
        return pair

    def get_extra_state(self) -> dict[str, Tensor]:
        """All that is held, without the room to grow."""
        return {
            "pairs": torch.tensor(list(self._pairs), dtype=torch.int64).reshape(-1, 2),
            "placed": torch.tensor(self._placed, dtype=torch.int64),
            "owners": torch.tensor(self._owners, dtype=torch.int64).reshape(-1, 2),
            "sums": self._sums[: len(self._rings)].clone(),
            "vectors": self._vectors[: len(self._owners)].clone(),
        }

    def set_extra_state(self, state: Any) -> None:
        """Hold what `get_extra_state` gave, and nothing else."""
        self._clear()
        for cluster, querier in state["pairs"].tolist():
            self._add_pair(cluster, querier)
        self._placed = state["placed"].tolist()
        for entry, (pair, row) in enumerate(state["owners"].tolist()):
            self._rings[pair].append(entry)
            self._owners.append((pair, row))
            if self.renews:
                self._of_dialogue[row] = entry
        self._sums, self._vectors = state["sums"].clone(), state["vectors"].clone()


def _with_room(rows: Tensor, needed: int) -> Tensor:
    """The rows, followed by zeros where fewer than `needed` stand; twice as many each time."""
    if needed <= len(rows):
        return rows
    return torch.cat([rows, rows.new_zeros(max(FIRST_SIZE, 2 * needed) - len(rows), *rows.shape[1:])])
