"""`runs`: what an agent has claimed lately, where that is, and what its platform says of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.agent import Agent
from chalicelib.bootstrap import build_agent
from chalicelib.cli.runs import run_runs
from chalicelib.errors import PrefectUnreachable
from chalicelib.launchers.aws import AwsClients
from chalicelib.settings import Settings, load_settings
from tests.doubles.clock import TurnedClock
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server

RUN = {
    "type": "ECSRun",
    "image": "flows:1",
    "run_task_kwargs": {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}},
}


class World:
    """An agent on its doubles, and what `runs` prints of it."""

    def __init__(self, prefect: Prefect1Server, ecs: EcsServer, capsys: pytest.CaptureFixture[str]) -> None:
        self.prefect, self.ecs, self._capsys = prefect, ecs, capsys
        self.clients = AwsClients()
        self.agent = self.agent_of(self.settings())

    def settings(self, name: str = "lambda") -> Settings:
        given = {"PREFECT__CLOUD__API": self.prefect.url, "PREFECT__CLOUD__AGENT__NAME": name}
        return load_settings({**given, "AGENT_CLUSTER": "flows", "AGENT_PLATFORM": "ecs"})

    def agent_of(self, settings: Settings) -> Agent:
        return build_agent(settings, self.clients)

    def launch(self, agent: Agent | None = None) -> tuple[str, str]:
        """A launched flow run and its task."""
        run_id = self.prefect.add_flow_run(run_config=RUN)
        report = (agent or self.agent).tick(datetime.now(UTC) + timedelta(seconds=10))
        assert report.errors == []
        (arn,) = [task["taskArn"] for task in self.ecs.tasks() if task["startedBy"] == f"prefect/{run_id}"]
        return run_id, arn

    def runs(self, code: int = 0) -> list[str]:
        """The lines that `runs` prints."""
        self._capsys.readouterr()
        assert run_runs(self.settings()) == code
        return self._capsys.readouterr().out.splitlines()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[World]:
    with Prefect1Server() as prefect, EcsServer(clusters=("flows",)) as ecs:
        for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "REGION": "us-east-1"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", ecs.url)
        world = World(prefect, ecs, capsys)
        yield world
        world.clients.close()


def test_an_agent_that_has_claimed_nothing_says_so(world: World) -> None:
    assert world.runs() == ["lambda has claimed nothing in the last hour"]


def test_each_run_is_a_line_with_its_state_its_task_and_what_ecs_says(world: World) -> None:
    starting, first = world.launch()
    running, second = world.launch()
    ended, third = world.launch()
    world.ecs.advance(second, "RUNNING")
    world.prefect.set_state(running, {"type": "Running"})
    world.ecs.stop(third, exit_code=1)
    lines = {line.split("  ")[0]: line for line in world.runs()}
    assert set(lines) == {starting, running, ended}
    assert f"  Task {first}  on its way" in lines[starting]
    assert "  Submitted since 20" in lines[starting]
    assert f"  Task {second}  runs" in lines[running]
    assert "  Running since 20" in lines[running]
    assert "ended: " in lines[ended]
    assert "exit code 1" in lines[ended]
    assert world.prefect.flow_run(ended)["name"] in lines[ended]


def test_the_newest_state_comes_first(world: World) -> None:
    older, _ = world.launch()
    newer, _ = world.launch()
    assert [line.split("  ")[0] for line in world.runs()] == [newer, older]
    world.prefect.set_state(older, {"type": "Running"})
    assert [line.split("  ")[0] for line in world.runs()] == [older, newer]


def test_finished_runs_are_shown_and_those_of_other_agents_are_not(world: World) -> None:
    finished, arn = world.launch()
    world.prefect.set_state(finished, {"type": "Success"})
    world.ecs.stop(arn, exit_code=0)
    world.launch(world.agent_of(world.settings("another")))
    (line,) = world.runs()
    assert (line.startswith(finished), "  Success since" in line) == (True, True)


def test_what_was_refused_has_no_task(world: World) -> None:
    run_id = world.prefect.add_flow_run(run_config=RUN)
    world.ecs.faults.add("RunTask", then="status", status=400, code="ClientException", message="no")
    world.agent.tick(datetime.now(UTC) + timedelta(seconds=10))
    (line,) = world.runs()
    assert (line.startswith(run_id), "  Failed since" in line) == (True, True)
    assert line.endswith("  -  nothing says that it was launched")


def test_a_task_that_ecs_has_forgotten_is_told_so(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    world.launch()
    with EcsServer(clusters=("flows",)) as other:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", other.url)
        (line,) = world.runs()
    assert line.endswith("  not known there (any more)")


def test_claims_older_than_an_hour_are_not_shown(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    clock = TurnedClock(datetime.now(UTC) - timedelta(hours=2))
    with Prefect1Server(clock=clock) as prefect:
        old = World(prefect, world.ecs, capsys)
        old.launch()
        assert old.runs() == ["lambda has claimed nothing in the last hour"]
        clock.turn(7000)
        run_id, _ = old.launch()
        assert [line.split("  ")[0] for line in old.runs()] == [run_id]
        old.clients.close()


def test_a_platform_that_cannot_be_asked_is_exit_code_1_and_the_runs_are_shown(world: World) -> None:
    run_id, arn = world.launch()
    world.ecs.forbidden.add("DescribeTasks")
    (line,) = world.runs(code=1)
    assert line.startswith(run_id)
    assert f"Task {arn}  the platform cannot be asked: " in line


def test_it_neither_polls_nor_registers(world: World) -> None:
    world.launch()
    agents = world.prefect.agents()
    world.prefect.forget_requests()
    world.runs()
    assert [request.field_names for request in world.prefect.requests if request.is_mutation] == []
    assert world.prefect.agents() == agents


def test_a_prefect_that_is_away_is_raised(capsys: pytest.CaptureFixture[str], world: World) -> None:
    world.prefect.close()
    with pytest.raises(PrefectUnreachable):
        run_runs(world.settings())
