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
        image, grants_access = own.get("image", "prefect-agent:latest"), own.get("rbac", False)
        name, text = "agent.yaml", render_install(settings, image, grants_access, own.get("access_only", False))
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
    texts = {name: text for name, (_, text) in _secret_entries(settings).items()}
    stage: dict[str, Any] = {"environment_variables": environment_of(settings) | texts}
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
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": settings.namespace}
    documents["RoleBinding"]["subjects"] = [ACCESS_GROUP if access_only else account]
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
    return str(yaml.safe_dump_all([documents[kind] for kind in kinds], explicit_start=True, sort_keys=False))


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that make these settings again, those that are no default; without the secret ones."""
    hidden = OF_THIS_MACHINE | ({"backend"} if settings.work_pools else set())
    shown = [(row, getattr(settings, row.field)) for row in SETTINGS if not row.secret and row.field not in hidden]
    names = _names(settings)
    found = {names[row.field]: _text(row, value) for row, value in shown if value != row.default}
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
    names, key = _names(settings), settings.plain_api_key or settings.plain_auth_token
    found = {names["api_key" if settings.plain_api_key else "auth_token"]: (KEY_ENTRY, key)} if key else {}
    texts = json.dumps(dict(settings.env_vars))
    return found | ({names["env_vars"]: ("env-vars", texts)} if settings.env_vars else {})


def _env(settings: Settings, entries: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    variables = {**environment_of(settings), "AGENT_PLATFORM": "kubernetes"}
    if (settings.plain_api_key or settings.plain_auth_token) and not settings.api_key_secret:
        variables["AGENT_API_KEY_SECRET"] = f"{NAME}/{KEY_ENTRY}"
    sources = {name: {"secretKeyRef": {"name": NAME, "key": entry}} for name, (entry, _) in entries.items()}
    plain = [{"name": name, "value": value} for name, value in sorted(variables.items())]
    return [*plain, *({"name": name, "valueFrom": source} for name, source in sources.items())]
