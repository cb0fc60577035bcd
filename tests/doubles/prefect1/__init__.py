"""A stateful double of the Prefect 1 API (Server, or Cloud on request) over real HTTP.

It follows Prefect Server's own rules for states, the queue, agents and logs; `tests/contract` holds it against the real
client and agent. `Prefect1Server` is all that users need.
"""

from __future__ import annotations

from tests.doubles.prefect1.faults import Fault, Faults
from tests.doubles.prefect1.recording import Request
from tests.doubles.prefect1.server import CLOUD_KEY, Prefect1Server
from tests.doubles.prefect1.store import Clock, SystemClock

__all__ = ["CLOUD_KEY", "Clock", "Fault", "Faults", "Prefect1Server", "Request", "SystemClock"]
