"""A stage: what somebody wants of it, as it stands in `.chalice/config.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.errors import SettingsError
from chalicelib.settings import Settings, load_settings
from deploy.account import DeployError

APP = "prefect-agent"
PARTS = ("ecs", "core", "eks-access")
"""The templates of `infra/`, in the order in which they need each other."""

ENVIRONMENT_BYTES = 4096
"""What all environment variables of a function may take together: the quotas of AWS Lambda."""

NAME = "PREFECT__CLOUD__AGENT__NAME"
OUTPUTS = {
    "AGENT_WAKEUP_QUEUE_URL": "WakeupQueueUrl",
    "AGENT_EVENTS_QUEUE_URL": "EventsQueueUrl",
    "AGENT_CLUSTER": "ClusterArn",
    "AGENT_EXECUTION_ROLE_ARN": "ExecutionRoleArn",
    "AGENT_TASK_ROLE_ARN": "TaskRoleArn",
    "AGENT_SECURITY_GROUPS": "SecurityGroupId",
}
"""Which setting is which output of a stack."""

ROLES = {"tick": "TickRoleArn", "wake": "WakeRoleArn", "task_stopped": "TaskStoppedRoleArn"}


@dataclass
class Stage:
    """`document` is the stage's entry, as Chalice reads it, and under `infrastructure` what Chalice does not know of:
    `parts`, the templates of `infra/`, and `parameters` of theirs. `environment` (the functions' own), `infrastructure`
    and `parameters` are parts of it, to be changed in place.
    """

    project: Path
    name: str
    document: dict[str, Any]

    def __post_init__(self) -> None:
        self.environment: dict[str, str] = self.document.setdefault("environment_variables", {})
        self.infrastructure: dict[str, Any] = self.document.setdefault("infrastructure", {})
        self.parameters: dict[str, str] = self.infrastructure.setdefault("parameters", {})

    @property
    def parts(self) -> list[str]:
        """The templates to deploy, in their order."""
        fit = {"ecs": self.environment.get("AGENT_PLATFORM", "ecs") == "ecs", "eks-access": self.needs_kubernetes}
        wanted = {"core", *self.infrastructure.get("parts", [part for part in fit if fit[part]])}
        return [part for part in PARTS if part in wanted]

    @property
    def key_setting(self) -> str:
        """The setting that names the API key, which has another name for work pools."""
        return "PREFECT_API_KEY" if self.environment.get("AGENT_WORK_POOLS") else "PREFECT__CLOUD__API_KEY"

    @property
    def needs_kubernetes(self) -> bool:
        """Whether flow runs go to Kubernetes, so that its client must ship."""
        return self.environment.get("AGENT_PLATFORM") == "kubernetes" or "AGENT_EKS_CLUSTER" in self.environment

    def settings(self) -> Settings:
        """The settings that the functions will find. Raises DeployError when they, or their size, are no good, or a
        parameter is none of any template.
        """
        templates = [(self.project / "infra" / f"{part}.yaml").read_text() for part in PARTS]
        known = sorted({"SubnetIds"}.union(*map(_parameters_of, templates)))
        if unknown := sorted(self.parameters.keys() - known):
            raise DeployError(f"{', '.join(unknown)}: no template has such a parameter; there are {', '.join(known)}")
        try:
            settings = load_settings(self.environment)
        except SettingsError as error:
            raise DeployError(f"The settings of the stage {self.name} are no good: {error}") from None
        if settings.plain_api_key or settings.plain_auth_token:
            advice = "give the ARN of a secret, or have an empty one made: --parameter CreateApiKeySecret=yes"
            raise DeployError(f"{self.key_setting} is a key, which everybody who sees the function would see: {advice}")
        if re.match(r"https?://(localhost|127\.0\.0\.1|\[::1\]):4200\b", settings.api_url):
            advice = "name one that they reach: --set PREFECT__CLOUD__API=https://... (PREFECT_API_URL for work pools)"
            raise DeployError(f"{settings.api_url} is no Prefect API to the functions: {advice}")
        size = len(json.dumps(self.environment))
        if size > ENVIRONMENT_BYTES:
            largest = max(self.environment, key=lambda name: len(self.environment[name]))
            advice = "A template can be an s3:// object, what all flows need can be in their image"
            text = f"has {size} bytes, and Lambda takes {ENVIRONMENT_BYTES}; the largest is {largest}. {advice}"
            raise DeployError(f"The environment of the stage {self.name} {text}")
        return settings

    def take_outputs(self, outputs: Mapping[str, str]) -> None:
        """Put what the stacks have made into the stage."""
        self.environment.update({name: outputs[output] for name, output in OUTPUTS.items() if output in outputs})
        if "ApiKeySecretArn" in outputs:
            self.environment[self.key_setting] = outputs["ApiKeySecretArn"]
        functions = self.document.setdefault("lambda_functions", {})
        for function, output in ROLES.items():
            functions.setdefault(function, {})["iam_role_arn"] = outputs[output]
        functions.setdefault("api_handler", {})["lambda_timeout"] = 25
        self.document |= {"iam_role_arn": outputs["ApiRoleArn"], "api_gateway_stage": self.name}

    def write(self, directory: Path) -> None:
        """Put the stage into `.chalice/config.json` below a directory, beside the others."""
        document = _read(self.project)
        document["stages"] = {**document.get("stages", {}), self.name: self.document}
        write_document(directory / ".chalice" / "config.json", document)


def read_stage(project: Path, name: str) -> Stage | None:
    """The stage as the project has it; None when it has none. Raises DeployError."""
    if not re.fullmatch("[a-z][a-z0-9-]{0,19}", name):
        raise DeployError(f"A stage's name is at most 20 of a-z, 0-9 and `-`, a letter first, and not {name!r}")
    document = _read(project).get("stages", {}).get(name)
    return None if document is None else Stage(project, name, document)


def _read(project: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((project / ".chalice" / "config.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DeployError(f".chalice/config.json cannot be read: {error}") from None


def _parameters_of(template: str) -> list[str]:
    return re.findall(r"^  (\w+):", template.partition("\nParameters:\n")[2].partition("\n\n")[0], re.MULTILINE)


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Put a document into a JSON file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")
