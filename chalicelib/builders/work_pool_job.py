"""A run of a Kubernetes work pool (Prefect 3) made into the manifest of a Job."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chalicelib.builders import work_pool_container as pools
from chalicelib.builders.job_configuration import FLOW_RUN_COMMAND, render_job_configuration
from chalicelib.builders.kubernetes_defaults import SecretKey, form_problems, template_problems
from chalicelib.builders.kubernetes_job import AGENT_ANNOTATION, KubernetesLaunch, filled, with_credentials
from chalicelib.builders.kubernetes_labels import label_key, label_value
from chalicelib.builders.run_configs import kind_of
from chalicelib.errors import UnsupportedRun, shorten
from chalicelib.flow_runs import Document, FlowRun, WorkPoolJob

DEFAULT_NAMESPACE = "default"
"""Where a work pool's runs go whose template says nothing."""

FLOW_CONTAINER = "prefect-job"
"""What Prefect wants the first container to be called."""

SIGTERM_BEHAVIOR = "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"
"""What a flow does when its pod is ended: `reschedule` itself, or `relinquish` the run to the Job's next pod."""


@dataclass(frozen=True)
class WorkPoolJobDefaults:
    """The agent's settings for the Jobs of work pools.

    A namespace that only job variables name must be `namespace` or one of `allowed_namespaces`.
    `ttl_seconds_after_finished` is for templates that have none. With `api_key_secret` Kubernetes fills the key in.
    """

    container: pools.WorkPoolContainer
    namespace: str = DEFAULT_NAMESPACE
    allowed_namespaces: frozenset[str] = frozenset()
    ttl_seconds_after_finished: int | None = None
    api_key_secret: SecretKey | None = None


def build_work_pool_job(run: FlowRun, defaults: WorkPoolJobDefaults) -> KubernetesLaunch:
    """The Job that prefect-kubernetes 0.8.0 would start for `run`, without its name: `with_key` completes it.

    Raises UnsupportedRun, which names the field that is wrong.
    """
    configuration = render_job_configuration(run)
    namespace = _namespace(run, configuration, defaults)
    job = _manifest(configuration)
    spec = job["spec"]
    _describe(job, run, configuration, defaults)
    metadata = job["metadata"]
    metadata.pop("generateName", None)  # which may be what no Job is called
    metadata["namespace"] = metadata.get("namespace") or namespace
    if spec.get("ttlSecondsAfterFinished") is None and defaults.ttl_seconds_after_finished is not None:
        spec["ttlSecondsAfterFinished"] = defaults.ttl_seconds_after_finished
    _fill_container(job, run, configuration, defaults)
    _refuse([*template_problems(job, namespace), *_problems_of_workers(spec["template"]["spec"])])
    # What no Job has is in every default template, and Prefect's own worker has it dropped too.
    return KubernetesLaunch(job, namespace, field_validation="Warn")


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise UnsupportedRun("; ".join(f"job_manifest: {problem}" for problem in problems))


def _namespace(run: FlowRun, configuration: Document, defaults: WorkPoolJobDefaults) -> str:
    """The namespace that is asked for, if whoever asks may choose it."""
    namespace = configuration.get("namespace") or DEFAULT_NAMESPACE
    if not isinstance(namespace, str):
        raise UnsupportedRun(f"namespace is {kind_of(namespace)}, not text")
    is_known = namespace in {defaults.namespace, *defaults.allowed_namespaces}
    if not is_known and namespace != _namespace_of_pool(run):
        raise UnsupportedRun(
            f"namespace {shorten(namespace, 63)} is named by job variables alone: make it the work pool's own, or "
            "allow it in AGENT_NAMESPACES"
        )
    return namespace


def _namespace_of_pool(run: FlowRun) -> Any:
    """The namespace of a run of this pool without any job variables."""
    job = run.job or WorkPoolJob({}, {})
    documents = {
        "deployment": {**job.deployment, "job_variables": {}},
        "flow_run": {**job.flow_run, "job_variables": {}},
    }
    try:
        bare = render_job_configuration(replace(run, job=replace(job, **documents)))
    except UnsupportedRun:
        return None
    return bare.get("namespace", DEFAULT_NAMESPACE)


def _manifest(configuration: Document) -> dict[str, Any]:
    """The Job of a template, of the form that can be gone on with."""
    manifest = configuration.get("job_manifest")
    if not isinstance(manifest, Mapping):
        raise UnsupportedRun(f"job_manifest is {kind_of(manifest)}, not an object")
    job: dict[str, Any] = {"apiVersion": "batch/v1", "kind": "Job", **json.loads(json.dumps(manifest))}
    try:
        container = job["spec"]["template"]["spec"]["containers"][0]
    except (KeyError, IndexError, TypeError):
        container = None
    if not isinstance(container, dict):
        raise UnsupportedRun("job_manifest: spec.template.spec.containers[0] is missing: it runs the flow")
    if not isinstance(container.get("env"), list):
        # `{{ env }}` makes an object of it, which is in the configuration's own `env` as well.
        container.pop("env", None)
    _refuse(form_problems(job))
    return job


