"""The demo's second part as somebody runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demo.work_pools import Expected, judge
from tests.prefect3.server import Prefect3Server

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.server


def test_the_demo_runs_a_flow_to_its_end_and_starts_a_task_on_ecs() -> None:
    command = [sys.executable, "-m", "demo.work_pools"]
    finished = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=110, check=False)
    shown = " ".join(finished.stdout.split())
    assert (finished.returncode, finished.stderr) == (0, ""), finished.stdout
    assert "a flow on this machine laptop Completed" in shown
    assert "a task on ECS flows Pending flows::task/flows/" in shown
    assert "a cluster it may not use flows Crashed" in shown
    assert "AGENT_CLUSTERS lists them" in shown
    assert "flows ONLINE, laptop ONLINE" in shown


def test_what_is_not_as_it_should_be_is_named(server: Prefect3Server) -> None:
    pool = server.create_pool("ecs")
    run_id = server.create_run(server.create_deployment(pool))
    expected = Expected("a run", pool, run_id, "Completed", "flows::.*", "well done")
    assert list(judge(server, [expected], [(pool, "OFFLINE")])) == [
        "a run: it is Scheduled (), and should be Completed",
        "a run: its infrastructure pid is ''",
        "a run: its message does not say 'well done'",
        f"the pools are shown as {{'{pool}': 'OFFLINE'}}",
    ]
