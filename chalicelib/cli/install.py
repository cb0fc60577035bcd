"""What a Kubernetes cluster needs for this agent, as YAML: the agent itself, or the access of one from outside."""

from __future__ import annotations

import json
from typing import Any

from chalicelib.settings import SETTINGS, Setting, Settings

NAME = "prefect-agent"
LABELS = {"app.kubernetes.io/name": NAME}
RBAC, BOUND = "rbac.authorization.k8s.io", ("Role", "RoleBinding")
KEY_ENTRY = "api-key"
ACCESS_GROUP = "prefect-agent"
"""The Kubernetes group that `infra/eks-access.yaml` maps the Lambda's roles to."""

RULES = (
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "delete", "list", "patch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
)
"""All that the agent does, in one namespace."""

Json = dict[str, Any]


def render_install(settings: Settings, image: str, grants_access: bool, access_only: bool) -> str:
    """Documents that `kubectl apply -f -` takes: role and binding if asked for, and the agent unless only access is.

    The agent gets every setting that differs from its default. What is secret stands in a Secret, from which flow runs
    get their key too.
    """
    import yaml

    documents = _access(settings, access_only) if grants_access or access_only else []
    if not access_only:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata(settings)}
        entries = _secret_entries(settings)
        documents += [{**secret, "stringData": dict(entries.values())}] if entries else []
        documents.append(_deployment(settings, image, has_account=grants_access))
    text: str = yaml.safe_dump_all(documents, explicit_start=True, sort_keys=False)
    return text


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that make these settings again, those that are no default; without the secret ones."""
    values = {setting: getattr(settings, setting.field) for setting in SETTINGS if not setting.secret}
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


def _metadata(settings: Settings) -> Json:
    return {"name": NAME, "namespace": settings.namespace, "labels": dict(LABELS)}


def _access(settings: Settings, access_only: bool) -> list[Json]:
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": settings.namespace}
    if access_only:
        subject = {"kind": "Group", "name": ACCESS_GROUP, "apiGroup": RBAC}
    role, binding = ({"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": _metadata(settings)} for kind in BOUND)
    reference = {"kind": "Role", "name": NAME, "apiGroup": RBAC}
    documents = [{**role, "rules": list(RULES)}, {**binding, "subjects": [subject], "roleRef": reference}]
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(settings)}
    return documents if access_only else [account, *documents]


def _deployment(settings: Settings, image: str, has_account: bool) -> Json:
    secrets = _secret_entries(settings)
    variables = {**environment_of(settings), "AGENT_PLATFORM": "kubernetes"}
    if any(entry == KEY_ENTRY for entry, _ in secrets.values()) and not settings.api_key_secret:
        variables["AGENT_API_KEY_SECRET"] = f"{NAME}/{KEY_ENTRY}"
    env: list[Json] = [{"name": name, "value": value} for name, value in sorted(variables.items())]
    for name, (entry, _) in secrets.items():
        env.append({"name": name, "valueFrom": {"secretKeyRef": {"name": NAME, "key": entry}}})
    container = {
        "name": "agent",
        "image": image,
        "args": ["prefect-agent", "start", "kubernetes"],
        "env": env,
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True},
    }
    pod: Json = {"containers": [container]}
    pod |= {"serviceAccountName": NAME} if has_account else {}
    pod |= {"imagePullSecrets": [{"name": name} for name in names]} if (names := settings.image_pull_secrets) else {}
    # Two at once would be as right as one, and cost twice.
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": dict(LABELS)},
        "template": {"metadata": {"labels": dict(LABELS)}, "spec": pod},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(settings), "spec": spec}
