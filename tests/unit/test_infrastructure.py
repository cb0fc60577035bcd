"""What the functions of a stage may do: no role more than its function is there for, and the rest of `infra/`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app import app
from chalicelib.telemetry import METRICS, NAMESPACE
from tests.doubles.ecs.server import ACTIONS
from tests.roles import CORE, actions_of, read_template, statements_of

INFRA = CORE.parent
TEMPLATES = sorted(INFRA.glob("*.yaml"))
ROLES = ["ApiRole", "TaskStoppedRole", "TickRole", "WakeRole"]
LOOKS = {"DescribeTasks", "ListTasks"}
LAUNCHES = {"DescribeTaskDefinition", "RegisterTaskDefinition", "RunTask", "TagResource"}
VPC = set(read_template()["VpcPolicy"]["Properties"]["PolicyDocument"]["Statement"][0]["Action"])
"""What Lambda does in a function's name where the stage is in a VPC, and only there."""

FOR_ALL_RESOURCES = {
    "ec2:AssignPrivateIpAddresses": "https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html",
    "ec2:CreateNetworkInterface": "https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html",
    "ec2:DeleteNetworkInterface": "https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html",
    "ec2:DescribeNetworkInterfaces": "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html",
    "ec2:DescribeSubnets": "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html",
    "ec2:DescribeVpcs": "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html",
    "ec2:UnassignPrivateIpAddresses": "https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html",
    "ecr:GetAuthorizationToken": "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html",
    "ecs:DescribeTaskDefinition": "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html",
    "ecs:RegisterTaskDefinition": "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html",
}  # fmt: skip
"""Actions on `*` without a condition: those that have no resource to be bounded by, each with its page."""

CALLS_BY_NAME = {"iam:PassRole", "ecs:TagResource"}
"""What AWS checks beside another call: the roles that RunTask gives, the tags that it sets."""


def own_actions(role: str, service: str = "") -> set[str]:
    """What a role may do apart from joining a VPC."""
    vpc = {each.partition(":")[2] for each in VPC} if service else VPC
    kept = {"DescribeSubnets", "ec2:DescribeSubnets"} if role in ("TickRole", "WakeRole") else set()
    return {action for action in actions_of(role, service) if action not in vpc or action in kept}


def all_statements(path: Path) -> list[dict[str, Any]]:
    """Every statement that allows something to a role, of one template."""
    resources = read_template(path).values()
    properties = [each["Properties"] for each in resources]
    documents = [each["PolicyDocument"] for each in properties if "PolicyDocument" in each and "Queues" not in each]
    documents += [policy["PolicyDocument"] for each in properties for policy in each.get("Policies", ())]
    return [statement for document in documents for statement in document["Statement"]]


def actions_in(statement: dict[str, Any]) -> list[str]:
    return [statement["Action"]] if isinstance(statement["Action"], str) else list(statement["Action"])


def test_every_role_of_the_template_is_a_functions() -> None:
    assert sorted(name for name, each in read_template().items() if each["Type"] == "AWS::IAM::Role") == ROLES


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        ("ApiRole", set()),
        ("TaskStoppedRole", LOOKS),
        ("WakeRole", LOOKS | LAUNCHES),
        ("TickRole", LOOKS | LAUNCHES | {"StopTask"}),
    ],
)
def test_a_function_may_do_with_ecs_what_it_is_there_for_and_nothing_else(role: str, actions: set[str]) -> None:
    assert actions_of(role, "ecs") == actions
    assert actions <= ACTIONS.keys(), "what the double does not know nobody tries"


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        ("ApiRole", {"SendMessage"}),
        ("TickRole", {"SendMessage"}),
        ("WakeRole", {"ReceiveMessage", "DeleteMessage", "GetQueueAttributes"}),
        ("TaskStoppedRole", {"ReceiveMessage", "DeleteMessage", "GetQueueAttributes"}),
    ],
)
def test_a_function_sends_to_a_queue_or_receives_from_one_and_not_both(role: str, actions: set[str]) -> None:
    assert actions_of(role, "sqs") == actions


def test_the_api_may_read_the_secret_send_to_the_queue_and_write_its_log_and_nothing_else() -> None:
    assert own_actions("ApiRole") == {
        "secretsmanager:GetSecretValue",
        "ssm:GetParameter",
        "sqs:SendMessage",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }


@pytest.mark.parametrize("role", ROLES)
def test_every_function_writes_its_log_and_reads_the_api_key_and_no_action_is_a_pattern(role: str) -> None:
    actions = actions_of(role)
    assert {"logs:CreateLogStream", "logs:PutLogEvents"} <= actions
    assert {"secretsmanager:GetSecretValue", "ssm:GetParameter"} <= actions
    assert {statement["Effect"] for statement in statements_of(role)} == {"Allow"}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_action_is_a_pattern_and_nobody_may_make_log_groups(path: Path) -> None:
    actions = [action for statement in all_statements(path) for action in actions_in(statement)]
    assert actions
    assert [action for action in actions if "*" in action or action == "logs:CreateLogGroup"] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_what_holds_for_all_resources_is_conditioned_or_has_no_resource_to_name(path: Path) -> None:
    unbounded = [each for each in all_statements(path) if each["Resource"] == "*" and "Condition" not in each]
    named = {action for statement in unbounded for action in actions_in(statement)}
    assert named - FOR_ALL_RESOURCES.keys() == set()


def test_the_table_of_exceptions_has_no_line_that_nothing_needs() -> None:
    statements = [each for path in TEMPLATES for each in all_statements(path)]
    used = {action for each in statements if each["Resource"] == "*" for action in actions_in(each)}
    assert FOR_ALL_RESOURCES.keys() - used == set()


