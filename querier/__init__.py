"""Language models that answer the same query differently for different queriers."""

from __future__ import annotations

__version__ = "0.1.0"
