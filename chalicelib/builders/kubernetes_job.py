"""A Prefect 1 flow run made into the manifest of a Kubernetes Job."""

from __future__ import annotations

import hashlib
import json
import re
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from chalicelib.builders import flow_container as flows
from chalicelib.builders.kubernetes_defaults import KubernetesDefaults, SecretKey, template_problems
from chalicelib.builders.run_configs import KubernetesRun
from chalicelib.builders.work_pool_container import WorkPoolContainer
from chalicelib.errors import UnsupportedRun, shorten
from chalicelib.flow_runs import Document, FlowRun

IDENTIFIER_LABEL = "prefect.io/identifier"
"""The label that every Job of a Prefect 1 agent bears, by which all of them can be listed."""

FLOW_RUN_LABEL = "prefect.io/flow_run_id"
"""The label by which the Jobs of a Prefect 1 flow run are found, whatever their launch keys are."""

LAUNCH_KEY_ANNOTATION = "prefect-agent/launch-key"
"""Which claim a Job was launched for; an annotation, because a key may be longer than the 63 characters of a label."""

AGENT_ANNOTATION = "prefect-agent/name"

Container = TypeVar("Container", flows.ContainerSettings, WorkPoolContainer)

_NAME_PREFIX = "prefect-job-"
_NAME_LIMIT = 63
_UUID_LENGTH = 36
_HASH_LENGTH = 14
_PLAIN_KEY = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True)
class KubernetesLaunch:
    """What it takes to start one flow run: the Job without its name, and the namespace that it goes to.

    `has_own_template`: what the Job has wrong is the fault of the run or its work pool, and not of the agent.
    `field_validation` is what the API does with fields that no Job has: `Strict` refuses them, `Warn` drops them.
    """

    job: Document
    namespace: str
    has_own_template: bool = True
    field_validation: str = "Strict"


def build_job(
    run: FlowRun, kubernetes_run: KubernetesRun, template: Document, defaults: KubernetesDefaults
) -> dict[str, Any]:
    """The Job that Prefect 1.4.1's KubernetesAgent would start for `run`, without its name: `with_key` completes it.

    `template` is the run's own, loaded from its path, or the agent's; its first container runs the flow. Raises
    UnsupportedRun, which says where the fault is and what to change.
    """
    problems = template_problems(template, defaults.namespace)
    if problems:
        raise UnsupportedRun(f"{_source(kubernetes_run)} cannot be used: {'; '.join(problems)}")
    # Through text, because YAML's aliases make one object of two: what is changed in the one must not be in the other.
    job = {**json.loads(json.dumps(template)), "apiVersion": "batch/v1", "kind": "Job"}
    labels = {FLOW_RUN_LABEL: run.id, "prefect.io/flow_id": run.flow.id}
    spec = job["spec"]
    for described in (job, spec["template"]):
        metadata = filled(described, "metadata")
        filled(metadata, "labels").update(labels)
        filled(metadata, "annotations")[AGENT_ANNOTATION] = defaults.agent_name
    job["metadata"].pop("name", None)
    if spec.get("ttlSecondsAfterFinished") is None and defaults.ttl_seconds_after_finished is not None:
        spec["ttlSecondsAfterFinished"] = defaults.ttl_seconds_after_finished
    if spec.get("backoffLimit") is None:
        # Kubernetes itself would run a flow that crashed six times more, and nobody would hear of the first time.
        spec["backoffLimit"] = 0
    pod = spec["template"]["spec"]
    _fill_pod(pod, kubernetes_run, defaults)
    _fill_container(pod["containers"][0], run, kubernetes_run, defaults)
    return job


def _source(kubernetes_run: KubernetesRun) -> str:
    if kubernetes_run.job_template_path:
        return f"the job template {shorten(kubernetes_run.job_template_path)}"
    return "job_template" if kubernetes_run.job_template else "the agent's own job template"


def filled(parent: dict[str, Any], name: str) -> dict[str, Any]:
    """The object `name` of `parent`, made where it is absent or null."""
    parent[name] = parent.get(name) or {}
    inner: dict[str, Any] = parent[name]
    return inner


def _fill_pod(pod: dict[str, Any], kubernetes_run: KubernetesRun, defaults: KubernetesDefaults) -> None:
    secrets = [[{"name": name} for name in each.image_pull_secrets] or None for each in (kubernetes_run, defaults)]
    own = kubernetes_run.has_template
    accounts = (kubernetes_run.service_account_name, defaults.service_account_name or None)
    _choose(pod, "serviceAccountName", own, *accounts)
    _choose(pod, "imagePullSecrets", own, *secrets)
    pod["restartPolicy"] = pod.get("restartPolicy") or "Never"


