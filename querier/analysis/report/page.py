"""One page about tested runs: tables, curves and examples in a single HTML file that needs no network.

A section is a function of a `Report` that returns its title and its HTML, or None where it has nothing to show;
`SECTIONS` lists them in the order of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup

from querier import __version__
from querier.analysis.report.examples import examples
from querier.analysis.report.sections import (
    against,
    all_numbers,
    cold_start,
    comparison,
    dependence,
    excluded,
    helpfulness,
    main_table,
    runs,
    space,
    training,
)
from querier.analysis.report.sources import Report
from querier.analysis.report.templates import page
from querier.errors import InputError
from querier.files import write_atomic

MARK, HEAD = b'<meta name="generator" content="querier">', 1000  # in the first bytes of every report

Section = Callable[[Report], tuple[str, Markup] | None]

SECTIONS: tuple[Section, ...] = (
    runs,
    main_table,
    comparison,
    against,
    helpfulness,
    dependence,
    cold_start,
    space,
    training,
    excluded,
    examples,
    all_numbers,
)


def render(report: Report, sections: Sequence[Section] = SECTIONS) -> str:
    """The page as HTML.

    Args:
        report: What it is about.
        sections: What it shows, in this order.
    """
    drawn = [(section.__name__, found) for section in sections if (found := section(report)) is not None]
    shown = [{"id": name.replace("_", "-"), "title": title, "html": html} for name, (title, html) in drawn]
    return page(title=report.title, sections=shown, version=__version__, texts=report.has_texts)


def write_report(report: Report, into: Path) -> Path:
    """Write the page; a report that stands there is replaced, any other file is not.

    Args:
        report: What it is about.
        into: A file whose name ends in `.html`.

    Raises:
        InputError: Another ending, a file that is no report, or a place that cannot be written.
    """
    if into.suffix != ".html":
        raise InputError(f"into={into} must end in .html; a report is one HTML file")
    if into.is_file() and MARK not in into.read_bytes()[:HEAD]:
        raise InputError(
            f"into={into} holds another page, which no report may replace; give another name, or remove it"
        )
    # Texts of a log may hold halves of letters, which no encoding can write.
    write_atomic(into, render(report).encode("utf-8", "replace"))
    return into
