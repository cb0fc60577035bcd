"""What infra/core.yaml allows each function of a stage: read from the template as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CORE = Path(__file__).parents[1] / "infra" / "core.yaml"


class TemplateLoader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions, each read as what it is given: `!Ref TickRole` as TickRole."""


def _read_function(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]


TemplateLoader.add_multi_constructor("!", _read_function)


def read_template(path: Path = CORE) -> dict[str, Any]:
    """The template's resources by their names."""
    resources: dict[str, Any] = yaml.load(path.read_text(), TemplateLoader)["Resources"]
    return resources


def statements_of(role: str, resources: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """All statements that hold for a role: its own, and those of the policies that name it."""
    resources = resources or read_template()
    documents = [policy["PolicyDocument"] for policy in resources[role]["Properties"]["Policies"]]
    documents += [
        each["Properties"]["PolicyDocument"]
        for each in resources.values()
        if each["Type"] == "AWS::IAM::ManagedPolicy" and role in each["Properties"]["Roles"]
    ]
    return [statement for document in documents for statement in document["Statement"]]


def actions_of(role: str, service: str = "") -> set[str]:
    """What a role may do, such as `ecs:RunTask`; with a `service` that service's actions alone, without its name."""
    given = [statement["Action"] for statement in statements_of(role)]
    actions = {action for each in given for action in ([each] if isinstance(each, str) else each)}
    if not service:
        return actions
    return {action.partition(":")[2] for action in actions if action.startswith(f"{service}:")}
