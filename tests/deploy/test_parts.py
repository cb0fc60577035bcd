"""What can be chosen of a stage: a platform, a secret of one's own, a boundary, a topic for the alarms."""

from __future__ import annotations

import json
from typing import Any
from zipfile import ZipFile

import pytest

from tests.deploy.account import AwsAccount, Clone, inventory
from tests.deploy.conftest import MakeClone

API = ("--set", "PREFECT__CLOUD__API=https://prefect.example.org")
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prefect-AbCdEf"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
TOPIC = "arn:aws:sns:us-east-1:123456789012:alarms"
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"


@pytest.fixture(scope="module")
def clone(make_clone: MakeClone) -> Clone:
    return make_clone()


def test_work_pools_on_eks_get_access_entries_the_client_and_their_own_name_of_the_key(
    account: AwsAccount, clone: Clone
) -> None:
    before = inventory(account)
    settings = ("PREFECT_API_URL=https://prefect.example.org/api", "AGENT_WORK_POOLS=jobs", "AGENT_EKS_CLUSTER=main")
    words = [word for setting in settings for word in ("--set", setting)]
    words += ["--part", "eks-access", "--parameter", "CreateApiKeySecret=yes"]
    outcome = clone.run("up", "--stage", "pools", *words)
    assert outcome.code == 0, outcome.err
    stage = clone.stage("pools")
    roles = {stage["lambda_functions"][name]["iam_role_arn"] for name in ("tick", "wake")}
    assert set(account.client("eks").list_access_entries(clusterName="main")["accessEntries"]) == roles
    assert stage["environment_variables"]["PREFECT_API_KEY"].startswith("arn:aws:secretsmanager:")
    assert "clusters" not in inventory(account)
    assert any(name.startswith("lightkube/") for name in ZipFile(clone.package("pools")).namelist())
    assert clone.run("down", "--stage", "pools", "--yes").code == 0
    assert inventory(account) == before
    assert account.client("eks").list_access_entries(clusterName="main")["accessEntries"] == []


def test_secret_boundary_and_topic_go_where_they_belong(account: AwsAccount, clone: Clone) -> None:
    """What is given by ARN: the policy names the bare secret, every role has the boundary, every alarm the topic."""
    account.client("iam").create_policy(PolicyName="boundary", PolicyDocument=json.dumps(EVERYTHING))
    outcome = clone.run(
        "up", "--stage", "bound", *API, "--set", f"PREFECT__CLOUD__API_KEY={ARN}:key::",
        "--parameter", f"PermissionsBoundaryArn={BOUNDARY}", "--parameter", f"AlarmTopicArn={TOPIC}",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    iam = account.client("iam")
    roles = [role for role in account.list("iam", "list_roles", "Roles") if "-bound-" in role["RoleName"]]
    bound = [iam.get_role(RoleName=each["RoleName"])["Role"].get("PermissionsBoundary") for each in roles]
    assert [each["PermissionsBoundaryArn"] for each in bound] == [BOUNDARY] * 6
    policies = account.list("iam", "list_policies", "Policies", Scope="Local")
    reading = {each["PolicyName"].split("-")[3]: each for each in policies if "SecretPolicy" in each["PolicyName"]}
    assert {name: _resources(account, each) for name, each in reading.items()} == {
        "SecretPolicy": [ARN], "TaskSecretPolicy": [ARN],
    }  # fmt: skip
    assert _roles(account, reading["TaskSecretPolicy"]) == ["ExecutionRole"]
    assert len(_roles(account, reading["SecretPolicy"])) == 4
    alarms = account.list("cloudwatch", "describe_alarms", "MetricAlarms")
    assert {tuple(each["AlarmActions"]) for each in alarms} == {(TOPIC,)}
    assert clone.run("down", "--stage", "bound", "--yes").code == 0


def _resources(account: AwsAccount, policy: dict[str, Any]) -> list[str]:
    """What the statements of a policy are about."""
    version = {"PolicyArn": policy["Arn"], "VersionId": policy["DefaultVersionId"]}
    document = account.client("iam").get_policy_version(**version)["PolicyVersion"]["Document"]
    return [statement["Resource"] for statement in document["Statement"]]


def _roles(account: AwsAccount, policy: dict[str, Any]) -> list[str]:
    """The roles that have a policy, as their templates name them."""
    roles = account.client("iam").list_entities_for_policy(PolicyArn=policy["Arn"])["PolicyRoles"]
    return [role["RoleName"].split("-")[-2] for role in roles]
