"""Every call of AWS has a statement in the role of each function that makes it, and no statement is without a call.

The walk reads the source: whoever adds a call, or a function that makes one, has to name it here, and in `infra/`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from chalicelib.launchers.aws import AwsClients
from tests.roles import read_template, statements_of

ROOT = Path(__file__).parents[2]
SERVICES = ("ec2", "ecs", "eks", "s3", "secretsmanager", "sqs", "ssm")
ROLES = {"tick": "TickRole", "wake": "WakeRole", "task_stopped": "TaskStoppedRole", "api": "ApiRole"}
ALL, LAUNCHES = frozenset(ROLES), frozenset({"tick", "wake"})
AGENTS = LAUNCHES | {"task_stopped"}
"""All three build the agent, and look at tasks; the woken function launches and does not sweep."""

CALLS = {
    ("chalicelib/credentials.py", "_read_from_manager", "secretsmanager:GetSecretValue"): ALL,
    ("chalicelib/credentials.py", "_read_parameter", "ssm:GetParameter"): ALL,
    ("chalicelib/launchers/ecs.py", "_ask", "ecs:RunTask"): LAUNCHES,
    ("chalicelib/launchers/ecs_tasks.py", "_describe", "ecs:DescribeTasks"): AGENTS,
    ("chalicelib/launchers/ecs_tasks.py", "_list", "ecs:ListTasks"): AGENTS,
    ("chalicelib/launchers/ecs_tasks.py", "stop", "ecs:StopTask"): {"tick"},
    ("chalicelib/launchers/eks.py", "_describe", "eks:DescribeCluster"): LAUNCHES,
    ("chalicelib/launchers/network.py", "_default_vpc", "ec2:DescribeVpcs"): LAUNCHES,
    ("chalicelib/launchers/network.py", "find_subnets", "ec2:DescribeSubnets"): LAUNCHES,
    ("chalicelib/launchers/task_definitions.py", "_find", "ecs:DescribeTaskDefinition"): LAUNCHES,
    ("chalicelib/launchers/task_definitions.py", "_register", "ecs:RegisterTaskDefinition"): LAUNCHES,
    # The agent's own templates are read when it is built, by whichever function.
    ("chalicelib/launchers/templates.py", "_read_object", "s3:GetObject"): AGENTS,
    ("chalicelib/wakeups.py", "_send", "sqs:SendMessageBatch"): {"tick"},
    ("chalicelib/wakeups.py", "poke", "sqs:SendMessage"): {"api"},
}
"""Where each call stands, and which functions come there."""

OTHER_NAMES = {"sqs:SendMessageBatch": "sqs:SendMessage"}
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html"""

_DOCUMENTS = "https://docs.aws.amazon.com"
_VPC = f"{_DOCUMENTS}/lambda/latest/dg/configuration-vpc.html#configuration-vpc-permissions"
_QUEUES = f"{_DOCUMENTS}/lambda/latest/dg/services-sqs-configure.html#events-sqs-permissions"
_LOGS = f"{_DOCUMENTS}/lambda/latest/dg/monitoring-cloudwatchlogs-view.html"
_TAGS = f"{_DOCUMENTS}/AmazonECS/latest/developerguide/supported-iam-actions-tagging.html"
_ECS = f"{_DOCUMENTS}/service-authorization/latest/reference/list_amazonelasticcontainerservice.html"
_EC2 = f"{_DOCUMENTS}/service-authorization/latest/reference/list_amazonec2.html"

WITHOUT_CALL = {
    ("ec2:AssignPrivateIpAddresses", ALL): _VPC,
    ("ec2:CreateNetworkInterface", ALL): _VPC,
    ("ec2:DeleteNetworkInterface", ALL): _VPC,
    ("ec2:DescribeNetworkInterfaces", ALL): _VPC,
    ("ec2:DescribeSubnets", frozenset({"task_stopped", "api"})): _VPC,
    ("ec2:UnassignPrivateIpAddresses", ALL): _VPC,
    ("ecs:TagResource", LAUNCHES): _TAGS,
    ("iam:PassRole", LAUNCHES): f"{_DOCUMENTS}/IAM/latest/UserGuide/id_roles_use_passrole.html",
    ("logs:CreateLogStream", ALL): _LOGS,
    ("logs:PutLogEvents", ALL): _LOGS,
    ("sqs:DeleteMessage", frozenset({"wake", "task_stopped"})): _QUEUES,
    ("sqs:GetQueueAttributes", frozenset({"wake", "task_stopped"})): _QUEUES,
    ("sqs:ReceiveMessage", frozenset({"wake", "task_stopped"})): _QUEUES,
}
"""What AWS itself does in a function's name, or asks for beside another call, with the page that says so."""

