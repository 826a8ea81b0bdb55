"""Judges a model on the held-out dialogues of a corpus: help, dependence on the querier, cold start.

The steps: sample rows, find the pairs of the swaps, score everything once, generate on a sample, summarise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from querier.config import EvaluationConfig
from querier.data.embeddings import Progress
from querier.data.preparation import Prepared
from querier.data.records import Corpus
from querier.data.requests import Requests
from querier.errors import InputError
from querier.evaluation.averages import LABELS, labels_of
from querier.evaluation.cold_start import ColdStart, Curves
from querier.evaluation.dependence import generated_dependence
from querier.evaluation.draws import Draw, generator_of
from querier.evaluation.metrics import REPLY_METRICS, reply_scores
from querier.evaluation.probe import Represent, querier_probes
from querier.evaluation.results import Record, Result, score_names, summarise
from querier.evaluation.scoring import Key, Model, Reads, Scorer
from querier.evaluation.swap import EMPTY, SwapKind, Swaps, SwapSet, outcomes
from querier.evaluation.swap_scores import SWAPPED, SwapScores, add_unnamed, per_token
from querier.types import Dialogue, Split

FIRST = ("nll_per_token", "nll_per_byte", "nll_swapped", "nll_swapped_own", "nll_empty", *SWAPPED)

ReplyMetric = Callable[[Dialogue, str], float]
"""Scores a generated reply to a dialogue."""

PairMetric = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""Scores generated replies against the true ones, all at once."""


@dataclass
class Options:
    """What is measured besides what is always measured.

    Attributes:
        pair_metrics: Scores of many generated and true replies at once, (n,) and (n,) texts to (n,) numbers, by name.
        reply_metrics: More scores of a generated reply, by name; NaN for a reply that they cannot read, which fails.
        read_label: Reads the label of a reply, true or generated, for F1; None for replies that are no labels.
        reads: What the method reads of a querier; what it does not read is not scored twice.
        cold_start: Whether the curves over the number of history items are taken.
        dependence: Whether the same queries are asked as several queriers, and queriers are found from replies and
            from the towers.
        represent: Gives the towers' vectors; None for a method without towers.
        empty_replies: Whether replies are also generated without any history: `<name>_empty_history`.
        progress: Called with what is done, how much of it, of how much.
    """

    pair_metrics: Mapping[str, PairMetric] = field(default_factory=dict)
    reply_metrics: Mapping[str, ReplyMetric] | None = None
    read_label: Callable[[str], str | None] | None = None
    reads: Reads | None = None
    cold_start: bool = False
    dependence: bool = False
    represent: Represent | None = None
    empty_replies: bool = False
    progress: Progress | None = None


def evaluate(
    model: Model, requests: Requests, prepared: Prepared, config: EvaluationConfig, options: Options | None = None
) -> Result:
    """Judge a model on the dialogues of one split.

    Args:
        model: What scores and answers.
        requests: Builds what it reads.
        prepared: The corpus with clusters and contrast users.
        config: Split, sizes, seed.
        options: What else is measured.

    Raises:
        InputError: Where the split is empty or leaks into training, or a history leaks.
    """
    options = options or Options()
    return _Evaluation(model, requests, prepared, config, options).result()


