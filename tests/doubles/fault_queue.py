"""The faults that wait in a double until a call meets one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Counted(Protocol):
    """A fault that so many calls meet, every one when None."""

    times: int | None


SomeFault = TypeVar("SomeFault", bound=Counted)


class FaultQueue(Generic[SomeFault]):
    """The faults that are waiting, oldest first; a call meets at most one of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[SomeFault] = []

    def order(self, fault: SomeFault) -> SomeFault:
        """Let this fault wait."""
        with self._lock:
            self._waiting.append(fault)
        return fault

    def clear(self) -> None:
        """Forget what is waiting."""
        with self._lock:
            self._waiting.clear()

    def first(self, meets: Callable[[SomeFault], bool]) -> SomeFault | None:
        """The first fault that is met, counted off."""
        with self._lock:
            fault = next((fault for fault in self._waiting if meets(fault)), None)
            if fault and fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
            return fault
