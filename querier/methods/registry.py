"""Builds the parts of a method from its configuration: prompt × conditioner × decoder."""

from __future__ import annotations

import numpy as np

from querier.choices import Kind, Model, Train
from querier.config import Config
from querier.data.preparation import Prepared
from querier.errors import InputError
from querier.methods.dep import DifferencePrompt
from querier.methods.pplug import PersonaPlug
from querier.methods.qar import QuerierAwareResponder
from querier.models.conditioner import Conditioner
from querier.models.decoder import Decoder
from querier.models.querier_model import QuerierModel
from querier.types import Split


def conditions(config: Config) -> bool:
    """Whether the method has a conditioner; else the decoder reads text alone."""
    return config.conditioning.kind is not Kind.none or config.conditioning.model is Model.qar


def trains(config: Config) -> bool:
    """Whether anything of the method is trained."""
    return conditions(config) or config.decoder.train is not Train.frozen


def build_conditioner(config: Config, decoder: Decoder, clusters: int, size: int) -> Conditioner | None:
    """The untrained conditioner of a method, attached to its decoder; None where the decoder reads text alone.

    Args:
        config: The run's configuration.
        decoder: The decoder that it speaks to.
        clusters: C.
        size: E.

    Raises:
        InputError: The decoder has no room for the conditioner's vectors, or is of a make that it cannot speak to.
    """
    if not conditions(config):
        return None
    conditioner = _conditioner(config, decoder, clusters, size)
    decoder.check_room(conditioner.places)
    conditioner.attach(decoder)
    return conditioner


def _conditioner(config: Config, decoder: Decoder, clusters: int, size: int) -> Conditioner:
    match config.conditioning.model:
        case Model.towers:
            return QuerierModel(config, clusters, size, decoder.geometry, decoder.embedding_rms)
        case Model.pplug:
            return PersonaPlug(config, size, decoder.geometry, decoder.embedding_rms)
        case Model.qar:
            return QuerierAwareResponder(config, clusters, decoder)
        case Model.dep:
            return DifferencePrompt(config, size, decoder.geometry, decoder.embedding_rms)


def fit_conditioner(conditioner: Conditioner, prepared: Prepared) -> None:
    """Give a conditioner what it fits on the pool.

    Raises:
        InputError: Where the pool is empty.
    """
    pool = prepared.corpus.rows_in(Split.TRAIN)
    if not len(pool):
        raise InputError("the training split holds no dialogue; loosen data.unseen, data.responders or data.split")
    cluster, querier = (np.asarray(column)[pool] for column in (prepared.cluster, prepared.corpus.querier))
    conditioner.fit(prepared.queries(pool), prepared.replies(pool), prepared.styles(pool), cluster, querier)
