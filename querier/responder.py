"""A trained run, ready to answer: `Responder.load(run).respond(query, querier=...)`.

Threads may share a `Responder`: it does one thing at a time, and the others wait. Several queries in one
`respond_all` are answered sooner than one by one.
"""

from __future__ import annotations

import difflib
import json
import shlex
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from querier.config import STRONGEST, Config, from_plain, to_plain
from querier.data.collate import collate
from querier.data.history import Histories
from querier.data.parsing import check_text
from querier.data.preparation import Prepared
from querier.data.requests import Exchange, Request, Requests, outside_request
from querier.errors import InputError, check_range
from querier.files import atomic_folder
from querier.llm import Completes
from querier.llm_config import LlmConfig
from querier.methods.prompts import build_renderer
from querier.methods.registry import build_conditioner
from querier.models.decoder import Decoder
from querier.models.encoder import SentenceEncoder
from querier.module import QuerierModule
from querier.neighbours.clusters import Clusters
from querier.run import Run
from querier.types import EncodeTexts, Split, Tokens, move

PARTS = "parts.json"
Told = Sequence[str] | Mapping[str, str]  # a query and its reply
CARD = """---
library_name: querier
---
# A querier-aware responder

Method `{method}`, decoder `{decoder}`, conditioning `{conditioning}`. Trained with querier {version}.

It answers the same query differently for different queriers, from what each asked and was answered before. No history
of anybody is in this folder: give histories when you ask.

    from querier.responder import Responder
    responder = Responder.from_pretrained("{name}")
    responder.respond("How do tides work?", history=[("What is yeast?", "Put simply, tiny living things.")])

The weights were trained on texts of the queriers of the training pool; forgetting a querier does not unlearn them.
"""


