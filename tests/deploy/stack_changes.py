"""What moto leaves out of the life of a stack: its face after a change, the way back when it fails, a clean end."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs
from xml.etree import ElementTree

from moto.cloudformation.models import Stack, cloudformation_backends

from tests.deploy import stack_resources

ACCOUNT = "123456789012"


def complete(request: bytes, region: str, status: str, answer: bytes) -> bool:
    """Bring the stack of an ExecuteChangeSet up to date; whether it has to be answered with success, as AWS does.

    AWS takes the call and fails later: then it deletes what it has made, and says why in the stack's events.
    """
    backend = cloudformation_backends[ACCOUNT][region]
    name = parse_qs(request.decode())["ChangeSetName"][0]
    change_set = next(each for key, each in backend.change_sets.items() if name in (key, each.change_set_name))
    stack = change_set.stack
    if status.startswith("200"):
        stack.template, stack.parameters = change_set.template, change_set.parameters
        stack._parse_template()
        stack.output_map = stack._create_output_map()
        return False
    _fail(stack, change_set.change_set_type, _reason(answer))
    return True


def release(request: bytes, region: str) -> None:
    """Delete a stack's managed policies and clusters before it goes, as moto lets them stay."""
    name = parse_qs(request.decode())["StackName"][0]
    stacks = cloudformation_backends[ACCOUNT][region].stacks.values()
    for stack in (each for each in stacks if name in (each.name, each.stack_id)):
        for resource in list(stack.resource_map._parsed_resources.values()):
            if getattr(resource, "cf_resource_type", "") == "AWS::IAM::ManagedPolicy":
                _delete_policy(resource.arn, region)
            if getattr(resource, "cf_resource_type", "") == "AWS::ECS::Cluster":
                stack_resources.client("ecs", region).delete_cluster(cluster=resource.arn)


def _delete_policy(policy_arn: str, region: str) -> None:
    iam = stack_resources.client("iam", region)
    for role in iam.list_entities_for_policy(PolicyArn=policy_arn)["PolicyRoles"]:
        iam.detach_role_policy(RoleName=role["RoleName"], PolicyArn=policy_arn)
    iam.delete_policy(PolicyArn=policy_arn)


def _fail(stack: Any, kind: str, reason: str) -> None:
    stack._add_stack_event(f"{kind}_FAILED", resource_status_reason=reason)
    stack.status = "ROLLBACK_COMPLETE" if kind == "CREATE" else "UPDATE_ROLLBACK_COMPLETE"
    if kind == "CREATE":
        stack.resource_map.delete()
        stack.template_dict = {}
        stack.resource_map = Stack._create_resource_map(stack)


def _reason(answer: bytes) -> str:
    text = answer.decode(errors="replace")
    try:
        return str(json.loads(text).get("message", text))
    except ValueError:
        pass
    try:
        found = [each.text for each in ElementTree.fromstring(text).iter() if each.tag.endswith("Message")]
    except ElementTree.ParseError:
        found = []
    return str(found[0]) if found else re.sub(r"<[^>]+>|\s+", " ", text).strip()
