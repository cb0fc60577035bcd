"""What `doctor` finds in an AWS account: moto's network, queues and rules, the ECS double's clusters, and rights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from chalicelib.cli.doctor import run_doctor
from chalicelib.cli.doctor_aws import AwsAccount, check_aws, check_stage
from chalicelib.cli.findings import Finding, examine
from chalicelib.flow_runs import Document
from chalicelib.settings import load_settings
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.doubles.prefect1.server import CLOUD_KEY
from tests.doubles.rights import ACCOUNT, TASKS, RightsServer

REGION = "eu-west-2"
EXECUTION = f"arn:aws:iam::{ACCOUNT}:role/flows/execution"
SERVICES = ("ECS", "EC2", "IAM", "SQS", "EVENTBRIDGE", "STS", "SERVICE_QUOTAS")


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class World:
    """An account of doubles in which all is in order, and the doctor in it."""

    def __init__(self, ecs: EcsServer, rights: RightsServer, clients: dict[str, Any]) -> None:
        self.ecs, self.rights = ecs, rights
        self.ec2, self.sqs, self.events = clients["ec2"], clients["sqs"], clients["events"]
        self.vpc = self.add_vpc()
        self.subnet = self.add_subnet(self.vpc)
        self.group = self.add_group(self.vpc)
        self.rights.roles[EXECUTION] = TASKS
        self.rights.passable.add((self.rights.caller, EXECUTION))
        self.account = AwsAccount()

    def add_vpc(self) -> str:
        return str(self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"])

    def add_subnet(self, vpc: str, way_out: str = "internet", number: int = 0) -> str:
        """A subnet with a route table of its own: to the internet, by NAT, or nowhere."""
        subnet = str(self.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"])
        table = self.ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        self.ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
        if way_out == "internet":
            gateway = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
            self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
            self.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
        elif way_out == "nat":
            nat = self.ec2.create_nat_gateway(SubnetId=subnet)["NatGateway"]["NatGatewayId"]
            self.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
        return subnet

    def add_group(self, vpc: str) -> str:
        return str(self.ec2.create_security_group(GroupName="tasks", Description="x", VpcId=vpc)["GroupId"])

    def look(self, pool: Document | None = None, **changed: str) -> list[Finding]:
        """All findings about ECS with these settings."""
        environment = {
            "AGENT_CLUSTER": "flows",
            "AGENT_SUBNETS": self.subnet,
            "AGENT_SECURITY_GROUPS": self.group,
            "AGENT_EXECUTION_ROLE_ARN": EXECUTION,
        }
        settings = load_settings(environment | changed)
        return list(examine("AWS", lambda: check_aws(settings, self.account, pool or {})))

    def look_at_stage(self, wakeups: str = "", events: str = "", **more: str) -> list[Finding]:
        """All findings about the queues at these URLs."""
        urls = {"AGENT_WAKEUP_QUEUE_URL": wakeups, "AGENT_EVENTS_QUEUE_URL": events, **more}
        return list(check_stage(load_settings(urls), self.account))


@pytest.fixture
def world(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name, value in {"ACCESS_KEY_ID": "testing", "SECRET_ACCESS_KEY": "testing", "REGION": REGION}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with EcsServer(clusters=("flows", "spare"), region=REGION) as ecs, RightsServer() as rights:
        moto = dict.fromkeys(("EC2", "SQS", "EVENTBRIDGE"), moto_url)
        urls = {**dict.fromkeys(SERVICES, rights.url), **moto, "ECS": ecs.url}
        for service, url in urls.items():
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", url)
        clients = {name: boto3.client(name, region_name=REGION) for name in ("ec2", "sqs", "events")}
        world = World(ecs, rights, clients)
        yield world
        world.account.close()
        for client in clients.values():
            client.close()


def not_fine(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level != "ok"]


def only(findings: list[Finding]) -> Finding:
    """The one finding that is not fine."""
    (finding,) = not_fine(findings)
    return finding


def test_an_account_in_order_has_only_lines_that_are_ok(world: World) -> None:
    findings = world.look()
    assert {finding.level for finding in findings} == {"ok"}
    said = " ".join(finding.text for finding in findings)
    for part in (ACCOUNT, REGION, world.rights.caller, "Cluster: flows", world.subnet, world.group, EXECUTION, "4000"):
        assert part in said


def test_without_a_region_or_credentials_it_says_so_and_asks_nothing_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    (finding,) = world.look()
    assert finding.level == "wrong"
    assert "AWS_REGION is not set" in finding.text
    assert "credentials are not set" in finding.text
    assert world.ecs.calls == []


def test_a_cluster_that_is_missing_or_inactive_is_wrong(world: World) -> None:
    missing = only(world.look(AGENT_CLUSTER="flwos"))
    assert missing.level == "wrong"
    assert "flwos is not there: create it, or name another" in missing.text
    world.ecs.deactivate_cluster("spare")
    inactive = only(world.look(AGENT_CLUSTERS="spare"))
    assert (inactive.level, "spare is INACTIVE" in inactive.text) == ("wrong", True)


def test_the_cluster_of_a_work_pool_is_looked_at(world: World) -> None:
    assert not_fine(world.look({"cluster": "spare"}, AGENT_CLUSTER="")) == []
    assert "elsewhere is not there" in only(world.look({"cluster": "elsewhere"}, AGENT_CLUSTER="")).text


def test_the_network_of_a_work_pool_is_looked_at(world: World) -> None:
    named = {"subnets": [world.subnet], "securityGroups": [world.group], "assignPublicIp": "ENABLED"}
    other = world.add_vpc()
    lonely = world.add_subnet(other, "", 3)
    for pool in ({"vpc_id": world.vpc}, {"network_configuration": named, "vpc_id": world.vpc}):
        findings = world.look(pool, AGENT_SUBNETS=lonely, AGENT_SECURITY_GROUPS="")
        assert not_fine(findings) == []
        assert any(f"of {world.vpc}" in finding.text for finding in findings)
    assert lonely in only(world.look({"vpc_id": other})).text


def test_a_subnet_that_is_missing_is_wrong(world: World) -> None:
    finding = only(world.look(AGENT_SUBNETS=f"{world.subnet},subnet-0123456789abcdef0"))
    assert finding.level == "wrong"
    assert "subnet-0123456789abcdef0 not in this account" in finding.text


def test_subnets_of_two_vpcs_are_wrong(world: World) -> None:
    other = world.add_subnet(world.add_vpc())
    finding = only(world.look(AGENT_SUBNETS=f"{world.subnet},{other}"))
    assert (finding.level, "several VPCs" in finding.text) == ("wrong", True)


def test_a_private_task_needs_more_than_an_internet_gateway(world: World) -> None:
    wrong = only(world.look(AGENT_ASSIGN_PUBLIC_IP="false"))
    assert wrong.level == "wrong"
    assert f"{world.subnet} by igw-" in wrong.text
    nat = world.add_subnet(world.vpc, "nat", 1)
    assert not_fine(world.look(AGENT_ASSIGN_PUBLIC_IP="false", AGENT_SUBNETS=nat)) == []


def test_a_subnet_without_a_way_out_needs_endpoints(world: World) -> None:
    lonely = world.add_subnet(world.vpc, "", 2)
    wrong = only(world.look(AGENT_SUBNETS=lonely))
    assert wrong.level == "wrong"
    assert "VPC endpoints of ecr.api, ecr.dkr, logs, s3, secretsmanager" in wrong.text
    for name in ("ecr.api", "ecr.dkr", "logs", "s3", "secretsmanager"):
        world.ec2.create_vpc_endpoint(VpcId=world.vpc, ServiceName=f"com.amazonaws.{REGION}.{name}")
    assert only(world.look(AGENT_SUBNETS=lonely)).level == "warn"


def test_a_security_group_that_is_missing_or_of_another_vpc_is_wrong(world: World) -> None:
    other = world.add_group(world.add_vpc())
    assert "not in" in only(world.look(AGENT_SECURITY_GROUPS=other)).text
    missing = only(world.look(AGENT_SECURITY_GROUPS="sg-0123456789abcdef0"))
    assert (missing.level, "no VPC of this account" in missing.text) == ("wrong", True)


def test_a_role_that_is_missing_elsewhere_or_not_for_tasks_is_wrong(world: World) -> None:
    other = f"arn:aws:iam::{ACCOUNT}:role/task"
    world.rights.passable.add((world.rights.caller, other))
    assert f"create {other}" in only(world.look(AGENT_TASK_ROLE_ARN=other)).text
    world.rights.roles[other] = "lambda.amazonaws.com"
    assert f"trust policy must name {TASKS}" in only(world.look(AGENT_TASK_ROLE_ARN=other)).text
    world.rights.roles[other] = TASKS
    assert not_fine(world.look(AGENT_TASK_ROLE_ARN=other)) == []
    elsewhere = EXECUTION.replace("/flows/", "/")
    world.rights.passable.add((world.rights.caller, elsewhere))
    assert f"but {EXECUTION} is" in only(world.look(AGENT_EXECUTION_ROLE_ARN=elsewhere)).text


def test_a_role_that_may_not_be_passed_is_wrong(world: World) -> None:
    world.rights.passable.clear()
    finding = only(world.look())
    assert finding.level == "wrong"
    assert f"allow iam:PassRole on {EXECUTION}" in finding.text
    assert world.rights.simulations[-1]["ContextEntries.member.1.ContextKeyValues.member.1"] == TASKS


def test_of_an_assumed_role_the_policies_of_the_role_count(world: World) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/team/deployer"
    world.rights.caller = f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/session"
    world.rights.roles[role] = "lambda.amazonaws.com"
    assert only(world.look()).level == "wrong"
    world.rights.passable.add((role, EXECUTION))
    assert not_fine(world.look()) == []


def test_a_secret_without_an_execution_role_to_fetch_it_is_told(world: World) -> None:
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:prefect-Ab12Cd"
    finding = only(world.look(AGENT_EXECUTION_ROLE_ARN="", PREFECT__CLOUD__API_KEY=secret))
    assert (finding.level, "tasks get no API key" in finding.text) == ("warn", True)
    assert not_fine(world.look(PREFECT__CLOUD__API_KEY=secret)) == []


def test_a_small_quota_is_told_where_it_counts(world: World) -> None:
    world.rights.vcpus = 6.0
    assert only(world.look()).level == "warn"
    assert not_fine(world.look(AGENT_LAUNCH_TYPE="EC2")) == []


@pytest.mark.parametrize(
    ("action", "right", "said"),
    [
        ("GetRole", "iam:GetRole", "Execution role"),
        ("SimulatePrincipalPolicy", "iam:SimulatePrincipalPolicy", "Passing the execution role"),
        ("GetServiceQuota", "servicequotas:GetServiceQuota", "Quota"),
    ],
)
def test_what_there_is_no_right_to_see_is_not_checked(world: World, action: str, right: str, said: str) -> None:
    world.rights.denied.add(action)
    assert only(world.look()) == Finding("not checked", f"{said}: needs {right}")


@pytest.mark.parametrize(
    ("service", "right", "said"),
    [("ECS", "ecs:DescribeClusters", "Clusters"), ("EC2", "ec2:DescribeSubnets", "Network")],
)
def test_whole_services_that_may_not_be_asked_are_not_checked(
    world: World, monkeypatch: pytest.MonkeyPatch, service: str, right: str, said: str
) -> None:
    monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", world.rights.url)
    assert only(world.look()) == Finding("not checked", f"{said}: needs {right}")


def test_the_default_vpc_is_looked_at_where_no_subnets_are_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [finding.text for finding in world.look(AGENT_SUBNETS="", AGENT_SECURITY_GROUPS="")]
    default = world.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    assert any(text.startswith("Subnets: ") and text.endswith(f" of {default}") for text in said)
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", world.rights.url)
    world.account.close()
    finding = only(world.look(AGENT_SUBNETS="", AGENT_SECURITY_GROUPS=""))
    assert finding == Finding("not checked", "Network: needs DescribeVpcs")


def test_a_service_that_cannot_be_reached_is_not_checked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with EcsServer() as gone:
        url = gone.url
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", url)
    finding = only(world.look())
    assert (finding.level, finding.text.startswith("Clusters: ")) == ("not checked", True)


def test_an_api_key_that_cannot_be_read_is_told_and_not_shown(
    world: World, moto_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto_url)
    secrets: Any = boto3.client("secretsmanager", region_name=REGION)
    arns = {text: secrets.create_secret(Name=f"key-{len(text)}", SecretString=text)["ARN"] for text in (" ", CLOUD_KEY)}
    secrets.close()
    absent = arns[" "].replace(":secret:key", ":secret:nokey")
    with Prefect1Server(cloud=True) as cloud:

        def look(arn: str) -> tuple[int, str]:
            given = {"PREFECT__CLOUD__API": cloud.url, "PREFECT__CLOUD__API_KEY": arn, "AGENT_PLATFORM": "ecs"}
            code = run_doctor(load_settings({**given, "AGENT_CLUSTER": "flows", "AGENT_SUBNETS": world.subnet}))
            return code, capsys.readouterr().out

        code, said = look(arns[CLOUD_KEY])
        assert (code, "ok           API key: accepted" in said, CLOUD_KEY in said) == (0, True, False)
        code, said = look(arns[" "])
        assert (code, "wrong        API key: " in said, "which is empty; put the API key into it" in said) == (
            1,
            True,
            True,
        )
        code, said = look(absent)
        assert (code, "wrong        API key: " in said, "not checked  Prefect API: needs the API key" in said) == (
            1,
            True,
            True,
        )
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", world.rights.url)
        code, said = look(arns[CLOUD_KEY])
        assert (code, "not checked  API key: needs GetSecretValue" in said) == (0, True)


WAKEUPS = {"VisibilityTimeout": "70", "MessageRetentionPeriod": "180"}


def add_events_queue(world: World, **attributes: str) -> str:
    dead = world.sqs.create_queue(QueueName="dead")["QueueUrl"]
    arn = world.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1000})}
    given = {"VisibilityTimeout": "70", "MessageRetentionPeriod": "345600", **redrive, **attributes}
    name = f"events-{len(attributes)}"
    kept = {key: value for key, value in given.items() if value}
    return str(world.sqs.create_queue(QueueName=name, Attributes=kept)["QueueUrl"])


def add_rule(world: World, name: str, queue: str = "", **fields: str) -> None:
    world.events.put_rule(Name=name, **fields)
    if queue:
        found = world.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
        world.events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": found["QueueArn"]}])


def test_an_agent_without_queues_has_nothing_to_be_found_there(world: World) -> None:
    assert world.look_at_stage() == []


def test_a_wakeup_queue_and_its_schedule_are_told_when_they_fit_and_when_not(world: World) -> None:
    good = world.sqs.create_queue(QueueName="agent-dev-wakeups", Attributes=WAKEUPS)["QueueUrl"]
    finding = only(world.look_at_stage(wakeups=good))
    assert (finding.level, "agent-dev-tick-event is not there" in finding.text) == ("wrong", True)
    add_rule(world, "agent-dev-tick-event", ScheduleExpression="rate(1 minute)")
    assert not_fine(world.look_at_stage(wakeups=good)) == []
    other = only(world.look_at_stage(wakeups=good, AGENT_SCHEDULE="rate(5 minutes)"))
    assert "is ENABLED rate(1 minute), not ENABLED rate(5 minutes)" in other.text
    world.events.disable_rule(Name="agent-dev-tick-event")
    assert "is DISABLED" in only(world.look_at_stage(wakeups=good)).text


def test_a_wakeup_queue_with_other_attributes_is_wrong(world: World) -> None:
    attributes = {"VisibilityTimeout": "30", "MessageRetentionPeriod": "345600"}
    bad = world.sqs.create_queue(QueueName="bad-wakeups", Attributes=attributes)["QueueUrl"]
    add_rule(world, "bad-tick-event", ScheduleExpression="rate(1 minute)")
    said = [finding.text for finding in not_fine(world.look_at_stage(wakeups=bad))]
    assert ["under 60 s" in said[0], "60 to 600 s" in said[1], len(said)] == [True, True, 2]


def test_an_events_queue_needs_dead_letters_days_and_an_enabled_rule(world: World) -> None:
    good = add_events_queue(world)
    assert "no enabled rule" in only(world.look_at_stage(events=good)).text
    add_rule(world, "stopped", good, EventPattern='{"source": ["aws.ecs"]}')
    assert not_fine(world.look_at_stage(events=good)) == []
    world.events.disable_rule(Name="stopped")
    assert "no enabled rule" in only(world.look_at_stage(events=good)).text
    bad = add_events_queue(world, RedrivePolicy="", MessageRetentionPeriod="3600")
    said = " ".join(finding.text for finding in not_fine(world.look_at_stage(events=bad)))
    assert ("no redrive policy" in said, "retention" in said) == (True, True)


def test_a_queue_that_is_missing_or_may_not_be_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/nothing"
    missing = only(world.look_at_stage(events=url))
    assert (missing.level, "deploy infra/core.yaml" in missing.text) == ("wrong", True)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", world.rights.url)
    world.account.close()
    assert only(world.look_at_stage(events=url)) == Finding("not checked", "Events queue: needs sqs:GetQueueAttributes")
