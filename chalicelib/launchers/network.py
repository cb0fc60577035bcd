"""Where tasks run when nobody has said: in the subnets of the default VPC."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from chalicelib.errors import LaunchForbidden
from chalicelib.flow_runs import Document
from chalicelib.launchers.ecs_answers import answers_to_a_question

SUBNETS_LIMIT = 16
"""How many subnets an awsvpcConfiguration takes, as AWS documents it."""

ADVICE = "set AGENT_SUBNETS, or give networkConfiguration in the agent's --run-task-kwargs"


def infer_network(ec2_client: Any) -> Document:
    """The `networkConfiguration` of the default VPC, the same whatever order EC2 lists its subnets in.

    Raises LaunchForbidden when there is no such VPC, it has no subnets or the agent may not look, LaunchDeferred when
    EC2 cannot say now.
    """
    with answers_to_a_question(f"The default VPC cannot be looked up ({ADVICE})"):
        vpcs = ec2_client.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not vpcs:
            raise LaunchForbidden(f"The region has no default VPC to run in: {ADVICE}")
        vpc_id = vpcs[0]["VpcId"]
        found = ec2_client.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["Subnets"]
    subnets = sorted(subnet["SubnetId"] for subnet in found)[:SUBNETS_LIMIT]
    if not subnets:
        raise LaunchForbidden(f"The default VPC {vpc_id} has no subnets to run in: {ADVICE}")
    return {"awsvpcConfiguration": {"subnets": subnets, "assignPublicIp": "ENABLED"}}


class DefaultNetwork:
    """The network of the default VPC, looked up when it is first needed and never again in this process."""

    def __init__(self, ec2_client: Callable[[], Any]) -> None:
        self._ec2 = ec2_client
        self._lock = threading.Lock()
        self._found: Document | None = None

    def find(self) -> Document:
        """The `networkConfiguration`; raises as `infer_network` does, and looks again the next time."""
        with self._lock:
            if self._found is None:
                with answers_to_a_question("EC2"):
                    client = self._ec2()
                self._found = infer_network(client)
            return self._found
