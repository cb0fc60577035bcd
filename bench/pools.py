"""Surroundings with a real Prefect 3 server and a double of ECS, for the official worker and for this agent."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.observed_server import SETTLE_PATIENCE_SECONDS, ObservedServer
from bench.surroundings import CLUSTER, NETWORK, end
from tests.doubles.ecs import EcsServer
from tests.oracle.prefect3_environment import default_base_job_template
from tests.prefect3.server import PYTHON as PREFECT3

PAGE = 200
LOOK_SECONDS = 5.0
"""How often Prefect is asked how the runs stand while ECS shows that some are left; to ask costs what is measured."""


class PoolSurroundings:
    """One server and one ECS; the pools in use, which have the official template, change with each `add_pool`."""

    def __init__(self, server: ObservedServer, ecs: EcsServer, template: dict[str, Any], directory: Path) -> None:
        self.server = server
        self.ecs = ecs
        self.template = template
        self.directory = directory
        self.pools: list[str] = []
        self.run_ids: list[str] = []
        self.environment = server.client_environment() | {
            "HOME": str(directory),
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL_ECS": ecs.url,
            "AGENT_STRAYS": "ignore",  # It is done once an hour, so that it would be in some measurements only.
        }
        self._looked_at = 0.0

    def beside(self) -> PoolSurroundings:
        """The same server and ECS with other pools in use."""
        return PoolSurroundings(self.server, self.ecs, self.template, self.directory)

    def add_pool(self, count: int) -> None:
        """Go on with a fresh pool that has so many due runs of one deployment."""
        self.add_pools(1, count)

    def add_pools(self, pools: int, count: int) -> None:
        """Go on with so many fresh pools, each with a deployment, and so many due runs spread evenly over them."""
        self.pools = [self.server.create_pool("ecs") for _ in range(pools)]
        self.run_ids = []
        flow_id = self.server.create_flow()
        for number, pool in enumerate(self.pools):
            deployment = self.server.create_deployment(pool, flow_id)
            self.run_ids += self.server.create_runs(deployment, len(range(number, count, pools)))
            # A server takes 0.15 s to check one run that is created against the official template.
            self.server.update_pool(pool, base_job_template=self.template)

    def settle(self) -> None:
        """Return when the server has marked the due runs as late, and is idle."""
        give_up = time.monotonic() + SETTLE_PATIENCE_SECONDS
        while self.standings()["Scheduled"] and time.monotonic() < give_up:
            time.sleep(2)
        self.server.settle()

    @property
    def pool(self) -> str:
        """The first pool in use."""
        return self.pools[0]

    @property
    def ours(self) -> list[str]:
        """The command that an operator types."""
        return self._command("start")

    @property
    def our_tick(self) -> list[str]:
        """One tick in a process of its own."""
        return self._command("tick")

    @property
    def workers(self) -> list[str]:
        """The same with the official worker, which serves one pool."""
        return [str(PREFECT3.with_name("prefect")), "worker", "start", "--pool", self.pool, "--type", "ecs"]

    def _command(self, word: str) -> list[str]:
        options = [part for pool in self.pools for part in ("--work-pool", pool)]
        return [str(Path(sys.executable).with_name("prefect-agent")), word, *options]

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
        with process:
            try:
                yield process
            finally:
                end(process)

    def standings(self) -> Counter[str]:
        """How many runs of the pools are in which state; those with an infrastructure pid are `launched`."""
        found: Counter[str] = Counter()
        for offset in range(0, len(self.run_ids), PAGE):
            body = {"work_pools": {"name": {"any_": self.pools}}, "limit": PAGE, "offset": offset, "sort": "ID_DESC"}
            for run in self.server.request("POST", "/flow_runs/filter", body):
                found["launched" if run["infrastructure_pid"] else run["state_name"]] += 1
        return found

    def is_settled(self) -> bool:
        """Whether every run was launched, and Prefect knows as what, or is Crashed."""
        now = time.monotonic()
        if self.ecs.count("RunTask") < len(self.run_ids) and now < self._looked_at + LOOK_SECONDS:
            return False
        self._looked_at = now
        standings = self.standings()
        return standings["launched"] + standings["Crashed"] >= len(self.run_ids)

    def tasks(self) -> Counter[str]:
        """How many tasks there are for each run of the pools."""
        own = set(self.run_ids)
        tags = [{tag["key"]: tag["value"] for tag in task["tags"]} for task in self.ecs.tasks()]
        return Counter(run_id for each in tags if (run_id := each.get("prefect.io/flow-run-id", "")) in own)


@contextmanager
def pool_surroundings(round_trip_seconds: float = 0.0) -> Iterator[PoolSurroundings]:
    """Fresh ones, stopped afterwards; each request to Prefect and to ECS takes so much longer."""
    template = default_base_job_template("ecs")
    template["variables"]["properties"]["cluster"]["default"] = CLUSTER
    template["job_configuration"]["task_run_request"] |= NETWORK
    with ExitStack() as stack:
        server = stack.enter_context(ObservedServer(round_trip_seconds))
        ecs = stack.enter_context(EcsServer(clusters=(CLUSTER,), round_trip_seconds=round_trip_seconds))
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        yield PoolSurroundings(server, ecs, template, Path(directory))
