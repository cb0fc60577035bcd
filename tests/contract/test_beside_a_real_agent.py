"""Our agent beside the real ones of prefect 1.4.1: the same labels at the same time, and both of one name.

The server's lock decides who gets a run. What the one has launched, the other leaves alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib.launchers.kubernetes_stops import START_GRACE_SECONDS
from chalicelib.outcomes import Answer
from tests.contract.beside import (
    CLUSTER,
    NAME,
    ROUND_TRIP_SECONDS,
    Beside,
    Ecs,
    Kubernetes,
    Platform,
    WallClock,
    wait_until,
)
from tests.contract.conftest import Prefect1
from tests.doubles.ecs import EcsServer
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.prefect1 import Prefect1Server

pytestmark = pytest.mark.oracle


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def server(clock: WallClock) -> Iterator[Prefect1Server]:
    with Prefect1Server(clock, ROUND_TRIP_SECONDS) as running:
        yield running


@pytest.fixture
def ecs(clock: WallClock, prefect1: Prefect1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ecs]:
    with EcsServer(clock, ROUND_TRIP_SECONDS, clusters=(CLUSTER,)) as running:
        variables = {
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL_ECS": running.url,
        }
        prefect1.environment |= variables
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        platform = Ecs(running, clock, tmp_path)
        yield platform
        platform.close()


@pytest.fixture
def kubernetes(clock: WallClock, tmp_path: Path) -> Iterator[Kubernetes]:
    with KubernetesServer(clock, ROUND_TRIP_SECONDS, namespaces=(CLUSTER, "ours")) as running:
        platform = Kubernetes(running, clock, tmp_path)
        yield platform
        platform.close()


@pytest.fixture(params=["ecs", "kubernetes"])
def platform(request: pytest.FixtureRequest) -> Platform:
    chosen: Platform = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def beside(prefect1: Prefect1, server: Prefect1Server, platform: Platform, clock: WallClock) -> Beside:
    return Beside(prefect1, server, platform, clock)


@pytest.fixture
def beside_on_ecs(prefect1: Prefect1, server: Prefect1Server, ecs: Ecs, clock: WallClock) -> Beside:
    return Beside(prefect1, server, ecs, clock)


@pytest.fixture
def beside_on_kubernetes(
    prefect1: Prefect1, server: Prefect1Server, kubernetes: Kubernetes, clock: WallClock
) -> Beside:
    return Beside(prefect1, server, kubernetes, clock)


def assert_launched_once(beside: Beside) -> None:
    """Each run is claimed once, launched once, and that is said once, by the one that claimed it."""
    once = dict.fromkeys(beside.run_ids, 1)
    assert beside.platform.launched() == once
    assert {run_id: len(beside.signs(run_id)) for run_id in beside.run_ids} == once
    submitted = [[each["state"] for each in beside.server.states(run_id)] for run_id in beside.run_ids]
    assert {tuple(states) for states in submitted} == {("Scheduled", "Submitted")}
    have_keys = {run_id: bool((beside.signs(run_id)[0]["info"] or {}).get("key")) for run_id in beside.run_ids}
    assert have_keys == {run_id: run_id in beside.ours() for run_id in beside.run_ids}


@pytest.mark.parametrize("ours", [1, 2])
def test_each_run_is_launched_by_exactly_one_agent(beside: Beside, ours: int) -> None:
    beside.share(ours)
    assert_launched_once(beside)
    # It went for some of ours too, so it was the lock that kept it from them.
    assert claims_of_the_real_agent(beside) & set(beside.ours())


def claims_of_the_real_agent(beside: Beside) -> set[str]:
    """The runs that it went for, whatever the server said: it asks for one at a time, in a variable of its own."""
    asked = [each for each in beside.server.requests if each.field_names == ("set_flow_run_states",)]
    inputs = [each.variables["input"] for each in asked if set(each.variables) == {"input"}]
    return {each["flow_run_id"] for given in inputs for each in given["states"]}


# who looks after what


def test_what_the_real_agent_launched_is_left_alone_and_ours_is_looked_after(
    beside_on_ecs: Beside, ecs: Ecs, clock: WallClock
) -> None:
    beside = beside_on_ecs
    orphan = beside.claim_and_die()
    beside.share(1)
    begun, stopped, done, cancelled = beside.theirs()[:4]
    failing = next(run_id for run_id in beside.ours() if run_id != orphan)
    beside.server.set_state(begun, {"type": "Running"})
    beside.server.set_state(done, {"type": "Success"})
    beside.server.cancel(cancelled)
    for run_id in (begun, stopped, failing):
        ecs.server.stop(ecs.task_of(run_id), exit_code=1)
    theirs = beside.histories(beside.theirs())

    clock.turn(100)
    events = [json.dumps(event) for event in ecs.server.events]
    assert beside.our_agent().heed_events(events)["failed"] == 1
    report = beside.tick()
    assert (report.recovered, report.answers[Answer.LAUNCHED]) == (1, 1)
    assert (report.errors, report.strays) == ([], 0)
    assert beside.states()[failing] == "Failed"
    for _ in range(2):
        clock.turn_to_the_next_hour()
        assert beside.tick().as_dict()["stopped"] == {}

    assert beside.histories(beside.theirs()) == theirs
    assert ecs.launched() == dict.fromkeys(beside.run_ids, 1)
    assert [task["stoppedReason"] for task in ecs.server.tasks() if task["desiredStatus"] == "STOPPED"] == [
        "Essential container in task exited"
    ] * 3


def test_the_real_agent_leaves_ours_alone(beside_on_ecs: Beside, ecs: Ecs) -> None:
    beside = beside_on_ecs
    orphan = beside.claim_and_die()
    waiting, begun, ended = beside.add_due_runs(3)
    assert beside.tick().answers[Answer.LAUNCHED] == 3
    beside.server.set_state(begun, {"type": "Running"})
    ecs.server.stop(ecs.task_of(ended), exit_code=1)
    before = beside.histories([orphan, waiting, begun, ended])
    with beside.real_agent():
        (due,) = beside.add_due_runs(1)
        wait_until(lambda: bool(beside.signs(due)))
    assert beside.theirs() == [due]
    assert beside.histories([orphan, waiting, begun, ended]) == before


def test_a_retry_that_the_one_has_claimed_is_not_claimed_by_the_other(beside_on_ecs: Beside, ecs: Ecs) -> None:
    beside = beside_on_ecs
    ours = beside.add_due_retry()
    beside.tick()
    with beside.real_agent():
        theirs = beside.add_due_retry()
        wait_until(lambda: bool(beside.signs(theirs)))
        beside.tick()
    assert ecs.launched() == {ours: 1, theirs: 1}
    assert [bool((beside.signs(run_id)[0]["info"] or {}).get("key")) for run_id in (ours, theirs)] == [True, False]


def evicted_beside_a_heartbeat(beside: Beside, kubernetes: Kubernetes, namespace: str) -> str:
    """A run of ours in this namespace, evicted, of which the real agent's heartbeat has had its say."""
    (run_id,) = beside.add_due_runs(1)
    agent = beside.our_agent(kubernetes.launcher(namespace))
    assert beside.tick(agent).answers[Answer.LAUNCHED] == 1
    kubernetes.server.evict_pod(kubernetes.pod_of(run_id))
    beside.clock.turn(100)
    beside.prefect1.script(kubernetes.script, json.dumps({**kubernetes.settings, "name": NAME}), "heartbeat")
    beside.tick(agent)
    return run_id


