"""A stateful double of the Kubernetes API over real HTTPS: `KubernetesServer` has a `url`, a CA of its own and tokens.

It keeps namespaces, Jobs, their pods and events, checks what is sent against the generated models of the API, and
refuses in the words of the API server. Jobs get their pods as the Job controller makes them; pods move when a test
says so. `KubernetesServer` is all that users need.
"""

from __future__ import annotations

from tests.doubles.kubernetes.faults import Fault, Faults
from tests.doubles.kubernetes.routes import Call
from tests.doubles.kubernetes.server import KubernetesServer
from tests.doubles.kubernetes.store import Clock, SystemClock

__all__ = ["Call", "Clock", "Fault", "Faults", "KubernetesServer", "SystemClock"]
