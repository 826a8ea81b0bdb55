"""The report's templates. Every text that they are given is HTML-escaped: names and replies are other people's."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from querier.analysis.report.figures import style
from querier.analysis.report.metrics import GROUPS, MORE_DEPENDENCE, PERSONAL, metric


@cache
def templates() -> Environment:
    """The environment of all templates, which lie beside this module."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    made.globals.update(
        GROUPS=GROUPS,
        PERSONAL=(*PERSONAL, *MORE_DEPENDENCE),
        metric=metric,
        style=style,
        breakable=breakable,
    )
    return made


def breakable(name: str) -> Markup:
    """A name, escaped and apart, that may be broken behind its signs where a line is too short for it."""
    return Markup("<bdi>{}</bdi>").format(Markup("<wbr>").join(re.split(r"(?<=[_+/.])(?=.)", name)))


def draw(part: str, source: str = "parts.html.j2", **values: Any) -> Markup:
    """A macro of a template with its values: HTML in which they are escaped."""
    drawn: Markup = getattr(templates().get_template(source).module, part)(**values)
    return drawn


def page(**values: Any) -> str:
    """The whole page. Its script alone may run, named by its digest; nothing may be loaded from anywhere."""
    script = templates().get_template("page.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return templates().get_template("page.html.j2").render(script=script, digest=digest, **values)
