"""Faults that a test or a bench orders: what the next matching requests meet instead of, or after, their answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.doubles.fault_queue import FaultQueue
from tests.doubles.prefect1.recording import Request

Then = Literal["status", "html", "api_error", "cut_before", "cut_after", "delay"]
When = str | Callable[[Request], bool] | None

API_ERROR = "Unable to complete operation. An internal API error occurred."


@dataclass
class Fault:
    """What happens to a matching request.

    `status`: answered with `status`, `headers` and `body`, not applied. `html`: HTTP 200 with a page, not applied.
    `api_error`: HTTP 200 with the gateway's words for a backend that is down, not applied. `cut_before`: the connection
    is cut and nothing applied. `cut_after`: applied, and the connection cut instead of an answer. `delay`: answered
    after `seconds`.
    """

    then: Then
    when: When = None
    times: int | None = 1
    status: int = 503
    body: str = "Service Unavailable"
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def matches(self, request: Request) -> bool:
        """Whether this request meets the fault: any, one with that root field, or what the predicate says."""
        if self.when is None:
            return True
        return self.when in request.field_names if isinstance(self.when, str) else self.when(request)


class Faults(FaultQueue[Fault]):
    """The faults that are waiting, oldest first; a request meets at most one of them."""

    def add(self, then: Then, when: When = None, times: int | None = 1, **more: Any) -> Fault:
        """Let the next `times` matching requests (every one when None) meet a fault; `more` are fields of `Fault`."""
        return self.order(Fault(then=then, when=when, times=times, **more))

    def take(self, request: Request) -> Fault | None:
        """The fault that this request meets, counted off."""
        return self.first(lambda fault: fault.matches(request))


def api_error_body(request: Request) -> dict[str, Any]:
    """The answer of a gateway whose database service is away."""
    aliases = [each.alias for each in request.fields]
    exception = {"code": "INTERNAL_SERVER_ERROR", "exception": {"message": API_ERROR}}
    errors = [{"message": API_ERROR, "path": [alias], "extensions": exception} for alias in aliases]
    return {"errors": errors, "data": dict.fromkeys(aliases) if request.is_mutation else None}
