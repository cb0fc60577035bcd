"""What a platform's words mean, as tables are written: an answer, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from chalicelib.errors import LaunchError


class Ruling(NamedTuple):
    """The answer, and what to do about it."""

    answer: type[LaunchError]
    advice: str = ""

    def say(self, subject: str, text: str) -> LaunchError:
        """The answer to what was asked of `subject`, with what the platform said."""
        return self.answer(f"{subject}: {text}" + (f" ({self.advice})" if self.advice else ""))


def by_name(table: Mapping[Ruling, str]) -> dict[str, Ruling]:
    """Rulings by each of the names that a table has for them, which white space separates."""
    return {name: ruling for ruling, names in table.items() for name in names.split()}


def by_text(table: Iterable[tuple[str, Ruling]], text: str) -> Ruling | None:
    """The ruling of the first pattern that is found in a text."""
    return next((ruling for pattern, ruling in table if re.search(pattern, text)), None)
