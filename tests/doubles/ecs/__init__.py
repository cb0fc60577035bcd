"""A stateful double of the ECS API over real HTTP, for the real boto3: `boto3.client("ecs", endpoint_url=server.url)`.

It keeps clusters, task definitions, tasks and client tokens, checks every request against botocore's own model of the
service, and refuses much of what ECS refuses. Tasks move when a test says so. `EcsServer` is all that users need.
"""

from __future__ import annotations

from tests.doubles.ecs.faults import Fault, Faults
from tests.doubles.ecs.server import Call, EcsServer
from tests.doubles.ecs.store import Clock, SystemClock

__all__ = ["Call", "Clock", "EcsServer", "Fault", "Faults", "SystemClock"]
