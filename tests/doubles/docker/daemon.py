"""`DockerDaemon`: the double as tests hold it."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from tests.doubles.docker.faults import Faults
from tests.doubles.docker.transport import Answer, CutConnection, serve

Row = dict[str, Any]
NEVER = "0001-01-01T00:00:00Z"
API_VERSION = "1.47"
TYPES = {"Env": list, "Cmd": list, "Labels": dict, "HostConfig": dict, "Image": str}


class Refusal(Exception):
    """The daemon says no, in its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.answer = Answer(status, {"message": message})


class DockerDaemon:
    """A daemon at `url`, a context manager. It has `images`, can pull what is in `registry`, and has `networks`."""

    def __init__(
        self,
        images: Iterable[str] = (),
        registry: Iterable[str] = (),
        networks: Iterable[str] = ("bridge", "host", "none"),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        daemon_id: str = "double-1",
    ) -> None:
        self.images, self.registry, self.networks = set(images), set(registry), set(networks)
        self.faults = Faults()
        self.calls: list[str] = []
        self.pull_error = ""
        self.pull_may_end = threading.Event()
        self.pull_may_end.set()
        self._now, self._id = now, daemon_id
        self._containers: dict[str, Row] = {}
        self._lock = threading.Lock()
        self._http = serve(self)
        self.url = self._http.url

    def __enter__(self) -> DockerDaemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving and end every connection."""
        self.pull_may_end.set()
        self._http.stop()

    # what a test does and looks at

    def containers(self) -> list[Row]:
        """The containers there are, as `docker inspect` shows them, the oldest first."""
        with self._lock:
            return copy.deepcopy(list(self._containers.values()))

    def finish(self, container_id: str, exit_code: int = 0, out_of_memory: bool = False) -> None:
        """Let a container that runs end."""
        with self._lock:
            self._end(self._containers[container_id], exit_code, out_of_memory)

    def count(self, what: str) -> int:
        """How often something was called (`create`), whatever became of it."""
        return self.calls.count(what)

    # what the transport asks

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        """Answer one request. Raises CutConnection."""
        act, what, name = self._route(method, re.sub(r"^/v\d+\.\d+", "", path))
        self.calls.append(what)
        fault = self.faults.take(what)
        if fault and fault.then == "cut_before":
            raise CutConnection
        if fault and fault.then == "status":
            return Answer(fault.status, {"message": fault.message})
        if what == "pull":
            self.pull_may_end.wait()
        try:
            with self._lock:
                answer = act(name, query, body)
        except Refusal as refusal:
            answer = refusal.answer
        if fault:
            raise CutConnection
        return answer

    def _route(self, method: str, path: str) -> tuple[Callable[[str, dict[str, str], Any], Answer], str, str]:
        routes = {
            r"GET /version()": ("version", lambda *_: Answer(200, {"ApiVersion": API_VERSION, "Version": "27.3.1"})),
            r"GET /_ping()": ("ping", lambda *_: Answer(200, b"OK")),
            r"GET /info()": ("info", lambda *_: Answer(200, {"ID": self._id})),
            r"POST /images/create()": ("pull", self._pull),
            r"POST /containers/create()": ("create", self._create),
            r"GET /containers/json()": ("list", self._list),
            r"GET /containers/([^/]+)/json": ("inspect", lambda name, *_: Answer(200, self._find(name))),
            r"POST /containers/([^/]+)/start": ("start", self._start),
            r"POST /containers/([^/]+)/stop": ("stop", self._stop),
            r"GET /containers/([^/]+)/logs": ("logs", lambda *_: Answer(200, b"\x01\0\0\0\0\0\0\x06hello\n")),
            r"DELETE /containers/([^/]+)": ("remove", self._remove),
            r"POST /networks/([^/]+)/connect": ("connect", self._connect),
        }
        for pattern, (what, act) in routes.items():
            if found := re.fullmatch(pattern, f"{method} {path}"):
                return act, what, found[1]
        return (lambda *_: Answer(404, {"message": "page not found"})), f"{method} {path}", ""

    def _pull(self, _: str, query: dict[str, str], __: Any) -> Answer:
        image = f"{query['fromImage']}:{query['tag']}"
        if self.pull_error:
            return Answer(200, [{"status": "Pulling"}, {"error": self.pull_error}], is_stream=True)
        if image not in self.registry:
            raise Refusal(404, f"pull access denied for {query['fromImage']}, repository does not exist")
        self.images.add(image)
        return Answer(200, [{"status": "Pulling"}, {"status": "Status: Image is up to date"}], is_stream=True)

    def _create(self, _: str, query: dict[str, str], body: Any) -> Answer:
        for field, kind in TYPES.items():
            if not isinstance(body.get(field), kind):
                raise Refusal(400, f"invalid JSON: {field} is not a {kind.__name__}")
        name, image = query["name"], body["Image"]
        if not re.fullmatch("[a-zA-Z0-9][a-zA-Z0-9_.-]+", name):
            raise Refusal(400, f"Invalid container name ({name})")
        if taken := next((row for row in self._containers.values() if row["Name"] == f"/{name}"), None):
            raise Refusal(
                409, f'Conflict. The container name "/{name}" is already in use by container "{taken["Id"]}".'
            )
        if (image if ":" in image.rpartition("/")[2] else f"{image}:latest") not in self.images:
            raise Refusal(404, f"No such image: {image}")
        endpoints = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
        for network in endpoints:
            self._check_network(network)
        now = self._now().strftime("%Y-%m-%dT%H:%M:%S.%f123Z")
        container_id = hashlib.sha256(f"{name}{len(self.calls)}".encode()).hexdigest()
        self._containers[container_id] = {
            "Id": container_id,
            "Name": f"/{name}",
            "Created": now,
            "Config": {key: body.get(key) for key in ("Image", "Cmd", "Env", "Labels", "ExposedPorts", "Tty")},
            "HostConfig": body["HostConfig"],
            "NetworkSettings": {"Networks": {network: {} for network in endpoints}},
            "State": {"Status": "created", "ExitCode": 0, "OOMKilled": False, "Error": "", "FinishedAt": NEVER},
        }
        return Answer(201, {"Id": container_id, "Warnings": []})

    def _list(self, _: str, query: dict[str, str], __: Any) -> Answer:
        wanted = [label.partition("=") for label in json.loads(query.get("filters", "{}")).get("label", [])]
        rows = []
        for row in self._containers.values():
            labels, state = row["Config"]["Labels"], row["State"]["Status"]
            fits = all(name in labels and (not sign or labels[name] == value) for name, sign, value in wanted)
            if fits and (query.get("all") == "1" or state == "running"):
                created = int(datetime.fromisoformat(row["Created"]).timestamp())
                rows.append({"Id": row["Id"], "Labels": labels, "State": state, "Created": created})
        return Answer(200, rows)

    def _start(self, name: str, _: dict[str, str], __: Any) -> Answer:
        row = self._find(name)
        if row["State"]["Status"] == "running":
            return Answer(304)
        row["State"] |= {"Status": "running", "FinishedAt": NEVER}
        return Answer(204)

    def _stop(self, name: str, _: dict[str, str], __: Any) -> Answer:
        row = self._find(name)
        if row["State"]["Status"] != "running":
            return Answer(304)
        self._end(row, 143)
        return Answer(204)

    def _end(self, row: Row, exit_code: int, out_of_memory: bool = False) -> None:
        finished = self._now().strftime("%Y-%m-%dT%H:%M:%S.%f123Z")
        row["State"] |= {"Status": "exited", "ExitCode": exit_code, "OOMKilled": out_of_memory, "FinishedAt": finished}

    def _remove(self, name: str, query: dict[str, str], _: Any) -> Answer:
        row = self._find(name)
        if row["State"]["Status"] == "running" and query.get("force") not in ("1", "True"):
            raise Refusal(409, "You cannot remove a running container")
        del self._containers[row["Id"]]
        return Answer(204)

    def _connect(self, network: str, _: dict[str, str], body: Any) -> Answer:
        self._check_network(network)
        joined = self._find(body["Container"])["NetworkSettings"]["Networks"]
        if network in joined:
            raise Refusal(403, f"endpoint with name already exists in network {network}")
        joined[network] = {}
        return Answer(200)

    def _check_network(self, network: str) -> None:
        if network not in self.networks:
            raise Refusal(404, f"network {network} not found")

    def _find(self, name: str) -> Row:
        for row in self._containers.values():
            if name in (row["Id"], row["Name"].removeprefix("/")):
                return row
        raise Refusal(404, f"No such container: {name}")
