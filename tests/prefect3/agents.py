"""Agents' views of a real server, and short words for what happens to a run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.clock import SystemClock
from chalicelib.credentials import Credential
from chalicelib.flow_runs import Claim, FlowRun, Place
from chalicelib.outcomes import Answer, Outcome
from chalicelib.ports import Clock
from chalicelib.prefect_api.prefect3 import Prefect3API
from chalicelib.prefect_api.prefect3_client import Prefect3Client
from chalicelib.prefect_api.prefect3_pools import WorkPools
from chalicelib.prefect_api.transport import PREFECT3_KEY, HttpTransport, SignIn

PLACE = Place("work-pools", "ecs")
KINDS = {"ecs": "Task", "kubernetes": "Job", "process": "Process"}


class LaterClock:
    """The real time, moved by so many seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        SystemClock().sleep(seconds)


def agent_at(
    url: str,
    *pools: str,
    name: str = "agent",
    clock: Clock | None = None,
    sign_in: SignIn = PREFECT3_KEY,
    key: str | None = None,
    deadline_seconds: float = 3600.0,
    **fields: Any,
) -> Prefect3API:
    """An agent of its own; `fields` are those of WorkPools."""
    own_clock = clock or SystemClock()
    transport = HttpTransport(url, own_clock, Credential(key), sign_in)
    served = WorkPools(name, pools, **{"kinds": KINDS, **fields})
    return Prefect3API(Prefect3Client(transport), served, own_clock, deadline_seconds)


def poll(api: Prefect3API, outcomes: Sequence[Outcome] = (), in_seconds: float = 5.0) -> list[FlowRun]:
    return api.record_and_poll(outcomes, api.clock.now() + timedelta(seconds=in_seconds))


def claim_all(api: Prefect3API) -> list[Claim]:
    return api.claim(poll(api), PLACE)


def outcome_of(claim: Claim, answer: Answer, text: str, **fields: Any) -> Outcome:
    return Outcome(claim.run, answer, text, claim, **fields)