def _choose(target: dict[str, Any], name: str, has_own_template: bool, asked: Any, of_the_agent: Any) -> None:
    """Set what is strongest: the run config, then the run's own template, then the agent, then its template."""
    if asked is None and not (has_own_template and name in target):
        asked = of_the_agent
    if asked is not None:
        target[name] = asked


def _fill_container(
    container: dict[str, Any], run: FlowRun, kubernetes_run: KubernetesRun, defaults: KubernetesDefaults
) -> None:
    image = flows.flow_image(run.flow, kubernetes_run.image, container.get("image"))
    container["name"] = container.get("name") or flows.FLOW_CONTAINER
    container["image"] = image
    # The image's own entry point stays: Prefect's installs EXTRA_PIP_PACKAGES before it runs these.
    container["args"] = flows.flow_run_command(run.flow.core_version)[-1].split()
    own_policy = kubernetes_run.image_pull_policy
    _choose(container, "imagePullPolicy", kubernetes_run.has_template, own_policy, defaults.image_pull_policy)
    told = defaults.container
    plain_key = (told.api_key or told.auth_token) if defaults.allow_plain_api_key else ""
    told = with_credentials(told, defaults.api_key_secret, plain_key)
    variables = {**flows.container_environment(run, told, kubernetes_run.env), flows.IMAGE_VARIABLE: image}
    container["env"] = _environment(variables, defaults, container.get("env") or [])
    resources = filled(container, "resources")
    for kind, cpu, memory in (
        ("requests", kubernetes_run.cpu_request, kubernetes_run.memory_request),
        ("limits", kubernetes_run.cpu_limit, kubernetes_run.memory_limit),
    ):
        filled(resources, kind).update({name: value for name, value in (("cpu", cpu), ("memory", memory)) if value})


def _environment(variables: dict[str, str], defaults: KubernetesDefaults, own: list[Document]) -> list[Document]:
    """Kubernetes' form of `variables`, then the keys by reference, then what else the template has, in its order."""
    secret = defaults.api_key_secret
    ours: list[Document] = [{"name": name, "value": value} for name, value in sorted(variables.items())]
    if secret:
        source = {"secretKeyRef": {"name": secret.name, "key": secret.key}}
        ours += [{"name": name, "valueFrom": source} for name in flows.KEY_VARIABLES]
    names = {entry["name"] for entry in ours}
    return ours + [entry for entry in own if entry["name"] not in names]


def with_credentials(container: Container, secret: SecretKey | None, plain_key: str) -> Container:
    """The container as a Job can keep to it: what only AWS can look up is no reference here.

    `plain_key` is what may go into the Job instead. Raises UnsupportedRun without either.
    """
    if secret:
        return replace(container, secret_reference=secret.name)
    if not container.secret_reference:
        return container
    if plain_key:
        return replace(container, secret_reference=None)
    raise UnsupportedRun(
        "the API key is named by an ARN, which Kubernetes cannot look up: put the key into a Kubernetes Secret and set "
        "AGENT_API_KEY_SECRET (or let the agent pass the key in plain: AGENT_ALLOW_PLAIN_API_KEY)"
    )


def job_name(key: str) -> str:
    """The name of the Job that a launch key stands for: a DNS label of at most 63 characters, the same every time.

    A key that does not fit ends in a hash of it, after what would be the flow run's id.
    """
    name = _NAME_PREFIX + key
    if len(name) <= _NAME_LIMIT and _PLAIN_KEY.fullmatch(key):
        return name
    start = re.sub(r"[^a-z0-9]+", "-", key.lower())[:_UUID_LENGTH].strip("-")
    return "-".join(filter(None, (_NAME_PREFIX.strip("-"), start, _digest(key)[:_HASH_LENGTH])))


def with_key(manifest: Document, key: str) -> dict[str, Any]:
    """A copy of a Job that is named for `key`, and says on Job and pod which claim it is for."""
    job = deepcopy(dict(manifest))
    for described in (job, job["spec"]["template"]):
        if FLOW_RUN_LABEL in described["metadata"]["labels"]:
            # Real agents of Prefect 1 take every Job with this label for one of theirs.
            described["metadata"]["labels"][IDENTIFIER_LABEL] = _digest(key)[:8]
        described["metadata"]["annotations"][LAUNCH_KEY_ANNOTATION] = key
    job["metadata"]["name"] = job_name(key)
    return job


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