class _Evaluation:
    """One judgement: what is shared by its parts."""

    def __init__(
        self, model: Model, requests: Requests, prepared: Prepared, config: EvaluationConfig, options: Options
    ) -> None:
        self.requests, self.config, self.options = requests, config, options
        self.corpus = prepared.corpus
        check_split(self.corpus, config.split)
        reads = options.reads or Reads()
        blind = not requests.config.prompt.name_querier
        reads = Reads(reads.history, reads.name and not blind)
        self.scorer = Scorer(model, requests, reads, options.progress, chunk=2 * config.batch_size)
        self.scores = SwapScores(self.scorer)
        self.swaps = Swaps(requests, prepared, config.seed)
        rows = self.corpus.rows_in(Split[config.split.upper()])
        self.all_rows = sample_rows(rows, self.corpus.querier, config.limit, generator_of(config.seed, Draw.DIALOGUES))
        self.history = {int(row): requests.history_rows(int(row)) for row in self.all_rows}
        self.matched = {row: self.scorer.key(row, items) for row, items in self.history.items()}
        self.empty = {row: self.scorer.key(row, EMPTY) for row in self.history}
        self.excluded: dict[str, dict[str, int]] = {}

    def result(self) -> Result:
        unseen = self.corpus.unseen[self.corpus.querier[self.all_rows]]
        # Of the true history, so that the permuted control is judged on the same dialogues as any other run.
        bare = np.array([not len(self.requests.histories.of(int(row), 1)) for row in self.all_rows], dtype=bool)
        rows = self.all_rows[~(unseen & bare)]  # an unseen querier's first words count under cold start only
        if first := int((unseen & bare).sum()):
            self.excluded["main"] = {"unseen querier without history": first}
        kinds = [kind for kind in SwapKind if kind.name.lower() in self.config.swaps]
        sets = {kind: self.swaps.pairs(kind, rows, self.config.draws) for kind in kinds}
        keys = [self.matched[row] for row in rows.tolist()] + [self.empty[row] for row in rows.tolist()]
        keys += [key for found in sets.values() for pair in found.pairs for key in self.scores.keys(pair)]
        self.scorer.add(keys)
        records = {row: self._record(row) for row in rows.tolist()}
        for kind, found in sets.items():
            self._add_swaps(records, kind, found)
            self.excluded[kind.name.lower()] = dict(found.excluded)
        add_unnamed(list(records.values()))
        self._add_replies(records)
        if self.options.dependence:
            self._add_dependence(records)
        drawn = generator_of(self.config.seed, Draw.INTERVALS)
        table = list(records.values())
        left_out = {name for kind in SwapKind if kind not in kinds for name in self.scores.of(kind)}
        names = [name for name in dict.fromkeys([*FIRST, *score_names(table)]) if name not in left_out]
        curves: Curves = {}
        if self.options.cold_start:
            curves, excluded = ColdStart(self.scorer, self.swaps, self.history, self.config).curves()
            self.excluded |= excluded
        return Result(
            metrics=summarise(table, self.config.bootstrap, drawn, names),
            counts=self._counts(table),
            excluded=self.excluded,
            settings=settings_of(self.config),
            cold_start=curves,
            rows=table,
            pairs={kind.name.lower(): found.pairs for kind, found in sets.items()},
        )

    def _record(self, row: int) -> Record:
        dialogue = self.corpus.dialogue(row)
        keys = self.matched[row], self.empty[row]
        matched, empty = (self.scorer[key] for key in keys)
        size = matched or empty  # of the reply, which is the same under both
        reasons = [self.scorer.reasons[key] for key in keys if key in self.scorer.reasons]
        return {
            "id": dialogue.id,
            "query": dialogue.query,
            "querier": dialogue.querier,
            "unseen": bool(self.corpus.unseen[self.corpus.querier[row]]),
            "history": len(self.history[row]),
            "gold": dialogue.reply,
            "reply": None,
            "tokens": size.tokens if size else 0,
            "bytes": size.bytes if size else 0,
            "scores": {
                "nll_per_token": per_token(matched),
                "nll_per_byte": -matched.log_prob / max(1, matched.bytes) if matched else None,
                "nll_empty": per_token(empty),
            },
            "error": None if matched and empty else next(iter(reasons), "the reply could not be scored"),
        }

    def _add_swaps(self, records: dict[int, Record], kind: SwapKind, found: SwapSet) -> None:
        for name, outcome in self.scores.of(kind).items():
            for row, value in outcomes(found.pairs, outcome).items():
                records[row]["scores"][name] = value
                if value is None:
                    records[row]["error"] = records[row]["error"] or "a swapped reply could not be scored"

    def _add_replies(self, records: dict[int, Record]) -> None:
        rows = self._generated(np.array(list(records), dtype=np.int64))
        self._answer(records, rows, self.matched, "reply", "")
        if self.options.empty_replies:
            same = {row: self.matched[row] == self.empty[row] for row in rows}
            for row in (row for row in rows if same[row]):  # asked and answered
                records[row]["reply_empty_history"] = records[row]["reply"]
                self._judge(records, [row], "reply_empty_history", "_empty_history")
            self._answer(
                records, [row for row in rows if not same[row]], self.empty, "reply_empty_history", "_empty_history"
            )

    def _add_dependence(self, records: dict[int, Record]) -> None:
        found, excluded = generated_dependence(self.scorer, self.swaps, records, self.config)
        self.excluded |= excluded
        if self.options.represent is not None:
            known = np.array([row for row, record in records.items() if not record["unseen"]], dtype=np.int64)
            found |= querier_probes(self.options.represent, self.requests, known, self.config.seed)
        for name, values in found.items():
            for row, value in values.items():
                records[row]["scores"][name] = value
                if value is None:
                    records[row]["error"] = records[row]["error"] or f"a reply that {name} needs is missing"

    def _answer(
        self, records: dict[int, Record], rows: list[int], keys: Mapping[int, Key], column: str, suffix: str
    ) -> None:
        replies = self.scorer.replies([keys[row] for row in rows], self.config.max_new_tokens)
        for row, reply in zip(rows, replies, strict=True):
            records[row][column] = reply
            if reply is None:
                records[row]["error"] = self.scorer.reasons.get(keys[row], "no reply was generated")
        self._judge(records, rows, column, suffix)

    def _judge(self, records: dict[int, Record], rows: list[int], column: str, suffix: str) -> None:
        """Score replies; one that is missing fails in every score."""
        given = [row for row in rows if records[row][column] is not None]
        texts = [records[row][column] for row in given], [records[row]["gold"] for row in given]
        together = {
            name: dict(zip(given, score(*texts).tolist(), strict=True)) if given else {}
            for name, score in self.options.pair_metrics.items()
        }
        names = [*REPLY_METRICS, *(self.options.reply_metrics or {}), *together]
        for row in rows:
            reply, scores = records[row][column], records[row]["scores"]
            if reply is None:
                scores.update(dict.fromkeys((name + suffix for name in names), None))
                continue
            found = reply_scores(reply, records[row]["gold"])
            dialogue = self.corpus.dialogue(row)
            found.update({name: score(dialogue, reply) for name, score in (self.options.reply_metrics or {}).items()})
            found.update({name: values[row] for name, values in together.items()})
            scores.update({name + suffix: _number(value) for name, value in found.items()})
            if unread := [name + suffix for name in found if scores[name + suffix] is None]:
                records[row]["error"] = f"the reply could not be read for {', '.join(unread)}"
            if self.options.read_label is not None:
                labels = (self.options.read_label(text) for text in (dialogue.reply, reply))
                records[row][LABELS + suffix] = labels_of(*labels)

    def _generated(self, rows: np.ndarray) -> list[int]:
        """The sample that replies are generated for: so many rows of seen and of unseen queriers each."""
        unseen = self.corpus.unseen[self.corpus.querier[rows]]
        chosen: list[int] = []
        for number, group in enumerate((rows[~unseen], rows[unseen])):
            drawn = generator_of(self.config.seed, Draw.ANSWERED, number)
            chosen += sample_rows(group, self.corpus.querier, self.config.generate, drawn).tolist()
        return chosen

    def _counts(self, table: list[Record]) -> dict[str, int]:
        unseen = {row["querier"] for row in table if row["unseen"]}
        return {
            "n": len(table),
            "n_generated": sum(row["reply"] is not None for row in table),
            "n_failed": sum(row["error"] is not None for row in table),
            "queriers": len({row["querier"] for row in table}),
            "queriers_unseen": len(unseen),
        }


