"""`querier report`: one HTML page about tested runs."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from querier.analysis.report.page import write_report
from querier.analysis.report.sources import comparison_folder, gather
from querier.commands.options import ReportOptions
from querier.errors import InputError
from querier.run import find_run

if TYPE_CHECKING:
    from querier.analysis.report.space import Map

log = logging.getLogger(__name__)

LETTERS = 100  # of the default file's name


def run(options: ReportOptions) -> Path:
    """Write the page.

    Returns:
        Where it lies.

    Raises:
        InputError: A run that does not exist or was not tested, a file that cannot be read or written.
    """
    report = gather(options.runs, options.output, options.title, options.examples)
    if options.maps:
        report = replace(report, maps=maps(options))
    into = Path(options.into) if options.into else default_path(options.output, [one.name for one in report.entries])
    written = write_report(report, into)
    log.info("written to %s%s", written, "; it holds texts of queriers" if report.has_texts else "")
    return written


def maps(options: ReportOptions) -> list[Map]:
    """The maps of the runs that have towers.

    Raises:
        InputError: No run has, or the labels cannot be read.
    """
    from querier.analysis.report.space import read_labels, space_maps  # the model, which a page without maps needs not
    from querier.responder import Responder

    labels = read_labels(Path(options.labels)) if options.labels else {}
    named = [name for name in options.runs or [""] if comparison_folder(name, options.output) is None]
    runs = [run for run in (find_run(name, options.output) for name in named) if run.config().conditioning.towers]
    if not runs:
        raise InputError("maps=true draws queriers of runs of method querier, and none is among the runs; leave it out")
    return [one for run in runs for one in space_maps(Responder.load(run.folder), run.folder.name, labels)]


def default_path(output: str, names: list[str]) -> Path:
    """`report_<names>.html` under the folder of the runs; of many names the first ones, and how many more there are."""
    plain = [re.sub(r"[^\w.+-]+", "_", name) for name in names]
    shown = [plain[0]]
    for name in plain[1:]:
        if len("_".join([*shown, name])) > LETTERS:
            break
        shown.append(name)
    rest = len(plain) - len(shown)
    return Path(output) / f"report_{'_'.join(shown)[:LETTERS]}{f'_and_{rest}_more' if rest else ''}.html"
