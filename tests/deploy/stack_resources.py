"""The resource types of CloudFormation that moto passes over in silence, made through moto's own services."""

from __future__ import annotations

import json
from typing import Any

import boto3
from moto.core.common_models import CloudFormationModel

URL: list[str] = []
"""Where the server that all this is part of listens."""

QUERIES: dict[str, dict[str, Any]] = {}
ENTRIES: dict[str, dict[str, Any]] = {}
"""The saved queries and access entries: moto has no service for them."""


def client(service: str, region: str) -> Any:
    """A client of this very server."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client(service, region_name=region, endpoint_url=URL[0], **keys)  # type: ignore[call-overload]


class Resource(CloudFormationModel):
    """What all of them have in common; `kind` is CloudFormation's name for the type."""

    kind = "Test::None"

    def __init__(self, physical_id: str) -> None:
        self.physical_resource_id = physical_id

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr == "Arn"

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return f"arn:aws:cloudwatch:us-east-1:123456789012:alarm:{self.physical_resource_id}"

    def is_created(self) -> bool:
        return True

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **_: Any
    ) -> Any:
        return cls(cls.make(resource_name, _without_nothing(cloudformation_json["Properties"]), region_name))

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,
        region_name: str,
    ) -> Any:
        cls.remove(original_resource.physical_resource_id, region_name)
        return cls.create_from_cloudformation_json(new_resource_name, cloudformation_json, account_id, region_name)

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str
    ) -> None:
        cls.remove(resource_name, region_name)

    @classmethod
    def make(cls, name: str, properties: dict[str, Any], region: str) -> str:
        """Make it; its physical id."""
        raise NotImplementedError

    @classmethod
    def remove(cls, physical_id: str, region: str) -> None:
        """Delete it."""
        raise NotImplementedError


def _without_nothing(value: Any) -> Any:
    """A value without what `AWS::NoValue` stands for."""
    if isinstance(value, dict):
        return {key: _without_nothing(each) for key, each in value.items() if each is not None}
    return [_without_nothing(each) for each in value if each is not None] if isinstance(value, list) else value


class Alarm(Resource, CloudFormationModel):
    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::CloudWatch::Alarm"

    @classmethod
    def make(cls, name: str, properties: dict[str, Any], region: str) -> str:
        client("cloudwatch", region).put_metric_alarm(**properties)
        return str(properties["AlarmName"])

    @classmethod
    def remove(cls, physical_id: str, region: str) -> None:
        client("cloudwatch", region).delete_alarms(AlarmNames=[physical_id])


class QueuePolicy(Resource, CloudFormationModel):
    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SQS::QueuePolicy"

    @classmethod
    def make(cls, name: str, properties: dict[str, Any], region: str) -> str:
        policy = json.dumps(properties["PolicyDocument"])
        for url in properties["Queues"]:
            client("sqs", region).set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        return name

    @classmethod
    def remove(cls, physical_id: str, region: str) -> None:
        """It goes with its queue."""


class Secret(Resource, CloudFormationModel):
    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SecretsManager::Secret"

    @classmethod
    def make(cls, name: str, properties: dict[str, Any], region: str) -> str:
        return str(client("secretsmanager", region).create_secret(Name=name, **properties)["ARN"])

    @classmethod
    def remove(cls, physical_id: str, region: str) -> None:
        client("secretsmanager", region).delete_secret(SecretId=physical_id, ForceDeleteWithoutRecovery=True)


class SavedQuery(Resource, CloudFormationModel):
    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::Logs::QueryDefinition"

    @classmethod
    def make(cls, name: str, properties: dict[str, Any], region: str) -> str:
        QUERIES[name] = {
            "queryDefinitionId": name,
            "name": properties["Name"],
            "queryString": properties["QueryString"],
            "logGroupNames": properties["LogGroupNames"],
        }
        return name

    @classmethod
    def remove(cls, physical_id: str, region: str) -> None:
        del QUERIES[physical_id]


class AccessEntry(Resource, CloudFormationModel):
    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::EKS::AccessEntry"

    @classmethod
    def make(cls, name: str, properties: dict[str, Any], region: str) -> str:
        ENTRIES[properties["PrincipalArn"]] = properties
        return str(properties["PrincipalArn"])

    @classmethod
    def remove(cls, physical_id: str, region: str) -> None:
        del ENTRIES[physical_id]
