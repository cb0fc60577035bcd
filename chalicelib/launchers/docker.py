"""Starts flow runs of Prefect 1 as containers of a Docker daemon: the one module that imports its SDK, an extra."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import docker  # type: ignore[import-untyped]
import requests
from docker.errors import APIError, DockerException, NotFound  # type: ignore[import-untyped]

from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.run_configs import read_docker_run
from chalicelib.errors import (
    LaunchDeferred,
    LaunchError,
    LaunchForbidden,
    LaunchRejected,
    LaunchUnknown,
    UnsupportedRun,
    shorten,
)
from chalicelib.flow_runs import FlowRun, Place
from chalicelib.launchers.platform_launcher import FlowContainer, PlatformLauncher
from chalicelib.launchers.rulings import Ruling, by_text
from chalicelib.ports import Clock
from chalicelib.sightings import Sighting, Stop

RUN_LABEL, AGENT_LABEL, KEY_LABEL = "io.prefect.flow-run-id", "prefect-agent.agent", "prefect-agent.launch-key"
"""Labels of a container: its flow run, as Prefect's own agent writes it, and who launched it by which key."""

TEXT = "Container ID: "
RETENTION_SECONDS = 60 * 60
"""How long a container is kept that has ended, so that it can be seen how."""

API_VARIABLE = "PREFECT__CLOUD__API"
SERVER_NETWORK, SERVER_IN_NETWORK = "prefect-server", "http://apollo:4200"
"""The network that `prefect server start` makes, and where the API is in it."""

_THIS_MACHINE = re.compile(r"(?<=://)(localhost|127\.0\.0\.1|\[::1\])(?=[:/?#]|$)")

REFUSALS = (
    (r"network \S+ not found", Ruling(LaunchForbidden, "create the network, or name another (--network)")),
    (r"toomanyrequests|imeout|EOF|: 50\d", Ruling(LaunchDeferred, "the registry is too busy or away")),
    (
        r"(?i)no such image|manifest|pull access denied|unauthorized|repository",
        Ruling(LaunchRejected, "check the image's name and the login to its registry; --no-pull takes a local one"),
    ),
    (r"OCI runtime|executable file", Ruling(LaunchRejected, "check the image: Prefect must be in it")),
)
"""What the daemon says of images and containers; the first that fits. Else 4xx is for good, and 5xx for now."""

FAILURES = (
    (r"ermission", Ruling(LaunchForbidden, "let this user speak to the daemon: the group `docker`, or --base-url")),
    (
        r"refused|FileNotFoundError|NewConnectionError|resolve",
        Ruling(LaunchDeferred, "start the Docker daemon, or say where it is (--base-url)"),
    ),
)
"""What the client says without an answer of the daemon's; whatever else it is, nobody knows how far it came."""


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


@dataclass(frozen=True)
class DockerLaunch(FlowContainer):
    """One container; `host_config` are arguments of the Docker SDK's `create_host_config`."""

    host_config: Mapping[str, Any] = field(default_factory=dict)
    ports: Sequence[int] = ()


