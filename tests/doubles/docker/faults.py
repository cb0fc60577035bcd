"""Faults that a test orders: what the next call of a kind meets instead of, or after, its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tests.doubles.fault_queue import FaultQueue


@dataclass
class Fault:
    """What happens to a call such as `start`.

    `cut_before`: the connection is cut and nothing done. `cut_after`: done, and the connection cut. `status`: answered
    with `status` and `message`, not done.
    """

    then: Literal["cut_before", "cut_after", "status"]
    when: str
    times: int | None = 1
    status: int = 500
    message: str = "an internal error"


class Faults(FaultQueue[Fault]):
    """The faults that are waiting."""

    def add(self, when: str, then: Literal["cut_before", "cut_after", "status"] = "status", **more: Any) -> Fault:
        """Let the next call of that kind meet a fault; `more` are fields of `Fault`."""
        return self.order(Fault(then, when, **more))

    def take(self, what: str) -> Fault | None:
        """The fault that this call meets, counted off."""
        return self.first(lambda fault: fault.when == what)
