"""Flow runs of work pools on ECS, with the real client, against the double of ECS: from launch to stop."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.builders.ecs_defaults import PoolDefaults
from chalicelib.errors import LaunchForbidden, LaunchRejected, UnsupportedRun
from chalicelib.flow_runs import FlowRun
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.ecs import EcsLauncher
from chalicelib.launchers.ecs_tasks import LAUNCH_KEY_TAG
from chalicelib.launchers.ecs_work_pools import WorkPoolTasks
from chalicelib.launchers.pacing import Pace
from chalicelib.sightings import Sighting
from tests.doubles.clock import TurnedClock
from tests.doubles.ecs import EcsServer
from tests.unit.ecs_work_pool import CONTAINER, JOB_CONFIGURATION, RUN_ID, pool_run

NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": "ENABLED"}}
DEFAULTS = PoolDefaults(
    container=CONTAINER,
    cluster="flows",
    allowed_clusters=frozenset({"listed"}),
    run_task_kwargs={"networkConfiguration": NETWORK},
    agent_name="lambda",
)
KEY = "11111111-0000-4000-8000-000000000001"
OF_POOL = {"cluster": {"default": "pools"}}


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def server(clock: TurnedClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[EcsServer]:
    with EcsServer(clock=clock, clusters=("flows", "listed", "pools")) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", server.url)
        monkeypatch.setenv("AWS_REGION", server.region)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield server


@pytest.fixture
def clients(server: EcsServer) -> Iterator[AwsClients]:
    clients = AwsClients()
    yield clients
    clients.close()


New = Callable[[], EcsLauncher]


@pytest.fixture
def new(clients: AwsClients, clock: TurnedClock) -> New:
    """Makes launchers as new processes have them, which know nothing yet."""
    return lambda: EcsLauncher(clients, DEFAULTS, WorkPoolTasks(clients, DEFAULTS), Pace(0, clock), clock)


@pytest.fixture
def launcher(new: New) -> EcsLauncher:
    return new()


def launch(launcher: EcsLauncher, run: FlowRun, key: str = KEY) -> str:
    return launcher.launch(launcher.build(run), key)


def start_as_official_worker(server: EcsServer, clients: AwsClients, cluster: str) -> str:
    """A task as the official worker starts it: tagged with its flow run, and neither startedBy nor a key."""
    definition = {"family": "official", "containerDefinitions": [{"name": "prefect", "image": "i", "memory": 128}]}
    clients.ecs().register_task_definition(**definition)
    tags = [{"key": "prefect.io/flow-run-id", "value": RUN_ID}]
    answer = clients.ecs().run_task(cluster=cluster, taskDefinition="official", tags=tags)
    return str(answer["tasks"][0]["taskArn"])


# what is started


def test_a_run_becomes_one_task_that_bears_its_key_and_is_named_with_its_cluster(
    server: EcsServer, launcher: EcsLauncher
) -> None:
    text = launch(launcher, pool_run())
    (task,) = server.tasks()
    tags = {tag["key"]: tag["value"] for tag in task["tags"]}
    assert text == f"Task flows::{task['taskArn']}"
    assert task["startedBy"] == f"prefect/{RUN_ID}"
    assert (
        tags.items() >= {LAUNCH_KEY_TAG: KEY, "prefect.io/flow-run-id": RUN_ID, "prefect-agent:name": "lambda"}.items()
    )
    assert next(call.parameters["clientToken"] for call in server.calls if call.action == "RunTask") == KEY


def test_launched_again_with_one_key_it_is_the_same_task_also_from_another_process(
    server: EcsServer, launcher: EcsLauncher, new: New
) -> None:
    assert launch(launcher, pool_run()) == launch(launcher, pool_run()) == launch(new(), pool_run())
    assert len(server.tasks()) == 1


def test_after_a_change_of_the_deployment_the_key_still_means_the_task_that_it_started(
    server: EcsServer, launcher: EcsLauncher
) -> None:
    first = launch(launcher, pool_run(properties=OF_POOL))
    assert launch(launcher, pool_run({"image": "other:2"}, properties=OF_POOL)) == first
    assert first.startswith("Task pools::")
    assert len(server.tasks()) == 1


def test_a_key_whose_task_has_failed_to_start_is_refused_with_its_reason(
    server: EcsServer, launcher: EcsLauncher
) -> None:
    arn = launch(launcher, pool_run()).partition("::")[2]
    server.stop(arn, stop_code="TaskFailedToStart", reason="CannotPullContainerError: no such image")
    with pytest.raises(LaunchRejected, match="CannotPullContainerError"):
        launch(launcher, pool_run())


def test_runs_of_one_deployment_share_a_definition_that_is_registered_once(
    server: EcsServer, launcher: EcsLauncher, new: New
) -> None:
    launch(launcher, pool_run())
    launch(new(), pool_run(run_id=RUN_ID[:-1] + "9"), KEY[:-1] + "9")
    assert [call.action for call in server.calls].count("RegisterTaskDefinition") == 1
    assert len({task["taskDefinitionArn"] for task in server.tasks()}) == 1


def test_a_definition_that_the_pool_names_is_looked_at_and_run(
    server: EcsServer, clients: AwsClients, launcher: EcsLauncher
) -> None:
    definition: dict[str, Any] = {
        "family": "own",
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "requiresCompatibilities": ["FARGATE"],
        "containerDefinitions": [{"name": "main", "image": "own:1"}],
    }
    arn = clients.ecs().register_task_definition(**definition)["taskDefinition"]["taskDefinitionArn"]
    launch(launcher, pool_run({"task_definition_arn": arn}))
    (task,) = server.tasks()
    assert task["taskDefinitionArn"] == arn
    assert task["overrides"]["containerOverrides"][0]["name"] == "main"
    with pytest.raises(UnsupportedRun, match="missing"):
        launcher.build(pool_run({"task_definition_arn": "missing:1"}))


def test_a_pools_cluster_that_is_not_there_is_the_runs_trouble_and_the_agents_own_is_the_agents(
    server: EcsServer, clients: AwsClients, clock: TurnedClock, launcher: EcsLauncher
) -> None:
    with pytest.raises(LaunchRejected, match="gone") as refused:
        launch(launcher, pool_run(properties={"cluster": {"default": "gone"}}))
    assert not isinstance(refused.value, LaunchForbidden)
    defaults = PoolDefaults(container=CONTAINER, cluster="nowhere", run_task_kwargs=DEFAULTS.run_task_kwargs)
    wrong = EcsLauncher(clients, defaults, WorkPoolTasks(clients, defaults), Pace(0, clock), clock)
    with pytest.raises(LaunchForbidden, match="nowhere"):
        launch(wrong, pool_run())


# what is found again


@pytest.mark.parametrize("cluster", ["pools", "arn:aws:ecs:us-east-1:123456789012:cluster/pools"])
def test_what_is_asked_about_is_answered_in_the_words_of_the_question(
    server: EcsServer, launcher: EcsLauncher, new: New, cluster: str
) -> None:
    arn = launch(launcher, pool_run(properties=OF_POOL)).partition("::")[2]
    text = f"Task {cluster}::{arn}"
    assert new().look_at([text]) == [Sighting(RUN_ID, KEY, text)]
    server.advance(arn, "RUNNING")
    assert new().look_at([text]) == [Sighting(RUN_ID, KEY, text, is_running=True)]


def test_a_task_of_an_official_worker_is_seen_with_its_run_and_without_a_key(
    server: EcsServer, clients: AwsClients, launcher: EcsLauncher
) -> None:
    text = f"Task pools::{start_as_official_worker(server, clients, 'pools')}"
    assert launcher.look_at([text]) == [Sighting(RUN_ID, None, text)]
    assert launcher.list_alive() == []


def test_what_lives_is_found_in_a_pools_cluster_once_a_run_of_it_was_built_even_if_that_failed(
    launcher: EcsLauncher, new: New
) -> None:
    text = launch(launcher, pool_run(properties=OF_POOL))
    fresh = new()
    assert fresh.find_alive(RUN_ID) is None
    with pytest.raises(UnsupportedRun):
        fresh.build(pool_run({"command": "it's"}, properties=OF_POOL))
    assert fresh.find_alive(RUN_ID) == Sighting(RUN_ID, KEY, text)
    assert fresh.list_alive() == [Sighting(RUN_ID, KEY, text)]


def test_who_names_no_cluster_looks_in_none_that_no_pool_has_named(
    server: EcsServer, clients: AwsClients, clock: TurnedClock
) -> None:
    defaults = PoolDefaults(container=CONTAINER)
    launcher = EcsLauncher(clients, defaults, WorkPoolTasks(clients, defaults), Pace(0, clock), clock)
    assert launcher.find_alive("run") is None
    assert server.count("ListTasks") == 0


def test_what_lives_is_found_in_a_cluster_whose_tasks_were_asked_about(launcher: EcsLauncher, new: New) -> None:
    text = launch(launcher, pool_run(properties=OF_POOL))
    fresh = new()
    fresh.look_at([text])
    assert fresh.find_alive(RUN_ID) == Sighting(RUN_ID, KEY, text)
    assert fresh.list_alive() == [Sighting(RUN_ID, KEY, text)]


def test_a_cluster_that_only_a_text_names_is_not_looked_in_afterwards(server: EcsServer, launcher: EcsLauncher) -> None:
    arn = "arn:aws:ecs:us-east-1:123456789012:task/invented/0a1b2c3d4e5f60718293a4b5c6d7e8f9"
    launcher.look_at([f"Task invented::{arn}"])
    before = len(server.calls)
    assert launcher.find_alive(RUN_ID) is None
    assert {call.parameters["cluster"] for call in server.calls[before:]} == {"flows", "listed"}


def test_texts_of_other_accounts_and_of_no_sense_are_asked_about_apart(
    server: EcsServer, launcher: EcsLauncher
) -> None:
    text = launch(launcher, pool_run())
    arn = text.partition("::")[2]
    foreign = "Task flows::arn:aws:ecs:eu-west-1:999999999999:task/flows/0a1b2c3d4e5f60718293a4b5c6d7e8f9"
    seen = launcher.look_at([foreign, text, "Task nonsense", "Task "])
    assert [each for each in seen if not each.trouble] == [Sighting(RUN_ID, KEY, text)]
    assert [each.text for each in seen if each.trouble] == ["Task nonsense", "Task "]
    asked = [call.parameters["tasks"] for call in server.calls if call.action == "DescribeTasks"]
    assert [arn] in asked


def test_a_text_whose_cluster_and_arn_disagree_is_asked_about_where_the_arn_says(launcher: EcsLauncher) -> None:
    arn = launch(launcher, pool_run()).partition("::")[2]
    assert launcher.look_at([f"Task pools::{arn}"]) == [Sighting(RUN_ID, KEY, f"Task pools::{arn}")]


# what ends


def test_a_task_is_stopped_by_its_text_in_its_cluster(server: EcsServer, launcher: EcsLauncher, new: New) -> None:
    text = launch(launcher, pool_run(properties=OF_POOL))
    new().stop(Sighting(RUN_ID, KEY, text), "enough")
    (task,) = server.tasks()
    assert (task["desiredStatus"], task["stoppedReason"]) == ("STOPPED", "enough")


def test_events_of_every_cluster_are_read_and_say_the_cluster_as_the_pool_does_where_it_is_known(
    server: EcsServer, clients: AwsClients, launcher: EcsLauncher, new: New
) -> None:
    text = launch(launcher, pool_run(properties=OF_POOL))
    arn = text.partition("::")[2]
    official = start_as_official_worker(server, clients, "pools")
    server.stop(arn, exit_code=1)
    server.stop(official, exit_code=1)
    bodies = [json.dumps(event) for event in server.events]
    by_arn = f"Task arn:aws:ecs:us-east-1:123456789012:cluster/pools::{arn}"
    assert launcher.read_events(bodies) == [text]
    assert new().read_events(bodies) == [by_arn]
    (sighting,) = new().look_at([by_arn])
    assert (sighting.run_id, sighting.key) == (RUN_ID, KEY)
    assert sighting.stop
    assert sighting.stop.has_run


def test_how_a_task_ended_is_read_from_the_flows_container_whatever_its_name(
    server: EcsServer, launcher: EcsLauncher
) -> None:
    containers = [{"name": "main", "image": "flows:3"}, {"name": "flow", "image": "proxy:1"}]
    definition = {**JOB_CONFIGURATION["task_definition"], "containerDefinitions": containers}
    text = launch(launcher, pool_run(configuration={"task_definition": definition}))
    server.stop(text.partition("::")[2], exit_codes={"main": 0, "flow": 137})
    (sighting,) = launcher.look_at([text])
    assert sighting.stop
    assert sighting.stop.went_well
