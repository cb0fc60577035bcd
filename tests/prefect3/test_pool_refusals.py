"""What ECS refuses for now, and what is wrong with a pool, a deployment or a run: the others go on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.errors import PrefectRejected, PrefectUnauthorized
from tests.prefect3.pool_world import BEFORE_RUN_TASK, NamedCut, PoolWorld, assert_launched_once, ecs_template
from tests.prefect3.proxy import Fault, Proxy
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server


@pytest.fixture
def world(server: Prefect3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    world = PoolWorld(server, monkeypatch)
    yield world
    world.close()


def reason(world: PoolWorld, run_id: str) -> str:
    """Why a run crashed, which stands in its log too."""
    state = world.server.state(run_id)
    assert (state["type"], state["name"]) == ("CRASHED", "Crashed")
    assert world.server.logs(run_id) == [state["message"]]
    return str(state["message"])


# refused for now


@pytest.mark.parametrize(
    ("refusal", "words"),
    [({"then": "failure", "reason": "RESOURCE:CPU"}, "RESOURCE:CPU"), ({"then": "throttle"}, "Rate exceeded")],
)
def test_a_run_that_is_refused_for_now_is_given_back_with_the_reason_and_claimed_again_later(
    world: PoolWorld, refusal: dict[str, Any], words: str
) -> None:
    run_id = world.add_run()
    world.ecs.faults.add(when="RunTask", times=None, **refusal)
    world.tick()
    state = world.server.state(run_id)
    assert (state["type"], state["name"]) == ("SCHEDULED", "AwaitingCapacity")
    assert words in state["message"]
    world.ecs.faults.clear()
    world.tick_again(20)
    assert_launched_once(world, run_id)
    assert len(set(world.names(run_id))) == 3


@pytest.mark.parametrize("lead", ["10", "60"])
def test_a_run_that_was_given_back_waits_its_time_whatever_the_lead_of_its_pool(world: PoolWorld, lead: str) -> None:
    world.settings["AGENT_LEAD_SECONDS"] = lead
    run_id = world.add_run()
    world.ecs.faults.add(when="RunTask", then="failure", times=None)
    world.tick()
    assert world.server.state(run_id)["name"] == "AwaitingCapacity"
    assert world.ecs.count("RunTask") == 1
    # A busy server is asked again after a moment, which is no waiting for the run.
    assert world.clock.seconds < 5
    world.ecs.faults.clear()
    world.tick_again(20)
    assert_launched_once(world, run_id)


def test_a_run_that_is_refused_for_longer_than_the_deadline_crashes_with_the_reason(world: PoolWorld) -> None:
    run_id = world.add_run()
    world.ecs.faults.add(when="RunTask", then="failure", times=None)
    world.tick()
    world.tick_again(1800)
    assert world.server.state(run_id)["name"] == "AwaitingCapacity"
    world.tick_again(1900)
    state = world.server.state(run_id)
    assert state["type"] == "CRASHED"
    assert "giving up" in state["message"]
    assert "RESOURCE:CPU" in state["message"]
    assert world.ecs.tasks() == []


# what a run, a deployment or a pool may have wrong


@pytest.mark.parametrize(
    ("job_variables", "words"),
    [
        ({"env": {"TOKEN": "{{ prefect.blocks.secret.no-such-block }}"}}, "no-such-block"),
        ({"cluster": "clusters-of-others"}, "AGENT_CLUSTERS"),
        ({"command": "prefect 'flow-run"}, "quotes"),
    ],
)
def test_a_run_that_cannot_be_built_crashes_with_the_reason_and_the_others_go_on(
    world: PoolWorld, job_variables: dict[str, Any], words: str
) -> None:
    bad, good = world.add_run(**job_variables), world.add_run()
    world.tick()
    assert words in reason(world, bad)
    assert_launched_once(world, good)


def test_a_variable_that_does_not_exist_is_empty_as_with_the_official_worker(world: PoolWorld) -> None:
    run_id = world.add_run(env={"GREETING": "hello {{ prefect.variables.no_such_variable }}"})
    world.tick()
    assert_launched_once(world, run_id)
    (overrides,) = world.tasks_of(run_id)[0]["overrides"]["containerOverrides"]
    assert {"name": "GREETING", "value": "hello "} in overrides["environment"]


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("task_definition", "a text", "task_definition"),
        ("task_definition", {"containerDefinitions": "none"}, "containerDefinitions"),
        ("task_run_request", {"noSuchParameter": 1}, "noSuchParameter"),
        ("cluster", ["flows"], "cluster"),
    ],
)
def test_a_pool_with_a_template_that_is_not_valid_crashes_its_runs_and_the_other_pool_goes_on(
    world: PoolWorld, part: str, value: Any, words: str
) -> None:
    template = ecs_template()
    template["job_configuration"][part] = value
    world.add_pool()
    world.server.update_pool(world.pool, base_job_template=template)
    bad = world.add_run()
    world.add_pool()
    good = world.add_run()
    world.tick()
    assert words in reason(world, bad)
    assert_launched_once(world, good)


def test_a_run_whose_deployment_is_deleted_is_gone_and_the_others_go_on(world: PoolWorld) -> None:
    gone = world.server.create_run(world.server.create_deployment(world.pool))
    good = world.add_run()
    world.server.delete_deployment(world.server.run(gone)["deployment_id"])
    report = world.tick()
    assert report is not None
    assert report.errors == []
    assert_launched_once(world, good)
    assert len(world.ecs.tasks()) == 1


def test_a_claimed_run_whose_deployment_is_deleted_is_not_launched_without_its_job_variables(world: PoolWorld) -> None:
    deployment = world.server.create_deployment(world.pool, job_variables={"image": "flows:1"})
    run_id = world.server.create_run(deployment)
    assert world.tick(NamedCut(BEFORE_RUN_TASK)) is None
    world.server.delete_deployment(deployment)
    world.tick_again(100)
    assert world.server.state(run_id)["type"] in ("CANCELLED", "CRASHED")
    assert world.ecs.tasks() == []


def test_a_paused_pool_waits_and_the_other_goes_on(world: PoolWorld) -> None:
    paused = world.add_pool(is_paused=True)
    waiting = world.add_run()
    world.add_pool()
    good = world.add_run()
    world.tick()
    assert (world.server.state(waiting)["type"], len(world.ecs.tasks())) == ("SCHEDULED", 1)
    assert_launched_once(world, good)
    world.server.update_pool(paused, is_paused=False)
    world.tick()
    assert_launched_once(world, waiting)


def test_a_pools_limit_is_kept_from_tick_to_tick(world: PoolWorld) -> None:
    world.add_pool(concurrency_limit=2)
    run_ids = [world.add_run(in_seconds=each - 10) for each in range(4)]
    world.tick()
    world.tick()
    assert [len(world.tasks_of(run_id)) for run_id in run_ids] == [1, 1, 0, 0]
    for run_id in run_ids[:2]:
        world.begin(run_id, world.living_tasks(run_id)[0])
        world.server.set_state(run_id, "COMPLETED")
    world.tick()
    assert [len(world.tasks_of(run_id)) for run_id in run_ids] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("limit", "strategy", "left"),
    [(1, "ENQUEUE", "AwaitingConcurrencySlot"), (1, "CANCEL_NEW", "Cancelled"), (0, "ENQUEUE", None)],
)
def test_a_deployments_limit_is_kept_as_the_server_says_and_other_deployments_go_on(
    world: PoolWorld, limit: int, strategy: str, left: str | None
) -> None:
    limited = world.server.create_deployment(
        world.pool, concurrency_limit=1, concurrency_options={"collision_strategy": strategy}
    )
    world.server.request("PATCH", f"/v2/concurrency_limits/deployment:{limited}", {"limit": limit})
    run_ids = [world.server.create_run(limited, in_seconds=each - 10) for each in range(3)]
    good = world.add_run()
    report = world.tick()
    assert report is not None
    assert report.errors == []
    assert_launched_once(world, good)
    assert sum(len(world.tasks_of(run_id)) for run_id in run_ids) == limit
    refused = [world.server.state(run_id) for run_id in run_ids if not world.tasks_of(run_id)]
    names = {state["name"] for state in refused}
    assert names == {left} if left else {state["type"] for state in refused} == {"SCHEDULED"}


# what cannot be served at all


def test_a_pool_that_does_not_exist_is_an_error_and_the_other_goes_on(
    world: PoolWorld, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = world.add_run()
    world.pools.append("no-such-pool")
    world.tick()
    assert_launched_once(world, run_id)
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert any("no-such-pool does not exist" in error for error in errors)


def test_a_pool_of_a_type_that_nobody_here_launches_is_left_alone_and_the_other_goes_on(
    world: PoolWorld, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = world.add_run()
    strange = world.server.create_pool("vertex-ai")
    waiting = world.server.create_run(world.server.create_deployment(strange))
    world.pools.append(strange)
    world.tick()
    assert_launched_once(world, run_id)
    assert world.server.state(waiting)["type"] == "SCHEDULED"
    assert any(f"{strange} is of type vertex-ai" in record.getMessage() for record in caplog.records)


def test_without_any_pool_to_serve_the_tick_fails_and_says_why(world: PoolWorld) -> None:
    world.pools.append("no-such-pool")
    with pytest.raises(PrefectRejected, match="no-such-pool"):
        world.tick()


def test_a_wrong_key_fails_the_tick_and_names_the_setting_and_not_the_key(
    server: Prefect3Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    between = Proxy(server.url)
    world = PoolWorld(server, monkeypatch, PREFECT_API_URL=between.url, PREFECT_API_KEY="pnu_wrong-key")
    try:
        run_id = world.add_run()
        between.faults.order(Fault("/api/", 401, body=b'{"exception_message": "Unauthorized"}', times=None))
        with pytest.raises(PrefectUnauthorized, match="PREFECT_API_KEY") as raised:
            world.tick()
        assert "wrong-key" not in str(raised.value) + caplog.text
        assert world.server.state(run_id)["type"] == "SCHEDULED"
    finally:
        world.close()
        between.stop()
