"""`querier test`: score the held-out dialogues of a run, once."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)
