"""`querier COMMAND overrides...`: finds the command, shows messages, sets the exit code; imports nothing heavy."""

from __future__ import annotations

import errno
import logging
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from querier import __version__
from querier.errors import InputError

COMMANDS = {
    "prepare": "read dialogues, embed them, find clusters and contrast users; check_only=true writes nothing",
    "fit": "train a responder: data=sample, or data=jsonl data.path=my_dialogues.jsonl",
    "test": "score the held-out dialogues of a run; run=a against=b compares two",
    "compare": "train and test several methods, one table: 'methods=[ft,querier]' 'seeds=[0,1,2]'",
    "predict": "answer a file: input=queries.jsonl into=replies.jsonl",
    "ask": "answer one query for several queriers: query='...' 'queriers=[ann,bob]'",
    "report": "one HTML page of tables, curves and examples: 'runs=[a,b]'",
    "forget": "remove a querier from a run and the caches: querier=ann",
    "bench": "measure training (name=step), testing (name=score) or choosing contrast users (name=contrast_users)",
    "demo": "train, compare and answer on the bundled corpus",
}

OF_THE_USER = (errno.ENAMETOOLONG, errno.EACCES, errno.ENOSPC, errno.EROFS)  # faults of files that no check foresaw
SHOWN = 80  # letters of such a name
GO_ON = ("prepare", "fit", "compare", "forget")  # after an interruption

HELP = f"""querier {__version__}: language models that answer the same query differently for different queriers

usage: querier COMMAND [group=choice] [setting=value] [-m]

{chr(10).join(f"  {name:<9}{text}" for name, text in COMMANDS.items())}

  querier fit data=sample method=ft        a choice of a group, here of data and of method
  querier fit trainer.max_epochs=2         a setting
  querier fit seed=0,1,2 -m                one run for each value; sweep=seeds does the same
  querier fit --cfg job                    every setting and its value
  querier fit --help                       every group and its choices
"""

QUIET = (  # true of every run, and nothing that a user could act upon
    ".*isinstance.treespec, LeafSpec.*",
    "Checkpoint directory .* exists and is not empty",
    "The number of training batches .* is smaller than the logging interval",
    "Found .* in eval mode at the start of training",  # a frozen decoder is meant to be
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: What stands after `querier`; the program's own when None.

    Returns:
        0 when the command did its work, 2 when what was given cannot be used, 130 when interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(HELP)
        return 0 if words else 2
    if "-V" in words or "--version" in words:  # after a command too, where Hydra would say its own
        sys.stdout.write(f"querier {__version__}\n")
        return 0
    try:
        return _run(words[0], words[1:])
    except InputError as error:
        sys.stderr.write(f"querier: {error}\n")
        return 2
    except OSError as error:
        if error.errno not in OF_THE_USER:
            raise
        name = f"{str(error.filename)[:SHOWN]}: " if error.filename else ""
        sys.stderr.write(f"querier: {name}{error.strerror}\n")
        return 2
    except KeyboardInterrupt:
        same = "the same command without overwrite=true" if "overwrite=true" in words else "the same command"
        goes_on = f"; {same} goes on from here" if words[0] in GO_ON else " before its end"
        sys.stderr.write(f"querier: interrupted{goes_on}\n")
        return 130


def _run(command: str, overrides: list[str]) -> int:
    if command not in COMMANDS:
        import difflib  # only needed where something is wrong

        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean `querier {close[0]}`?" if close else "`querier --help` shows what they do"
        raise InputError(f"no command {command!r}; there are {', '.join(COMMANDS)}; {hint}")
    from querier.commands.compose import launch  # Hydra: a fifth of a second

    def run(options: object) -> float | None:
        _show_messages()
        # The command's module brings in torch, so it comes after every check of the options.
        result = import_module(f"querier.commands.{command}").run(options)
        return result if isinstance(result, float) else None

    launch(command, overrides, run, COMMANDS[command])
    return 0


class _ErrorStream(logging.Handler):
    """Writes each message to whatever the error stream is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")


def _show_messages() -> None:
    logger = logging.getLogger("querier")
    if not logger.handlers:
        logger.addHandler(_ErrorStream())
        logger.setLevel(logging.INFO)
        logger.propagate = False
        # Lightning greets, advises and reports each of its settings; what matters of it we say ourselves. Its packages
        # set their own level when they are imported, the modules that speak do not.
        for package in ("pytorch", "fabric"):
            logging.getLogger(f"lightning.{package}.utilities.rank_zero").setLevel(logging.WARNING)
        for text in QUIET:
            warnings.filterwarnings("ignore", message=text)


if __name__ == "__main__":
    sys.exit(main())
