"""`python -m demo.work_pools`: work pools of a real Prefect 3 server, served by this agent in a process."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.table import GAP, GREEN, RED, WIDTH, Paint, in_colour, plain, render_problems
from tests.doubles.ecs import EcsServer
from tests.oracle.prefect3_environment import default_base_job_template
from tests.prefect3.server import PYTHON, Prefect3Server

CLUSTER, PATIENCE_SECONDS = "flows", 90.0
AWS = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo"}
HEADS = ("flow run", "work pool", "state", "where")
FLOWS = """
from prefect import flow

@flow
def add(a: int = 1, b: int = 2) -> int:
    return a + b
"""


@dataclass(frozen=True)
class Expected:
    """A flow run of the scene: its end, what its infrastructure pid and its message must match."""

    name: str
    pool: str
    run_id: str
    state: str
    where: str = ""
    says: str = ""


def main() -> int:
    """Show it; 0 when everything is as it should be, else 1."""
    began = time.monotonic()
    paint = in_colour if sys.stdout.isatty() else plain
    print("\nWork pools of a real Prefect 3 server: one of type process, one of type ecs, served by one agent.")
    with tempfile.TemporaryDirectory() as home, Prefect3Server() as server, EcsServer(clusters=(CLUSTER,)) as ecs:
        scene = create(server, Path(home))
        pools = sorted({run.pool for run in scene})
        environment = server.client_environment() | AWS | {"AWS_ENDPOINT_URL_ECS": ecs.url, "HOME": home}
        environment["PATH"] = f"{PYTHON.parent}:{environment['PATH']}"
        with agent(environment, pools, Path(home) / "agent.log"):
            wait_until(lambda: all(server.state(run.run_id)["name"] == run.state for run in scene))
            workers = [(pool, worker["status"]) for pool in pools for worker in server.workers(pool)]
        problems = list(judge(server, scene, workers))
        print(render(server, scene, paint))
        print(f"Shown to Prefect's users: {', '.join(f'{pool} {status}' for pool, status in workers)}")
    print(f"{render_problems(problems, paint)} ({time.monotonic() - began:.0f} s)")
    return 1 if problems else 0


def create(server: Prefect3Server, home: Path) -> list[Expected]:
    """Two pools with the official templates, and a run of each kind."""
    (home / "flows.py").write_text(FLOWS)
    template = default_base_job_template("ecs")
    template["variables"]["properties"]["cluster"]["default"] = CLUSTER
    network = {"awsvpcConfiguration": {"subnets": ["subnet-0a1b2c3d"], "assignPublicIp": "ENABLED"}}
    template["job_configuration"]["task_run_request"]["networkConfiguration"] = network
    laptop = server.create_pool("process", default_base_job_template("process"), name="laptop")
    flows = server.create_pool("ecs", template, name="flows")
    flow_id = server.create_flow("add")
    here = server.create_deployment(laptop, flow_id, entrypoint="flows.py:add", path=str(home))
    there = server.create_deployment(flows, flow_id, job_variables={"image": "flows:1", "env": {"REGION": "eu-west-1"}})
    broken = server.create_deployment(flows, flow_id, job_variables={"cluster": "somebody-elses"})
    return [
        Expected("a flow on this machine", laptop, server.create_run(here), "Completed", r".+:\d+"),
        Expected("a task on ECS", flows, server.create_run(there), "Pending", CLUSTER + "::arn:aws:ecs:.*:task/.*"),
        Expected("a cluster it may not use", flows, server.create_run(broken), "Crashed", says="somebody-elses"),
    ]


@contextmanager
def agent(environment: dict[str, str], pools: Sequence[str], log: Path) -> Iterator[None]:
    """This agent, as somebody starts it, until the end of the context."""
    options = [word for pool in pools for word in ("--work-pool", pool)]
    command = [str(Path(sys.executable).with_name("prefect-agent")), "start", *options]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, cwd=log.parent, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Return when it is so, or when it takes too long: what is then as it should not be is told afterwards."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not is_so() and time.monotonic() < give_up:
        time.sleep(0.5)


def judge(server: Prefect3Server, scene: Sequence[Expected], workers: Sequence[tuple[str, str]]) -> Iterator[str]:
    """What is not as it should be."""
    for expected in scene:
        run = server.run(expected.run_id)
        pid, message = run["infrastructure_pid"] or "", run["state"]["message"] or ""
        if run["state_name"] != expected.state:
            yield f"{expected.name}: it is {run['state_name']} ({message}), and should be {expected.state}"
        if not re.fullmatch(expected.where, pid):
            yield f"{expected.name}: its infrastructure pid is {pid!r}"
        if expected.says not in message:
            yield f"{expected.name}: its message does not say {expected.says!r}"
    if [status for _, status in workers] != ["ONLINE", "ONLINE"]:
        yield f"the pools are shown as {dict(workers)}"


def render(server: Prefect3Server, scene: Sequence[Expected], paint: Paint) -> str:
    """The table of flow runs."""
    rows = [_cells(server.run(expected.run_id), expected) for expected in scene]
    widths = [max(len(row[column]) for row in (HEADS, *rows)) for column in range(len(HEADS) - 1)]
    lines = []
    for row in (HEADS, ["-" * width for width in (*widths, 20)], *rows):
        *others, last = row
        first, *more = textwrap.wrap(last, WIDTH - sum(widths) - len(GAP) * len(widths)) or [""]
        cells = [text.ljust(width) for text, width in zip(others, widths, strict=True)]
        cells[2] = paint(cells[2], RED if others[2] == "Crashed" else GREEN) if row in rows else cells[2]
        lines += [GAP.join([*cells, first]), *(" " * (sum(widths) + len(GAP) * len(widths)) + each for each in more)]
    return "\n".join(lines)


def _cells(run: dict[str, Any], expected: Expected) -> tuple[str, ...]:
    where = run["infrastructure_pid"] or run["state"]["message"] or ""
    return (expected.name, expected.pool, run["state_name"], re.sub(r"arn:aws:ecs:[^:]*:[^:]*:", "", where))


if __name__ == "__main__":
    sys.exit(main())
