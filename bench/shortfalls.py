"""Why what was promised is not so, where the reason is known."""

from __future__ import annotations

from collections.abc import Mapping

SHORTFALLS: Mapping[tuple[str, str], str] = {}
"""By sheet and quantity, a sentence without its full stop; it is shown only while the promise does not hold."""
