"""The tasks that ECS knows, with the real client, against the double of ECS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.ecs_launch import AGENT_TAG, STARTED_BY
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.errors import LaunchDeferred, LaunchError, LaunchForbidden, LaunchUnknown
from chalicelib.flow_runs import Place
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.ecs_tasks import LAUNCH_KEY_TAG, EcsTasks
from chalicelib.sightings import Sighting
from tests.doubles.clock import TurnedClock
from tests.doubles.ecs import EcsServer

DEFAULTS = EcsDefaults(
    container=ContainerSettings(api_url="http://prefect", api_key="key"),
    cluster="flows",
    allowed_clusters=frozenset({"second"}),
    agent_name="lambda",
)
TEMPLATE: dict[str, Any] = {
    "family": "flow",
    "containerDefinitions": [{"name": "flow", "image": "flows:1", "memory": 128}],
}
TASK_ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
OLD_ARN = f"arn:aws:ecs:us-east-1:123456789012:task/{TASK_ID}"


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def server(clock: TurnedClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[EcsServer]:
    with EcsServer(clock=clock, clusters=("flows", "second", "foreign")) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", server.url)
        monkeypatch.setenv("AWS_REGION", server.region)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield server


@pytest.fixture
def clients(server: EcsServer) -> Iterator[AwsClients]:
    clients = AwsClients()
    clients.ecs().register_task_definition(**TEMPLATE)
    yield clients
    clients.close()


@pytest.fixture
def tasks(clients: AwsClients) -> EcsTasks:
    return EcsTasks(clients, DEFAULTS)


Start = Callable[..., list[str]]


@pytest.fixture
def start(clients: AwsClients) -> Start:
    def start(
        run_id: str = "run", cluster: str = "flows", agent: str = "lambda", by: str = STARTED_BY, count: int = 1
    ) -> list[str]:
        """Start tasks of one run as an agent does; what a launch says of them."""
        tags = [{"key": LAUNCH_KEY_TAG, "value": f"{run_id}-1"}, {"key": AGENT_TAG, "value": agent}]
        asked: dict[str, Any] = {"cluster": cluster, "taskDefinition": "flow", "startedBy": by + run_id}
        begun: list[Any] = []
        while len(begun) < count:
            some = min(count - len(begun), 10)
            begun += clients.ecs().run_task(**asked, count=some, tags=tags)["tasks"]
        return [f"Task {task['taskArn']}" for task in begun]

    return start


def arn_of(text: str) -> str:
    return text.removeprefix("Task ")


def is_of_a_task(arn: str) -> bool:
    """Whether ECS finds an ARN in order, be there such a task or not."""
    kind, *cluster, task_id = arn.rpartition(":")[2].split("/") if "/" in arn else ("", "")
    return kind == "task" and len(cluster) < 2 and len(task_id) in (32, 36)


def asked_of(server: EcsServer, action: str) -> list[dict[str, Any]]:
    return [call.parameters for call in server.calls if call.action == action]


# looked at


def test_a_task_is_seen_with_its_run_key_and_whether_it_runs(server: EcsServer, tasks: EcsTasks, start: Start) -> None:
    (text,) = start()
    assert tasks.look_at([text]) == [Sighting("run", "run-1", text)]
    server.advance(arn_of(text), "RUNNING")
    assert tasks.look_at([text]) == [Sighting("run", "run-1", text, is_running=True)]


def test_a_stopped_task_is_seen_with_how_it_ended(server: EcsServer, tasks: EcsTasks, start: Start) -> None:
    (text,) = start()
    server.stop(arn_of(text), exit_code=1)
    (sighting,) = tasks.look_at([text])
    assert sighting.stop
    assert (sighting.is_running, sighting.stop.has_run, sighting.stop.went_well) == (False, True, False)
    assert f"{text} has stopped" in sighting.stop.reason


def test_a_task_that_is_about_to_stop_has_not_ended(server: EcsServer, tasks: EcsTasks, start: Start) -> None:
    (text,) = start()
    server.advance(arn_of(text), "RUNNING")
    tasks.stop(tasks.look_at([text])[0], "enough")
    assert tasks.look_at([text]) == [Sighting("run", "run-1", text)]


def test_a_hundred_tasks_are_asked_for_at_once(server: EcsServer, tasks: EcsTasks, start: Start) -> None:
    texts = start(count=210)
    assert [sighting.text for sighting in tasks.look_at(texts)] == texts
    assert [len(asked["tasks"]) for asked in asked_of(server, "DescribeTasks")] == [100, 100, 10]


def test_each_task_is_looked_for_in_the_cluster_that_its_arn_names(
    server: EcsServer, tasks: EcsTasks, start: Start
) -> None:
    texts = [text for cluster in ("second", "flows", "second") for text in start(cluster=cluster)]
    assert {sighting.text for sighting in tasks.look_at(texts)} == set(texts)
    asked = {each["cluster"]: each["tasks"] for each in asked_of(server, "DescribeTasks")}
    assert asked == {"second": [arn_of(texts[0]), arn_of(texts[2])], "flows": [arn_of(texts[1])]}


def test_an_arn_of_the_old_form_is_looked_for_in_the_agents_cluster(server: EcsServer, tasks: EcsTasks) -> None:
    assert tasks.look_at([f"Task {OLD_ARN}"]) == []
    assert [each["cluster"] for each in asked_of(server, "DescribeTasks")] == ["flows"]


def test_what_ecs_does_not_know_any_more_is_left_out(
    server: EcsServer, tasks: EcsTasks, start: Start, clock: TurnedClock
) -> None:
    gone, there = start("gone") + start("there")
    server.stop(arn_of(gone))
    clock.turn(3600)
    assert [sighting.text for sighting in tasks.look_at([gone, there])] == [there]


@pytest.mark.parametrize(
    "called",
    [
        "arn:aws:ecs:us-east-1:123456789012:task/flows/x",
        f"arn:aws:ecs:us-east-1:123456789012:task/flows/{TASK_ID}0",
        f"arn:aws:ecs:us-east-1:123456789012:task/flows/{TASK_ID}/{TASK_ID}",
        f"arn:aws:ecs:us-east-1:123456789012:service/flows/{TASK_ID}",
        "nonsense",
        "",
    ],
)
def test_what_is_called_like_no_task_is_trouble_of_its_own_and_in_no_others_way(
    server: EcsServer, tasks: EcsTasks, start: Start, called: str
) -> None:
    def is_refused(action: str, parameters: Mapping[str, Any]) -> bool:
        return action == "DescribeTasks" and not all(map(is_of_a_task, parameters["tasks"]))

    said = "taskId length should be one of [32,36]"
    server.faults.add(is_refused, "error", times=None, code="InvalidParameterException", message=said)
    first, last = start(count=2)
    seen = {sighting.text: sighting for sighting in tasks.look_at([first, f"Task {called}", last])}
    assert {text for text, sighting in seen.items() if not sighting.trouble} == {first, last}
    assert "has no ARN of a task" in seen[f"Task {called}"].trouble


def test_a_task_of_which_nobody_spoke_so_is_left_out(
    tasks: EcsTasks, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = start()
    described = list(tasks._describe("flows", [arn_of(text)]))
    monkeypatch.setattr(tasks, "_describe", lambda *_: described)
    assert tasks.look_at([text.replace("task/flows/", "task/"), text]) == [Sighting("run", "run-1", text)]


def test_a_task_that_runs_no_flow_is_left_out(tasks: EcsTasks, start: Start) -> None:
    assert tasks.look_at(start(by="deploy/")) == []


def test_looking_at_nothing_asks_nothing(server: EcsServer, tasks: EcsTasks) -> None:
    server.forget_calls()
    assert tasks.look_at([]) == []
    assert server.calls == []


def test_a_task_without_tags_is_seen_without_a_key(tasks: EcsTasks, clients: AwsClients) -> None:
    begun = clients.ecs().run_task(cluster="flows", taskDefinition="flow", startedBy="prefect/run")["tasks"]
    text = f"Task {begun[0]['taskArn']}"
    assert tasks.look_at([text]) == [Sighting("run", None, text)]


# events


def test_the_events_of_all_clusters_of_the_agent_are_read_and_no_others(
    server: EcsServer, tasks: EcsTasks, start: Start
) -> None:
    own, second, foreign = (start(cluster=cluster)[0] for cluster in ("flows", "second", "foreign"))
    for text in (own, second, foreign):
        server.stop(arn_of(text))
    assert tasks.read_events([json.dumps(event) for event in server.events]) == [own, second]


# found alive


@pytest.mark.parametrize("cluster", ["flows", "second"])
def test_the_living_task_of_a_run_is_found_in_any_cluster(tasks: EcsTasks, start: Start, cluster: str) -> None:
    (text,) = start(cluster=cluster)
    start("another")
    assert tasks.find_alive("run") == Sighting("run", "run-1", text)


def test_a_stopped_task_is_not_alive(server: EcsServer, tasks: EcsTasks, start: Start) -> None:
    (text,) = start()
    server.stop(arn_of(text))
    assert tasks.find_alive("run") is None


@pytest.mark.parametrize("action", ["ListTasks", "DescribeTasks"])
def test_whether_something_lives_is_unknown_when_ecs_will_not_say(
    server: EcsServer, tasks: EcsTasks, start: Start, action: str
) -> None:
    start()
    server.forbidden.add(action)
    with pytest.raises(LaunchUnknown, match=f"not authorized to perform: ecs:{action}"):
        tasks.find_alive("run")


# listed


def test_all_living_tasks_of_both_clusters_are_listed_page_by_page(
    server: EcsServer, tasks: EcsTasks, start: Start
) -> None:
    texts = [*start("many", count=130), *start("few", "second", count=2)]
    server.stop(arn_of(texts[0]))
    assert [sighting.text for sighting in tasks.list_alive()] == texts[1:]
    assert [(each["cluster"], "nextToken" in each) for each in asked_of(server, "ListTasks")] == [
        ("flows", False),
        ("flows", True),
        ("second", False),
    ]


def test_only_tasks_of_this_agent_are_listed(tasks: EcsTasks, clients: AwsClients, start: Start) -> None:
    (ours,) = start()
    start(agent="another")
    start(cluster="foreign")
    clients.ecs().run_task(cluster="flows", taskDefinition="flow")
    assert [sighting.text for sighting in tasks.list_alive()] == [ours]


def test_an_agent_whose_name_no_tag_takes_finds_its_tasks_all_the_same(clients: AwsClients, start: Start) -> None:
    (text,) = start(agent="Bob-s agent -2-")
    renamed = EcsTasks(clients, replace(DEFAULTS, agent_name="Bob's agent (2)"))
    assert [sighting.text for sighting in renamed.list_alive()] == [text]


def test_a_cluster_that_is_both_the_agents_and_allowed_is_listed_once(clients: AwsClients, start: Start) -> None:
    start()
    tasks = EcsTasks(clients, replace(DEFAULTS, allowed_clusters=frozenset({"flows"})))
    assert len(tasks.list_alive()) == 1


# stopped


@pytest.mark.parametrize("cluster", ["flows", "second"])
def test_a_task_is_stopped_in_its_cluster_with_the_reason(
    server: EcsServer, tasks: EcsTasks, start: Start, cluster: str
) -> None:
    (text,) = start(cluster=cluster)
    tasks.stop(Sighting("run", "run-1", text), "The flow run was cancelled")
    (asked,) = asked_of(server, "StopTask")
    assert asked == {"cluster": cluster, "task": arn_of(text), "reason": "The flow run was cancelled"}
    task = server.task(arn_of(text))
    assert (task["desiredStatus"], task["stoppedReason"]) == ("STOPPED", "The flow run was cancelled")


def test_a_task_that_is_gone_cannot_be_stopped_and_that_is_said(tasks: EcsTasks) -> None:
    arn = "arn:aws:ecs:us-east-1:123456789012:task/flows/0a1b"
    with pytest.raises(LaunchError, match=f"StopTask of {arn}.*not found"):
        tasks.stop(Sighting("run", None, f"Task {arn}"), "enough")


# trouble


@pytest.mark.parametrize(
    ("then", "answer"), [("cut_before", LaunchDeferred), ("throttle", LaunchDeferred), ("status", LaunchDeferred)]
)
@pytest.mark.parametrize("action", ["DescribeTasks", "ListTasks", "StopTask"])
def test_trouble_with_ecs_is_for_now(
    server: EcsServer, tasks: EcsTasks, start: Start, action: str, then: Any, answer: type[LaunchError]
) -> None:
    (text,) = start()
    server.faults.add(when=action, then=then, times=None)
    with pytest.raises(answer, match=action):
        ask(tasks, action, text)


@pytest.mark.parametrize("action", ["DescribeTasks", "ListTasks", "StopTask"])
def test_what_the_agents_policy_lacks_is_named(server: EcsServer, tasks: EcsTasks, start: Start, action: str) -> None:
    (text,) = start()
    server.forbidden.add(action)
    with pytest.raises(LaunchForbidden, match=f"ecs:{action}"):
        ask(tasks, action, text)


def ask(tasks: EcsTasks, action: str, text: str) -> None:
    """Do what asks ECS for this action."""
    if action == "StopTask":
        tasks.stop(Sighting("run", None, text), "enough")
    elif action == "ListTasks":
        tasks.list_alive()
    else:
        tasks.look_at([text])


@pytest.mark.parametrize("method", ["look_at", "list_alive"])
def test_an_answer_that_is_not_ecs_is_not_believed(
    server: EcsServer, tasks: EcsTasks, start: Start, method: str
) -> None:
    texts = start()
    server.faults.add(then="status", status=200, body="<html>Welcome</html>", times=None)
    with pytest.raises(LaunchDeferred, match="what answered is not AWS"):
        tasks.look_at(texts) if method == "look_at" else tasks.list_alive()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "flows"),
        ({"cluster": "", "run_task_kwargs": {"cluster": "theirs"}}, "theirs"),
        ({"cluster": ""}, "default"),
    ],
)
def test_the_place_is_the_agents_own_cluster(clients: AwsClients, changes: dict[str, Any], name: str) -> None:
    assert EcsTasks(clients, replace(DEFAULTS, **changes)).place == Place("ecs", name)
