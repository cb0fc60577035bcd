"""Containers of a Docker daemon that were started for flow runs: where they are, how they ended, and their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import docker  # type: ignore[import-untyped]
from docker.errors import NotFound  # type: ignore[import-untyped]

from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.errors import LaunchError, LaunchUnknown, shorten
from chalicelib.launchers.docker_answers import answers
from chalicelib.launchers.platform_launcher import PlatformLauncher
from chalicelib.ports import Clock
from chalicelib.sightings import Sighting, Stop

RUN_LABEL, AGENT_LABEL, KEY_LABEL = "io.prefect.flow-run-id", "prefect-agent.agent", "prefect-agent.launch-key"
"""Labels of a container: its flow run, as Prefect's own agent writes it, and who launched it by which key."""

TEXT = "Container ID: "
RETENTION_SECONDS = 60 * 60
"""How long a container is kept that has ended, so that it can be seen how."""


@dataclass(frozen=True)
class DockerOptions:
    """How an agent uses its daemon. A volume is `/here`, `/here:/there` or `name:/there:ro`."""

    base_url: str
    pulls: bool = True
    volumes: Sequence[str] = ()
    networks: Sequence[str] = ()
    timeout_seconds: int = 60
    agent_name: str = "agent"
    shows_logs: bool = False


class DockerContainers(PlatformLauncher):
    """What a platform needs besides its launches, so that what it has started is looked at again, and ended."""

    def __init__(self, container: ContainerSettings, options: DockerOptions, clock: Clock) -> None:
        super().__init__(container)
        self.options, self.clock = options, clock

    @cached_property
    def client(self) -> docker.APIClient:
        """The daemon's. Raises LaunchError while it cannot be asked."""
        with answers(f"Docker at {self.options.base_url}"):
            return docker.APIClient(self.options.base_url, "auto", self.options.timeout_seconds)

    def find_alive(self, run_id: str) -> Sighting | None:
        """The container of this flow run that runs; None when there is none. Raises LaunchUnknown."""
        try:
            sightings = [self._sight(row) for row in self._list(f"{RUN_LABEL}={run_id}")]
        except LaunchError as error:
            raise LaunchUnknown(str(error)) from error
        return next((sighting for sighting in sightings if sighting.is_running), None)

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:
        """What the daemon says of these containers; others of this agent's that ended an hour ago are removed."""
        rows = self._list(KEY_LABEL)
        for row in rows:
            if TEXT + row["Id"] not in texts and row["Labels"].get(AGENT_LABEL) == self.options.agent_name:
                self._remove_old(row)
        return [self._sight(row) for row in rows if TEXT + row["Id"] in texts]

    def list_alive(self) -> list[Sighting]:
        """The containers of an agent of this name that run."""
        sightings = (self._sight(row) for row in self._list(f"{AGENT_LABEL}={self.options.agent_name}"))
        return [sighting for sighting in sightings if sighting.is_running]

    def stop(self, sighting: Sighting, reason: str) -> None:  # noqa: ARG002 - a container has no place for it
        """Send SIGTERM, and SIGKILL 10 s later."""
        with answers(sighting.text), suppress(NotFound):
            self.client.stop(sighting.text.removeprefix(TEXT), timeout=10)

    def _list(self, label: str) -> list[Mapping[str, Any]]:
        with answers("Listing containers"):
            return list(self.client.containers(all=True, filters={"label": label}))

    def _sight(self, row: Mapping[str, Any]) -> Sighting:
        labels, stop = row["Labels"], None
        if row["State"] in ("exited", "dead"):
            with answers(f"Container {row['Id']}"):
                stop = read_stop(self.client.inspect_container(row["Id"]))
        is_running = row["State"] in ("running", "paused", "restarting")
        return Sighting(labels[RUN_LABEL], labels.get(KEY_LABEL), TEXT + row["Id"], is_running, stop)

    def _remove_old(self, row: Mapping[str, Any]) -> None:
        before = self.clock.now().timestamp() - RETENTION_SECONDS
        if row["State"] not in ("created", "exited", "dead") or row["Created"] > before:
            return
        with suppress(LaunchError), answers(f"Removing container {row['Id']}"):
            state = self.client.inspect_container(row["Id"])["State"]
            if datetime.fromisoformat(state["FinishedAt"]).astimezone(UTC).timestamp() < before:
                self.client.remove_container(row["Id"])


def read_stop(seen: Mapping[str, Any]) -> Stop | None:
    """How a container has ended, read from what `docker inspect` says; None while it has not."""
    state = seen["State"]
    if state["Status"] not in ("exited", "dead"):
        return None
    advice = "it needs more memory" if state.get("OOMKilled") else f"see `docker logs {seen['Id'][:12]}`"
    said = f"; {shorten(state['Error'])}" if state.get("Error") else ""
    reason = f"{TEXT}{seen['Id']} has ended with exit code {state['ExitCode']}{said} ({advice})"
    return Stop(reason, has_run=True, went_well=state["ExitCode"] == 0)
