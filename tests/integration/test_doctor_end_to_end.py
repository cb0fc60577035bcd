"""`prefect-agent doctor` as a process of its own: somebody finds what is wrong with an agent by it alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests

from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.doubles.prefect1.server import CLOUD_KEY
from tests.doubles.rights import TASKS, RightsServer

PROJECT = Path(__file__).parents[2]
REGION = "eu-north-1"
EXECUTION = "arn:aws:iam::123456789012:role/execution"
RUN = {"type": "ECSRun", "image": "flows:1"}
LIMIT_SECONDS = 60


@pytest.fixture
def ec2(moto_url: str) -> Iterator[Any]:
    """A region whose default VPC leads to the internet, as AWS makes them and moto does not."""
    client: Any = boto3.client(
        "ec2", endpoint_url=moto_url, region_name=REGION, aws_access_key_id="testing", aws_secret_access_key="testing"
    )
    if not (found := client.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]):
        # A test before this one, in the same process, has left the region without any.
        requests.post(f"{moto_url}/moto-api/reset", timeout=10).raise_for_status()
        found = client.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    vpc = found[0]["VpcId"]
    (table,) = client.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    if len(table["Routes"]) == 1:
        gateway = client.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        client.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
        client.create_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    yield client
    client.close()


class Newcomer:
    """Somebody with an agent on ECS, its settings in the environment, and the command line."""

    def __init__(self, cloud: Prefect1Server, ecs: EcsServer, rights: RightsServer, moto_url: str) -> None:
        self.cloud, self.ecs = cloud, ecs
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL": moto_url,
            "AWS_ENDPOINT_URL_ECS": ecs.url,
            **{f"AWS_ENDPOINT_URL_{name}": rights.url for name in ("IAM", "STS", "SERVICE_QUOTAS")},
            "PREFECT__CLOUD__API": cloud.url,
        }

    def run(self, command: str, **wrong: str) -> tuple[int, list[str]]:
        """Exit code and lines of a command, with these options in place of those that are right."""
        right = {"key": CLOUD_KEY, "label": "dev", "cluster": "flows", "name": "laptop"}
        options = [part for name, value in (right | wrong).items() for part in (f"--{name.replace('_', '-')}", value)]
        ended = subprocess.run(
            [sys.executable, "-m", "chalicelib.cli", command, "ecs", "--execution-role-arn", EXECUTION, *options],
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        assert "Traceback" not in ended.stderr
        assert not any(secret in ended.stdout + ended.stderr for secret in (CLOUD_KEY, "wrong-key"))
        return ended.returncode, ended.stdout.splitlines()

    def doctor(self, **wrong: str) -> tuple[int, list[str]]:
        """The exit code, and what the doctor does not find fine."""
        code, lines = self.run("doctor", **wrong)
        assert [line for line in lines if line.split("  ")[0] not in ("ok", "warn", "wrong", "not checked")] == []
        return code, [line for line in lines if not line.startswith("ok")]


@pytest.fixture
def newcomer(ecs: EcsServer, ec2: Any, moto_url: str) -> Iterator[Newcomer]:
    with Prefect1Server(cloud=True) as cloud, RightsServer() as rights:
        rights.roles[EXECUTION] = TASKS
        rights.passable.add((rights.caller, EXECUTION))
        yield Newcomer(cloud, ecs, rights, moto_url)


def test_an_agent_in_order_is_found_to_be_so(newcomer: Newcomer) -> None:
    newcomer.cloud.add_flow_run(labels=["dev"], run_config=RUN)
    assert newcomer.doctor() == (0, [])
    assert "RunTask" not in {call.action for call in newcomer.ecs.calls}
    assert newcomer.cloud.agents() == []


def test_a_wrong_token_is_found(newcomer: Newcomer) -> None:
    code, (line,) = newcomer.doctor(key="wrong-key")
    assert code == 1
    assert line.startswith("wrong        Prefect API: ")
    assert "refuses the API key" in line
    assert "check PREFECT__CLOUD__API_KEY" in line


def test_a_wrong_label_is_found(newcomer: Newcomer) -> None:
    for _ in range(3):
        newcomer.cloud.add_flow_run(labels=["dev"], run_config=RUN)
    code, (line,) = newcomer.doctor(label="devv")
    assert code == 1
    assert line.startswith("wrong        Labels: 3 due runs have labels dev that this agent lacks")
    assert "give --label dev" in line


def test_a_missing_cluster_is_found(newcomer: Newcomer) -> None:
    code, (line,) = newcomer.doctor(cluster="flwos")
    assert code == 1
    assert line.startswith("wrong        Cluster: flwos is not there: create it, or name another (--cluster)")


def test_what_was_wrong_is_right_once_that_is_done(newcomer: Newcomer) -> None:
    """The label that the doctor asks for lets the run be launched, and `runs` and `health` show it."""
    run_id = newcomer.cloud.add_flow_run(labels=["dev"], run_config=RUN)
    assert newcomer.run("health", label="devv")[0] == 1
    assert newcomer.doctor(label="devv")[0] == 1
    newcomer.run("tick")
    assert newcomer.doctor() == (0, [])
    code, (line,) = newcomer.run("runs")
    (task,) = newcomer.ecs.tasks()
    assert code == 0
    assert line.startswith(f"{run_id}  ")
    assert line.endswith(f"  Task {task['taskArn']}  on its way")
    code, (verdict,) = newcomer.run("health")
    assert (code, verdict.startswith("ok: Polled ")) == (0, True)
