"""A real Prefect 3 server and a double of ECS, and agents on both whose clock is turned and that can be cut off.

The server's own time is that of the wall, so it is the agents' clock that is turned, together with that of ECS.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.agent import Agent
from chalicelib.bootstrap import build_credential, build_prefect3
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.work_pools import WorkPoolLauncher
from chalicelib.outcomes import TickReport
from chalicelib.pool_platforms import build_pool_launcher
from chalicelib.prefect_api.transport import HttpTransport
from chalicelib.settings import load_settings
from chalicelib.sweep import Manners
from tests.doubles.ecs import EcsServer
from tests.integration.world import Cut, Killed, Suspension
from tests.oracle.prefect3_environment import default_base_job_template
from tests.prefect3.server import Prefect3Server

CLUSTER = "flows"
NAME = "lambda"
NETWORK = {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-0a1b2c3d"]}}}
ROUND_SECONDS = 100
"""From one scheduled tick to the next, and a little more than it takes to count as an orphan."""
TICK_SECONDS = 10

AWS = {
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
}
LAUNCH_KEY_TAG = "prefect-agent:launch-key"
RUN_TAG = "prefect.io/flow-run-id"


def ecs_template() -> dict[str, Any]:
    """What a new ECS work pool has for a template, with the cluster and the network of these tests."""
    template = default_base_job_template("ecs")
    template["variables"]["properties"]["cluster"]["default"] = CLUSTER
    template["job_configuration"]["task_run_request"] |= NETWORK
    return template


class CutTransport(HttpTransport):
    """Prefect's transport, with an effect before and after each request."""

    cut: Cut

    def send(
        self, method: str, path: str, body: Any, timeout_seconds: float, send_until: datetime | None = None
    ) -> tuple[int, Any]:
        self.cut.effect(f"before {method} {path}")
        answer = super().send(method, path, body, timeout_seconds, send_until)
        self.cut.effect(f"after {method} {path}")
        return answer


class NamedCut(Cut):
    """Lets a process die at its first effect whose name contains `mark`, such as `before-send.ecs.RunTask`."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark

    def effect(self, name: str = "", *_: Any, **__: Any) -> None:
        """One effect."""
        if self.mark in name:
            self.at = 0
        super().effect()


BEFORE_RUN_TASK = "before-send.ecs.RunTask"
AFTER_RUN_TASK = "after-call.ecs.RunTask"
AFTER_CLAIM = "after POST /flow_runs/bulk_set_state"


class StandingClock:
    """The real time as it was when it last caught up, moved by so many seconds and by what somebody sleeps.

    While a tick goes on it stands still, so that a busy machine makes no tick too late for what it does.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.catch_up()

    def catch_up(self) -> None:
        """Let the time pass that has really passed."""
        self._real = datetime.now(UTC)

    def now(self) -> datetime:
        return self._real + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        # Who waits for somebody else must really wait a moment.
        time.sleep(min(max(seconds, 0.0), 0.1))
        self.seconds += max(seconds, 0.0)


