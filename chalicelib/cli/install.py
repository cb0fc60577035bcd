"""What a platform needs for this agent: a Kubernetes cluster, as YAML, or the Lambda on AWS, as settings of a stage."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chalicelib.errors import SettingsError
from chalicelib.settings import SETTINGS, Setting, Settings

TEMPLATE = Path(__file__).with_name("kubernetes.yaml")
NAME, KEY_ENTRY = "prefect-agent", "api-key"
ACCESS_GROUP = {"kind": "Group", "name": "prefect-agent", "apiGroup": "rbac.authorization.k8s.io"}
"""The Kubernetes group that `infra/eks-access.yaml` maps the Lambda's roles to."""

OF_THIS_MACHINE = {"kubeconfig_path", "kubeconfig_context"}


PORT = 8080
"""Where the agent in a cluster serves /api/health for the kubelet, unless an address with another port was given."""

_AWS_ADVICE = """\
That is a stage: put it into `stages` of .chalice/config.json, under a name such as "dev"; fill in what stands in < >.
Then `make deploy STAGE=dev` makes all that it needs, and docs/deploy.md explains what that is.
"""


def install(platform: str, own: Mapping[str, Any], settings: Settings) -> None:
    """Print what the platform needs, or write it into a file in the directory `own["output"]`, and print its name.

    Raises SettingsError when it cannot be written, or a setting does not fit.
    """
    if platform == "aws":
        name, text = "stage.json", render_stage(settings)
    else:
        image = own.get("image", "prefect-agent:latest")
        name = "agent.yaml"
        text = render_install(settings, image, own.get("rbac", False), own.get("access_only", False))
    if "output" in own:
        _write(Path(own["output"]) / name, text)
    else:
        print(text, end="")
    if platform == "aws":
        print(_AWS_ADVICE, end="", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # It may hold the key.
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(text)
    except OSError as error:
        raise SettingsError([f"--output: {path} cannot be written ({error.strerror}); name another"]) from None
    print(path)


def render_stage(settings: Settings) -> str:
    """A stage of `.chalice/config.json` as JSON: the agent's settings, and its own cluster and roles if it names some.

    Raises SettingsError when a key is given as it is, as everybody who sees the function would see it.
    """
    if settings.plain_api_key or settings.plain_auth_token:
        raise SettingsError(["--key: a key is not put into a Lambda's settings; create a secret and give its ARN"])
    environment = environment_of(settings)
    if settings.env_vars:
        environment["PREFECT__CLOUD__AGENT__ENV_VARS"] = json.dumps(dict(settings.env_vars))
    stage: dict[str, Any] = {"environment_variables": environment}
    if settings.platform == "ecs" and (cluster := settings.cluster):
        arn = cluster if cluster.startswith("arn:") else f"arn:aws:ecs:<region>:<account>:cluster/{cluster}"
        roles = filter(None, (settings.execution_role_arn, settings.task_role_arn))
        parameters = {"ClusterArns": ",".join(dict.fromkeys((arn, *settings.allowed_clusters)))}
        parameters["PassableRoleArns"] = ",".join(roles) or "<ARN of the execution role>"
        stage["infrastructure"] = {"parts": ["core"], "parameters": parameters}
    return json.dumps(stage, indent=2) + "\n"


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
    port = urlsplit(settings.agent_address or "").port or PORT
    pod["containers"][0] |= {"image": image, "env": _env(replace(settings, agent_address=f"http://:{port}"), entries)}
    pod["containers"][0]["livenessProbe"]["httpGet"]["port"] = port
    pod |= {"serviceAccountName": NAME} if grants_access else {}
    pod |= {"imagePullSecrets": [{"name": name} for name in names]} if (names := settings.image_pull_secrets) else {}
    kinds = ["Role", "RoleBinding"] if grants_access or access_only else []
    if not access_only:
        kinds += (["ServiceAccount"] if grants_access else []) + (["Secret"] if entries else []) + ["Deployment"]
    text: str = yaml.safe_dump_all([documents[kind] for kind in kinds], explicit_start=True, sort_keys=False)
    return text


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that make these settings again, those that are no default; without the secret ones."""
    hidden = OF_THIS_MACHINE | ({"backend"} if settings.work_pools else set())
    shown = [setting for setting in SETTINGS if not setting.secret and setting.field not in hidden]
    values = [(setting, getattr(settings, setting.field)) for setting in shown]
    names = _names(settings)
    found = {names[row.field]: _text(row, value) for row, value in values if value != row.default}
    if settings.secret_reference:
        found[names["api_key"]] = settings.secret_reference
    return found


def _names(settings: Settings) -> dict[str, str]:
    """The variable of each field: Prefect 3 has names of its own."""
    return {row.field: (settings.work_pools and row.env3) or row.env for row in SETTINGS}


def _text(setting: Setting, value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={content}" if name else str(content) for name, content in value.items())
    if isinstance(value, tuple):
        return json.dumps(value) if setting.field == "labels" else ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _secret_entries(settings: Settings) -> dict[str, tuple[str, str]]:
    """What goes into the Secret: entry and text, by the variable that it fills."""
    found, names = {}, _names(settings)
    if settings.plain_api_key:
        found[names["api_key"]] = (KEY_ENTRY, settings.plain_api_key)
    elif settings.plain_auth_token:
        found[names["auth_token"]] = (KEY_ENTRY, settings.plain_auth_token)
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
