"""`querier report`: one HTML page about tested runs."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from querier.analysis.report.page import write_report
from querier.analysis.report.runs import gather
from querier.commands.options import ReportOptions

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
    into = Path(options.into) if options.into else default_path(options.output, [one.name for one in report.entries])
    written = write_report(report, into)
    log.info("written to %s%s", written, "; it holds texts of queriers" if report.has_texts else "")
    return written


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
