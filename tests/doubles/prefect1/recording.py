"""What the double remembers of each operation that reached it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from typing import Any

from tests.doubles.prefect1.execution import Field


@dataclass(frozen=True)
class Request:
    """One operation, recorded before anything was done with it.

    `headers` are looked up without regard to case; `variables` are decoded; `fields` are the root fields in order;
    `time` is the double's clock.
    """

    method: str
    path: str
    headers: Message
    query: str
    variables: Mapping[str, Any]
    fields: tuple[Field, ...]
    is_mutation: bool
    time: datetime

    @property
    def field_names(self) -> tuple[str, ...]:
        """The names of the root fields, without aliases."""
        return tuple(each.name for each in self.fields)
