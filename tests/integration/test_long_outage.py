"""An hour without Prefect, or without ECS: nothing is lost, and the backlog of Prefect drains in order."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.errors import LaunchError, PrefectUnreachable
from chalicelib.health import HealthCheck, HealthLimits, Verdict
from chalicelib.prefect_api.prefect1 import Prefect1API
from tests.integration.containers import KEY_TAG, Containers
from tests.integration.world import World

RUNS = MINUTES = 60
CONFIG = {"type": "ECSRun", "image": "flows:1"}
LIMITS = HealthLimits(poll_age_seconds=180, backlog_age_seconds=120)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.close()


@contextmanager
def prefect_leads_nowhere(world: World) -> Iterator[None]:
    """The address is one on which nobody listens."""
    url = world.prefect.url
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        world.prefect.url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        yield
    world.prefect.url = url


def prefect_answers(then: Any, **more: Any) -> Callable[[World], AbstractContextManager[None]]:
    """Every request meets this fault."""

    @contextmanager
    def away(world: World) -> Iterator[None]:
        world.prefect.faults.add(then, times=None, **more)
        yield
        world.prefect.faults.clear()

    return away


PREFECT_AWAY: Mapping[str, Callable[[World], AbstractContextManager[None]]] = {
    "refused connection": prefect_leads_nowhere,
    "cut connection": prefect_answers("cut_before"),
    "503": prefect_answers("status"),
    "a page": prefect_answers("html"),
    "no database": prefect_answers("api_error"),
}


class Backlog:
    """What was there before the outage, and the runs that become due one a minute during it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.containers = Containers(world)
        self.waiting, self.working, self.dying, self.orphan = [self._add(world.clock.now()) for _ in range(4)]
        world.ecs.faults.add(
            when=lambda action, parameters: action == "RunTask" and self.orphan in parameters.get("startedBy", ""),
            then="cut_before",
            times=2,
        )
        world.tick()
        for run_id in (self.working, self.dying):
            self.containers.begin(self.containers.living(run_id)[0].arn)
        assert not self.containers.living(self.orphan)
        begun = world.clock.now()
        due = {minute: begun + timedelta(minutes=minute, seconds=10) for minute in range(RUNS)}
        minutes = random.Random(1).sample(sorted(due), len(due))  # not added in the order of their start
        added = {minute: self._add(due[minute]) for minute in minutes}
        self.run_ids = [added[minute] for minute in sorted(added)]

    def _add(self, start_time: datetime) -> str:
        return self.world.prefect.add_flow_run(run_config=CONFIG, start_time=start_time)

    @property
    def before(self) -> list[str]:
        """The runs that were claimed before the outage."""
        return [self.waiting, self.working, self.dying, self.orphan]

    def claimed(self) -> list[str]:
        """The runs in the order of their claims, out of the requests that made them."""
        ids: list[str] = []
        for request in self.world.prefect.requests:
            names = [each.alias for each in request.fields if each.name == "set_flow_run_states"]
            states = {name: request.variables[f"{name}_state"]["type"] for name in names}
            ids += [request.variables[f"{name}_id"] for name in names if states[name] == "Submitted"]
        return [run_id for run_id in ids if run_id in self.run_ids]

    def tasks_of(self, run_ids: list[str]) -> dict[str, int]:
        """How many tasks each of these runs ever had."""
        started = [task.run_id for task in self.containers.tasks.values()]
        return {run_id: started.count(run_id) for run_id in run_ids}

    def states(self) -> dict[str, str]:
        """How each run stands."""
        return {run_id: self.world.prefect.flow_run(run_id)["state"] for run_id in [*self.before, *self.run_ids]}

    def expected_states(self) -> dict[str, str]:
        """How each must stand in the end."""
        return dict.fromkeys([*self.before, *self.run_ids], "Submitted") | {
            self.working: "Running",
            self.dying: "Failed",
        }

    def check(self) -> None:
        """Each run was launched once, and stands as it must with the sign of its launch."""
        everything = [*self.before, *self.run_ids]
        assert self.states() == self.expected_states()
        assert self.tasks_of(everything) == dict.fromkeys(everything, 1)
        assert not self.containers.twice
        keys = [tag["value"] for task in self.world.ecs.tasks() for tag in task["tags"] if tag["key"] == KEY_TAG]
        assert len(keys) == len(set(keys)) == len(everything)
        for run_id in [self.waiting, self.orphan, *self.run_ids]:
            context = self.world.prefect.flow_run(run_id)["serialized_state"]["context"]
            assert self.world.has_sign(run_id, context["key"])


def verdict(world: World) -> Verdict:
    """What a function that was never asked before says."""
    prefect = world.agent().prefect
    assert isinstance(prefect, Prefect1API)
    return HealthCheck(prefect, LIMITS, world.clock).verdict()


@pytest.mark.parametrize("how", PREFECT_AWAY)
def test_an_hour_without_prefect_loses_nothing_and_the_backlog_is_claimed_in_order(world: World, how: str) -> None:
    backlog = Backlog(world)
    assert verdict(world).is_healthy
    (dying,) = backlog.containers.living(backlog.dying)
    with PREFECT_AWAY[how](world):
        for minute in range(MINUTES):
            with pytest.raises(PrefectUnreachable):
                world.tick()
            if minute % 10 == 0:
                assert not verdict(world).is_healthy
            if minute == 20:
                backlog.containers.die(dying.arn, "exit 1")
            if minute in (20, 40):
                with pytest.raises(PrefectUnreachable):
                    world.hear(*backlog.containers.events)
            world.clock.turn(60)
    world.clock.turn(10)
    assert "old" in verdict(world).reason
    assert not verdict(world).is_healthy

    assert world.hear(*backlog.containers.events) == {"failed": 1}
    world.tick()
    assert backlog.claimed() == backlog.run_ids
    assert verdict(world).is_healthy
    world.clock.turn(60)
    world.tick()  # The orphan's key was too old: it was given back for a new claim.
    backlog.check()


def test_an_hour_without_prefect_after_which_lazarus_is_first_launches_nothing_twice(world: World) -> None:
    backlog = Backlog(world)
    with PREFECT_AWAY["503"](world):
        world.clock.turn(MINUTES * 60)
    backlog.containers.die(backlog.containers.living(backlog.dying)[0].arn, "exit 1")
    assert world.prefect.run_lazarus() == 2  # Those that wait: nobody could tell it that they are on their way.
    for _ in range(2):
        world.clock.turn(60)
        world.tick()
    backlog.check()


# Where botocore sends a call again it waits by the real clock, so ticks are fewer there.
@pytest.mark.parametrize(("then", "minutes_between"), [("status", 1), ("cut_before", 6)])
def test_an_hour_without_ecs_loses_nothing_and_launches_nothing_twice(
    world: World, then: Any, minutes_between: int
) -> None:
    backlog = Backlog(world)
    backlog.containers.die(backlog.containers.living(backlog.dying)[0].arn, "exit 1")
    world.ecs.faults.add(then=then, times=None)
    for minute in range(0, MINUTES, minutes_between):
        report = world.tick()
        assert report is not None and report.errors  # At least that nothing could be looked at.
        if minute in (24, 48):
            with pytest.raises(LaunchError):
                world.hear(*backlog.containers.events)
        world.clock.turn(60 * minutes_between)
    world.ecs.faults.clear()

    for _ in range(4):
        world.tick()
        world.clock.turn(60)
    backlog.check()
