"""Worlds whose time is turned by hand: doubles of Prefect 1 and ECS, and agents that can be cut off at any effect."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from chalicelib.agent import Agent
from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.credentials import Credential
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.ecs import EcsLauncher
from chalicelib.launchers.ecs_run_configs import RunConfigTasks
from chalicelib.launchers.pacing import Pace
from chalicelib.launchers.templates import TemplateReader
from chalicelib.outcomes import TickReport
from chalicelib.prefect_api.graphql import GraphQLClient
from chalicelib.prefect_api.prefect1 import Prefect1API
from chalicelib.prefect_api.prefect1_records import Identity, Recorder
from chalicelib.prefect_api.transport import HttpTransport
from chalicelib.sweep import Manners
from tests.doubles.clock import TurnedClock
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server

ROUND_SECONDS = 100
"""From one scheduled tick to the next, and a little more than it takes to count as an orphan."""

NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}}


class Killed(BaseException):
    """The process is gone. No `except Exception` of the product may catch it."""


class Cut:
    """Lets a process die at its effect number `at`: effects 2n are requests about to be sent, 2n+1 sent and answered.

    Once dead, every further effect of any thread dies too. None never dies.
    """

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.effects = 0
        self._lock = threading.Lock()

    def effect(self, *_: Any, **__: Any) -> None:
        """One effect; raises Killed at the cut and ever after."""
        with self._lock:
            number = self.effects
            self.effects += 1
        if self.at is not None and number >= self.at:
            raise Killed


class Suspension(Cut):
    """Lets a process freeze at its effect number `at`, until `resume`; `frozen` is set when it does or has ended."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.freezes_at = at
        self.frozen = threading.Event()
        self._resumed = threading.Event()

    def effect(self, *_: Any, **__: Any) -> None:
        """One effect; every thread that gets to the point stands still there."""
        with self._lock:
            number = self.effects
            self.effects += 1
        if number >= self.freezes_at:
            self.frozen.set()
            self._resumed.wait(60)

    def resume(self) -> None:
        """Let it go on."""
        self._resumed.set()


class CutTransport(HttpTransport):
    """Prefect's transport, with an effect before and after each request."""

    cut: Cut

    def post(
        self, body: Mapping[str, Any], timeout_seconds: float, send_until: datetime | None = None
    ) -> tuple[int, Any]:
        self.cut.effect()
        answer = super().post(body, timeout_seconds, send_until)
        self.cut.effect()
        return answer


class TurnedWorld:
    """Prefect 1 at a time that is turned by hand, and agents there; who extends it adds their platform. Close it."""

    def __init__(self, manners: Manners | None = None) -> None:
        self.clock = TurnedClock(datetime(2026, 11, 20, 12, 30, tzinfo=UTC))
        self.manners = manners
        self.prefect = Prefect1Server(clock=self.clock)

    def close(self) -> None:
        """End the server."""
        self.prefect.close()

    def agent(self, cut: Cut | None = None, is_alone: bool = True) -> Agent:
        """A new process of the agent; one that runs beside others is not alone."""
        raise NotImplementedError

    def prefect_api(self, cut: Cut, agent_type: str) -> Prefect1API:
        """Prefect as such a process sees it."""
        transport = CutTransport(self.prefect.url, self.clock, Credential())
        transport.cut = cut
        recorder = Recorder(Identity(agent_type, "lambda"), 3600)
        return Prefect1API(GraphQLClient(transport), recorder, self.clock, "server")

    def tick(self, cut: Cut | None = None) -> TickReport | None:
        """A scheduled tick in a process of its own; None when it was cut off."""
        agent = self.agent(cut)
        try:
            return agent.tick(self.clock.now() + timedelta(seconds=10), recovers=True)
        except Killed:
            return None

    @contextmanager
    def suspended_tick(self, at: int) -> Iterator[Suspension]:
        """Inside, a scheduled tick of another process stands still at its effect `at`; at the end it goes on."""
        suspension = Suspension(at)
        agent = self.agent(suspension, is_alone=False)
        deadline = self.clock.now() + timedelta(seconds=10)

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

    def has_sign(self, run_id: str, key: str) -> bool:
        """Whether the run's log says that the claim with this key was launched."""
        signs = [line for line in self.prefect.logs(run_id) if line["message"].startswith("Submitted for execution: ")]
        return any(line["info"] == {"key": key} for line in signs)


