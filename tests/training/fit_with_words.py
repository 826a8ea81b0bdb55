"""`querier fit` with an encoder that needs no weights; the program of the tests of several processes."""

from __future__ import annotations

import sys

import torch
from planted import WordEncoder

from querier.cli import main
from querier.commands import fit

if __name__ == "__main__":
    torch.set_num_threads(1)
    fit.encoder = lambda config: WordEncoder()  # type: ignore[assignment,return-value]
    sys.exit(main())
