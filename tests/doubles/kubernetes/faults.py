"""Faults that a test orders: what the next matching calls meet instead of, or after, their answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.doubles.fault_queue import FaultQueue
from tests.doubles.kubernetes.refusals import PLAIN, WORDS, Refusal
from tests.doubles.kubernetes.routes import Call

Then = Literal["cut_before", "cut_after", "status", "delay"]
When = str | Callable[[Call], bool] | None


@dataclass
class Fault:
    """What happens to a matching call.

    `cut_before`: the connection is cut and nothing done. `cut_after`: done, and the connection cut instead of an
    answer. `status`: answered with `status` and `body` (without one, as the server words it), not done; with a
    `Retry-After` of `retry_after_seconds`, 1 for a 429. `delay`: done and answered after `seconds`. Of the
    matching calls only each `every`-th one meets it.
    """

    then: Then
    when: When = None
    times: int | None = 1
    status: int = 503
    body: str = ""
    retry_after_seconds: int | None = None
    seconds: float = 0.0
    every: int = 1
    _passed: int = 0

    def meets(self, call: Call) -> bool:
        """Whether this call meets the fault; the calls that match are counted."""
        if not self.matches(call):
            return False
        self._passed += 1
        return self._passed % self.every == 0

    def matches(self, call: Call) -> bool:
        """Whether the fault is for this call: any, one of that verb and resource, or what the predicate says."""
        if self.when is None:
            return True
        return self.when == call.what if isinstance(self.when, str) else self.when(call)

    @property
    def headers(self) -> dict[str, str]:
        """What goes with a `status`."""
        seconds = self.retry_after_seconds or (1 if self.status == 429 else None)
        return {} if seconds is None else {"retry-after": str(seconds)}

    @property
    def answer(self) -> Any:
        """The body of a `status`: text as it is, or a `Status`."""
        reason, message = WORDS.get(self.status, ("Unknown", "an error on the server has prevented the request"))
        return self.body or PLAIN.get(self.status) or Refusal(self.status, reason, message).body


class Faults(FaultQueue[Fault]):
    """The faults that are waiting, oldest first; a call meets at most one of them."""

    def add(self, when: When = None, then: Then = "status", times: int | None = 1, **more: Any) -> Fault:
        """Let the next `times` matching calls (every one when None) meet a fault; `more` are fields of `Fault`."""
        return self.order(Fault(then=then, when=when, times=times, **more))

    def take(self, call: Call) -> Fault | None:
        """The fault that this call meets, counted off."""
        return self.first(lambda fault: fault.meets(call))
