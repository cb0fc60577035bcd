"""A stateful double of the Docker Engine API over real HTTP, for the real Docker SDK: `DockerDaemon` has a `url`.

It keeps images, networks and containers and answers in the daemon's words, as far as an agent speaks to it. A container
runs until a test lets it end.
"""

from __future__ import annotations

from tests.doubles.docker.daemon import DockerDaemon
from tests.doubles.docker.faults import Fault

__all__ = ["DockerDaemon", "Fault"]