def _describe(job: dict[str, Any], run: FlowRun, configuration: Document, defaults: WorkPoolJobDefaults) -> None:
    """Give Job and pod their labels and annotations."""
    annotations = configuration.get("annotations") or {}
    _refuse(form_problems({"metadata": {"annotations": annotations}}))
    labels = {
        "app.kubernetes.io/managed-by": "prefect",
        "app.kubernetes.io/part-of": "prefect",
        "app.kubernetes.io/name": str((run.job and run.job.deployment.get("name")) or run.flow.name),
        **pools.job_labels(run, defaults.container.agent_name),
        **configuration["labels"],
    }
    for described in (job, job["spec"]["template"]):
        metadata = filled(described, "metadata")
        own = {**filled(metadata, "labels"), **labels}
        metadata["labels"] = {label_key(name): label_value(text or "") for name, text in own.items()}
        # By which it is found again, whatever else somebody has put there.
        metadata["labels"][pools.RUN_LABEL] = run.id
    annotations = {**filled(job["metadata"], "annotations"), **annotations}
    annotations = {label_key(name): text for name, text in annotations.items()}
    annotations[AGENT_ANNOTATION] = defaults.container.agent_name
    job["metadata"]["annotations"] = annotations
    filled(job["spec"]["template"]["metadata"], "annotations").update(annotations)


def _fill_container(job: Document, run: FlowRun, configuration: Document, defaults: WorkPoolJobDefaults) -> None:
    container = job["spec"]["template"]["spec"]["containers"][0]
    if container.get("image") is None:
        container["image"] = defaults.container.image
    arguments = container.get("args")
    if arguments is None or isinstance(arguments, str):
        container["args"] = pools.split_command(FLOW_RUN_COMMAND if arguments is None else arguments)
    elif not isinstance(arguments, list):
        _refuse([f"spec.template.spec.containers[0].args is {kind_of(arguments)}, neither text nor a list"])
    ours = _with_sigterm_behavior(
        _environment(run, configuration["env"], defaults), job["spec"].get("backoffLimit") == 0
    )
    names = {entry["name"] for entry in ours}
    container["env"] = ours + [entry for entry in container.get("env") or () if entry.get("name") not in names]


def _with_sigterm_behavior(entries: list[Document], is_last_pod: bool) -> list[Document]:
    """Where the Job starts another pod, the flow must leave the run to that; else its environment may say."""
    if is_last_pod and any(each["name"] == SIGTERM_BEHAVIOR and each.get("value") != "" for each in entries):
        return entries
    behavior = {"name": SIGTERM_BEHAVIOR, "value": "reschedule" if is_last_pod else "relinquish"}
    return [*(each for each in entries if each["name"] != SIGTERM_BEHAVIOR), behavior]


def _environment(run: FlowRun, configured: Any, defaults: WorkPoolJobDefaults) -> list[Document]:
    """Kubernetes' form of the flow's environment: the variables, then what Kubernetes fills in itself.

    The variables of the configuration stay in their order, as one may be made of those before it.
    """
    references: list[Document] = []
    if isinstance(configured, list):
        if not all(isinstance(each, Mapping) and isinstance(each.get("name"), str) for each in configured):
            raise UnsupportedRun("env is a list, but not one of objects that have a name")
        references = [each for each in configured if "valueFrom" in each]
        configured = {each["name"]: each["value"] for each in configured if "value" in each}
    told, secret = defaults.container, defaults.api_key_secret
    plain_key = (told.api_key or told.auth_string) if told.allow_plain_api_key else ""
    variable = pools.AUTH_STRING if told.auth_string else told.secret_variable
    if secret and configured.get(variable, "") is not None:
        references = [each for each in references if each["name"] != variable]
        references.append({"name": variable, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}})
    variables = pools.container_environment(run, with_credentials(told, secret, plain_key), configured)
    in_order = [*(name for name in variables if name not in configured), *configured]
    wanted = variables.keys() - {each["name"] for each in references}
    return [{"name": name, "value": variables[name]} for name in in_order if name in wanted] + references


def _problems_of_workers(pod: Document) -> list[str]:
    """What Prefect's own worker refuses besides."""
    found = (("containers[0].name", pod["containers"][0], FLOW_CONTAINER), ("restartPolicy", pod, "Never"))
    return [
        f"spec.template.spec.{path} is not {value}"
        for path, part, value in found
        if part.get(path.rpartition(".")[2]) != value
    ]
