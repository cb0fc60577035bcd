"""A clock that stands still until it is turned."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class TurnedClock:
    """A Clock whose time passes when somebody sleeps on it, or turns it."""

    def __init__(self, now: datetime | None = None) -> None:
        self._now = now or datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
        self._lock = threading.Lock()
        self.slept_seconds = 0.0

    def now(self) -> datetime:
        with self._lock:
            return self._now

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.turn(seconds)
            self.slept_seconds += seconds

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._now += timedelta(seconds=seconds)
