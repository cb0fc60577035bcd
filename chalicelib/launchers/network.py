"""Where tasks run when nobody has said: in the subnets of the default VPC, or of one that only is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalicelib.builders.ecs_documents import default_network
from chalicelib.errors import LaunchForbidden, UnsupportedRun, shorten
from chalicelib.flow_runs import Document
from chalicelib.launchers.aws_answers import answers

ADVICE = "set AGENT_SUBNETS, or give networkConfiguration in the agent's --run-task-kwargs"


def infer_network(ec2_client: Callable[[], Any]) -> Document:
    """The `networkConfiguration` of the default VPC, the same whatever order EC2 lists its subnets in.

    Raises as `find_subnets` does.
    """
    return default_network(find_subnets(ec2_client))


def find_subnets(ec2_client: Callable[[], Any], vpc_id: str = "") -> list[str]:
    """The subnets of a VPC, else of the default one, in alphabetical order.

    Raises LaunchForbidden when there is no default VPC, it has no subnets or the agent may not look, UnsupportedRun
    when the VPC that is named has none, LaunchDeferred when EC2 cannot say now.
    """
    with answers(f"The {f'VPC {vpc_id}' if vpc_id else 'default VPC'} cannot be looked up ({ADVICE})"):
        client = ec2_client()
        vpc = vpc_id or _default_vpc(client)
        found = client.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    if not found and vpc_id:
        raise UnsupportedRun(f"The VPC {shorten(vpc_id, 60)} is not there or has no subnets to run in: correct vpc_id")
    if not found:
        raise LaunchForbidden(f"The default VPC {vpc} has no subnets to run in: {ADVICE}")
    return sorted(subnet["SubnetId"] for subnet in found)


def _default_vpc(client: Any) -> str:
    vpcs = client.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not vpcs:
        raise LaunchForbidden(f"The region has no default VPC to run in: {ADVICE}")
    return str(vpcs[0]["VpcId"])
