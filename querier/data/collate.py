"""From requests to padded tensors: `collate` for reading, `TrainingBatches` for training with views and swaps.

A training batch depends on (seed, epoch, index) alone. Chance is drawn for the rows of all processes and then divided,
so that the batches of two processes are the two parts of the batch of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from querier.choices import Contrast, Train
from querier.config import Config
from querier.data.compared import Beside, with_others
from querier.data.counterparts import Counterparts
from querier.data.echoes import draw_echo, echoed
from querier.data.history import check_neighbours, check_no_leak
from querier.data.preparation import Prepared
from querier.data.requests import Past, Request, Requests
from querier.data.views import (
    choose,
    compact,
    draw_views,
    drop_history,
    history_halves,
    neighbour_halves,
    pad_rows,
    scene_places,
)
from querier.types import STYLE, Batch, Contrastive, Items, Rendered, Split, Swap, Tokens

ScoreTokens = Callable[[Sequence[Rendered]], Tokens]
"""Turns rendered dialogues into prompt and reply tokens."""

Key = tuple[int, int, int]
"""Seed, epoch and index of a batch."""

NEAR = 0.95  # cosine from which two queries count as the same
ROUNDING = 1e-3  # of cosines of fp16 vectors

TRIES = 8  # draws for each of the anchor's own other queries

# What a draw is for; part of its seed.
DROPOUT, NAME, VIEWS, NEIGHBOUR_VIEWS, USERS, OWN, SWAP, SWAP_ROWS, ECHO = range(9)


def collate(requests: Sequence[Request], tokens: Tokens, limit: int) -> Batch:
    """One batch of requests, padded to its longest history and at least one slot.

    Args:
        requests: B requests.
        tokens: Of the requests, (B, L).
        limit: H, history items at most.
    """
    return Batch(
        rows=_numbers([request.row for request in requests]),
        querier=_numbers([request.querier for request in requests]),
        scene=_numbers([request.scene for request in requests]),
        cluster=_numbers([request.cluster for request in requests]),
        query=torch.from_numpy(np.stack([request.query for request in requests]).astype(np.float32, copy=False)),
        history=pad([request.history for request in requests], limit),
        neighbours=pad([request.neighbours for request in requests]),
        tokens=tokens,
        asked=tuple(request.asked for request in requests),
    )


def pad(pasts: Sequence[Past], limit: int | None = None) -> Items:
    """Items (B, H), H being the longest of `pasts`, at most `limit` and at least 1."""
    lengths = [len(past) if limit is None else min(len(past), limit) for past in pasts]
    shape = (len(pasts), max([1, *lengths]))
    size = pasts[0].inputs.shape[-1]
    inputs, outputs = np.zeros((2, *shape, size), dtype=np.float32)
    style = np.zeros((*shape, STYLE), dtype=np.float32)
    cluster = np.zeros(shape, dtype=np.int64)
    same = np.zeros(shape, dtype=bool)
    for place, (past, length) in enumerate(zip(pasts, lengths, strict=True)):
        inputs[place, :length] = past.inputs[:length]
        outputs[place, :length] = past.outputs[:length]
        style[place, :length] = past.style[:length]
        cluster[place, :length] = past.cluster[:length]
        same[place, :length] = past.same_responder[:length]
    ranks = np.broadcast_to(np.arange(shape[1]), shape).copy()
    items = Items(
        inputs=torch.from_numpy(inputs),
        outputs=torch.from_numpy(outputs),
        style=torch.from_numpy(style),
        cluster=torch.from_numpy(cluster),
        rank=torch.from_numpy(ranks),
        same_responder=torch.from_numpy(same),
        mask=torch.from_numpy(ranks < np.array(lengths)[:, None]),
    )
    return with_others(items, [past.beside for past in pasts])


def gather_items(prepared: Prepared, rows: np.ndarray, responder: np.ndarray) -> Items:
    """Dialogues of the corpus as items.

    Args:
        prepared: Holds their vectors.
        rows: −1 where nothing stands, (..., H).
        responder: Who answers the dialogue that reads them, (...).
    """
    stands = rows >= 0
    known = np.where(stands, rows, 0)
    inputs, outputs, style = prepared.queries(known), prepared.replies(known), prepared.styles(known)
    for values in (inputs, outputs, style):
        values[~stands] = 0.0
    cluster = np.where(stands, prepared.cluster[known], 0).astype(np.int64)
    same = stands & (prepared.corpus.responder[known] == responder[..., None])
    ranks = np.broadcast_to(np.arange(rows.shape[-1]), rows.shape).copy()
    return Items(*(torch.from_numpy(array) for array in (inputs, outputs, style, cluster, ranks, same, stands)))


@dataclass(frozen=True)
class _Plan:
    """The rows of one batch: of all processes, and of this one with what it reads."""

    key: Key
    all_rows: np.ndarray  # (G,)
    part: slice
    rows: np.ndarray  # (B,)
    responder: np.ndarray  # (B,)
    history: np.ndarray  # (B, H), −1 pads
    neighbours: np.ndarray  # (B, N), −1 pads

    def draws(self, purpose: int, *shape: int) -> np.ndarray:
        """Uniform in [0, 1) for this process's rows, (B, ...)."""
        drawn = np.random.default_rng([*self.key, purpose]).random((len(self.all_rows), *shape))
        return drawn[self.part]


