"""Where tasks run when nobody has said: in the subnets of the default VPC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalicelib.errors import LaunchForbidden
from chalicelib.flow_runs import Document
from chalicelib.launchers.aws_answers import answers

SUBNETS_LIMIT = 16
"""How many subnets an awsvpcConfiguration takes, as AWS documents it."""

ADVICE = "set AGENT_SUBNETS, or give networkConfiguration in the agent's --run-task-kwargs"


def infer_network(ec2_client: Callable[[], Any]) -> Document:
    """The `networkConfiguration` of the default VPC, the same whatever order EC2 lists its subnets in.

    Raises LaunchForbidden when there is no such VPC, it has no subnets or the agent may not look, LaunchDeferred when
    EC2 cannot say now.
    """
    with answers(f"The default VPC cannot be looked up ({ADVICE})"):
        client = ec2_client()
        vpcs = client.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not vpcs:
            raise LaunchForbidden(f"The region has no default VPC to run in: {ADVICE}")
        vpc_id = vpcs[0]["VpcId"]
        found = client.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["Subnets"]
    subnets = sorted(subnet["SubnetId"] for subnet in found)[:SUBNETS_LIMIT]
    if not subnets:
        raise LaunchForbidden(f"The default VPC {vpc_id} has no subnets to run in: {ADVICE}")
    return {"awsvpcConfiguration": {"subnets": subnets, "assignPublicIp": "ENABLED"}}