class DockerLauncher(PlatformLauncher):
    """Starts containers. One a process, for all threads."""

    def __init__(self, container: ContainerSettings, options: DockerOptions, clock: Clock) -> None:
        reachable = replace(container, api_url=reachable_api_url(container.api_url, options.networks))
        super().__init__(reachable)
        self._options, self._clock = options, clock
        self._pulls: dict[str, Future[None]] = {}
        self._lock = threading.Lock()

    @cached_property
    def _client(self) -> docker.APIClient:
        with _answers(f"Docker at {self._options.base_url}"):
            return docker.APIClient(self._options.base_url, "auto", self._options.timeout_seconds)

    @cached_property
    def place(self) -> Place:
        """The daemon, by its id. Raises LaunchError while it cannot be asked."""
        with _answers(f"Docker at {self._options.base_url}"):
            return Place("docker", str(self._client.info()["ID"]))

    def build(self, run: FlowRun) -> DockerLaunch:
        """The container of `run`. Raises UnsupportedRun, and LaunchError while the daemon is away."""
        asked, options = read_docker_run(run), self._options
        host_config: dict[str, Any] = {"extra_hosts": {"host.docker.internal": "host-gateway"}}
        host_config["binds"] = [each if ":" in each else f"{each}:{each}" for each in options.volumes]
        if options.networks[:1] in (("host",), ("none",)):
            host_config["network_mode"] = options.networks[0]
        host_config |= asked.host_config
        with _answers(f"Docker at {options.base_url}"):
            # What cannot be asked of it could not be launched: that is told before the claim.
            self._client.ping()
            try:
                self._client.create_host_config(**host_config)
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
        self._pull(request.image, start_until)
        if self._clock.now() > start_until:
            raise LaunchUnknown("This tick stood still, the claim may be another's now")
        with _answers(f"Container of {request.image}"):
            seen = self._client.inspect_container(self._create(request, key))
            if seen["State"]["Status"] == "created":
                self._start(seen)
            elif (stop := read_stop(seen)) and not stop.went_well:
                raise LaunchRejected(stop.reason)
        return TEXT + str(seen["Id"])

    def _pull(self, image: str, start_until: datetime) -> None:
        """Pull an image of a registry, once for all who wait for it. Raises LaunchDeferred when it takes longer."""
        if not self._options.pulls or "/" not in image:
            return
        with self._lock:
            is_new = image not in self._pulls
            pull = self._pulls.setdefault(image, Future())
        if is_new:
            threading.Thread(target=self._fetch, args=(image, pull), daemon=True).start()
        try:
            pull.result(max(0.0, (start_until - self._clock.now()).total_seconds()))
        except TimeoutError:
            raise LaunchDeferred(f"Image {image} is still being pulled") from None

    def _fetch(self, image: str, pull: Future[None]) -> None:
        try:
            with _answers(f"Pulling {image}"):
                for line in self._client.pull(image, stream=True, decode=True):
                    if "error" in line:
                        ruling = by_text(REFUSALS, line["error"]) or Ruling(LaunchRejected)
                        raise ruling.say(f"Pulling {image}", shorten(line["error"]))
            pull.set_result(None)
        except Exception as error:
            pull.set_exception(error)  # whoever waits for the image hears of it
        finally:
            del self._pulls[image]

    def _create(self, request: DockerLaunch, key: str) -> str:
        run, networks, name = request.run, self._options.networks, f"prefect-{key}"
        labels = {"io.prefect.flow-name": run.flow.name, "io.prefect.flow-id": run.flow.id}
        endpoints = {network: self._client.create_endpoint_config() for network in networks[:1]}
        try:
            created = self._client.create_container(
                request.image,
                list(request.command),
                name=name,
                environment=dict(request.environment),
                ports=list(request.ports) or None,
                labels={**labels, RUN_LABEL: run.id, AGENT_LABEL: self._options.agent_name, KEY_LABEL: key},
                host_config=self._client.create_host_config(**request.host_config),
                networking_config=self._client.create_networking_config(endpoints) if endpoints else None,
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
            for network in self._options.networks[1:]:
                if network not in joined:
                    self._client.connect_container_to_network(container_id, network)
            self._client.start(container_id)
        except APIError:
            with suppress(APIError, requests.RequestException):
                self._client.remove_container(container_id, force=True)
            raise
        if self._options.shows_logs:
            threading.Thread(target=self._show_logs, args=(container_id,), daemon=True).start()

    def _show_logs(self, container_id: str) -> None:
        with suppress(APIError, requests.RequestException):
            for line in self._client.logs(container_id, stream=True, follow=True):
                print(line.decode(errors="replace").rstrip())  # noqa: T201 - somebody asked to see it

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
            if TEXT + row["Id"] not in texts and row["Labels"].get(AGENT_LABEL) == self._options.agent_name:
                self._remove_old(row)
        return [self._sight(row) for row in rows if TEXT + row["Id"] in texts]

    def list_alive(self) -> list[Sighting]:
        """The containers of an agent of this name that run."""
        sightings = (self._sight(row) for row in self._list(f"{AGENT_LABEL}={self._options.agent_name}"))
        return [sighting for sighting in sightings if sighting.is_running]

    def stop(self, sighting: Sighting, reason: str) -> None:  # noqa: ARG002 - a container has no place for it
        """Send SIGTERM, and SIGKILL 10 s later."""
        with _answers(sighting.text), suppress(NotFound):
            self._client.stop(sighting.text.removeprefix(TEXT), timeout=10)

    def _list(self, label: str) -> list[Mapping[str, Any]]:
        with _answers("Listing containers"):
            return list(self._client.containers(all=True, filters={"label": label}))

    def _sight(self, row: Mapping[str, Any]) -> Sighting:
        labels, stop = row["Labels"], None
        if row["State"] in ("exited", "dead"):
            with _answers(f"Container {row['Id']}"):
                stop = read_stop(self._client.inspect_container(row["Id"]))
        is_running = row["State"] in ("running", "paused", "restarting")
        return Sighting(labels[RUN_LABEL], labels.get(KEY_LABEL), TEXT + row["Id"], is_running, stop)

    def _remove_old(self, row: Mapping[str, Any]) -> None:
        before = self._clock.now().timestamp() - RETENTION_SECONDS
        if row["State"] not in ("created", "exited", "dead") or row["Created"] > before:
            return
        with suppress(LaunchError), _answers(f"Removing container {row['Id']}"):
            state = self._client.inspect_container(row["Id"])["State"]
            if datetime.fromisoformat(state["FinishedAt"]).astimezone(UTC).timestamp() < before:
                self._client.remove_container(row["Id"])


def read_stop(seen: Mapping[str, Any]) -> Stop | None:
    """How a container has ended, read from what `docker inspect` says; None while it has not."""
    state = seen["State"]
    if state["Status"] not in ("exited", "dead"):
        return None
    advice = "it needs more memory" if state.get("OOMKilled") else f"see `docker logs {seen['Id'][:12]}`"
    said = f"; {shorten(state['Error'])}" if state.get("Error") else ""
    reason = f"{TEXT}{seen['Id']} has ended with exit code {state['ExitCode']}{said} ({advice})"
    return Stop(reason, has_run=True, went_well=state["ExitCode"] == 0)


def reachable_api_url(api_url: str, networks: Sequence[str]) -> str:
    """Where a container finds an API that this machine calls `localhost`."""
    if "host" in networks or not _THIS_MACHINE.search(api_url):
        return api_url
    return SERVER_IN_NETWORK if SERVER_NETWORK in networks else _THIS_MACHINE.sub("host.docker.internal", api_url)


@contextmanager
def _answers(subject: str) -> Iterator[None]:
    """Raises what the daemon, or the client in its place, says as one of the three answers."""
    try:
        yield
    except APIError as error:
        text = str(error.explanation or error)
        kind = LaunchRejected if (error.status_code or 500) < 500 else LaunchDeferred
        raise (by_text(REFUSALS, text) or Ruling(kind)).say(subject, shorten(text)) from error
    except (requests.RequestException, DockerException) as error:
        text = str(error)
        raise (by_text(FAILURES, text) or Ruling(LaunchUnknown)).say(subject, shorten(text)) from error