WITHOUT_RESOURCE = {
    "ec2:AssignPrivateIpAddresses": _VPC,
    "ec2:CreateNetworkInterface": _VPC,
    "ec2:DeleteNetworkInterface": _VPC,
    "ec2:DescribeNetworkInterfaces": _EC2,
    "ec2:DescribeSubnets": _EC2,
    "ec2:DescribeVpcs": _EC2,
    "ec2:UnassignPrivateIpAddresses": _VPC,
    "ecs:DescribeTaskDefinition": _ECS,
    "ecs:ListTasks": _ECS,
    "ecs:RegisterTaskDefinition": _ECS,
    "ecs:TagResource": _TAGS,
}
"""What is allowed on every resource, as no narrower one can be named; a condition bounds it where there is one."""

CONDITIONS = {
    "ecs:DescribeTasks": ("ArnEquals", "ecs:cluster", "ClusterArns"),
    "ecs:ListTasks": ("ArnEquals", "ecs:cluster", "ClusterArns"),
    "ecs:RunTask": ("ArnEquals", "ecs:cluster", "ClusterArns"),
    "ecs:StopTask": ("ArnEquals", "ecs:cluster", "ClusterArns"),
    "ecs:TagResource": ("StringEquals", "ecs:CreateAction", ["RunTask", "RegisterTaskDefinition"]),
    "iam:PassRole": ("StringEquals", "iam:PassedToService", "ecs-tasks.amazonaws.com"),
}

CHANGES_BY_DEPLOY = {
    "apigateway:UpdateStage",
    "cloudformation:CreateChangeSet",
    "cloudformation:DeleteChangeSet",
    "cloudformation:DeleteStack",
    "cloudformation:ExecuteChangeSet",
    "ecs:DeleteTaskDefinitions",
    "ecs:DeregisterTaskDefinition",
    "lambda:PutFunctionEventInvokeConfig",
    "ssm:DeleteParameters",
    "ssm:PutParameter",
}
"""What the deploy step changes by itself, with the rights of whoever runs it, beside CloudFormation and Chalice."""
READS = ("Describe", "Get", "List")

Call = tuple[str, str, str]


@cache
def operations(services: tuple[str, ...] = SERVICES) -> dict[str, list[str]]:
    """The actions by the names of the client methods that ask for them."""
    session = botocore.session.get_session()
    found: dict[str, list[str]] = {}
    for service in services:
        for operation in session.get_service_model(service).operation_names:
            found.setdefault(xform_name(operation), []).append(f"{service}:{operation}")
    return found


def product() -> list[Path]:
    """What runs in the functions; the command line acts with the rights of whoever types."""
    paths = [ROOT / "app.py", *sorted((ROOT / "chalicelib").rglob("*.py"))]
    return [path for path in paths if "cli" not in path.parts]


