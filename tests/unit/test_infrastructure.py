"""What the functions of a stage may do: no role more than its function is there for."""

from __future__ import annotations

import pytest

from tests.doubles.ecs.server import ACTIONS
from tests.roles import actions_of, read_template, statements_of

ROLES = ["ApiRole", "TaskStoppedRole", "TickRole", "WakeRole"]
LOOKS = {"DescribeTasks", "ListTasks"}
LAUNCHES = {"DescribeTaskDefinition", "RegisterTaskDefinition", "RunTask", "TagResource"}


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


@pytest.mark.parametrize("role", ROLES)
def test_every_function_writes_its_log_and_reads_the_api_key_and_no_action_is_a_pattern(role: str) -> None:
    actions = actions_of(role)
    assert {"logs:CreateLogStream", "logs:PutLogEvents"} <= actions
    assert {"secretsmanager:GetSecretValue", "ssm:GetParameter"} <= actions
    assert [action for action in actions if "*" in action] == []
    assert {statement["Effect"] for statement in statements_of(role)} == {"Allow"}


@pytest.mark.parametrize("role", ["TickRole", "WakeRole"])
def test_roles_are_passed_to_tasks_alone_by_those_that_launch(role: str) -> None:
    (passing,) = [each for each in statements_of(role) if each["Action"] == "iam:PassRole"]
    assert passing["Resource"] == "PassableRoleArns"
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    assert actions_of(role, "ec2") == {"DescribeSubnets", "DescribeVpcs"}


@pytest.mark.parametrize("role", ["ApiRole", "TaskStoppedRole"])
def test_who_does_not_launch_passes_no_role_and_reads_neither_network_nor_templates(role: str) -> None:
    assert [action for action in actions_of(role) if action.split(":")[0] in ("iam", "ec2", "s3")] == []


@pytest.mark.parametrize("action", ["ecs:DescribeTasks", "ecs:ListTasks", "ecs:RunTask", "ecs:StopTask"])
def test_what_is_done_to_tasks_is_done_on_the_named_clusters_alone(action: str) -> None:
    (statement,) = [each for each in statements_of("TickRole") if each["Action"] == action]
    assert statement["Condition"]["ArnEquals"] == {"ecs:cluster": "ClusterArns"}


def test_only_tasks_that_carry_the_tag_of_an_agent_are_stopped() -> None:
    (stopping,) = [each for each in statements_of("TickRole") if each["Action"] == "ecs:StopTask"]
    assert stopping["Condition"]["Null"] == {"aws:ResourceTag/prefect-agent:launch-key": "false"}
