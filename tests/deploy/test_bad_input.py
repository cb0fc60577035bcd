"""Deployments that cannot be: which it says, what to do about it, and that nothing is half done."""

from __future__ import annotations

import json

import pytest

from tests.deploy.account import AwsAccount, Clone, Outcome, inventory
from tests.deploy.conftest import MakeClone

API = ("--set", "PREFECT__CLOUD__API=https://prefect.example.org")
ANYBODY = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
TRUST = {"Version": "2012-10-17", "Statement": [ANYBODY]}


@pytest.fixture(scope="module")
def clone(make_clone: MakeClone) -> Clone:
    return make_clone()


def assert_refused(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 2
    assert [part for part in parts if part not in outcome.err] == []
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "AWS_PROFILE"),
        (("AWS_DEFAULT_REGION",), "AWS_DEFAULT_REGION"),
    ],
)
def test_without_credentials_or_region_it_says_which(clone: Clone, missing: tuple[str, ...], said: str) -> None:
    assert_refused(clone.run("up", "--stage", "bad", *API, without=missing), said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--stage", "none"), "make deploy STAGE=none"),
        (("--stage", "No Such"), "a letter first"),
        (("--stage", "bad", "--set", "PREFECT__CLOUD__API"), "NAME=VALUE"),
        (("--stage", "bad", "--set", "AGENT_CLUSTER=flows"), "--set PREFECT__CLOUD__API="),
        (("--stage", "bad", "--set", "PREFECT__CLOUD__API=http://127.0.0.1:4200"), "no Prefect API to the functions"),
        (("--stage", "bad", *API, "--parameter", "PollAlarmMinuts=4"), "PollAlarmMinuts: no template has such"),
        (("--stage", "bad", *API, "--set", "AGENT_CADENCE_SECONDS=often"), "AGENT_CADENCE_SECONDS"),
        (("--stage", "bad", *API, "--set", "PREFECT__CLOUD__API_KEY=pcu_secret"), "CreateApiKeySecret=yes"),
        (("--stage", "bad", *API, "--set", "AGENT_TASK_DEFINITION=" + "x" * 4096), "Lambda takes 4096"),
        (("--stage", "bad", *API, "--parameter", "VpcId=vpc-1"), "SubnetIds"),
    ],
)
def test_what_cannot_be_deployed_is_said_before_anything_is_made(
    account: AwsAccount, clone: Clone, words: tuple[str, ...], said: str
) -> None:
    before = inventory(account)
    outcome = clone.run("up", *words)
    assert_refused(outcome, said)
    assert "pcu_secret" not in outcome.out + outcome.err
    assert inventory(account) == before


@pytest.mark.parametrize(
    ("call", "step"),
    [("CreateChangeSet", "stack ecs"), ("GetTemplateSummary", "stack ecs"), ("DescribeVpcs", "checks")],
)
def test_no_rights_for_one_call_names_the_call(account: AwsAccount, clone: Clone, call: str, step: str) -> None:
    account.refuse(call, code="AccessDenied")
    outcome = clone.run("up", "--stage", "bad", *API)
    account.refuse()
    assert_refused(outcome, f"stopped at: {step}", f"You may not call {call}")


def test_a_name_that_is_taken_is_named_and_the_next_try_goes_through(account: AwsAccount, clone: Clone) -> None:
    logs = account.client("logs")
    logs.create_log_group(logGroupName="/aws/lambda/prefect-agent-taken-tick")
    outcome = clone.run("up", "--stage", "taken", *API)
    assert_refused(outcome, "stopped at: stack core", "already exists")
    logs.delete_log_group(logGroupName="/aws/lambda/prefect-agent-taken-tick")
    again = clone.run("up", "--stage", "taken", *API)
    assert again.code == 0, again.err
    assert clone.run("down", "--stage", "taken", "--yes").code == 0
    assert [name for names in inventory(account).values() for name in names if "taken" in name] == []


def test_functions_of_that_name_without_a_stack_are_left_alone(account: AwsAccount, clone: Clone) -> None:
    role = account.client("iam").create_role(RoleName="somebodys", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"][
        "Arn"
    ]
    code = {"ZipFile": b"somebody's"}
    account.client("lambda").create_function(
        FunctionName="prefect-agent-theirs-tick", Runtime="python3.11", Role=role, Handler="app.tick", Code=code
    )
    before = inventory(account)
    outcome = clone.run("up", "--stage", "theirs", *API)
    assert_refused(outcome, "tick of a stage theirs exist, and no stack of it", "choose another name")
    assert inventory(account) == before


def test_a_stage_that_lost_its_functions_is_made_whole_again(account: AwsAccount, clone: Clone) -> None:
    assert clone.run("up", "--stage", "half", *API).code == 0
    whole = inventory(account)
    for suffix in ("-wake", ""):
        account.client("lambda").delete_function(FunctionName=f"prefect-agent-half{suffix}")
    outcome = clone.run("up", "--stage", "half")
    assert outcome.code == 0, outcome.err
    assert inventory(account)["functions"] == whole["functions"]
    assert clone.run("down", "--stage", "half", "--yes").code == 0
