"""The base of a launcher of one's own: what to start is built, and everything that a platform can do without is there.

`examples/own_platform.py` is a whole platform made from it, `launchers/docker.py` another, and
`launchers/docker_containers.py` is what one adds so that what it has started is looked at again.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chalicelib.builders.flow_container import (
    IMAGE_VARIABLE,
    ContainerSettings,
    container_environment,
    flow_image,
    flow_run_command,
)
from chalicelib.builders.run_configs import read_any_run
from chalicelib.flow_runs import FlowRun, Place
from chalicelib.launches import LAUNCH_THREADS
from chalicelib.sightings import Sighting


@dataclass(frozen=True)
class FlowContainer:
    """What runs one flow run of Prefect 1: `command`, in a container of `image`, with the variables `environment`."""

    run: FlowRun
    image: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)


class PlatformLauncher:
    """A launcher that only needs `launch`; `container` is what this agent's settings say of every flow run.

    Without a `look_at` of its own nothing that it has started is looked at again: as with Prefect's own agents, what
    ends without a word is then left to Prefect. With one it also needs `find_alive`, `list_alive` and `stop`.
    """

    def __init__(self, container: ContainerSettings) -> None:
        self.container = container

    @property
    def place(self) -> Place:
        """Where flow runs are started: claims belong to it, so it stays the same when the agent starts anew."""
        return Place(type(self).__name__, socket.gethostname())

    def build(self, run: FlowRun) -> Any:
        """The launch request: the FlowContainer that the run's flow, run config (of any type) and the agent ask for.

        Raises UnsupportedRun when the run can never be launched, LaunchDeferred when that cannot be said now.
        """
        asked = read_any_run(run)
        image = flow_image(run.flow, asked.image, None)
        environment = {**container_environment(run, self.container, asked.env), IMAGE_VARIABLE: image}
        return FlowContainer(run, image, flow_run_command(run.flow.core_version), environment)

    def launch(self, request: Any, key: str, start_until: datetime) -> str:
        """Start what `build` made and say what it is, such as `Task 17`; twice with one key is to start it once.

        Raises LaunchRejected when it is refused for good, LaunchDeferred when it is refused for now, LaunchUnknown when
        nobody can tell, also when it is later than `start_until`.
        """
        raise NotImplementedError

    def room(self, seconds: float) -> int:  # noqa: ARG002 - the same at any time
        """How many launches fit into so many seconds."""
        return LAUNCH_THREADS

    def find_alive(self, run_id: str) -> Sighting | None:  # noqa: ARG002 - it sees nothing
        """What was once launched for this run and still lives; None when nothing does. Raises LaunchUnknown."""
        return None

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:  # noqa: ARG002 - it sees nothing
        """What has become of the launches that `launch` answered with `texts`. Raises LaunchError."""
        return []

    def read_events(self, bodies: Sequence[str]) -> list[str]:  # noqa: ARG002 - nothing sends any
        """The texts of the launches that these messages say have ended."""
        return []

    def list_alive(self) -> list[Sighting]:
        """Everything of this agent's that has not ended. Raises LaunchError."""
        return []

    def stop(self, sighting: Sighting, reason: str) -> None:
        """End what was launched; only called for what it has sighted. Raises LaunchError."""
        raise NotImplementedError
