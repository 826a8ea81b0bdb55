"""Which settings go together: all that a configuration alone can say, before anything is read or loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from querier.choices import Contrast, DecoderKind, Distil, Kind, Model, Pool, Profile, Retrieval, Source, Train
from querier.errors import InputError

if TYPE_CHECKING:
    from querier.config import Config

HEAD_SIZE = 32  # of the small decoder

# How a method reaches the decoder, to be read behind its name.
OWN_KINDS = {
    Model.pplug: (Kind.soft_prompt, "is a soft prompt"),
    Model.dep: (Kind.soft_prompt, "gives input embeddings"),
    Model.qar: (Kind.none, "works inside the decoder"),
}


def check_combinations(config: Config) -> None:
    """Refuse settings of which one does not work beside another.

    Raises:
        InputError: Naming both, and what to change.
    """
    for check in (_decoder, _conditioning, _dep, _pool, _descriptions, _validation):
        check(config)


def _decoder(config: Config) -> None:
    decoder = config.decoder
    if decoder.kind is DecoderKind.small and (decoder.width % HEAD_SIZE or decoder.width < HEAD_SIZE):
        raise InputError(f"decoder.width must be a multiple of {HEAD_SIZE}, got {decoder.width}")
    if decoder.rows_at_once is not None and config.conditioning.model is Model.qar and config.qar.weight:
        raise InputError("method qar reads its batch as a whole; set decoder.rows_at_once=null, or qar.weight=0")
    if decoder.rows_at_once is not None and "fsdp" in config.trainer.strategy:
        raise InputError(
            "under trainer.strategy=fsdp all processes must run the decoder equally often; set "
            "decoder.rows_at_once=null"
        )


def _conditioning(config: Config) -> None:
    kind, model = config.conditioning.kind, config.conditioning.model
    wanted, because = OWN_KINDS.get(model, (kind, ""))
    if kind not in (Kind.none, wanted):  # with none a method is its prompt alone
        raise InputError(
            f"conditioning.model={model} {because}, got conditioning.kind={kind}; use conditioning={wanted}"
        )


def _dep(config: Config) -> None:
    if config.conditioning.model is not Model.dep or config.conditioning.kind is Kind.none:
        return
    if config.prompt.source is not Source.own:
        raise InputError(
            "conditioning.model=dep puts its vectors beside items of the own history, got "
            f"prompt.source={config.prompt.source}; use prompt.source=own"
        )
    if config.conditioning.faithful and config.prompt.by is not Retrieval.recency:
        raise InputError(
            f"method dep as published shows the newest items, got prompt.by={config.prompt.by}; use prompt.by=recency "
            "or conditioning.faithful=false"
        )


def _pool(config: Config) -> None:
    prompt = config.prompt
    reading = []
    if prompt.source is Source.pool:
        reading.append("prompt.source=pool")
    by_history = prompt.profile is Profile.querier and prompt.distil is Distil.llm
    if prompt.profile is not Profile.none and not prompt.profiles and not by_history:
        reading.append(f"prompt.profile={prompt.profile}")
    if reading and config.data.pool is Pool.none:
        raise InputError(
            f"{reading[0]} reads other queriers' dialogues, which data.pool=none forbids; use data.pool=shared"
        )


def _descriptions(config: Config) -> None:
    prompt = config.prompt
    differences = prompt.profile is Profile.differences and not prompt.profiles
    if differences and config.contrast.source is Contrast.none:
        raise InputError(
            "prompt.profile=differences holds queriers against contrast users, and contrast.source=none chooses none; "
            "use contrast.source=contrast_users or random"
        )
    if prompt.faithful and not (differences and prompt.distil is Distil.llm):
        raise InputError(
            "prompt.faithful=true is method=dpl as published, whose descriptions an LLM writes: it needs "
            "prompt.profile=differences, prompt.distil=llm with llm.base_url=... llm.model=..., and no prompt.profiles"
        )
    if prompt.faithful and config.decoder.train is not Train.frozen:
        raise InputError(f"prompt.faithful=true trains nothing, got decoder.train={config.decoder.train}; use frozen")


def _validation(config: Config) -> None:
    limit = config.trainer.limit_val_batches
    if config.stopping.patience and limit is not None and not limit:
        raise InputError(
            f"stopping.patience={config.stopping.patience} waits for a better validation, and "
            f"trainer.limit_val_batches={limit} leaves validation out; use stopping.patience=0, or look at some batches"
        )