class PoolWorld:
    """ECS beside a server that others use too; each world has work pools of its own. Close it."""

    def __init__(self, server: Prefect3Server, environment: pytest.MonkeyPatch, **settings: str) -> None:
        self.server = server
        self.clock = StandingClock()
        self.ecs = EcsServer(clock=self.clock, clusters=(CLUSTER,))
        for name, value in {**AWS, "AWS_ENDPOINT_URL_ECS": self.ecs.url}.items():
            environment.setenv(name, value)
        self.settings = {
            "PREFECT_API_URL": server.url,
            "PREFECT__CLOUD__AGENT__NAME": NAME,
            "AGENT_CLUSTER": CLUSTER,
            "AGENT_SUBNETS": "subnet-0a1b2c3d",
            "AGENT_STRAYS": "ignore",
            "AGENT_LAUNCHES_PER_SECOND": "0",
            **settings,
        }
        self.pools: list[str] = []
        self.deployments: dict[str, str] = {}
        self.launchers: list[WorkPoolLauncher] = []
        self._all_clients: list[AwsClients] = []
        # Making AWS clients is the dearest part of a process by far, so processes that follow each other share them.
        self._current = Cut()
        self._shared = self._make_clients()

    def close(self) -> None:
        """End ECS and the agents' connections to it."""
        for clients in self._all_clients:
            clients.close()
        self.ecs.close()

    # work pools and runs

    def add_pool(self, name: str = "", **fields: Any) -> str:
        """A work pool on ECS with a deployment, served from now on; its name."""
        pool = self.server.create_pool("ecs", ecs_template(), name, **fields)
        self.pools.append(pool)
        self.deployments[pool] = self.server.create_deployment(pool)
        return pool

    @property
    def pool(self) -> str:
        """The latest pool, made when it is first needed."""
        return self.pools[-1] if self.pools else self.add_pool()

    @property
    def deployment(self) -> str:
        """The deployment of the latest pool."""
        return self.deployments[self.pool]

    def add_run(self, in_seconds: float = -1.0, **job_variables: Any) -> str:
        """A due flow run in the latest pool."""
        return self.server.create_run(self.deployment, in_seconds, job_variables)

    # agents

    def agent(self, cut: Cut | None = None, is_alone: bool = True, pools: list[str] | None = None) -> Agent:
        """A new process of the agent, for all pools or for these; one that runs beside others is not alone."""
        cut = cut or Cut()
        self.clock.catch_up()
        if is_alone:
            self._current = cut
        clients = self._shared if is_alone else self._make_clients(cut)
        served = pools or self.pools or [self.add_pool()]
        settings = load_settings({**self.settings, "AGENT_WORK_POOLS": ",".join(served)})
        credential = build_credential(settings, clients)
        prefect = build_prefect3(settings, credential, self.clock, runs_processes=False)
        plain = prefect.client.transport
        transport = CutTransport(plain.base_url, self.clock, plain.credential, plain.sign_in)
        transport.cut = cut
        prefect.client.transport = transport
        launcher = build_pool_launcher(settings, credential, clients, self.clock, prefect.reader.present_types, False)
        self.launchers.append(launcher)
        return Agent(prefect, launcher, self.clock, Manners(settings.cancel_grace_seconds, settings.strays))

    def _make_clients(self, cut: Cut | None = None) -> AwsClients:
        clients = AwsClients()
        self._all_clients.append(clients)
        for client in (clients.ecs(), clients.ecs_once()):
            for moment in ("before-send.ecs", "after-call.ecs"):
                client.meta.events.register(moment, lambda event_name, **_: (cut or self._current).effect(event_name))
        return clients

    def tick(self, cut: Cut | None = None, pools: list[str] | None = None) -> TickReport | None:
        """A scheduled tick in a process of its own; None when it was cut off."""
        agent = self.agent(cut, pools=pools)
        try:
            return agent.tick(self.clock.now() + timedelta(seconds=TICK_SECONDS), recovers=True)
        except Killed:
            return None

    def tick_again(self, *after_seconds: float) -> None:
        """Scheduled ticks, each that much later."""
        for seconds in after_seconds:
            self.clock.seconds += seconds
            self.tick()

    def hear(self, *events: Mapping[str, Any], cut: Cut | None = None) -> dict[str, int] | None:
        """What a process of its own makes of these events of ECS; None when it was cut off."""
        agent = self.agent(cut)
        try:
            return agent.heed_events([json.dumps(event) for event in events])
        except Killed:
            return None

    @contextmanager
    def suspended_tick(self, at: int, pools: list[str] | None = None) -> Iterator[Suspension]:
        """Inside, a scheduled tick of another process stands still at its effect `at`; at the end it goes on."""
        suspension = Suspension(at)
        agent = self.agent(suspension, is_alone=False, pools=pools)
        deadline = self.clock.now() + timedelta(seconds=TICK_SECONDS)

        def run() -> None:
            agent.tick(deadline, recovers=True)
            suspension.frozen.set()

        thread = threading.Thread(target=run)
        thread.start()
        suspension.frozen.wait(60)
        try:
            yield suspension
        finally:
            suspension.resume()
            thread.join()

    # runs led to where a test begins

    def launch(self, in_seconds: float = -1.0, **job_variables: Any) -> tuple[str, str]:
        """A flow run that was launched, and its task, which is on its way: the id of the one, the ARN of the other."""
        run_id = self.add_run(in_seconds, **job_variables)
        self.tick()
        (arn,) = self.living_tasks(run_id)
        return run_id, arn

    def begin(self, run_id: str, arn: str) -> None:
        """Let the flow begin in its task."""
        self.ecs.advance(arn, "RUNNING")
        # The server's clock is not turned: to it a run that was given back may be of the future.
        assert self.server.set_state(run_id, "RUNNING", force=True)["status"] == "ACCEPT"

    def launch_and_begin(self, **job_variables: Any) -> tuple[str, str]:
        """A flow run that runs, and its task."""
        run_id, arn = self.launch(**job_variables)
        self.begin(run_id, arn)
        return run_id, arn

    def end_what_is_to_stop(self) -> None:
        """As ECS does some seconds after StopTask."""
        for task in self.ecs.tasks():
            if task["desiredStatus"] == "STOPPED" and task["lastStatus"] != "STOPPED":
                self.ecs.stop(task["taskArn"], exit_code=143)

    def run_task(self, like: str, started_by: str | None = None, **tags: str) -> str:
        """A task that somebody else starts, of the same definition as the task `like`; its ARN."""
        parameters: dict[str, Any] = {
            "cluster": CLUSTER,
            "taskDefinition": self.ecs.task(like)["taskDefinitionArn"],
            "launchType": "FARGATE",
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
            **NETWORK,
            **({"startedBy": started_by} if started_by else {}),
        }
        self._current = Cut()
        return str(self._shared.ecs().run_task(**parameters)["tasks"][0]["taskArn"])

    def run_officially(self) -> tuple[str, str]:
        """A flow run that an official worker claimed and launched and that runs, and its task."""
        _, like = self.launch()
        run_id = self.add_run()
        self.server.set_state(run_id, "PENDING")
        arn = self.run_task(like, **{RUN_TAG: run_id})
        self.server.update_run(run_id, infrastructure_pid=pid_of(arn))
        self.begin(run_id, arn)
        return run_id, arn

    # what a test looks at

    def tasks_of(self, run_id: str) -> list[dict[str, Any]]:
        """All tasks that were ever started for the flow run, whoever started them."""
        return [task for task in self.ecs.tasks() if tags_of(task).get(RUN_TAG) == run_id]

    def living_tasks(self, run_id: str) -> list[str]:
        """The ARNs of those that have not stopped."""
        return [task["taskArn"] for task in self.tasks_of(run_id) if task["lastStatus"] != "STOPPED"]

    def is_to_stop(self, arn: str) -> bool:
        """Whether somebody has told this task to stop."""
        return bool(self.ecs.task(arn)["desiredStatus"] == "STOPPED")

    def stop_events(self) -> list[dict[str, Any]]:
        """What ECS has said so far about tasks that stopped, oldest first."""
        return [event for event in self.ecs.events if event["detail"]["lastStatus"] == "STOPPED"]

    def names(self, run_id: str) -> list[str]:
        """The names of all states that the run has been in."""
        return [str(state["name"]) for state in self.server.states(run_id)]


def tags_of(task: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a task of the double's."""
    return {tag["key"]: tag["value"] for tag in task["tags"]}


def pid_of(arn: str) -> str:
    """How the official worker and this agent write a task in the tests' cluster to a run."""
    return f"{CLUSTER}::{arn}"


def assert_launched_once(world: PoolWorld, run_id: str, tasks: int = 1) -> None:
    """It is claimed, has one living task of `tasks`, whose key is that of its claim, and that one's pid."""
    run, living = world.server.run(run_id), world.living_tasks(run_id)
    history = [f"{state['name']}: {state['message']}" for state in world.server.states(run_id)]
    assert (run["state_type"], run["state_name"], len(living)) == ("PENDING", "Pending", 1), history
    assert run["infrastructure_pid"] == pid_of(living[0]), history
    assert tags_of(world.ecs.task(living[0]))[LAUNCH_KEY_TAG] == run["state_id"], history
    assert len(world.tasks_of(run_id)) == tasks, history
