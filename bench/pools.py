"""Surroundings with a real Prefect 3 server and a work pool on ECS, for the official worker and for this agent."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import requests

from bench.surroundings import CLUSTER, NETWORK
from tests.doubles.connections import HttpServer
from tests.doubles.ecs import EcsServer
from tests.oracle.prefect3_environment import default_base_job_template
from tests.prefect3.server import PYTHON as PREFECT3
from tests.prefect3.server import Prefect3Server

PAGE = 200


class PoolSurroundings:
    """One server and one ECS; each measured agent has a work pool of its own, all with the official template."""

    def __init__(self, server: Prefect3Server, ecs: EcsServer, template: dict[str, Any], directory: Path) -> None:
        self.server = server
        self.ecs = ecs
        self.template = template
        self.pool = ""
        self.run_ids: list[str] = []
        self.environment = server.client_environment() | {
            "HOME": str(directory),
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL_ECS": ecs.url,
        }

    def add_pool(self, count: int) -> None:
        """A fresh pool with so many due runs of one deployment."""
        self.pool = self.server.create_pool("ecs", self.template)
        deployment = self.server.create_deployment(self.pool)
        self.run_ids = [self.server.create_run(deployment) for _ in range(count)]

    @property
    def ours(self) -> list[str]:
        """The command that an operator types."""
        return [str(Path(sys.executable).with_name("prefect-agent")), "start", "--work-pool", self.pool]

    @property
    def our_tick(self) -> list[str]:
        """One tick in a process of its own."""
        return [str(Path(sys.executable).with_name("prefect-agent")), "tick", "--work-pool", self.pool]

    @property
    def workers(self) -> list[str]:
        """The same with the official worker."""
        return [str(PREFECT3.with_name("prefect")), "worker", "start", "--pool", self.pool, "--type", "ecs"]

    @contextmanager
    def running(self, command: Sequence[str], **more: str) -> Iterator[subprocess.Popen[bytes]]:
        """The command in a process that has ended afterwards."""
        process = subprocess.Popen(
            command,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    def standings(self) -> Counter[str]:
        """How many runs of the pool are in which state; those with an infrastructure pid are `launched`."""
        found: Counter[str] = Counter()
        for offset in range(0, len(self.run_ids), PAGE):
            body = {"work_pools": {"name": {"any_": [self.pool]}}, "limit": PAGE, "offset": offset, "sort": "ID_DESC"}
            for run in self.server.request("POST", "/flow_runs/filter", body):
                found["launched" if run["infrastructure_pid"] else run["state_name"]] += 1
        return found

    def tasks(self) -> Counter[str]:
        """How many tasks there are for each run of the pool."""
        tags = [{tag["key"]: tag["value"] for tag in task["tags"]} for task in self.ecs.tasks()]
        return Counter(
            each["prefect.io/flow-run-id"] for each in tags if each["prefect.io/flow-run-id"] in self.run_ids
        )


@contextmanager
def pool_surroundings() -> Iterator[PoolSurroundings]:
    """Fresh ones, stopped afterwards."""
    template = default_base_job_template("ecs")
    template["variables"]["properties"]["cluster"]["default"] = CLUSTER
    template["job_configuration"]["task_run_request"] |= NETWORK
    with ExitStack() as stack:
        server = stack.enter_context(Prefect3Server())
        ecs = stack.enter_context(EcsServer(clusters=(CLUSTER,)))
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        yield PoolSurroundings(server, ecs, template, Path(directory))


@contextmanager
def counted_requests(url: str) -> Iterator[tuple[str, Counter[str]]]:
    """A way to a server that counts what passes, by method and the kind of path."""
    counts: Counter[str] = Counter()
    lock = threading.Lock()
    origin, _, base = url.rpartition("/")

    class Exchange(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            answer = requests.request(self.command, origin + self.path, data=body, headers=headers, timeout=30)
            with lock:
                counts[f"{self.command} {self.path.split('?')[0]}"] += 1
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 - names that http.server asks for

        def log_message(self, *arguments: Any) -> None:  # noqa: ARG002
            return

    passage = HttpServer(Exchange)
    try:
        yield f"{passage.url}/{base}", counts
    finally:
        passage.stop()
