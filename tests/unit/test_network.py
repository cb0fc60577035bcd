"""The network of tasks when nobody has named one, asked of moto's EC2 over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from chalicelib.builders.ecs_defaults import EcsDefaults, PoolDefaults
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.errors import LaunchDeferred, LaunchForbidden, SettingsError, UnsupportedRun
from chalicelib.flow_runs import Flow, FlowRun
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.ecs import EcsLauncher
from chalicelib.launchers.ecs_run_configs import RunConfigTasks
from chalicelib.launchers.ecs_work_pools import WorkPoolTasks
from chalicelib.launchers.network import find_subnets, infer_network
from chalicelib.launchers.pacing import Pace
from chalicelib.launchers.templates import TemplateReader
from tests.doubles.clock import TurnedClock
from tests.unit.ecs_work_pool import CONTAINER, pool_run


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


@pytest.fixture
def ec2(moto_url: str) -> Iterator[Any]:
    """A client in a region of its own for each test, so that no test sees another's network."""
    client = client_of(moto_url, "eu-west-3")
    yield client
    client.close()


def client_of(url: str, region: str) -> Any:
    return boto3.client(
        "ec2", endpoint_url=url, region_name=region, aws_access_key_id="key", aws_secret_access_key="secret"
    )


class Unordered:
    """A client whose EC2 lists subnets in the order it likes."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.asked = 0

    def describe_vpcs(self, **parameters: Any) -> Any:
        self.asked += 1
        return self.client.describe_vpcs(**parameters)

    def describe_subnets(self, **parameters: Any) -> Any:
        answer = self.client.describe_subnets(**parameters)
        return {"Subnets": sorted(answer["Subnets"], key=lambda subnet: subnet["SubnetId"], reverse=True)}


def test_tasks_run_in_the_default_vpcs_subnets_in_one_order_with_a_public_address(ec2: Any) -> None:
    known = {subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"] if subnet["DefaultForAz"]}
    ec2.create_subnet(VpcId=ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"], CidrBlock="10.0.0.0/24")
    network = infer_network(lambda: Unordered(ec2))
    assert len(known) > 1
    assert network == {"awsvpcConfiguration": {"subnets": sorted(known), "assignPublicIp": "ENABLED"}}


class OneEc2(AwsClients):
    """Clients whose EC2 is the one given."""

    def __init__(self, client: Any) -> None:
        super().__init__()
        self.client = client

    def ec2(self) -> Any:
        return self.client


def test_the_network_is_asked_for_once_in_a_process(ec2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    client, clock = Unordered(ec2), TurnedClock()
    defaults = EcsDefaults(
        container=ContainerSettings(api_url="http://prefect"), execution_role_arn="arn:aws:iam::1:role/x"
    )
    clients = OneEc2(client)
    builder = RunConfigTasks(clients, defaults, TemplateReader((), clients.s3, False))
    launcher = EcsLauncher(clients, defaults, builder, Pace(0, clock), clock)
    flow = Flow(
        id="f", name="flow", storage={"type": "Docker", "registry_url": "r", "image_name": "i", "image_tag": "t"}
    )
    run = FlowRun(id="r", name="run", version=1, start_time=clock.now(), flow=flow)
    networks = [launcher.build(run).run_task["networkConfiguration"] for _ in range(2)]
    assert networks == [infer_network(lambda: ec2)] * 2
    assert client.asked == 1


def test_a_vpc_that_is_named_answers_its_own_subnets(ec2: Any) -> None:
    vpc_id = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.1.{number}.0/24")["Subnet"]["SubnetId"] for number in range(2)
    ]
    assert find_subnets(lambda: Unordered(ec2), vpc_id) == sorted(subnets)


def test_a_vpc_that_is_named_and_not_there_is_the_runs_trouble(ec2: Any) -> None:
    with pytest.raises(UnsupportedRun, match=r"vpc-0123 .*correct vpc_id"):
        find_subnets(lambda: ec2, "vpc-0123")


def test_a_work_pools_vpc_is_asked_for_once_in_a_process(ec2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    client = Unordered(ec2)
    builder = WorkPoolTasks(OneEc2(client), PoolDefaults(container=CONTAINER))
    networks = [builder.build(pool_run()).run_task["networkConfiguration"] for _ in range(2)]
    assert networks == [infer_network(lambda: ec2)] * 2
    assert client.asked == 1


def test_no_default_vpc_is_the_agents_fault_and_the_message_names_the_settings(moto_url: str) -> None:
    client = client_of(moto_url, "eu-north-1")
    for subnet in client.describe_subnets()["Subnets"]:
        client.delete_subnet(SubnetId=subnet["SubnetId"])
    with pytest.raises(LaunchForbidden, match=r"has no subnets .*AGENT_SUBNETS.*--run-task-kwargs"):
        infer_network(lambda: client)
    for vpc in client.describe_vpcs()["Vpcs"]:
        client.delete_vpc(VpcId=vpc["VpcId"])
    with pytest.raises(LaunchForbidden, match=r"no default VPC .*AGENT_SUBNETS.*--run-task-kwargs"):
        infer_network(lambda: client)
    client.close()


def test_while_ec2_is_away_the_run_waits() -> None:
    client = client_of("http://127.0.0.1:9", "eu-west-3")
    with pytest.raises(LaunchDeferred, match="AGENT_SUBNETS"):
        infer_network(lambda: client)
    client.close()


def test_a_client_is_made_once_in_the_environments_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    clients = AwsClients()
    assert (clients.ec2() is clients.ec2(), clients.ec2().meta.region_name) == (True, "eu-west-3")
    clients.close()


def test_without_a_region_the_message_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    clients = AwsClients()
    with pytest.raises(SettingsError, match="AWS_REGION"):
        clients.ecs()


def test_without_credentials_and_region_both_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(SettingsError) as caught:
        AwsClients().ecs()
    assert [problem.split(" is")[0].split(" are")[0] for problem in caught.value.problems] == [
        "AWS_REGION",
        "AWS credentials",
    ]