AnyWorld = TypeVar("AnyWorld", bound=TurnedWorld)


def cut_at_every_effect(
    make_world: Callable[[], AnyWorld],
    arrange: Callable[[AnyWorld], None],
    act: Callable[[AnyWorld, Cut], object | None],
    act_again: Callable[[AnyWorld], None] | None = None,
) -> Iterator[tuple[int, AnyWorld]]:
    """Every world that comes of one cut and two rounds of recovery, as long as there is an effect to cut at.

    It is `act` that is cut, and answers None when it is; in its place `act_again` may follow each round's tick.
    """
    at = 0
    while True:
        with closing(make_world()) as world:
            arrange(world)
            if act(world, Cut(at)) is not None:
                assert at > 9, "there was hardly an effect to cut at"
                return
            for _ in range(2):
                world.clock.turn(ROUND_SECONDS)
                world.tick()
                if act_again:
                    act_again(world)
            yield at, world
        at += 1


class World(TurnedWorld):
    """Prefect 1 and ECS on one clock, and agents on them."""

    def __init__(self, environment: pytest.MonkeyPatch, manners: Manners | None = None) -> None:
        super().__init__(manners)
        self.ecs = EcsServer(clock=self.clock)
        variables = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        for name, value in {**variables, "AWS_ENDPOINT_URL_ECS": self.ecs.url}.items():
            environment.setenv(name, value)
        self._clients: list[AwsClients] = []
        # Making AWS clients is the dearest part of a process by far, so processes that follow each other share them.
        self._current = Cut()
        self._shared = self._make_clients(lambda: self._current)

    def close(self) -> None:
        """End the servers and the agents' connections."""
        for clients in self._clients:
            clients.close()
        self.ecs.close()
        super().close()

    def agent(self, cut: Cut | None = None, is_alone: bool = True) -> Agent:
        """A new process of the agent; one that runs beside others is not alone."""
        cut = cut or Cut()
        container = ContainerSettings(api_url=self.prefect.url)
        defaults = EcsDefaults(
            container=container, cluster="default", run_task_kwargs={"networkConfiguration": NETWORK}
        )
        if is_alone:
            self._current = cut
        clients = self._shared if is_alone else self._make_clients(lambda: cut)
        templates = TemplateReader((), clients.s3, local_allowed=False)
        builder = RunConfigTasks(clients, defaults, templates)
        launcher = EcsLauncher(clients, defaults, builder, Pace(0, self.clock), self.clock)
        return Agent(self.prefect_api(cut, "ECSAgent"), launcher, self.clock, self.manners)

    def hear(self, *events: Mapping[str, Any], cut: Cut | None = None) -> dict[str, int] | None:
        """What a process of its own makes of these events of ECS; None when it was cut off."""
        agent = self.agent(cut)
        try:
            return agent.heed_events([json.dumps(event) for event in events])
        except Killed:
            return None

    def stop_events(self) -> list[dict[str, Any]]:
        """What ECS has said so far about tasks that stopped, oldest first."""
        return [event for event in self.ecs.events if event["detail"]["lastStatus"] == "STOPPED"]

    def _make_clients(self, cut: Callable[[], Cut]) -> AwsClients:
        clients = AwsClients()
        self._clients.append(clients)
        for client in (clients.ecs(), clients.ecs_once()):
            client.meta.events.register("before-send.ecs", lambda **_: cut().effect())
            client.meta.events.register("after-call.ecs", lambda **_: cut().effect())
        return clients

    def living_tasks(self, run_id: str) -> list[str]:
        """The ARNs of this flow run's tasks that have not stopped."""
        tasks = [task for task in self.ecs.tasks() if task.get("startedBy") == f"prefect/{run_id}"]
        return [task["taskArn"] for task in tasks if task["lastStatus"] != "STOPPED"]
