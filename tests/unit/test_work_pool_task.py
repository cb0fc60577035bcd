"""Flow runs of ECS work pools made into launch requests: what the agent's settings add, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.builders.ecs_defaults import PoolDefaults
from chalicelib.builders.ecs_launch import EcsLaunch
from chalicelib.builders.job_configuration import render_job_configuration
from chalicelib.builders.work_pool_container import WorkPoolContainer, container_environment, job_labels, split_command
from chalicelib.builders.work_pool_definition import build_pool_definition
from chalicelib.builders.work_pool_task import (
    Base,
    build_pool_launch,
    check_cluster,
    existing_definition,
    needed_vpc,
    read_configuration,
)
from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import FlowRun
from chalicelib.launchers.ecs_shapes import shape_problems
from tests.unit.ecs_work_pool import CONTAINER, JOB_CONFIGURATION, RUN_ID, pool_run

REFERENCE = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prefect"
ROLE = "arn:aws:iam::123456789012:role/"
OWN = "arn:aws:ecs:us-east-1:123456789012:task-definition/own:1"
DESCRIBED = {"networkMode": "awsvpc", "containerDefinitions": [{"name": "prefect", "image": "own:1"}]}
BY_REFERENCE = WorkPoolContainer(api_url="http://prefect/api", secret_reference=REFERENCE)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)
IN_PLAIN = WorkPoolContainer(api_url="http://prefect/api", api_key="pnu_1")


def built(run: FlowRun, container: WorkPoolContainer = CONTAINER, described: Any = None, **settings: Any) -> EcsLaunch:
    """The launch request, with the subnets a and b in every VPC that is looked up."""
    defaults = PoolDefaults(container=container, **settings)
    configuration = read_configuration(render_job_configuration(run))
    check_cluster(run, configuration, defaults)
    if arn := existing_definition(configuration):
        base = Base(described or DESCRIBED, arn)
    else:
        base = Base(build_pool_definition(run, configuration, defaults, "us-east-1", shape_problems))
    subnets = ["a", "b"] if needed_vpc(configuration, base.definition, defaults) is not None else []
    return build_pool_launch(run, configuration, base, subnets, defaults, shape_problems)


def container_of(launch: EcsLaunch) -> dict[str, Any]:
    assert launch.definition
    (container,) = launch.definition["containerDefinitions"]
    return dict(container)


def environment_of(launch: EcsLaunch) -> dict[str, str]:
    (override,) = launch.run_task["overrides"]["containerOverrides"]
    return {entry["name"]: entry["value"] for entry in override["environment"]}


# what a task is


def test_a_run_without_job_variables_becomes_a_fargate_task_that_runs_prefect() -> None:
    launch = built(pool_run())
    assert container_of(launch)["image"] == CONTAINER.image
    assert launch.definition
    assert launch.definition["requiresCompatibilities"] == ["FARGATE"]
    assert launch.run_task["startedBy"] == f"prefect/{RUN_ID}"
    assert launch.run_task["overrides"]["containerOverrides"][0]["command"] == ["prefect", "flow-run", "execute"]
    assert environment_of(launch)["PREFECT__FLOW_RUN_ID"] == RUN_ID


def test_two_runs_of_one_deployment_share_a_definition_and_another_image_is_another_family() -> None:
    first, second = built(pool_run()), built(pool_run(run_id=RUN_ID[:-1] + "9"))
    assert first.definition == second.definition
    assert first.run_task != second.run_task
    changed = built(pool_run({"image": "other:1"})).definition
    assert first.definition
    assert changed
    assert changed["family"] != first.definition["family"]


@given(family=st.text(min_size=1, max_size=300))
def test_every_family_is_one_that_ecs_takes(family: str) -> None:
    launch = built(pool_run({"family": family}))
    assert launch.definition
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,255}", launch.definition["family"])


@given(labels=st.dictionaries(TEXTS, TEXTS, max_size=5))
def test_every_label_becomes_a_tag_that_ecs_takes_and_none_takes_the_place_of_ours(labels: dict[str, str]) -> None:
    ours = {"prefect-agent:name": "forged", "prefect-agent:launch-key": "forged", "prefect.io/flow-run-id": "forged"}
    tags = built(pool_run({"labels": {**labels, **ours}})).run_task["tags"]
    assert len({tag["key"] for tag in tags}) == len(tags)
    assert all(re.fullmatch(r"[\w./=+:@-]{1,128}", tag["key"]) and len(tag["value"]) <= 256 for tag in tags)
    values = {tag["key"]: tag["value"] for tag in tags}
    assert values["prefect.io/flow-run-id"] == RUN_ID
    assert "forged" not in values.values()


# the agent's own settings


def test_what_the_pool_leaves_open_the_agents_settings_say() -> None:
    network = {"awsvpcConfiguration": {"subnets": ["subnet-own"]}}
    launch = built(
        pool_run(),
        cluster="mine",
        task_role_arn=ROLE + "task",
        execution_role_arn=ROLE + "execution",
        run_task_kwargs={"networkConfiguration": network},
    )
    assert launch.definition
    assert launch.definition["executionRoleArn"] == ROLE + "execution"
    assert launch.run_task["overrides"]["taskRoleArn"] == ROLE + "task"
    assert (launch.run_task["cluster"], launch.run_task["networkConfiguration"]) == ("mine", network)


def test_what_the_pool_says_goes_before_the_agents_settings() -> None:
    launch = built(
        pool_run({"task_role_arn": ROLE + "a", "execution_role_arn": ROLE + "b", "vpc_id": "vpc-1"}),
        task_role_arn=ROLE + "task",
        execution_role_arn=ROLE + "execution",
        run_task_kwargs={"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-own"]}}},
    )
    assert launch.definition
    assert launch.definition["executionRoleArn"] == ROLE + "b"
    assert launch.run_task["overrides"]["taskRoleArn"] == ROLE + "a"
    assert launch.run_task["networkConfiguration"]["awsvpcConfiguration"]["subnets"] == ["a", "b"]


# clusters


@pytest.mark.parametrize("cluster", ["listed", "mine"])
def test_job_variables_choose_among_the_agents_clusters(cluster: str) -> None:
    launch = built(pool_run({"cluster": cluster}), cluster="mine", allowed_clusters=frozenset({"listed"}))
    assert launch.run_task["cluster"] == cluster


def test_a_cluster_that_only_job_variables_name_is_refused_and_the_setting_named() -> None:
    for run in (pool_run({"cluster": "foreign"}), pool_run(own_variables={"cluster": "foreign"})):
        with pytest.raises(UnsupportedRun, match=r"cluster foreign .*AGENT_CLUSTERS"):
            built(run)


def test_the_pools_own_cluster_is_its_operators_choice() -> None:
    as_default = pool_run(properties={"cluster": {"default": "pools"}})
    literal = pool_run(configuration={"cluster": "pools"})
    in_request = {"task_run_request": {**JOB_CONFIGURATION["task_run_request"], "cluster": "pools"}}
    for run in (as_default, literal, pool_run(configuration=in_request)):
        assert built(run).run_task["cluster"] == "pools"


def test_job_variables_may_name_the_pools_own_cluster_and_no_other() -> None:
    properties = {"cluster": {"default": "pools"}}
    assert built(pool_run({"cluster": "pools"}, properties=properties)).run_task["cluster"] == "pools"
    with pytest.raises(UnsupportedRun, match="cluster foreign"):
        built(pool_run({"cluster": "foreign"}, properties=properties))


# keys


def test_a_key_by_reference_is_a_secret_of_the_definition_and_stands_in_no_override() -> None:
    launch = built(pool_run(), BY_REFERENCE, execution_role_arn=ROLE + "execution")
    assert container_of(launch)["secrets"] == [{"name": "PREFECT_API_KEY", "valueFrom": REFERENCE}]
    assert "PREFECT_API_KEY" not in environment_of(launch)


def test_an_auth_string_by_reference_goes_into_its_own_variable() -> None:
    container = WorkPoolContainer("http://p/api", secret_reference=REFERENCE, secret_variable="PREFECT_API_AUTH_STRING")
    launch = built(pool_run(), container, execution_role_arn=ROLE + "execution")
    assert container_of(launch)["secrets"] == [{"name": "PREFECT_API_AUTH_STRING", "valueFrom": REFERENCE}]


def test_the_pools_own_secret_goes_before_the_agents() -> None:
    variables = {"prefect_api_key_secret_arn": "arn:of-the-pool", "execution_role_arn": ROLE + "b"}
    launch = built(pool_run(variables), BY_REFERENCE)
    assert container_of(launch)["secrets"] == [{"name": "PREFECT_API_KEY", "valueFrom": "arn:of-the-pool"}]


def test_a_run_that_brings_a_key_of_its_own_or_wants_none_gets_no_secret() -> None:
    own = built(pool_run({"env": {"PREFECT_API_KEY": "own"}}), BY_REFERENCE)
    none = built(pool_run({"env": {"PREFECT_API_KEY": None}}), BY_REFERENCE)
    assert environment_of(own)["PREFECT_API_KEY"] == "own"
    assert "PREFECT_API_KEY" not in environment_of(none)
    assert "secrets" not in {**container_of(own), **container_of(none)}


def test_a_secret_without_a_role_to_fetch_it_is_refused() -> None:
    with pytest.raises(UnsupportedRun, match=r"execution_role_arn .*AGENT_EXECUTION_ROLE_ARN"):
        built(pool_run(), BY_REFERENCE)


def test_a_key_that_was_given_in_plain_is_in_the_environment() -> None:
    assert environment_of(built(pool_run(), IN_PLAIN))["PREFECT_API_KEY"] == "pnu_1"


def test_a_named_definition_must_show_the_secret_and_the_message_says_how() -> None:
    run = pool_run({"task_definition_arn": OWN})
    with pytest.raises(UnsupportedRun, match=f"PREFECT_API_KEY.*{REFERENCE}.*AGENT_ALLOW_PLAIN_API_KEY"):
        built(run, BY_REFERENCE)
    entry = {"name": "PREFECT_API_KEY", "valueFrom": REFERENCE}
    described = {"containerDefinitions": [{"name": "prefect", "image": "own:1", "secrets": [entry]}]}
    launch = built(run, BY_REFERENCE, described)
    assert (launch.definition, launch.definition_arn) == (None, OWN)
    assert "PREFECT_API_KEY" not in environment_of(launch)


def test_a_named_definition_without_the_secret_gets_the_key_in_plain_where_that_is_allowed() -> None:
    allowed = WorkPoolContainer("http://p/api", api_key="pnu_1", secret_reference=REFERENCE, allow_plain_api_key=True)
    run = pool_run({"task_definition_arn": OWN})
    assert environment_of(built(run, allowed))["PREFECT_API_KEY"] == "pnu_1"
    assert "PREFECT_API_KEY" not in environment_of(built(pool_run(), allowed, execution_role_arn=ROLE + "b"))


# what cannot be launched


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"vpc_id": 7}, "vpc_id is a number"),
        ({"configure_cloudwatch_logs": "yes"}, "configure_cloudwatch_logs is text"),
        ({"network_configuration": {"subnets": ["a"]}}, "network_configuration needs the vpc_id"),
        ({"cloudwatch_logs_options": {"mode": "x"}}, "cloudwatch_logs_options need configure_cloudwatch_logs"),
        ({"configure_cloudwatch_logs": True}, "needs an execution role"),
        ({"command": "it's"}, "check the quotes"),
        ({"env": {"A": "x" * 9000}}, r"overrides have \d+ characters.*\(A\)"),
        ({"env": {"A": "\x00"}}, "NUL character"),
        ({"cpu": "x", "launch_type": "EC2"}, "cpu and memory must be numbers|cpu is text, not a number"),
        ({"labels": 5}, "labels is a number"),
    ],
)
def test_bad_job_variables_are_refused_with_what_is_wrong(variables: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedRun, match=message):
        built(pool_run(variables))


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("task_run_request", {"colour": "red"}, "no argument colour"),
        ("task_run_request", {"count": 2}, "count is 2"),
        ("task_run_request", {"clientToken": "x"}, "clientToken cannot be given"),
        ("task_run_request", {"overrides": "x"}, "overrides is text"),
        ("task_run_request", {"overrides": {"containerOverrides": "x"}}, "containerOverrides is text"),
        ("task_run_request", {"overrides": {"containerOverrides": ["x"]}}, r"containerOverrides\[0\] is text"),
        ("task_run_request", {"overrides": {"containerOverrides": [{"environment": "x"}]}}, "environment is text"),
        ("task_run_request", {"overrides": {"containerOverrides": [{"environment": ["x"]}]}}, "is text, not an object"),
        ("task_run_request", {"tags": "x"}, "tags is text"),
        (
            "task_run_request",
            {"launchType": "EC2", "capacityProviderStrategy": "x"},
            "capacityProviderStrategy is text",
        ),
        ("task_definition", {"colour": "red"}, "colour"),
        ("task_definition", {"containerDefinitions": "x"}, "containerDefinitions is text"),
        ("task_definition", {"containerDefinitions": ["x"]}, r"containerDefinitions\[0\] is text"),
        (
            "task_definition",
            {"containerDefinitions": [{"name": "prefect", "environment": {}, "links": {"a": 1}}]},
            "links",
        ),
        ("task_definition", {"networkMode": "bridge"}, "networkMode must be awsvpc"),
        ("task_definition", {"containerDefinitions": [{"name": "prefect", "essential": False}]}, "must be essential"),
    ],
)
def test_a_bad_template_is_refused_by_where_it_is_wrong(part: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedRun, match=message):
        built(pool_run(configuration={part: {**JOB_CONFIGURATION[part], **changes}}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "x", "prefect", "FARGATE", "awsvpc"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["name", "environment", "value", "containerOverrides", "command", "cpu", "image"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
PARTS = ["containerDefinitions", "cpu", "networkMode", "requiresCompatibilities", "executionRoleArn", "family"]
ARGUMENTS = ["overrides", "tags", "launchType", "capacityProviderStrategy", "networkConfiguration", "taskDefinition"]


@given(
    definition=st.dictionaries(st.sampled_from(PARTS), JSON, max_size=3),
    request=st.dictionaries(st.sampled_from(ARGUMENTS), JSON, max_size=3),
    variables=st.dictionaries(st.sampled_from(["cluster", "vpc_id", "network_configuration"]), JSON, max_size=2),
)
def test_whatever_a_template_has_it_is_launched_or_refused(
    definition: dict[str, Any], request: dict[str, Any], variables: dict[str, Any]
) -> None:
    parts = {"task_definition": definition, "task_run_request": request}
    configuration = {name: {**JOB_CONFIGURATION[name], **changes} for name, changes in parts.items()}
    try:
        launch = built(pool_run(variables, configuration=configuration))
    except UnsupportedRun as error:
        assert str(error)
    else:
        assert launch.run_task["startedBy"] == f"prefect/{RUN_ID}"
        assert not shape_problems("RunTask", launch.run_task)


# what every platform's container gets


def test_the_environment_says_where_prefect_is_and_which_run_it_is_and_the_job_has_the_last_word() -> None:
    env = container_environment(pool_run(), IN_PLAIN, {"PREFECT_API_URL": "http://other", "A": None, "B": 1})
    assert env["PREFECT_API_URL"] == "http://other"
    assert (env["PREFECT__FLOW_RUN_ID"], env["PREFECT_API_KEY"], env["B"]) == (RUN_ID, "pnu_1", "1")
    assert "A" not in env


def test_the_agents_own_variables_are_weaker_than_all_others() -> None:
    container = WorkPoolContainer("http://p/api", env_vars={"A": "agent", "B": "agent", "PREFECT_API_URL": "x"})
    env = container_environment(pool_run(), container, {"A": "job"})
    assert (env["A"], env["B"], env["PREFECT_API_URL"]) == ("job", "agent", "http://p/api")


def test_labels_are_those_of_the_official_workers_without_a_version() -> None:
    labels = job_labels(pool_run(), "lambda")
    assert labels["prefect.io/flow-run-id"] == RUN_ID
    assert labels["prefect.io/worker-name"] == "lambda"
    assert labels["prefect.io/deployment-updated"] == "2026-01-02T03:04:05.678900+00:00"
    assert "prefect.io/version" not in labels


def test_a_command_is_split_as_a_shell_does_it() -> None:
    assert split_command("python -c 'print(1)'") == ["python", "-c", "print(1)"]
    with pytest.raises(UnsupportedRun, match="quotes"):
        split_command("it's")


def test_a_command_that_cannot_be_split_is_not_shown_as_a_secret_may_be_in_it() -> None:
    with pytest.raises(UnsupportedRun) as caught:
        split_command("run --password hunter'2")
    assert "hunter" not in str(caught.value)
