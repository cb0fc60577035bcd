"""Starts flow runs of Prefect 1 as containers of a Docker daemon. Its SDK is an extra; no other platform imports it."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import requests
from docker.errors import APIError, DockerException  # type: ignore[import-untyped]

from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.run_configs import read_docker_run
from chalicelib.errors import LaunchRejected, LaunchUnknown, UnsupportedRun, shorten
from chalicelib.flow_runs import FlowRun, Place
from chalicelib.launchers.docker_answers import answers
from chalicelib.launchers.docker_containers import (
    AGENT_LABEL,
    KEY_LABEL,
    RUN_LABEL,
    TEXT,
    DockerContainers,
    DockerOptions,
    read_stop,
)
from chalicelib.launchers.docker_images import Images
from chalicelib.launchers.platform_launcher import FlowContainer
from chalicelib.ports import Clock

__all__ = ["TEXT", "DockerLaunch", "DockerLauncher", "DockerOptions", "reachable_api_url"]

API_VARIABLE = "PREFECT__CLOUD__API"
SERVER_NETWORK, SERVER_IN_NETWORK = "prefect-server", "http://apollo:4200"
"""The network that `prefect server start` makes, and where the API is in it."""

_THIS_MACHINE = re.compile(r"(?<=://)(localhost|127\.0\.0\.1|\[::1\])(?=[:/?#]|$)")


@dataclass(frozen=True)
class DockerLaunch(FlowContainer):
    """One container; `host_config` are arguments of the Docker SDK's `create_host_config`."""

    host_config: Mapping[str, Any] = field(default_factory=dict)
    ports: Sequence[int] = ()


class DockerLauncher(DockerContainers):
    """Starts containers. One a process, for all threads."""

    def __init__(self, container: ContainerSettings, options: DockerOptions, clock: Clock) -> None:
        reachable = replace(container, api_url=reachable_api_url(container.api_url, options.networks))
        super().__init__(reachable, options, clock)
        self._images = Images()

    @cached_property
    def place(self) -> Place:
        """The daemon, by its id. Raises LaunchError while it cannot be asked."""
        with answers(f"Docker at {self.options.base_url}"):
            return Place("docker", str(self.client.info()["ID"]))

    def build(self, run: FlowRun) -> DockerLaunch:
        """The container of `run`. Raises UnsupportedRun, and LaunchError while the daemon is away."""
        asked, options = read_docker_run(run), self.options
        host_config: dict[str, Any] = {"extra_hosts": {"host.docker.internal": "host-gateway"}}
        host_config["binds"] = [each if ":" in each else f"{each}:{each}" for each in options.volumes]
        if options.networks[:1] in (("host",), ("none",)):
            host_config["network_mode"] = options.networks[0]
        host_config |= asked.host_config
        with answers(f"Docker at {options.base_url}"):
            # What cannot be asked of it could not be launched: that is told before the claim.
            self.client.ping()
            try:
                self.client.create_host_config(**host_config)
            except (TypeError, ValueError, DockerException) as error:
                raise UnsupportedRun(f"the run config has an unusable host_config: {shorten(str(error))}") from None
        flow = super().build(run)
        # What somebody says of the way from a container to the API is better than what is guessed here.
        said = {**self.container.env_vars, **asked.env}.get(API_VARIABLE, self.container.api_url)
        environment = {**flow.environment, API_VARIABLE: said}
        command = flow.command[-1].split()  # as Prefect's own agent has it, without a shell
        return DockerLaunch(run, flow.image, command, environment, host_config, asked.ports)

    def launch(self, request: DockerLaunch, key: str, start_until: datetime) -> str:
        """Make the container named by `key` and start it, or find the one that the key has made already."""
        if self.options.pulls and "/" in request.image:  # without one it is no registry's
            self._images.pull(self.client, request.image, (start_until - self.clock.now()).total_seconds())
        if self.clock.now() > start_until:
            raise LaunchUnknown("This tick stood still, the claim may be another's now")
        with answers(f"Container of {request.image}"):
            seen = self.client.inspect_container(self._create(request, key))
            if seen["State"]["Status"] == "created":
                self._start(seen)
            elif (stop := read_stop(seen)) and not stop.went_well:
                raise LaunchRejected(stop.reason)
        return TEXT + str(seen["Id"])

    def _create(self, request: DockerLaunch, key: str) -> str:
        run, networks, name = request.run, self.options.networks, f"prefect-{key}"
        labels = {"io.prefect.flow-name": run.flow.name, "io.prefect.flow-id": run.flow.id}
        endpoints = {network: self.client.create_endpoint_config() for network in networks[:1]}
        try:
            created = self.client.create_container(
                request.image,
                list(request.command),
                name=name,
                environment=dict(request.environment),
                ports=list(request.ports) or None,
                labels={**labels, RUN_LABEL: run.id, AGENT_LABEL: self.options.agent_name, KEY_LABEL: key},
                host_config=self.client.create_host_config(**request.host_config),
                networking_config=self.client.create_networking_config(endpoints) if endpoints else None,
            )
        except APIError as error:
            if error.status_code != 409:
                raise
            return name
        return str(created["Id"])

    def _start(self, created: Mapping[str, Any]) -> None:
        """Start a container that was made. What the daemon refuses to start is removed, as it never ran."""
        container_id, joined = created["Id"], created["NetworkSettings"]["Networks"]
        try:
            for network in self.options.networks[1:]:
                if network not in joined:
                    self.client.connect_container_to_network(container_id, network)
            self.client.start(container_id)
        except APIError:
            with suppress(APIError, requests.RequestException):
                self.client.remove_container(container_id, force=True)
            raise
        if self.options.shows_logs:
            threading.Thread(target=self._show_logs, args=(container_id,), daemon=True).start()

    def _show_logs(self, container_id: str) -> None:
        with suppress(APIError, requests.RequestException):
            for line in self.client.logs(container_id, stream=True, follow=True):
                print(line.decode(errors="replace").rstrip())  # noqa: T201 - somebody asked to see it


def reachable_api_url(api_url: str, networks: Sequence[str]) -> str:
    """Where a container finds an API that this machine calls `localhost`."""
    if "host" in networks or not _THIS_MACHINE.search(api_url):
        return api_url
    return SERVER_IN_NETWORK if SERVER_NETWORK in networks else _THIS_MACHINE.sub("host.docker.internal", api_url)
