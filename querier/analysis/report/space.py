"""Maps of the space of queriers for a report: pictures inside the page, with the numbers that belong to them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from querier.analysis.figures import matplotlib_map, note_of
from querier.analysis.maps import fit_map, placed
from querier.analysis.user_space import numbers, why_no_probe
from querier.analysis.vectors import query_free
from querier.errors import InputError
from querier.responder import Responder

SEEN = "seen in training"
DRAWN = 2000  # queriers whose points are drawn as shapes; more become dots of a picture
FEWEST = 3  # queriers of a map


@dataclass(frozen=True)
class Map:
    """The queriers of a run on a plane, coloured by a label.

    Attributes:
        run: Name of the run.
        label: By which they are coloured.
        source: The picture, as a `data:` address.
        note: Numbers that belong to it, in words, or why there are none.
    """

    run: str
    label: str
    source: str
    note: str


def space_maps(responder: Responder, run: str, labels: Mapping[str, Mapping[str, str]], seed: int = 0) -> list[Map]:
    """A map for each label, and one for whether queriers were seen in training where some were not.

    A querier without a label is drawn in grey, and is not judged.

    Args:
        responder: A run of a method with vectors of queriers.
        run: Its name.
        labels: As `read_labels` gives them.
        seed: Of probes and their shuffled controls.

    Raises:
        InputError: The method has no vectors of queriers, or fewer than three queriers have dialogues.

    >>> drawn = space_maps(responder, "first", {"side": {"q1": "left", "q2": "right"}})
    >>> [one.label for one in drawn], drawn[0].source[:26]
    (['side', 'seen in training'], 'data:image/svg+xml;base64,')
    """
    space = query_free(responder)
    known = {label: [values.get(name) for name in space.names] for label, values in labels.items()}
    unseen = space.about["unseen"].tolist()
    if any(unseen) or not known:
        known[SEEN] = ["no" if new else "yes" for new in unseen]
    if len(space.names) < FEWEST:
        raise InputError(
            f"{run}: a map needs {FEWEST} queriers with dialogues, got {len(space.names)}; leave maps=false"
        )
    plane = fit_map(space.vectors)
    table = placed(space.names, plane, known)
    judged = {label: values for label, values in known.items() if not why_no_probe(values)}
    told = numbers(space.vectors, plane.places, judged, np.random.default_rng(seed))
    return [
        Map(
            run,
            label,
            _picture(matplotlib_map(table, label, run), len(space.names)),
            note_of(told, label) if label in judged else f"no probe: {why_no_probe(values)}",
        )
        for label, values in known.items()
    ]


def read_labels(path: Path) -> dict[str, dict[str, str]]:
    """Labels of queriers by their names, from JSON Lines: `{"querier": "Ann", "team": "north", ...}`.

    Raises:
        InputError: With file and line.

    >>> written = (tmp_path / "labels.jsonl").write_text('{"querier": "Ann", "team": "north"}')
    >>> read_labels(tmp_path / "labels.jsonl")
    {'team': {'Ann': 'north'}}
    """
    labels: dict[str, dict[str, str]] = {}
    try:
        lines: Sequence[str] = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"labels={path}: cannot be read ({error}); give a file of JSON objects, one a line") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record: dict[str, Any] = json.loads(line)
            name = record.pop("querier")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            wanted = '{"querier": "Ann", "team": "north"}'
            raise InputError(f"{path}:{number}: got {line.strip()!r}, wanted an object such as {wanted}") from error
        for label, value in record.items():
            labels.setdefault(label, {})[str(name)] = str(value)
    if not labels:
        raise InputError(f"labels={path}: no label in it; each line holds a querier and one label at least")
    return labels


def _picture(figure: Any, points: int) -> str:
    """A figure as an address that holds it: shapes, or dots where there are very many."""
    kind, mime = ("svg", "image/svg+xml") if points <= DRAWN else ("png", "image/png")
    content = BytesIO()
    figure.savefig(content, format=kind, dpi=150)
    return f"data:{mime};base64,{base64.b64encode(content.getvalue()).decode()}"
