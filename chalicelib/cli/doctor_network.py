"""What `doctor` looks at in the network of ECS tasks: whether they would get as far as an image and Prefect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from chalicelib.builders.ecs_documents import default_network
from chalicelib.cli.findings import Finding, Found, either, examine, warn, wrong
from chalicelib.flow_runs import Document
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.network import find_subnets

Ask = Callable[..., Any]
"""Asks AWS for `service:Action`. Raises LaunchError."""

ENDPOINTS = {"ecr.api", "ecr.dkr", "s3", "logs", "secretsmanager"}
"""What a task on Fargate speaks to before its flow begins, if its image is in ECR and its API key a secret."""


def check_network(given: Document, ask: Ask, clients: AwsClients) -> Found:
    """Subnets, their routes, and security groups. Raises LaunchError."""
    network = given
    if not given.get("subnets"):
        network = default_network(find_subnets(clients.ec2, given.get("vpc_id", "")))["awsvpcConfiguration"]
    subnets = sorted(network["subnets"])
    rows = ask("ec2:DescribeSubnets", Filters=[{"Name": "subnet-id", "Values": subnets}])["Subnets"]
    there = sorted(row["SubnetId"] for row in rows)
    if missing := sorted(set(subnets) - set(there)):
        yield wrong(f"Subnets: {', '.join(missing)} not in this account and region: correct AGENT_SUBNETS")
    vpcs = sorted({row["VpcId"] for row in rows})
    if vpcs:
        bad = f"Subnets: they are of several VPCs, {', '.join(vpcs)}: name those of one"
        yield either(len(vpcs) == 1, f"Subnets: {', '.join(there)} of {vpcs[0]}", bad)
    for vpc in vpcs:
        own = sorted(row["SubnetId"] for row in rows if row["VpcId"] == vpc)
        check = partial(_check_routes, own, vpc, network.get("assignPublicIp") == "ENABLED", ask)
        yield from examine("Routes", check)
    if groups := sorted(network.get("securityGroups") or ()):
        yield from examine("Security groups", partial(_check_groups, groups, vpcs, ask))


def _check_routes(subnets: Sequence[str], vpc: str, is_public: bool, ask: Ask) -> Found:
    of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
    tables = ask("ec2:DescribeRouteTables", Filters=of_vpc)["RouteTables"]
    ways = {subnet: _way_out(subnet, tables) for subnet in subnets}
    for way in sorted(set(ways.values())):
        who = f"Routes: {', '.join(subnet for subnet in subnets if ways[subnet] == way)}"
        if way:
            bad = f"{who} by {way}, which needs a public address: set AGENT_ASSIGN_PUBLIC_IP=true, or use a NAT gateway"
            yield either(is_public or not way.startswith("igw-"), f"{who} by {way}", bad)
        else:
            yield _judge_endpoints(who, ask("ec2:DescribeVpcEndpoints", Filters=of_vpc)["VpcEndpoints"])


def _way_out(subnet: str, tables: Sequence[Document]) -> str:
    """What the default route of a subnet leads to; "" when it has none."""
    own = [table for table in tables if any(each.get("SubnetId") == subnet for each in table["Associations"])]
    main = [table for table in tables if any(each.get("Main") for each in table["Associations"])]
    for route in (route for table in (own or main)[:1] for route in table["Routes"]):
        if route.get("DestinationCidrBlock") == "0.0.0.0/0" and route.get("State") != "blackhole":
            ways = (str(value) for name, value in route.items() if name.endswith("Id") and name != "InstanceOwnerId")
            return next(ways, "")
    return ""


def _judge_endpoints(who: str, rows: Sequence[Document]) -> Finding:
    names = [row["ServiceName"] for row in rows if row["State"].lower() == "available"]
    missing = sorted(each for each in ENDPOINTS if not any(name.endswith(f".{each}") for name in names))
    if missing:
        return wrong(f"{who} with no way out: add a NAT gateway, or VPC endpoints of {', '.join(missing)}")
    return warn(f"{who} with VPC endpoints alone: Prefect's API and the images must be within reach")


def _check_groups(groups: Sequence[str], vpcs: Sequence[str], ask: Ask) -> Found:
    rows = ask("ec2:DescribeSecurityGroups", Filters=[{"Name": "group-id", "Values": groups}])["SecurityGroups"]
    found = {row["GroupId"]: row["VpcId"] for row in rows}
    for group in groups:
        bad = f"Security group: {group} is in {found.get(group, 'no VPC of this account')}, not in {', '.join(vpcs)}"
        yield either(found.get(group) in vpcs, f"Security group: {group}", f"{bad}: correct AGENT_SECURITY_GROUPS")
