"""Faults that a test orders: what the next matching calls meet instead of, or after, their answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.doubles.ecs.protocol import Refusal
from tests.doubles.fault_queue import FaultQueue

Then = Literal["cut_before", "cut_after", "status", "error", "delay", "throttle", "throttle_disguised", "failure"]
When = str | Callable[[str, Mapping[str, Any]], bool] | None


@dataclass
class Fault:
    """What happens to a matching call.

    `cut_before`: the connection is cut and nothing done. `cut_after`: done, and the connection cut instead of an
    answer. `status`: answered with `status` and `body`, not done. `error`: answered with `code` and `message` (under
    `status`, 400 when it is left alone), not done. `delay`: done and answered after `seconds`. `throttle` and
    `throttle_disguised`: refused as ECS does. `failure`: RunTask answers 200, with `reason` among its failures.
    """

    then: Then
    when: When = None
    times: int | None = 1
    status: int | None = None
    body: str = ""
    code: str = "ServerException"
    message: str = "Service Unavailable. Please try again later."
    seconds: float = 0.0
    reason: str = "RESOURCE:CPU"
    detail: str | None = None

    def matches(self, action: str, parameters: Mapping[str, Any]) -> bool:
        """Whether this call meets the fault: any, one of that action, or what the predicate says."""
        if self.when is None:
            return True
        return self.when == action if isinstance(self.when, str) else self.when(action, parameters)

    def refuse(self) -> None:
        """Raise the error answer of this fault, if it has one."""
        if self.then == "error":
            raise Refusal(self.code, self.message, self.status or 400)
        if self.then in ("throttle", "throttle_disguised"):
            raise throttled(disguised=self.then == "throttle_disguised")


class Faults(FaultQueue[Fault]):
    """The faults that are waiting, oldest first; a call meets at most one of them."""

    def add(self, when: When = None, then: Then = "status", times: int | None = 1, **more: Any) -> Fault:
        """Let the next `times` matching calls (every one when None) meet a fault; `more` are fields of `Fault`."""
        return self.order(Fault(then=then, when=when, times=times, **more))

    def take(self, action: str, parameters: Mapping[str, Any]) -> Fault | None:
        """The fault that this call meets, counted off."""
        return self.first(lambda fault: fault.matches(action, parameters))


def throttled(disguised: bool = False) -> Refusal:
    """ECS's refusal of a call that came too fast: plain, or as an error of a service behind it."""
    if disguised:
        text = "Error retrieving subnet information for [subnet-0a1b2c3d]: Rate exceeded (ErrorCode: Throttling)"
        return Refusal("InvalidParameterException", text)
    return Refusal("ThrottlingException", "Rate exceeded")
