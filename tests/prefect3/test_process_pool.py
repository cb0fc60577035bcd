"""Flow runs of process pools: real flows of Prefect 3, in processes of this machine, from a real server."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chalicelib.agent import Agent
from chalicelib.bootstrap import build_agent
from chalicelib.clock import SystemClock
from chalicelib.launchers.local_processes import find_processes
from chalicelib.outcomes import TickReport
from chalicelib.settings import load_settings
from tests.prefect3.server import PYTHON, Prefect3Server

pytestmark = pytest.mark.server

PATIENCE_SECONDS = 90.0
FLOWS = """
import time
from prefect import flow

@flow
def greet(name="world"):
    print("hello", name)

@flow
def fail():
    raise ValueError("not today")

@flow
def sleep():
    time.sleep(300)
"""
NAMES = ("command", "env", "working_dir", "stream_output")


class Laptop:
    """A process pool, and an agent of ours that serves it."""

    def __init__(self, server: Prefect3Server, directory: Path) -> None:
        self.server = server
        self._flows = directory / "flows.py"
        self._flows.write_text(FLOWS)
        # What the flows of this server need is the machine's affair; here it is another Python than ours.
        own = {"PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}", "PREFECT_HOME": str(directory / "home")}
        defaults = {"env": own, "stream_output": False}
        variables = {name: {"default": defaults.get(name)} for name in NAMES}
        configuration = {name: f"{{{{ {name} }}}}" for name in NAMES}
        template = {"job_configuration": configuration, "variables": {"type": "object", "properties": variables}}
        self.pool = server.create_pool("process", template)
        self.run_ids: list[str] = []

    def agent(self) -> Agent:
        """As `prefect-agent start --work-pool` makes it."""
        flags = {"work_pools": [self.pool], "api_url": self.server.url, "cancel_grace_seconds": 1}
        return build_agent(load_settings({}, flags))

    def tick(self, agent: Agent | None = None, recovers: bool = False) -> TickReport:
        """One tick; nothing may be wrong in it."""
        report = (agent or self.agent()).tick(SystemClock().now() + timedelta(seconds=10), recovers)
        assert report.errors == []
        return report

    def run(self, flow: str, **job_variables: Any) -> str:
        """A run that is due."""
        path = {"path": str(self._flows.parent), "entrypoint": f"flows.py:{flow}"}
        deployment = self.server.create_deployment(self.pool, self.server.create_flow(flow), **path)
        self.run_ids.append(self.server.create_run(deployment, job_variables=job_variables))
        return self.run_ids[-1]

    def until(self, run_id: str, *types: str) -> dict[str, Any]:
        """The state of a run, once it is of one of these types."""
        wait_until(lambda: self.server.state(run_id)["type"] in types, lambda: self.story(run_id))
        return self.server.state(run_id)

    def story(self, run_id: str) -> str:
        """What is known of a run, for whoever has to find out why."""
        return json.dumps([*self.server.states(run_id), *self.server.logs(run_id)], indent=1)

    def end(self) -> None:
        """Kill what still lives of its runs."""
        for each in find_processes():
            if each.launch[0] in self.run_ids:
                each.process.kill()


def wait_until(is_so: Callable[[], bool], story: Callable[[], str] = str) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < give_up, f"it was not so in time: {story()}"
        time.sleep(0.1)


def living(run_id: str) -> list[int]:
    return [each.process.pid for each in find_processes() if each.launch[0] == run_id]


@pytest.fixture
def laptop(server: Prefect3Server, tmp_path: Path) -> Iterator[Laptop]:
    laptop = Laptop(server, tmp_path)
    yield laptop
    laptop.end()


def test_a_run_of_a_process_pool_is_completed(laptop: Laptop) -> None:
    run_id = laptop.run("greet")
    agent = laptop.agent()
    assert laptop.tick(agent).as_dict()["launched"] == 1
    pid = laptop.server.run(run_id)["infrastructure_pid"]
    sighting = agent.launcher.find_alive(run_id)
    assert sighting
    assert sighting.text == f"Process {pid}"
    laptop.until(run_id, "COMPLETED")
    types = [state["type"] for state in laptop.server.states(run_id)]
    assert types == ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"]
    wait_until(lambda: agent.launcher.find_alive(run_id) is None)
    assert laptop.tick(recovers=True).as_dict()["stopped"] == {}


def test_a_run_that_fails_is_failed(laptop: Laptop) -> None:
    run_id = laptop.run("fail")
    laptop.tick()
    assert "not today" in str(laptop.until(run_id, "FAILED", "CRASHED")["message"])
    assert laptop.server.state(run_id)["type"] == "FAILED"


def test_cancelling_a_running_run_ends_it(laptop: Laptop) -> None:
    run_id = laptop.run("sleep")
    laptop.tick()
    laptop.until(run_id, "RUNNING")
    assert living(run_id)
    laptop.server.set_state(run_id, "CANCELLING")
    laptop.until(run_id, "CANCELLED")
    wait_until(lambda: not living(run_id))


def test_a_run_whose_process_was_killed_is_crashed_and_nothing_of_it_goes_on(laptop: Laptop) -> None:
    run_id = laptop.run("sleep")
    agent = laptop.agent()
    laptop.tick(agent)
    laptop.until(run_id, "RUNNING")
    (first,) = [each for each in find_processes() if each.launch[0] == run_id and each.is_first]
    first.process.kill()
    wait_until(lambda: all(each.stop for each in agent.launcher.look_at([f"Process {pid_of(laptop, run_id)}"])))
    wait_until(lambda: not living(run_id))
    assert laptop.tick(agent, recovers=True).as_dict()["stopped"] == {"failed": 1}
    state = laptop.server.state(run_id)
    assert (state["type"], "exit code -9" in state["message"]) == ("CRASHED", True)


def pid_of(laptop: Laptop, run_id: str) -> str:
    return str(laptop.server.run(run_id)["infrastructure_pid"])


def test_a_command_that_is_not_there_is_crashed_with_the_reason(laptop: Laptop) -> None:
    run_id = laptop.run("greet", command="no-such-program")
    laptop.tick()
    state = laptop.server.state(run_id)
    assert state["type"] == "CRASHED"
    assert "There is no `no-such-program` on the PATH" in state["message"]