class TrainingBatches:
    """Builds the batches of a training run.

    Args:
        requests: Finds histories and neighbours, renders.
        config: The run's configuration.
        score: Tokens of prompts and replies.
        parts: Whether the method has a conditioner that contrastive and swap losses can train.
    """

    def __init__(self, requests: Requests, config: Config, score: ScoreTokens, parts: bool = True) -> None:
        self.requests = requests
        self.prepared = requests.prepared
        self.corpus = requests.corpus
        self.config = config
        self.score = score
        self.specific = parts and config.loss.specific > 0
        self.general = parts and config.loss.general > 0 and config.towers.general
        self.swap = parts and config.loss.swap > 0 and config.loss.swap_fraction > 0
        echoes = parts and config.conditioning.expects and config.loss.echo > 0
        self.echo_share = config.loss.echo_fraction if echoes else 0.0
        self.reads_queries = parts and config.encoder.train is not Train.frozen
        self.skipped = 0  # rows passed over by the swap loss
        self.counterparts = Counterparts(self.prepared, requests.histories, config)
        self._places = scene_places(self.corpus)
        self._names = np.unique(np.asarray(self.corpus.querier)[self.corpus.rows_in(Split.TRAIN)])

    def build(self, rows: np.ndarray, epoch: int, index: int, part: slice = slice(None)) -> Batch:
        """The batch of `rows`, or the part of it that one process reads.

        Args:
            rows: Training rows of the batch over all processes, (G,).
            epoch: From 0.
            index: Place of the batch in the epoch.
            part: Which of `rows` this process reads.
        """
        rows = np.asarray(rows, dtype=np.int64)
        key = (self.config.seed, epoch, index)
        plan = self._plan(rows, part, key)
        mine, prepared = plan.rows, self.prepared
        batch = Batch(
            rows=torch.from_numpy(mine),
            querier=torch.from_numpy(self.corpus.querier[mine].astype(np.int64)),
            scene=torch.from_numpy(self.corpus.scene[mine].astype(np.int64)),
            cluster=torch.from_numpy(prepared.cluster[mine].astype(np.int64)),
            query=torch.from_numpy(prepared.queries(mine)),
            history=with_others(gather_items(prepared, plan.history, plan.responder), self._beside(plan)),
            neighbours=gather_items(prepared, plan.neighbours, plan.responder),
            tokens=self.score(self._rendered(plan)),
            asked=self._asked(mine),
        )
        if self.specific or self.general:
            batch.contrastive = self._contrastive(plan, batch)
        if self.swap:
            batch.swap = self._swap(plan)
        if self.echo_share:
            batch.echo = draw_echo(prepared, (*key, ECHO), rows, part, self.echo_share)
        return batch

    def _plan(self, rows: np.ndarray, part: slice, key: Key) -> _Plan:
        """Whose rows are read, and by which of them; refuses what leaks."""
        mine = rows[part]
        neighbours = pad_rows([self.requests.neighbour_rows(int(row)) for row in mine])
        history = self._histories(rows, part, key)
        check_no_leak(self.corpus, mine, history, own=self.requests.own)
        check_neighbours(self.corpus, mine, neighbours)
        responder = np.asarray(self.corpus.responder[mine])
        return _Plan(key, rows, part, mine, responder, history, neighbours)

    def _histories(self, rows: np.ndarray, part: slice, key: Key) -> np.ndarray:
        """What rows read in this batch, some of it dropped on a share of them, (B, H), −1 pads."""
        limit = self.requests.limit
        found = pad_rows([self.requests.history_rows(int(row), key[1]) for row in rows[part]], limit)
        draws = np.random.default_rng([*key, DROPOUT]).random((len(rows), 2 + limit))[part]
        kept = drop_history(found, self.config.towers.history_dropout, draws)
        return kept[:, : max(1, int((kept >= 0).sum(1).max(initial=0)))]

    def _rendered(self, plan: _Plan) -> list[Rendered]:
        """The texts; on a share of the rows under another pool querier's name, so that a name alone says little."""
        share = self.config.prompt.name_noise
        names: list[str | None] = [None] * len(plan.rows)
        if share:
            draws = plan.draws(NAME, 2)
            others = self._names[(draws[:, 1] * len(self._names)).astype(np.int64)]
            names = [
                self.corpus.queriers[int(other)] if draw < share else None
                for draw, other in zip(draws[:, 0], others, strict=True)
            ]
        return [
            self.requests.rendered(int(row), history[history >= 0], name)
            for row, history, name in zip(plan.rows, plan.history, names, strict=True)
        ]

    def _beside(self, plan: _Plan) -> list[Beside | None]:
        """What contrast users of the history items were answered, for methods that compare."""
        return [
            self.requests.beside(int(row), history[history >= 0])
            for row, history in zip(plan.rows, plan.history, strict=True)
        ]

    def _contrastive(self, plan: _Plan, batch: Batch) -> Contrastive:
        """Views, hard negatives and pair masks of this process's rows, compared with the rows of all."""
        prepared = self.prepared
        views, neighbour_views = self._views(plan), self._neighbour_views(plan)
        hard = self._hard(plan, views.sum(-1).max(0))
        own = np.full((len(plan.rows), self.config.contrast.k), -1, dtype=np.int64)
        if self.general:
            own = self.counterparts.own_queries(plan.rows, plan.draws(OWN, TRIES * own.shape[1]))
        known = np.maximum(own, 0)
        own_query = prepared.queries(known)
        # A query that says the same is never a negative, whoever of the two asked it first.
        same = np.einsum("be,bke->bk", batch.query.numpy(), own_query) >= NEAR - ROUNDING
        mutual, near = self._pairs(plan.all_rows)
        hard_items = gather_items(prepared, hard, np.repeat(plan.responder[:, None], hard.shape[1], axis=1))
        return Contrastive(
            views=torch.from_numpy(views),
            neighbour_views=torch.from_numpy(neighbour_views),
            hard=hard_items,
            hard_mask=hard_items.mask.any(-1),
            own_query=torch.from_numpy(own_query),
            own_neighbours=self._own_neighbours(plan, own),
            own_mask=torch.from_numpy((own >= 0) & ~same),
            mutual=torch.from_numpy(mutual[plan.part]),
            near=torch.from_numpy(near[plan.part]),
            own_asked=self._asked(own.ravel()) if self.general else (),
        )

    def _asked(self, rows: np.ndarray) -> tuple[str, ...]:
        """Texts of the rows' queries where a sentence encoder is trained on them; empty where no row stands (−1)."""
        if not self.reads_queries:
            return ()
        return tuple(self.requests.asked(int(row)) if row >= 0 else "" for row in rows)

    def _views(self, plan: _Plan) -> np.ndarray:
        """Masks over the history slots, (2, B, H) bool; nothing of the batch's own dialogues."""
        items = np.maximum(plan.history, 0)
        usable = (plan.history >= 0) & ~np.isin(plan.history, plan.all_rows)
        half = history_halves(plan.key, self.corpus.querier[items].astype(np.int64), self._places[items])
        draws = plan.draws(VIEWS, 2, 1 + self.requests.limit)[:, :, : 1 + items.shape[1]].swapaxes(0, 1)
        return draw_views(usable, half, draws, self.config.loss.second_view)

    def _neighbour_views(self, plan: _Plan) -> np.ndarray:
        """Masks over the neighbour slots, (2, B, N) bool."""
        items = np.maximum(plan.neighbours, 0)
        usable = (plan.neighbours >= 0) & ~np.isin(plan.neighbours, plan.all_rows)
        half = neighbour_halves(plan.key, self.corpus.scene[items].astype(np.int64))
        width = 1 + max(1, self.config.towers.neighbours)
        draws = plan.draws(NEIGHBOUR_VIEWS, 2, width)[:, :, : 1 + items.shape[1]].swapaxes(0, 1)
        return draw_views(usable, half, draws, self.config.loss.second_view)

    def _hard(self, plan: _Plan, read: np.ndarray) -> np.ndarray:
        """Rows of contrast users' histories, (B, K, H'), −1 pads.

        Args:
            plan: The batch.
            read: Items that the anchor's views hold, (B,); more of them would give a contrast user away.
        """
        count, limit = self.config.contrast.k, self.config.contrast.history
        shape = (len(plan.rows), count, limit)
        if not self.specific:
            return np.full((*shape[:2], 1), -1, dtype=np.int64)
        draws = plan.draws(USERS, count, 1 + limit)
        users = self.counterparts.users(plan.rows, draws[..., 0])
        none = np.zeros(0, dtype=np.int64)
        found = [
            self.counterparts.history(int(row), int(user), limit) if user >= 0 and items else none
            for row, chosen, items in zip(plan.rows, users, read, strict=True)
            for user in chosen
        ]
        rows = pad_rows(found, limit).reshape(shape)
        check_no_leak(self.corpus, plan.rows, rows.reshape(len(rows), -1), own=False)
        usable = (rows >= 0) & ~np.isin(rows, plan.all_rows)
        wanted = np.repeat(read[:, None], count, axis=1)
        kept = compact(np.where(choose(usable, wanted, draws[..., 1:]), rows, -1))
        return kept[..., : max(1, int((kept >= 0).sum(-1).max(initial=0)))]

    def _own_neighbours(self, plan: _Plan, own: np.ndarray) -> Items:
        """Neighbours of the anchors' own other queries, (B, K, N).

        Those that the anchor reads too are left out: only across disjoint sets is anything compared.
        """
        rows = np.full((*own.shape, 1), -1, dtype=np.int64)
        if self.general and self.config.towers.neighbours:
            found = np.asarray(self.prepared.neighbours[np.maximum(own, 0)], dtype=np.int64)
            found = found[..., : self.config.towers.neighbours]
            shared = (found[..., None] == plan.neighbours[:, None, None, :]).any(-1)
            rows = compact(np.where(shared | (own < 0)[..., None], -1, found))
        return gather_items(self.prepared, rows, np.repeat(plan.responder[:, None], own.shape[1], axis=1))

    def _pairs(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mutual nearest queries of different queriers and nearly equal queries, each (G, G) bool.

        Another row counts as nearest if its query is no farther than the farthest of the five: with many equal texts
        the five are an arbitrary choice among equals.
        """
        queries = self.prepared.queries(rows)
        cosine = queries @ queries.T
        nearest = np.asarray(self.prepared.near[rows], dtype=np.int64)
        found = self.prepared.queries(np.maximum(nearest, 0))
        # inf where there is none: nothing is nearest then
        farthest = np.where(nearest >= 0, np.einsum("ge,gne->gn", queries, found), np.inf).min(1)
        querier = np.asarray(self.corpus.querier)[rows]
        within = cosine >= farthest[:, None] - ROUNDING
        mutual = within & within.T & (querier[:, None] != querier)
        return mutual, (cosine >= NEAR - ROUNDING) | np.eye(len(rows), dtype=bool)

    def _swap(self, plan: _Plan) -> Swap | None:
        """⌈ρB⌉ rows with a contrast user's history of at most their length; None where this process has none."""
        rows = plan.all_rows
        wanted = int(np.ceil(self.config.loss.swap_fraction * len(rows)))
        draws = np.random.default_rng([*plan.key, SWAP]).random((len(rows), 2, self.config.contrast.k))
        chosen: dict[int, np.ndarray] = {}
        echo = echoed((*plan.key, ECHO), len(rows), self.echo_share)
        for place in np.random.default_rng([*plan.key, SWAP_ROWS]).permutation(len(rows)).tolist():
            if len(chosen) == wanted:
                break
            if echo[place]:
                continue
            count = int((self._histories(rows, slice(place, place + 1), plan.key) >= 0).sum())
            swapped = self._swapped(int(rows[place]), count, draws[place]) if count else None
            if swapped is None:
                self.skipped += 1
            else:
                chosen[place] = swapped
        first, end, _ = plan.part.indices(len(rows))
        places = [place for place in sorted(chosen) if first <= place < end]
        if not places:
            return None
        found = pad_rows([chosen[place] for place in places])
        check_no_leak(self.corpus, rows[places], found, own=False)
        index = torch.tensor([place - first for place in places], dtype=torch.int64)
        return Swap(index, gather_items(self.prepared, found, np.asarray(self.corpus.responder[rows[places]])))

    def _swapped(self, row: int, count: int, draws: np.ndarray) -> np.ndarray | None:
        """A contrast user's history: as many items as the row reads, or the most that there are; None without any."""
        without = self.config.contrast.source is Contrast.none
        find = self.counterparts.random_users if without else self.counterparts.users
        users = find(np.array([row]), draws[:1])[0][np.argsort(draws[1])]
        best: np.ndarray | None = None
        for user in users[users >= 0]:
            if self.prepared.reply_row[user] == self.prepared.reply_row[row]:
                continue
            items = self.counterparts.history(row, int(user), count)
            if len(items) > (0 if best is None else len(best)):
                best = items
            if len(items) == count:
                break
        return best


def _numbers(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)