class Responder:
    """Answers queries for queriers, known and unknown.

    Args:
        module: The trained decoder and conditioner.
        encode: The sentence encoder that the run was prepared with.
        clusters: The query clusters of the pool.
        prepared: The corpus with its histories; None where only histories that are given are read.
        llm: Writes descriptions for `prompt.distil=llm`; default what the configuration names.
    """

    def __init__(
        self,
        module: QuerierModule,
        encode: EncodeTexts,
        clusters: Clusters,
        prepared: Prepared | None,
        llm: Completes | None = None,
    ) -> None:
        self.module = module.eval()
        self.config: Config = module.config
        self.encode = encode
        self.clusters = clusters
        self.prepared = prepared
        self.render = build_renderer(self.config, prepared, llm)
        self._added: dict[str, list[Exchange]] = {}
        self._alone = threading.RLock()  # what conditions one reply stands in the decoder meanwhile
        self.requests = None
        if prepared is not None:
            self.requests = Requests(prepared, Histories(prepared.corpus), self.config, self.render)

    @classmethod
    def load(cls, run: str | Path, device: str | None = None) -> Responder:
        """The best model of a finished run, with the histories of the corpus that it was prepared on.

        Args:
            run: Its folder.
            device: Where it computes; the accelerator if there is one.

        Raises:
            InputError: Where the run or its prepared corpus is not there, or the run is not finished.
        """
        folder = Path(run)
        card = Run(folder).card()
        if not card:
            raise InputError(f"{folder} is not a run: it has no run.json; give a folder that `querier fit` wrote")
        Run(folder).check_finished()
        prepared = Path(card["prepared"])
        if not prepared.is_dir() and (cache := Run(folder).cache) is not None:
            prepared = cache / "prepared" / prepared.name  # the whole project may have moved
        if not prepared.is_dir():
            words = " ".join(shlex.quote(word) for word in card.get("job") or ["<the settings of the run>"])
            raise InputError(
                f"{folder}: its prepared corpus {prepared} is gone; make it again from the same dialogues: "
                f"querier prepare {words}"
            )
        module, clusters = load_module(folder / "model")
        here = Run(folder).config()  # with what belongs to this machine
        prompt = replace(module.config.prompt, profiles=here.prompt.profiles)
        module.config = replace(module.config, prompt=prompt, llm=here.llm)
        return cls._open(module, clusters, Prepared.load(prepared), device)

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | None = None, llm: Completes | None = None) -> Responder:
        """A model that `save_pretrained` wrote; it knows nobody and reads the histories that are given.

        Args:
            folder: Where it lies.
            device: Where it computes; the accelerator if there is one.
            llm: Writes descriptions, for a model of `prompt.distil=llm`.
        """
        return cls._open(*load_module(Path(folder)), None, device, llm)

    @classmethod
    def _open(
        cls,
        module: QuerierModule,
        clusters: Clusters,
        prepared: Prepared | None,
        device: str | None,
        llm: Completes | None = None,
    ) -> Responder:
        encode = SentenceEncoder(module.config.encoder)
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            module = module.to(place)
        except (
            RuntimeError,
            AssertionError,
        ) as error:  # an unknown name, or none there
            raise InputError(f"device={place!r}: {str(error).splitlines()[0]}") from error
        return cls(module, encode, clusters, prepared, llm)

    def respond(
        self,
        query: str,
        querier: str | None = None,
        history: Sequence[Told] | None = None,
        strength: float = 1.0,
        max_new_tokens: int | None = None,
    ) -> str:
        """The reply to one query.

        Args:
            query: What is asked.
            querier: Who asks; a name of the corpus brings that querier's history along.
            history: (query, reply) pairs, or objects with these two fields, oldest first, instead of the corpus's
                history.
            strength: 0 answers as to somebody without history, 1 as trained, more, up to 10, exaggerates.
            max_new_tokens: Length limit, 1 or more; default `evaluation.max_new_tokens`.

        Raises:
            InputError: On an empty query, a history that is not one, or a strength or limit out of range.
        """
        return self.respond_all([query], [querier], [history], strength, max_new_tokens)[0]

    def respond_all(
        self,
        queries: Sequence[str],
        queriers: Sequence[str | None],
        histories: Sequence[Sequence[Told] | None],
        strength: float = 1.0,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """Replies to several queries in one batch; the arguments as in `respond`, one of each a query."""
        check_range("strength", strength, 0.0, STRONGEST)
        limit = self.config.evaluation.max_new_tokens if max_new_tokens is None else max_new_tokens
        check_range("max_new_tokens", limit, 1)
        if not len(queries) == len(queriers) == len(histories):
            counts = f"{len(queries)}, {len(queriers)} and {len(histories)}"
            raise InputError(f"queries, queriers and histories must be as many, got {counts}; None stands for nobody")
        with self._alone:
            requests = [self.request(*one) for one in zip(queries, queriers, histories, strict=True)]
            return self.module.generate(requests, limit, strength=strength)

    def request(
        self,
        query: str,
        querier: str | None = None,
        history: Sequence[Told] | None = None,
        responder: str | None = None,
    ) -> Request:
        """What the model reads to answer `query` for `querier` as `responder`, by default whoever answered last.

        Raises:
            InputError: On an empty query, or a history that is not one.
        """
        check_text(query, "query")
        past = self.history_of(querier) if history is None else [_exchange(pair) for pair in history]
        with self._alone:
            return outside_request(
                query,
                querier,
                past,
                self.encode,
                self.clusters,
                self.render,
                self.config,
                self.prepared,
                responder,
                contrast=None if self.requests is None else self.requests.contrast,
            )

    def history_of(self, querier: str | None) -> list[Exchange]:
        """All that a querier said and was answered, oldest first; empty for somebody whom the corpus does not know.

        It is not cut: which `towers.history` items are read depends on who answers.
        """
        if querier is None:
            return []
        known: list[Exchange] = []
        if self.prepared is not None and querier in self.prepared.corpus.numbers:
            corpus = self.prepared.corpus
            rows = corpus.rows_of(corpus.numbers[querier])
            kept = rows[corpus.split[rows] != Split.EXCLUDED.value]
            dialogues = [(corpus.dialogue(row), row) for row in kept.tolist()]
            known = [Exchange(one.query, one.reply, one.responder, row) for one, row in dialogues]
        return known + self._added.get(querier, [])

    def is_far(self, query: str) -> bool:
        """Whether a query is farther from its cluster than 99 % of the pool's queries are from theirs."""
        with self._alone:
            _, distances = self.clusters.assign(self.encode([query]))
        return bool(self.clusters.is_far(distances)[0])

    def add_history(self, querier: str, query: str, reply: str) -> None:
        """Remember one more exchange of a querier, in this process only.

        Raises:
            InputError: One of the three is no text, or empty.
        """
        for name, text in (("querier", querier), ("query", query), ("reply", reply)):
            check_text(text, name)
        self._added.setdefault(querier, []).append(Exchange(query, reply))

    def forget(self, querier: str) -> None:
        """Drop what `add_history` brought; `querier forget` removes a querier from the prepared corpus."""
        self._added.pop(querier, None)

    @torch.no_grad()
    def embed_queriers(self, names: Sequence[str]) -> np.ndarray:
        """Query-free vectors of queriers after all of their history, (Q, D) float32.

        Raises:
            InputError: Where the method has no querier-specific tower, or nothing is known of a name.
        """
        model = self.module.conditioner
        if model is None:
            raise InputError(f"method {self.config.method} has no vectors of queriers; use a run of method querier")
        if isinstance(names, str):
            raise InputError(f"names is a list of names, got the text {names!r}; give [{names!r}]")
        self._check_known(names)
        chunks = []
        for start in range(0, len(names), 64):
            requests = [self.request("?", name) for name in names[start : start + 64]]
            empty = torch.zeros(len(requests), 1, dtype=torch.int64)
            batch = collate(requests, Tokens(empty, empty, empty), self.config.towers.history)
            with self._alone:
                chunks.append(model.embed(move(batch.history, self.module.device)).cpu().numpy())
        return np.concatenate(chunks) if chunks else np.zeros((0, self.config.towers.width), dtype=np.float32)

    def _check_known(self, names: Sequence[str]) -> None:
        known = {**(self.prepared.corpus.numbers if self.prepared is not None else {}), **self._added}
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                hint = f"; nearest: {', '.join(near)}" if near else ""
                raise InputError(f"no querier {name!r} is known{hint}; tell of a new one with add_history() first")

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, configuration, clusters and a model card; no history of anybody.

        Raises:
            InputError: The folder holds something else than such a model.
        """
        folder = Path(folder)
        if folder.is_dir() and any(folder.iterdir()) and not (folder / PARTS).is_file():
            raise InputError(f"{folder} holds files but no model; nothing was written: give a new or empty folder")
        save_module(self.module, self.clusters, self.encode.size, folder)


def _exchange(pair: Told) -> Exchange:
    if isinstance(pair, Mapping):
        pair = [pair[name] for name in ("query", "reply") if name in pair]
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        raise InputError(f"history is a list of (query, reply) pairs of texts, oldest first; got {pair!r} in it")
    for text in pair:
        check_text(text, "history")
    query, reply = pair
    return Exchange(query, reply)


def save_module(module: QuerierModule, clusters: Clusters, size: int, folder: Path) -> None:
    """Write a trained module as safetensors and JSON, atomically."""
    from querier import __version__

    config = module.config
    with atomic_folder(folder) as new:
        module.decoder.save(new / "decoder")
        tensors = {"centroids": torch.from_numpy(np.ascontiguousarray(clusters.centroids, dtype=np.float32))}
        save_file(tensors, new / "clusters.safetensors")
        if module.conditioner is not None:
            save_file(module.conditioner.own_state(), new / "conditioner.safetensors")
        # Paths, addresses and names of queriers belong to the run and its machine, not to a model that is handed on.
        data = replace(config.data, path="", unseen=0.0)
        prompt = replace(config.prompt, profiles="")
        plain = to_plain(replace(config, name=None, output="", cache="", data=data, prompt=prompt, llm=LlmConfig()))
        parts = {"config": plain, "size": size, "threshold": float(clusters.threshold)}
        (new / PARTS).write_text(json.dumps(parts, indent=2))
        decoder = config.decoder.path or "small, from scratch"
        text = CARD.format(
            method=config.method,
            decoder=decoder,
            conditioning=config.conditioning.kind,
            version=__version__,
            name=folder.name,
        )
        (new / "README.md").write_text(text)


def load_module(folder: Path) -> tuple[QuerierModule, Clusters]:
    """What `save_module` wrote.

    Raises:
        InputError: Where the folder holds no model.
    """
    if not (folder / PARTS).is_file():
        raise InputError(f"{folder} holds no model: it has no {PARTS}; finish the run with the same `querier fit`")
    parts = json.loads((folder / PARTS).read_text())
    config: Config = from_plain(Config, parts["config"])
    decoder = Decoder.load(folder / "decoder", config.decoder)
    centroids = load_file(folder / "clusters.safetensors")["centroids"].numpy()
    conditioner = build_conditioner(config, decoder, len(centroids), parts["size"])
    if conditioner is not None:
        conditioner.load_own_state(load_file(folder / "conditioner.safetensors"))
    return QuerierModule(config, decoder, conditioner), Clusters(centroids, parts["threshold"])