def calls_in(path: Path) -> Iterator[Call]:
    """All calls of AWS in a module, each with the function that it stands in."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and reaches_aws(node.func):
                    for action in operations().get(node.func.attr, ()):
                        yield str(path.relative_to(ROOT)), function.name, action


def reaches_aws(method: ast.Attribute) -> bool:
    """Whether it is a method of a client: of `self._ecs()`, `clients.ssm()`, or of a variable of that name."""
    owner = method.value
    if isinstance(owner, ast.Call):
        return True
    return isinstance(owner, ast.Name) and owner.id == "client"


def actions_called(function: str) -> set[str]:
    return {OTHER_NAMES.get(action, action) for (_, _, action), who in CALLS.items() if function in who}


def all_statements(function: str) -> list[dict[str, Any]]:
    """Those of core.yaml, and of what eks-access.yaml adds to the role."""
    role = ROLES[function]
    more = [
        statement
        for each in read_template(ROOT / "infra" / "eks-access.yaml").values()
        if each["Type"] == "AWS::IAM::ManagedPolicy" and f"{role}Arn" in str(each["Properties"]["Roles"])
        for statement in each["Properties"]["PolicyDocument"]["Statement"]
    ]
    return [*statements_of(role), *more]


def actions_in(statement: dict[str, Any]) -> list[str]:
    given = statement["Action"]
    return [given] if isinstance(given, str) else given


def actions_allowed(function: str) -> set[str]:
    return {action for statement in all_statements(function) for action in actions_in(statement)}


def test_every_call_of_aws_in_the_source_is_known() -> None:
    assert sorted({call for path in product() for call in calls_in(path)}) == sorted(CALLS)


def test_the_clients_that_there_are_have_been_walked_over_and_no_call_is_hidden_behind_a_name() -> None:
    offered = {name for name, value in vars(AwsClients).items() if hasattr(value, "func") and not name.startswith("_")}
    assert offered == {*SERVICES, "ecs_once"}
    hidden = ("get_paginator(", "get_waiter(", "import boto3", "_make_api_call(", "getattr(client")
    assert [(path.name, words) for path in product() for words in hidden if words in path.read_text()] == []


@pytest.mark.parametrize("function", ROLES)
def test_every_call_has_its_statement_and_every_statement_its_call(function: str) -> None:
    excepted = {action for action, who in WITHOUT_CALL if function in who}
    assert actions_allowed(function) == actions_called(function) | excepted


@pytest.mark.parametrize("function", ROLES)
def test_what_is_allowed_on_every_resource_has_no_narrower_one(function: str) -> None:
    wide = [each for each in all_statements(function) if each["Resource"] == "*"]
    assert {action for statement in wide for action in actions_in(statement)} <= WITHOUT_RESOURCE.keys()
    assert all(statement["Effect"] == "Allow" and "NotAction" not in statement for statement in wide)


@pytest.mark.parametrize("function", ROLES)
def test_what_acts_is_bounded_by_a_condition(function: str) -> None:
    for statement in all_statements(function):
        for action in actions_in(statement):
            if action in CONDITIONS:
                operator, key, value = CONDITIONS[action]
                assert statement["Condition"][operator][key] == value, action
            assert "*" not in action


def test_roles_are_passed_by_their_names_alone() -> None:
    for function in LAUNCHES:
        (passing,) = [each for each in all_statements(function) if "iam:PassRole" in actions_in(each)]
        assert passing["Resource"] == "PassableRoleArns"


def test_no_function_may_make_a_log_group_and_each_writes_to_its_own() -> None:
    for function, role in ROLES.items():
        (writing,) = [each for each in all_statements(function) if "logs:PutLogEvents" in actions_in(each)]
        assert writing["Resource"] == f"{role.removesuffix('Role')}LogGroup.Arn"
        assert {action for action in actions_allowed(function) if action.startswith("logs:")} == {
            "logs:CreateLogStream",
            "logs:PutLogEvents",
        }


def test_the_api_may_read_the_key_and_ask_for_a_tick_and_nothing_else() -> None:
    of_the_platform = {action for action, who in WITHOUT_CALL if "api" in who}
    assert actions_allowed("api") - of_the_platform == {
        "secretsmanager:GetSecretValue",
        "ssm:GetParameter",
        "sqs:SendMessage",
    }


def test_every_exception_is_still_one() -> None:
    allowed = {function: actions_allowed(function) for function in ROLES}
    assert [(action, each) for action, who in WITHOUT_CALL for each in who if action not in allowed[each]] == []
    assert WITHOUT_RESOURCE.keys() <= set().union(*allowed.values())
    assert all(page.startswith(_DOCUMENTS) for page in [*WITHOUT_CALL.values(), *WITHOUT_RESOURCE.values()])


def test_what_the_deploy_step_changes_by_itself_is_known() -> None:
    text = "\n".join(path.read_text() for path in sorted((ROOT / "deploy").glob("*.py")))
    services = tuple(sorted(set(re.findall(r'(?:client|pages)\(\s*"([a-z]+)"', text))))
    named = {node.attr for node in ast.walk(ast.parse(text_of_bodies(text))) if isinstance(node, ast.Attribute)}
    named |= set(re.findall(r'pages\(\s*"[a-z]+", "([a-z_]+)"', text))
    actions = {action for name in named for action in operations(services).get(name, ())}
    assert {action for action in actions if not action.partition(":")[2].startswith(READS)} == CHANGES_BY_DEPLOY


def text_of_bodies(text: str) -> str:
    """The modules as one: only the first may have a statement about the future at its top."""
    return text.replace("from __future__ import annotations", "")
