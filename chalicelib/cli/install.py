"""What a Kubernetes cluster needs for this agent, as YAML: the agent itself, or the access of one from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chalicelib.errors import SettingsError
from chalicelib.settings import SETTINGS, Setting, Settings

TEMPLATE = Path(__file__).with_name("kubernetes.yaml")
NAME, KEY_ENTRY = "prefect-agent", "api-key"
ACCESS_GROUP = {"kind": "Group", "name": "prefect-agent", "apiGroup": "rbac.authorization.k8s.io"}
"""The Kubernetes group that `infra/eks-access.yaml` maps the Lambda's roles to."""

OF_THIS_MACHINE = {"kubeconfig_path", "kubeconfig_context"}


def render_install(settings: Settings, image: str, grants_access: bool, access_only: bool) -> str:
    """Documents that `kubectl apply -f -` takes: role and binding if asked for, and the agent unless only access is.

    The agent gets every setting that differs from its default. What is secret stands in a Secret, from which flow runs
    get their key too. Raises SettingsError when a setting names a file of this machine.
    """
    import yaml

    if settings.job_template_path and not settings.job_template_path.startswith("s3://"):
        raise SettingsError(["--job-template: this file is not in the cluster; put it into S3 and name it as s3://..."])
    documents = {document["kind"]: document for document in yaml.safe_load_all(TEMPLATE.read_text())}
    for document in documents.values():
        document["metadata"]["namespace"] = settings.namespace
    documents["RoleBinding"]["subjects"] = [
        ACCESS_GROUP if access_only else {"kind": "ServiceAccount", "name": NAME, "namespace": settings.namespace}
    ]
    entries = _secret_entries(settings)
    documents["Secret"]["stringData"] = dict(entries.values())
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    pod["containers"][0] |= {"image": image, "env": _env(settings, entries)}
    pod |= {"serviceAccountName": NAME} if grants_access else {}
    pod |= {"imagePullSecrets": [{"name": name} for name in names]} if (names := settings.image_pull_secrets) else {}
    kinds = ["Role", "RoleBinding"] if grants_access or access_only else []
    if not access_only:
        kinds += (["ServiceAccount"] if grants_access else []) + (["Secret"] if entries else []) + ["Deployment"]
    text: str = yaml.safe_dump_all([documents[kind] for kind in kinds], explicit_start=True, sort_keys=False)
    return text


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that make these settings again, those that are no default; without the secret ones."""
    shown = [setting for setting in SETTINGS if not setting.secret and setting.field not in OF_THIS_MACHINE]
    values = {setting: getattr(settings, setting.field) for setting in shown}
    found = {setting.env: _text(setting, value) for setting, value in values.items() if value != setting.default}
    if settings.secret_reference:
        found["PREFECT__CLOUD__API_KEY"] = settings.secret_reference
    return found


def _text(setting: Setting, value: Any) -> str:
    if isinstance(value, tuple):
        return json.dumps(value) if setting.field == "labels" else ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _secret_entries(settings: Settings) -> dict[str, tuple[str, str]]:
    """What goes into the Secret: entry and text, by the variable that it fills."""
    found = {}
    if settings.plain_api_key:
        found["PREFECT__CLOUD__API_KEY"] = (KEY_ENTRY, settings.plain_api_key)
    elif settings.plain_auth_token:
        found["PREFECT__CLOUD__AGENT__AUTH_TOKEN"] = (KEY_ENTRY, settings.plain_auth_token)
    if settings.env_vars:
        found["PREFECT__CLOUD__AGENT__ENV_VARS"] = ("env-vars", json.dumps(dict(settings.env_vars)))
    return found


def _env(settings: Settings, entries: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    variables = {**environment_of(settings), "AGENT_PLATFORM": "kubernetes"}
    if any(entry == KEY_ENTRY for entry, _ in entries.values()) and not settings.api_key_secret:
        variables["AGENT_API_KEY_SECRET"] = f"{NAME}/{KEY_ENTRY}"
    env: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in sorted(variables.items())]
    for name, (entry, _) in entries.items():
        env.append({"name": name, "valueFrom": {"secretKeyRef": {"name": NAME, "key": entry}}})
    return env