def test_the_real_agents_heartbeat_leaves_jobs_of_ours_in_another_namespace_alone(
    beside_on_kubernetes: Beside, kubernetes: Kubernetes
) -> None:
    run_id = evicted_beside_a_heartbeat(beside_on_kubernetes, kubernetes, "ours")
    assert beside_on_kubernetes.states() == {run_id: "Scheduled"}
    assert "Launched again (1 of 3)" in beside_on_kubernetes.server.flow_run(run_id)["state_message"]


def test_the_real_agents_heartbeat_judges_jobs_of_ours_in_its_own_namespace(
    beside_on_kubernetes: Beside, kubernetes: Kubernetes
) -> None:
    run_id = evicted_beside_a_heartbeat(beside_on_kubernetes, kubernetes, CLUSTER)
    states = [state["state"] for state in beside_on_kubernetes.server.states(run_id)]
    assert states == ["Scheduled", "Submitted", "Failed"]
    assert beside_on_kubernetes.server.flow_run(run_id)["state_message"].startswith("Kubernetes Error: pods [")
    assert kubernetes.server.jobs() == []


def test_what_the_real_agent_launched_on_kubernetes_is_left_alone(
    beside_on_kubernetes: Beside, kubernetes: Kubernetes, clock: WallClock
) -> None:
    beside = beside_on_kubernetes
    beside.share(1)
    begun, done, unstartable, failed, cancelled = beside.theirs()[:5]
    beside.server.set_state(begun, {"type": "Running"})
    beside.server.set_state(done, {"type": "Success"})
    beside.server.cancel(cancelled)
    kubernetes.server.wait_for_image(kubernetes.pod_of(unstartable))
    kubernetes.server.finish_pod(kubernetes.pod_of(failed), exit_code=1)
    theirs = beside.histories(beside.theirs())
    for seconds in (100, START_GRACE_SECONDS, 7200):
        clock.turn(seconds)
        clock.turn_to_the_next_hour()
        report = beside.tick()
        assert (report.recovered, report.errors, report.stops, report.strays) == (0, [], {}, 0)
    assert beside.histories(beside.theirs()) == theirs
    assert kubernetes.launched() == dict.fromkeys(beside.run_ids, 1)
    assert (kubernetes.server.count("patch jobs"), kubernetes.server.count("delete jobs")) == (0, 0)
