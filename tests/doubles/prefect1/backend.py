"""What every rule of the server works with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.doubles.prefect1.queue import WaitingRuns
from tests.doubles.prefect1.store import Clock, Refused, Row, Store

SUBMITTED_LOCK_SECONDS = 30.0
"""How long a run cannot be submitted again, counted from its first Submitted; the server's own constant."""


@dataclass
class Backend:
    """The server's state: rows, locks and, on Cloud, who may do what.

    `api_keys` and `runner_tokens` map a credential to its tenant; both are empty on Server, which asks for none.
    """

    store: Store
    clock: Clock
    cloud: bool = False
    api_keys: dict[str, str] = field(default_factory=dict)
    runner_tokens: dict[str, str] = field(default_factory=dict)
    field_seconds: float = 0.0
    sleep: Callable[[float], None] = time.sleep
    lock: threading.RLock = field(default_factory=threading.RLock)
    submitted: dict[str, datetime] = field(default_factory=dict)
    waiting: WaitingRuns = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = WaitingRuns(self.store)

    def now(self) -> datetime:
        """The server's time."""
        return self.clock.now()

    def take_submitted_lock(self, flow_run_id: str) -> None:
        """Raise Refused when the run was submitted a moment ago. It is never released early, whatever follows."""
        taken = self.submitted.get(flow_run_id)
        if taken and self.now() - taken < timedelta(seconds=SUBMITTED_LOCK_SECONDS):
            raise Refused("State update failed: this run has already been submitted.")
        self.submitted[flow_run_id] = self.now()

    def tenant_of(self, credential: str) -> str | None:
        """The tenant that an API key or RUNNER token belongs to."""
        return self.api_keys.get(credential) or self.runner_tokens.get(credential)


@dataclass(frozen=True)
class Call:
    """One request as the rules see it: the backend and the headers that the gateway forwards, by lower-case name."""

    backend: Backend
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        """The rows."""
        return self.backend.store

    @property
    def agent_id(self) -> str | None:
        """Who asks, if it says so."""
        return self.headers.get("x-prefect-agent-id")

    @property
    def credential(self) -> str:
        """The bearer token, or nothing."""
        return self.headers.get("authorization", "").removeprefix("Bearer ").strip()

    def existing(self, table: str, row_id: str | None, refusal: str) -> Row:
        """The row of that id. Raises Refused with `refusal` when there is none."""
        row = self.store.get(table, row_id)
        if row is None:
            raise Refused(refusal)
        return row
