"""`python -m querier` is the command line, for environments whose scripts are not on the path."""

import sys

from querier.cli import main

sys.exit(main())