def settings_of(config: EvaluationConfig) -> dict[str, object]:
    """What stands beside every result: under which settings it was taken."""
    return {
        "split": config.split,
        "limit": config.limit,
        "swaps": list(config.swaps),
        "draws": config.draws,
        "generate": config.generate,
        "max_new_tokens": config.max_new_tokens,
        "temperature": 0.0,
        "repetition_penalty": config.repetition_penalty,
        "bootstrap": config.bootstrap,
        "seed": config.seed,
        "interval": "95 %, wild cluster bootstrap-t over queriers",
    }


def sample_rows(rows: np.ndarray, querier: np.ndarray, count: int | None, generator: np.random.Generator) -> np.ndarray:
    """A sample spread over queriers as evenly as it can be, in ascending order, (≤ count,).

    Args:
        rows: From which, (n,).
        querier: Of every row of the corpus, (N,).
        count: How many; None for all.
        generator: Draws them.
    """
    if count is None or count >= len(rows):
        return np.sort(rows)
    shuffled = generator.permutation(rows)
    order = np.argsort(querier[shuffled], kind="stable")
    _, start, size = np.unique(querier[shuffled][order], return_index=True, return_counts=True)
    turn = np.empty(len(rows), dtype=np.int64)  # each querier's first rows come before anybody's second
    turn[order] = np.arange(len(rows)) - np.repeat(start, size)
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:count]])


def check_split(corpus: Corpus, split: str) -> None:
    """Refuse a split that is empty or shares with training what it must not.

    Raises:
        InputError: No dialogue; a scene of a seen querier's dialogue in training too; an unseen querier in training.
    """
    rows = corpus.rows_in(Split[split.upper()])
    if not len(rows):
        raise InputError(f"the corpus has no {split} dialogue; choose another evaluation.split or data.split")
    training = corpus.rows_in(Split.TRAIN)
    known = rows[~corpus.unseen[corpus.querier[rows]]]
    shared = known[np.isin(corpus.scene[known], corpus.scene[training])]
    if len(shared):
        raise InputError(
            f"leak: {len(shared)} {split} dialogues stand in scenes of the training pool, "
            f"{corpus.ids[int(shared[0])]!r} among them; a split must never cut a scene"
        )
    learnt = training[corpus.unseen[corpus.querier[training]]]
    if len(learnt):
        name = corpus.queriers[corpus.querier[learnt[0]]]
        raise InputError(f"leak: {name!r} counts as unseen but has {len(learnt)} dialogues in the training pool")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
