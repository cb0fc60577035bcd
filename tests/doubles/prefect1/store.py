"""The rows: what PostgreSQL does for Prefect Server."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from tests.doubles.prefect1.tables import FOREIGN_KEYS, TABLES

Row = dict[str, Any]
"""Columns by name; times are aware datetimes in UTC, documents are plain JSON and are replaced, never changed."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "tenant": {"settings": {}},
    "agent_config": {"settings": {}},
    "flow_group": {"settings": {}, "default_parameters": {}},
    "flow": {"archived": False, "settings": {}, "parameters": [], "is_schedule_active": False},
    "task": {"tags": [], "mapped": False, "auto_generated": False},
    "flow_run": {"version": 0, "auto_scheduled": False, "times_resurrected": 0},
    "task_run": {"version": 0, "map_index": -1},
}


class Refused(Exception):
    """The server understood and will not; the message is all that a client has to go by."""


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def now(self) -> datetime:
        """The current time, in UTC."""


class SystemClock:
    """The time of day."""

    def now(self) -> datetime:
        """The current time, in UTC."""
        return datetime.now(UTC)


class Store:
    """Rows by table and id, in the order of their insertion. Not thread-safe: `Backend.lock` is held around it."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self.clock = clock
        self.random = random.Random(seed)
        self.tables: dict[str, dict[str, Row]] = {name: {} for name in TABLES}
        self._owned: dict[tuple[str, str, str], dict[str, Row]] = {}

    def insert(self, table: str, **values: Any) -> Row:
        """A new row; unnamed columns take the table's defaults. Raises Refused as the database would."""
        return self.insert_all(table, [values])[0]

    def insert_all(self, table: str, many: Iterable[Mapping[str, Any]]) -> list[Row]:
        """New rows, all or none."""
        rows = [self._complete(table, values) for values in many]
        for row in rows:
            self.tables[table][row["id"]] = row
            for column, _ in FOREIGN_KEYS[table]:
                self._owned.setdefault((table, column, row[column]), {})[row["id"]] = row
        return rows

    def _complete(self, table: str, values: Mapping[str, Any]) -> Row:
        now = self.clock.now()
        row = {**dict.fromkeys(TABLES[table].columns), **DEFAULTS.get(table, {}), "created": now, "updated": now}
        row.update({"id": self.new_id(), **values})
        self.check(table, row)
        return row

    def check(self, table: str, row: Row) -> None:
        """Raise Refused when the row holds a NUL or points at nothing."""
        refuse_nul(row)
        for column, target in FOREIGN_KEYS[table]:
            if row.get(column) is not None and row[column] not in self.tables[target]:
                raise Refused("Foreign key violation.")

    def update(self, row: Row, **values: Any) -> None:
        """Change columns of a row in place."""
        refuse_nul(values)
        row.update(values, updated=self.clock.now())

    def get(self, table: str, row_id: str | None) -> Row | None:
        """The row of that id."""
        return self.tables[table].get(row_id or "")

    def rows(self, table: str) -> list[Row]:
        """All rows of a table."""
        return list(self.tables[table].values())

    def owned(self, table: str, column: str, owner_id: str) -> list[Row]:
        """The rows of `table` whose foreign key `column` is `owner_id`."""
        return list(self._owned.get((table, column, owner_id), {}).values())

    def delete(self, table: str, row_id: str) -> bool:
        """Delete a row and everything it owns; whether there was such a row."""
        row = self.tables[table].pop(row_id, None)
        if row is None:
            return False
        for column, _ in FOREIGN_KEYS[table]:
            self._owned.get((table, column, row[column]), {}).pop(row_id, None)
        for name, foreign_keys in FOREIGN_KEYS.items():
            for column, target in foreign_keys:
                owned = self.owned(name, column, row_id) if target == table else []
                for child in owned:
                    self.delete(name, child["id"])
        return True

    def shuffled(self, rows: Iterable[Row]) -> list[Row]:
        """The rows in an order nobody may rely on."""
        mixed = list(rows)
        self.random.shuffle(mixed)
        return mixed

    def new_id(self) -> str:
        """A fresh row id."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))


def refuse_nul(value: Any) -> None:
    """Raise Refused when a text anywhere in `value` holds the one character that PostgreSQL cannot store."""
    if isinstance(value, str):
        if "\x00" in value:
            raise Refused("unsupported Unicode escape sequence")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            refuse_nul(key)
            refuse_nul(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            refuse_nul(inner)


def parse_time(text: str) -> datetime:
    """An ISO 8601 time in UTC; one without an offset is in UTC already. Raises ValueError."""
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
