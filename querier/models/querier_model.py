"""The conditioner of the method `querier`: two towers, shrinkage, fusion, and a head that speaks to the decoder.

No parameter belongs to one querier, so that somebody who came today needs no training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from querier.choices import Kind, Train
from querier.config import Config
from querier.losses import Sum, general_loss, specific_loss
from querier.models.conditioner import Conditioner, Outputs, Step
from querier.models.conditioning import build_head
from querier.models.expectation import Expectation
from querier.models.fusion import build_fusion
from querier.models.geometry import Geometry
from querier.models.heads import ViewHeads
from querier.models.query_encoder import QueryEncoder
from querier.models.towers import ItemEncoder, PlainItemEncoder, Shrinkage, Tower
from querier.types import Batch, Conditioning, Contrastive, Echo, Items


class QuerierModel(Conditioner):
    """General and querier-specific encoder, fused; the towers stand in `towers.py`.

    Args:
        config: The run's configuration; reads `towers`, `conditioning`, `loss`, `encoder` and `seed`.
        clusters: C.
        size: E.
        geometry: Sizes of the decoder.
        embedding_rms: RMS of the decoder's input embeddings, which the soft prompt matches.
    """

    def __init__(self, config: Config, clusters: int, size: int, geometry: Geometry, embedding_rms: float) -> None:
        super().__init__()
        towers = config.towers
        self.loss = config.loss
        self.weights = {name: getattr(self.loss, name) for name in ("specific", "general", "swap", "echo")}
        if config.encoder.train is not Train.frozen:
            self.encoder = QueryEncoder(config.encoder, config.seed)
        self.items = ItemEncoder(clusters, size, towers)
        self.specific = Tower(size, towers)
        self.shrinkage = Shrinkage(towers)
        if self.loss.specific:  # weights that no loss reads would stop several processes from training together
            self.specific_heads = ViewHeads(towers.width, self.loss.temperature)
        self.has_general = towers.general
        if towers.general:
            self.pool_items = PlainItemEncoder(size, towers)
            self.general = Tower(size, towers)
            if self.loss.general:
                self.general_heads = ViewHeads(towers.width, self.loss.temperature)
            self.fusion = build_fusion(towers.fusion, towers.width, towers.heads)
        self.head = build_head(
            config.conditioning.kind,
            geometry,
            embedding_rms,
            towers.width,
            towers.virtual_tokens,
            config.conditioning.rank,
            config.conditioning.gain,
        )
        self.kind: Kind = config.conditioning.kind
        self.places = towers.virtual_tokens if self.kind in (Kind.soft_prompt, Kind.prefix) else 0
        self.expectation: Expectation | None = None
        if config.conditioning.expects:
            self.expectation = Expectation(clusters, geometry, config.conditioning.gain)

    def fit(
        self, queries: np.ndarray, replies: np.ndarray, style: np.ndarray, cluster: np.ndarray, querier: np.ndarray
    ) -> None:
        """Take the cluster means and directions of the history items from the pool, and how far styles are personal."""
        self.items.centre_in.fit(queries, cluster)
        self.items.centre_out.fit(replies, cluster)
        if self.items.stylometry:
            self.items.centre_style.fit(style, cluster)
        if self.expectation is not None:
            self.expectation.fit(style, cluster, querier)

    def read_history(self, history: Items, query: Tensor | None) -> tuple[Tensor, Tensor]:
        """Z_s before shrinkage (B, T, D) and its attention (B, T, 1 + H); `query` (B, E) or None for query-free."""
        vectors, weights = self.specific(self.items(history), history.mask[:, None], query)
        return vectors[:, 0], weights[:, 0]

    def embed(self, history: Items) -> Tensor:
        """One query-free vector of each querier, the mean over T of the shrunk Z_s, (B, D)."""
        vectors, _ = self.read_history(history, None)
        embedded: Tensor = self.shrinkage(vectors, history.mask.sum(1)).mean(1)
        return embedded

    def condition(self, batch: Batch, strength: float = 1.0) -> Conditioning:
        """What the decoder reads for the batch's queriers; `strength` 0 equals no history, 1 is as trained."""
        batch = self._with_queries(batch)
        return self._speak(batch.query, batch.history, self._read_pool(batch), strength)

    def represent(self, batch: Batch) -> dict[str, Tensor]:
        """What the two towers make of the batch, before shrinkage and fusion, averaged over T: each (B, D)."""
        batch = self._with_queries(batch)
        found = {"specific": self.read_history(batch.history, batch.query)[0].mean(1)}
        general = self._read_pool(batch)
        return found if general is None else {**found, "general": general[:, 0].mean(1)}

    def training_step(self, batch: Batch) -> Step:
        """Everything that one training step needs of the towers, each item's keys and values computed once."""
        batch = self._with_queries(batch)
        pairs = batch.contrastive
        general = self._read_pool(batch, pairs)
        encoded = self.items(batch.history)
        masks = batch.history.mask[None] if pairs is None else torch.cat([batch.history.mask[None], pairs.views])
        specific, weights = self.specific(encoded, masks.transpose(0, 1), batch.query)
        conditioning = self._fuse(specific[:, 0], batch.history, general, 1.0, weights[:, 0], batch.echo)
        swapped = None
        if batch.swap is not None:
            index = batch.swap.index
            chosen = None if general is None else general[index]
            swapped = self._speak(batch.query[index], batch.swap.history, chosen, 1.0)
        kept = {"query": batch.query, "specific": specific[:, 1:]}
        if general is not None:
            kept["general"] = general[:, 1:]
        if pairs is not None:
            kept["own_query"] = pairs.own_query
        return Step(conditioning, swapped, kept)

    def auxiliary_losses(self, batch: Batch, outputs: Outputs) -> dict[str, Sum]:
        """The two contrastive losses, as sums by name."""
        pairs, kept = batch.contrastive, outputs.kept
        sums: dict[str, Sum] = {}
        if pairs is None:
            return sums
        if self.loss.specific:
            sums["specific"] = self._specific_loss(batch, pairs, kept)
        if self.loss.general and "general" in kept:
            sums["general"] = self._general_loss(batch, pairs, kept)
        return sums

    def _with_queries(self, batch: Batch) -> Batch:
        """The batch with its queries as a trained encoder reads them, all texts in one pass; else as it is."""
        if self.encoder is None:
            return batch
        pairs, count = batch.contrastive, len(batch)
        vectors = self.encoder([*batch.asked, *(pairs.own_asked if pairs is not None else ())])
        if pairs is not None and pairs.own_asked:
            pairs = replace(pairs, own_query=vectors[count:].view_as(pairs.own_query))
        return replace(batch, query=vectors[:count], contrastive=pairs)

    def _speak(self, query: Tensor, history: Items, general: Tensor | None, strength: float) -> Conditioning:
        vectors, weights = self.read_history(history, query)
        return self._fuse(vectors, history, general, strength, weights)

    def _fuse(
        self,
        specific: Tensor,
        history: Items,
        general: Tensor | None,
        strength: float,
        weights: Tensor,
        echo: Echo | None = None,
    ) -> Conditioning:
        seen = history.mask.sum(1)
        if echo is not None:
            seen = seen.index_fill(0, echo.index, 0)
        fused = self.shrinkage(specific, seen, strength)
        explain = {"attention": weights.detach()}
        if general is not None:
            fused, gate = self.fusion(fused, general[:, 0])
            if gate is not None:
                explain["gate"] = gate.detach()
        conditioning: Conditioning = self.head(fused)
        if self.expectation is not None and conditioning.residual is not None:
            told = strength * self.expectation.guess(history)
            if echo is not None:
                told = told.index_put((echo.index,), self.expectation.echo(echo))
            shifts = zip(conditioning.residual, self.expectation(told), strict=True)
            conditioning.residual = [of_towers + of_expectation for of_towers, of_expectation in shifts]
        conditioning.explain = explain
        return conditioning

    def _read_pool(self, batch: Batch, pairs: Contrastive | None = None) -> Tensor | None:
        """Z_g of the batch, and of its two views where there are pairs, (B, 1 or 3, T, D)."""
        if not self.has_general:
            return None
        masks = batch.neighbours.mask[None]
        if pairs is not None and self.loss.general:
            masks = torch.cat([masks, pairs.neighbour_views])
        return self._read_neighbours(batch.query, batch.neighbours, masks.transpose(0, 1))

    def _read_neighbours(self, query: Tensor, neighbours: Items, masks: Tensor) -> Tensor:
        """Z_g of queries (B, E) under masks (B, R, N) of their neighbours (B, N), (B, R, T, D)."""
        items = torch.cat([self.pool_items.asked(query)[:, None], self.pool_items(neighbours)], 1)
        seen = torch.cat([masks.new_ones(*masks.shape[:2], 1), masks], 2)  # every reading sees the current turn
        vectors: Tensor = self.general(items, seen, query)[0]
        return vectors

    def _specific_loss(self, batch: Batch, pairs: Contrastive, kept: Mapping[str, Tensor]) -> Sum:
        rows, users = pairs.hard_mask.shape
        hard, views = _flat(pairs.hard), kept["specific"]
        query = kept["query"][:, None].expand(-1, users, -1).flatten(0, 1)
        read, _ = self.specific(self.items(hard), hard.mask[:, None], query)  # the same query, another history
        others = read[:, 0].unflatten(0, (rows, users))
        heads = self.specific_heads
        return specific_loss(
            heads(views[:, 0], 0),
            heads(views[:, 1], 1),
            heads(others, 0),
            heads(others, 1),
            querier=batch.querier,
            scene=batch.scene,
            cluster=batch.cluster if self.loss.within_clusters else torch.zeros_like(batch.cluster),
            valid=pairs.views.any(-1).all(0),
            hard_mask=pairs.hard_mask & pairs.hard.mask.any(-1),
            temperature=heads.temperature(),
            own_view=self.loss.second_view,
        )

    def _general_loss(self, batch: Batch, pairs: Contrastive, kept: Mapping[str, Tensor]) -> Sum:
        rows, queries = pairs.own_mask.shape
        own, views = _flat(pairs.own_neighbours), kept["general"]
        read = self._read_neighbours(kept["own_query"].flatten(0, 1), own, own.mask[:, None])
        others = read[:, 0].reshape(rows, queries, *read.shape[2:])
        heads = self.general_heads
        return general_loss(
            heads(views[:, 0], 0),
            heads(views[:, 1], 1),
            heads(others, 0),
            heads(others, 1),
            mutual=pairs.mutual,
            near=pairs.near,
            cluster=batch.cluster if self.loss.within_clusters else torch.zeros_like(batch.cluster),
            valid=pairs.neighbour_views.any(-1).all(0),
            hard_mask=pairs.own_mask,
            temperature=heads.temperature(),
        )


def _flat(items: Items) -> Items:
    """Items (B, K, H) as (B K, H)."""
    return Items(**{name: value.flatten(0, 1) for name, value in vars(items).items()})
