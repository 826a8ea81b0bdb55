"""From requests to padded tensors: `collate` for reading, `TrainingBatches` for training with views and swaps.

A training batch depends on (seed, epoch, index) alone. Each row has generators of its own, so that the batches of two
processes are the two parts of the batch of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from querier.choices import Contrast
from querier.config import Config
from querier.data.counterparts import Counterparts
from querier.data.history import check_no_leak
from querier.data.requests import Past, Request, Requests
from querier.data.views import draw_views, drop_history, history_halves, neighbour_halves, scene_places
from querier.types import Batch, Contrastive, Items, Rendered, Split, Swap, Tokens

ScoreTokens = Callable[[Sequence[Rendered]], Tokens]
"""Turns rendered dialogues into prompt and reply tokens."""

Key = tuple[int, int, int]
"""Seed, epoch and index of a batch."""

NEAR = 0.95  # cosine from which two queries count as the same
ROUNDING = 1e-3  # of cosines of fp16 vectors

# What a generator is for; part of its seed.
DROPOUT, NAME, VIEWS, USERS, OWN, SWAP, SWAP_ROWS = range(7)


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
    )


def pad(pasts: Sequence[Past], limit: int | None = None) -> Items:
    """Items (B, H), H being the longest of `pasts`, at most `limit` and at least 1."""
    lengths = [len(past) if limit is None else min(len(past), limit) for past in pasts]
    shape = (len(pasts), max([1, *lengths]))
    size = pasts[0].inputs.shape[-1]
    inputs = np.zeros((*shape, size), dtype=np.float32)
    outputs = np.zeros((*shape, size), dtype=np.float32)
    cluster = np.zeros(shape, dtype=np.int64)
    same = np.zeros(shape, dtype=bool)
    for place, (past, length) in enumerate(zip(pasts, lengths, strict=True)):
        inputs[place, :length] = past.inputs[:length]
        outputs[place, :length] = past.outputs[:length]
        cluster[place, :length] = past.cluster[:length]
        same[place, :length] = past.same_responder[:length]
    ranks = np.broadcast_to(np.arange(shape[1]), shape).copy()
    return Items(
        inputs=torch.from_numpy(inputs),
        outputs=torch.from_numpy(outputs),
        cluster=torch.from_numpy(cluster),
        rank=torch.from_numpy(ranks),
        same_responder=torch.from_numpy(same),
        mask=torch.from_numpy(ranks < np.array(lengths)[:, None]),
    )


class TrainingBatches:
    """Builds the batches of a training run.

    Args:
        requests: Builds each row's request.
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
        self.contrastive = parts and (config.loss.specific > 0 or config.loss.general > 0)
        self.swap = parts and config.loss.swap > 0 and config.loss.swap_fraction > 0
        self.skipped = 0  # rows passed over by the swap loss: no history on a side, or the same reply
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
        mine = rows[part]
        key = (self.config.seed, epoch, index)
        histories = [self._history(int(row), key) for row in mine]
        requests = [
            self.requests.of(int(row), history, self._name(int(row), key))
            for row, history in zip(mine, histories, strict=True)
        ]
        batch = collate(requests, self.score([request.rendered for request in requests]), self.requests.limit)
        if self.contrastive:
            batch.contrastive = self._contrastive(rows, mine, histories, batch, key)
        if self.swap:
            batch.swap = self._swap(rows, part, key)
        return batch

    def _history(self, row: int, key: Key) -> np.ndarray:
        """The history that the row reads in this batch, some of it dropped on a share of the rows."""
        found = self.requests.history_rows(row, key[1])
        return drop_history(found, self.config.towers.history_dropout, _generator(key, DROPOUT, row))

    def _name(self, row: int, key: Key) -> str | None:
        """Another pool querier's name on a share of the rows, so that a name alone says little."""
        share = self.config.prompt.name_noise
        generator = _generator(key, NAME, row)
        if not share or generator.random() >= share:
            return None
        return str(self.corpus.queriers[int(generator.choice(self._names))])

    def _contrastive(
        self,
        rows: np.ndarray,
        mine: np.ndarray,
        histories: list[np.ndarray],
        batch: Batch,
        key: Key,
    ) -> Contrastive:
        """Views, hard negatives and pair masks of the rows `mine`, compared with all `rows`."""
        neighbours = [self.requests.neighbour_rows(int(row)) for row in mine]
        views = self._views(mine, histories, rows, key, batch.history.mask.shape[1])
        neighbour_views = self._neighbour_views(mine, neighbours, rows, key, batch.neighbours.mask.shape[1])
        read = views.sum(-1).max(0)  # items that an anchor's views hold
        hard, hard_mask = self._hard(rows, mine, read, key)
        own, own_neighbours = self._own(mine, neighbours, key)
        mutual, near = self._pairs(mine, rows)
        known = np.maximum(own, 0)
        own_query = self.prepared.queries(known.reshape(-1)).reshape(*own.shape, -1)
        # A query that says the same is never a negative, whoever of the two asked it first.
        same = np.einsum("be,bke->bk", batch.query.numpy(), own_query) >= NEAR - ROUNDING
        return Contrastive(
            views=torch.from_numpy(views),
            neighbour_views=torch.from_numpy(neighbour_views),
            hard=hard,
            hard_mask=torch.from_numpy(hard_mask),
            own_query=torch.from_numpy(own_query),
            own_neighbours=own_neighbours,
            own_cluster=torch.from_numpy(np.asarray(self.prepared.cluster[known], dtype=np.int64)),
            own_mask=torch.from_numpy((own >= 0) & ~same),
            mutual=torch.from_numpy(mutual),
            near=torch.from_numpy(near),
        )

    def _views(
        self, mine: np.ndarray, histories: list[np.ndarray], batch_rows: np.ndarray, key: Key, width: int
    ) -> np.ndarray:
        """Masks over the history slots, (2, B, width) bool."""
        views = np.zeros((2, len(mine), width), dtype=bool)
        for place, (row, items) in enumerate(zip(mine, histories, strict=True)):
            half = history_halves(key, np.asarray(self.corpus.querier[items], dtype=np.int64), self._places[items])
            usable = ~np.isin(items, batch_rows)
            drawn = draw_views(usable, half, _generator(key, VIEWS, int(row)), self.config.loss.second_view)
            views[:, place, : len(items)] = drawn
        return views

    def _neighbour_views(
        self, mine: np.ndarray, neighbours: list[np.ndarray], batch_rows: np.ndarray, key: Key, width: int
    ) -> np.ndarray:
        """Masks over the neighbour slots, (2, B, width) bool."""
        views = np.zeros((2, len(mine), width), dtype=bool)
        for place, (row, items) in enumerate(zip(mine, neighbours, strict=True)):
            half = neighbour_halves(key, np.asarray(self.corpus.scene[items], dtype=np.int64))
            usable = ~np.isin(items, batch_rows)
            generator = _generator(key, VIEWS, int(row), 1)
            views[:, place, : len(items)] = draw_views(usable, half, generator, self.config.loss.second_view)
        return views

    def _hard(
        self, batch_rows: np.ndarray, mine: np.ndarray, read: np.ndarray, key: Key
    ) -> tuple[Items, np.ndarray]:
        """Contrast users' histories (B, K, H') and which of them stand, (B, K) bool."""
        count = self.config.contrast.k
        mask = np.zeros((len(mine), count), dtype=bool)
        pasts: list[Past] = []
        for place, row in enumerate(mine):
            generator = _generator(key, USERS, int(row))
            read_rows: list[np.ndarray] = []
            for user, user_row in enumerate(self.counterparts.users(int(row), generator)):
                items = np.zeros(0, dtype=np.int64)
                if user_row >= 0 and read[place]:
                    items = self.counterparts.history(int(row), int(user_row), self.config.contrast.history)
                    items = items[~np.isin(items, batch_rows)]
                    keep = min(len(items), int(read[place]))  # more items than the anchor's would give it away
                    items = items[np.sort(generator.choice(len(items), keep, replace=False))]
                mask[place, user] = len(items) > 0
                read_rows.append(items)
                pasts.append(self.requests.past(items, int(self.corpus.responder[row])))
            check_no_leak(self.corpus, int(row), np.concatenate(read_rows), own=False)
        return _unflatten(pad(pasts), count), mask

    def _own(
        self, mine: np.ndarray, neighbours: list[np.ndarray], key: Key
    ) -> tuple[np.ndarray, Items]:
        """Rows of the anchors' own other queries, (B, K), −1 where none, and their neighbours (B, K, N).

        Neighbours that the anchor reads too are left out: only across disjoint sets is anything compared.
        """
        own = np.stack([self.counterparts.own_queries(int(row), _generator(key, OWN, int(row))) for row in mine])
        pasts = []
        for place, row in enumerate(mine):
            for other in own[place]:
                items = self.requests.neighbour_rows(int(other)) if other >= 0 else np.zeros(0, dtype=np.int64)
                items = items[~np.isin(items, neighbours[place])]
                pasts.append(self.requests.past(items, int(self.corpus.responder[row])))
        return own, _unflatten(pad(pasts), own.shape[1])

    def _pairs(self, mine: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mutual nearest queries of different queriers and nearly equal queries, each (B, G) bool.

        Another row counts as nearest if its query is no farther than the farthest of the five: with many equal texts
        the five are an arbitrary choice among equals.
        """
        queries = self.prepared.queries(rows)
        place = {int(row): number for number, row in enumerate(rows)}
        here = np.array([place[int(row)] for row in mine], dtype=np.int64)
        cosine = queries @ queries.T
        nearest = np.asarray(self.prepared.near[rows], dtype=np.int64)
        found = self.prepared.queries(np.maximum(nearest, 0).reshape(-1)).reshape(*nearest.shape, -1)
        near_cosine = np.where(nearest >= 0, np.einsum("ge,gne->gn", queries, found), np.inf)
        farthest = near_cosine.min(1)  # inf without any: nothing is nearest then
        querier = np.asarray(self.corpus.querier)[rows]
        within = cosine >= farthest[:, None] - ROUNDING
        mutual = within & within.T & (querier[:, None] != querier)
        near = (cosine >= NEAR - ROUNDING) | np.eye(len(rows), dtype=bool)
        return mutual[here], near[here]

    def _swap(self, rows: np.ndarray, part: slice, key: Key) -> Swap | None:
        """⌈ρB⌉ rows with a contrast user's history of the same length; None where this process has none."""
        wanted = int(np.ceil(self.config.loss.swap_fraction * len(rows)))
        chosen: dict[int, np.ndarray] = {}
        for place in _generator(key, SWAP_ROWS).permutation(len(rows)):
            if len(chosen) == wanted:
                break
            swapped = self._swapped(int(rows[place]), key)
            if swapped is None:
                self.skipped += 1
            else:
                chosen[int(place)] = swapped
        first, end, _ = part.indices(len(rows))
        places = [place for place in sorted(chosen) if first <= place < end]
        if not places:
            return None
        pasts = [self.requests.past(chosen[place], int(self.corpus.responder[rows[place]])) for place in places]
        index = torch.tensor([place - first for place in places], dtype=torch.int64)
        return Swap(index, pad(pasts, self.requests.limit))

    def _swapped(self, row: int, key: Key) -> np.ndarray | None:
        """A contrast user's history with as many items as the row reads, or None if there is no fair one."""
        count = len(self._history(row, key))
        if not count:
            return None
        generator = _generator(key, SWAP, row)
        if self.config.contrast.source is Contrast.contrast_users:
            users = self.counterparts.users(row, generator)
        else:
            users = self.counterparts.random_users(row, generator)
        best: np.ndarray | None = None
        for user in generator.permutation(users[users >= 0]):
            if self.prepared.reply_row[user] == self.prepared.reply_row[row]:
                continue
            items = self.counterparts.history(row, int(user), count)
            check_no_leak(self.corpus, row, items, own=False)
            if len(items) > (0 if best is None else len(best)):
                best = items
            if len(items) == count:
                break
        return best


def _generator(key: Key, purpose: int, *more: int) -> np.random.Generator:
    """The generator of one purpose in one batch."""
    return np.random.default_rng([*key, purpose, *more])


def _numbers(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _unflatten(items: Items, count: int) -> Items:
    """Items (B K, H) as (B, K, H)."""
    return Items(**{name: value.unflatten(0, (-1, count)) for name, value in vars(items).items()})
