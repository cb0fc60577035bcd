"""A whole Prefect 3 server as it is deployed, a round trip away, that tells what it was asked and by whom."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench.usage import usage_of
from tests.prefect3 import postgres
from tests.prefect3.server import Prefect3Server

PROGRAMS = Path(__file__).parent / "in_prefect3_environment"
POLL = "get_scheduled_flow_runs"
ONLOOKER = "onlooker"
"""Who asks for the bench itself."""

WHOLE = {
    "PREFECT__SERVER_EPHEMERAL": "",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "true",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "true",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "true",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "true",
}
"""The tests' server leaves out what no test needs; who waits for a real one waits for these services too."""


IDLE_CPU, IDLE_LOOKS, SETTLE_PATIENCE_SECONDS = 0.2, 5, 120.0
"""A server that takes less than so much of a core, as often as that with a second in between, has nothing to do."""


class Request(NamedTuple):
    """One answered request: when it came (as `time.time()`), how long it took, who asked (the first word of the
    User-Agent), and what for."""

    at: float
    seconds: float
    agent: str
    method: str
    path: str


class ObservedServer(Prefect3Server):
    """On PostgreSQL where one is installed, else on SQLite."""

    app = "observed_app:create_app"

    def __init__(self, round_trip_seconds: float = 0.0) -> None:
        own = {
            "PYTHONPATH": str(PROGRAMS),
            "BENCH_ROUND_TRIP_SECONDS": str(round_trip_seconds),
            "BENCH_REQUEST_LOG": "requests.log",
        }
        super().__init__(variables={**WHOLE, **own}, is_on_postgres=postgres.is_installed())
        self._session.headers["User-Agent"] = ONLOOKER

    def _start(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        process = super()._start(environment)
        self._process_id = process.pid
        return process

    def settle(self) -> None:
        """Return when it has done all that it does of its own accord, or after SETTLE_PATIENCE_SECONDS."""
        give_up, idle = time.monotonic() + SETTLE_PATIENCE_SECONDS, 0
        while idle < IDLE_LOOKS and time.monotonic() < give_up:
            used = usage_of(self._process_id).cpu_seconds
            time.sleep(1)
            idle = idle + 1 if usage_of(self._process_id).cpu_seconds - used < IDLE_CPU else 0

    def requests(self, since: float = 0.0) -> list[Request]:
        """All requests from then on but those of the bench itself, oldest first."""
        lines = (self.home / "requests.log").read_text().splitlines()
        found = (_read_request(line) for line in lines)
        return sorted(each for each in found if each.at >= since and each.agent != ONLOOKER)

    def polls(self, since: float = 0.0) -> list[Request]:
        """The requests for due runs of a work pool."""
        return [each for each in self.requests(since) if each.path.endswith(POLL)]


def _read_request(line: str) -> Request:
    at, seconds, agent, method, path = line.split(" ", 4)
    return Request(float(at), float(seconds), agent, method, path)


def database_name() -> str:
    """What these servers keep their data in on this machine."""
    return "PostgreSQL" if postgres.is_installed() else "SQLite, as there is no PostgreSQL here"
