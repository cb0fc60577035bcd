"""The address of the process form: `/api/health` and `/api/poke`, for whoever watches over the process.

Health is judged as the Lambda's is, by what this process knows of its own ticks instead of what Prefect has recorded.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

from chalicelib.cli.polling import Ticking
from chalicelib.errors import SettingsError
from chalicelib.health import HealthFacts, HealthLimits, Verdict, judge
from chalicelib.outcomes import Answer, TickReport
from chalicelib.ports import Clock
from chalicelib.settings import Settings

LOGGER = logging.getLogger(__name__)

FAULT_SECONDS = 15 * 60
"""For how long a fault of the agent's own counts when nothing was launched since, as in the Lambda."""


class Pulse:
    """Ticks for an agent, and remembers what a verdict asks: its beginning counts as the first poll."""

    def __init__(self, agent: Ticking, clock: Clock) -> None:
        self._agent, self._clock = agent, clock
        self._polled_at = self._fault_at = clock.now()
        self._fault: str | None = None

    def tick(self, deadline: datetime, recovers: bool = False) -> TickReport:
        """The agent's own tick; one that fails is no sign of life."""
        report = self._agent.tick(deadline, recovers)
        self._polled_at = self._clock.now()
        if report.agent_fault or report.answers[Answer.LAUNCHED]:
            self._fault, self._fault_at = report.agent_fault, self._polled_at
        return report

    def health_facts(self, now: datetime) -> HealthFacts:
        """When the latest tick ended that did not fail, and by what fault of the agent's own a run failed lately."""
        is_late = now - self._fault_at > timedelta(seconds=FAULT_SECONDS)
        return HealthFacts(self._polled_at, agent_fault=None if is_late else self._fault)


@contextmanager
def serve_address(agent: Ticking, settings: Settings, clock: Clock, poke: Callable[[], None]) -> Iterator[Ticking]:
    """Serve the address of `settings` while the Ticking of this context ticks for `agent`.

    Raises SettingsError when nothing can listen there, such as when the port is in use.
    """
    pulse = Pulse(agent, clock)
    limits = HealthLimits(settings.poll_age_limit_seconds, settings.backlog_age_limit_seconds)

    def examine() -> Verdict:
        # It costs no request, so unlike the Lambda's it is not kept for the next to ask.
        return judge(pulse.health_facts(now := clock.now()), limits, now)

    with _listen(settings.agent_address or "", examine, poke) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        try:
            yield pulse
        finally:
            server.shutdown()


def _listen(address: str, examine: Callable[[], Verdict], poke: Callable[[], None]) -> _Server:
    parts = urlsplit(address)
    try:
        return _Server(parts.hostname or "", parts.port or 0, examine, poke)
    except (OSError, ValueError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "ports end at 65535"
        raise SettingsError([f"--agent-address: cannot listen at {address} ({why}); choose another port"]) from None


class _Server(ThreadingHTTPServer):
    def __init__(self, host: str, port: int, examine: Callable[[], Verdict], poke: Callable[[], None]) -> None:
        self.examine, self.poke = examine, poke
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Exchange)

    def server_bind(self) -> None:
        # What HTTPServer adds to this asks the DNS for a name that nobody needs, which may take long.
        TCPServer.server_bind(self)


class _Exchange(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/poke" and self.command != "HEAD":  # Prefect's own agent is poked by a GET.
            self.server.poke()
            self._answer(202, {"status": "poked"})
        elif path == "/api/health" and self.command != "POST":
            verdict = self.server.examine()
            self._answer(200 if verdict.is_healthy else 503, verdict.as_dict())
        else:
            self._answer(404, {"status": "there are GET /api/health and POST /api/poke"})

    do_HEAD = do_POST = do_GET  # noqa: N815 - as the base class has them

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
        LOGGER.debug(format, *args)
