"""The AWS account and region that a stage is deployed to, and what it says when it does not want to."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError, NoCredentialsError, NoRegionError

REFUSALS = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
SIGN_IN = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException")


class DeployError(Exception):
    """What is wrong and what to do about it, in one text."""


class Account:
    """One account and region, and its clients, each made once."""

    def __init__(self) -> None:
        # By the name of a service; raises NoRegionError.
        self.client: Callable[[str], Any] = cache(boto3.Session().client)

    def pages(self, service: str, call: str, field: str, **parameters: Any) -> list[Any]:
        """All that a call lists in `field`, from all of its pages."""
        pages = self.client(service).get_paginator(call).paginate(**parameters)
        return [item for page in pages for item in page.get(field, ())]

    def identify(self) -> tuple[str, str]:
        """The account's number and the region; it proves both and the credentials. Raises what the AWS SDK raises."""
        sts = self.client("sts")
        return sts.get_caller_identity()["Account"], sts.meta.region_name

    def default_network(self) -> dict[str, str]:
        """The default VPC and its subnets, as parameters. Raises DeployError where there is none."""
        ec2 = self.client("ec2")
        vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not vpcs:
            advice = "name one: --parameter VpcId=vpc-... --parameter SubnetIds=subnet-...,subnet-..."
            raise DeployError(f"{ec2.meta.region_name} has no default VPC: {advice}")
        vpc_id = vpcs[0]["VpcId"]
        subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["Subnets"]
        return {"VpcId": vpc_id, "SubnetIds": ",".join(sorted(subnet["SubnetId"] for subnet in subnets)[:16])}


def explain(error: Exception) -> str:
    """What to tell whoever deploys about this error, of ours or of the AWS SDK."""
    if isinstance(error, NoRegionError):
        return "No AWS region is set: set AWS_DEFAULT_REGION, or a region in your AWS profile"
    if isinstance(error, NoCredentialsError):
        return "No AWS credentials are found: sign in, or set AWS_PROFILE or AWS_ACCESS_KEY_ID"
    if not isinstance(error, ClientError):
        return str(error)
    code = error.response.get("Error", {}).get("Code")
    if code in SIGN_IN:
        return f"AWS does not take these credentials ({code}): sign in again"
    if code in REFUSALS:
        return f"You may not call {error.operation_name}; somebody has to allow it to whoever deploys: {error}"
    return str(error)