def test_every_call_that_is_allowed_is_made_by_the_code() -> None:
    source = "\n".join(path.read_text() for path in (INFRA.parent / "chalicelib").rglob("*.py"))
    allowed = {action for role in ROLES for action in own_actions(role)} - CALLS_BY_NAME
    # Lambda itself writes the logs, and takes the messages from the queues.
    lambdas = {"logs", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:SendMessage"}
    asked = {action for action in allowed if action.split(":")[0] not in lambdas and action not in lambdas}
    methods = {action: re.sub("(?<!^)(?=[A-Z])", "_", action.split(":")[1]).lower() for action in asked}
    assert [action for action, method in methods.items() if f".{method}(" not in source] == []
    assert ".send_message(" in source


@pytest.mark.parametrize("role", ["TickRole", "WakeRole"])
def test_roles_are_passed_to_tasks_alone_by_those_that_launch(role: str) -> None:
    (passing,) = [each for each in statements_of(role) if each["Action"] == "iam:PassRole"]
    assert passing["Resource"] == "PassableRoleArns"
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    assert own_actions(role, "ec2") == {"DescribeSubnets", "DescribeVpcs"}


@pytest.mark.parametrize("role", ["ApiRole", "TaskStoppedRole"])
def test_who_does_not_launch_passes_no_role_and_reads_no_network(role: str) -> None:
    assert [action for action in own_actions(role) if action.split(":")[0] in ("iam", "ec2")] == []


def test_templates_are_read_by_whoever_builds_the_agent_and_not_by_the_api() -> None:
    readers = {
        role for role in ("TickRole", "WakeRole", "TaskStoppedRole", "ApiRole") if "s3:GetObject" in own_actions(role)
    }
    assert readers == {"TickRole", "WakeRole", "TaskStoppedRole"}


@pytest.mark.parametrize("action", ["ecs:DescribeTasks", "ecs:ListTasks", "ecs:RunTask", "ecs:StopTask"])
def test_what_is_done_to_tasks_is_done_on_the_named_clusters_alone(action: str) -> None:
    (statement,) = [each for each in statements_of("TickRole") if each["Action"] == action]
    assert statement["Condition"]["ArnEquals"] == {"ecs:cluster": "ClusterArns"}


def test_only_tasks_that_carry_the_tag_of_an_agent_are_stopped() -> None:
    (stopping,) = [each for each in statements_of("TickRole") if each["Action"] == "ecs:StopTask"]
    assert stopping["Condition"]["Null"] == {"aws:ResourceTag/prefect-agent:launch-key": "false"}


def test_tags_are_set_only_on_what_is_being_created() -> None:
    (tagging,) = [each for each in statements_of("TickRole") if each["Action"] == "ecs:TagResource"]
    assert tagging["Condition"] == {"StringEquals": {"ecs:CreateAction": ["RunTask", "RegisterTaskDefinition"]}}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_names_a_partition_or_region(path: Path) -> None:
    assert re.findall(r"arn:aws[\w-]*:|\b(?:us|eu|ap)-[a-z]+-\d\b", path.read_text()) == []


def test_every_role_can_be_bounded() -> None:
    for path in TEMPLATES:
        roles = [each for each in read_template(path).values() if each["Type"] == "AWS::IAM::Role"]
        assert all("PermissionsBoundary" in role["Properties"] for role in roles)


def test_every_log_group_forgets_and_goes_with_its_stack() -> None:
    groups = [each for path in TEMPLATES for each in read_template(path).values() if "LogGroup" in each["Type"]]
    assert len(groups) == 5
    assert {each["Properties"]["RetentionInDays"] for each in groups} == {"LogRetentionDays"}
    assert {each["DeletionPolicy"] for each in groups} == {"Delete"}


def test_every_function_of_the_app_has_a_log_group_and_a_role() -> None:
    assert {"tick", "wake", "task_stopped"} < set(app.handler_map)
    groups = [each for each in read_template().values() if each["Type"] == "AWS::Logs::LogGroup"]
    names = {each["Properties"]["LogGroupName"].partition("-${Stage}")[2] for each in groups}
    assert names == {"", "-tick", "-wake", "-task_stopped"}


def test_every_metric_of_ours_that_is_watched_or_shown_is_written() -> None:
    resources = read_template().values()
    alarms = [each["Properties"] for each in resources if each["Type"] == "AWS::CloudWatch::Alarm"]
    watched = {each["MetricName"] for each in alarms if each.get("Namespace") == NAMESPACE}
    widgets = json.loads(read_template()["Dashboard"]["Properties"]["DashboardBody"])["widgets"]
    shown = {name for each in widgets for name in _ours(each["properties"].get("metrics", []))}
    assert watched == {"Found", "BacklogAge", "Failed"}
    assert watched | shown == METRICS.keys()


def _ours(rows: list[list[Any]]) -> list[str]:
    """The names of our metrics in a widget, where `.` and `...` stand for what the row before has."""
    namespace, names = "", []
    for first, second, *_ in rows:
        namespace = namespace if first in (".", "...") else first
        names += [second] if namespace == NAMESPACE and first != "..." else []
    return names


def test_every_alarm_says_why_its_threshold_is_what_it_is() -> None:
    alarms = [each["Properties"] for each in read_template().values() if each["Type"] == "AWS::CloudWatch::Alarm"]
    assert len(alarms) == 5
    assert min(len(each["AlarmDescription"]) for each in alarms) > 80
    assert {each["TreatMissingData"] for each in alarms} == {"breaching", "notBreaching"}
