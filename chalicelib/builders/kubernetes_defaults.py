"""What the agent itself says about Kubernetes Jobs, below what a run asks for, and what a template must look like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.run_configs import kind_of
from chalicelib.errors import SettingsError, shorten
from chalicelib.flow_runs import Document

_DEPTH_LIMIT = 40
_ONLY = {"apiVersion": "batch/v1", "kind": "Job"}
_FORMS: Mapping[type, tuple[type, str]] = {list: (list, "a list"), dict: (Mapping, "an object")}

# The shape of what is read or changed here; all else is between the template and the API server.
_EACH = "*"
_METADATA = {"namespace": str, "labels": {_EACH: str}, "annotations": {_EACH: str}}
_RESOURCES: Document = {"requests": {}, "limits": {}}
_LISTS = {"env": [{"name": str, "value": str}], "volumeMounts": [{"mountPath": str}]}
_POD = {"containers": [{"name": str, "image": str, "resources": _RESOURCES, **_LISTS}], "volumes": [{"name": str}]}
_JOB = {"metadata": _METADATA, "spec": {"template": {"metadata": _METADATA, "spec": _POD}}}

_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_LABEL_VALUE = re.compile(f"({_NAME})?")
_LABEL_NAME = re.compile(rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_NAME}")


def built_in_job() -> Document:
    """The template that is used when neither the run nor the agent has one."""
    return {**_ONLY, "spec": {"template": {"spec": {"containers": [{"name": "flow"}]}}}}


@dataclass(frozen=True)
class SecretKey:
    """One entry of a Kubernetes Secret in the namespace of the Jobs."""

    name: str
    key: str


@dataclass(frozen=True)
class KubernetesDefaults:
    """The agent's settings for Kubernetes.

    `job_template` is the agent's own template; a run's takes its place as a whole. `service_account_name`,
    `image_pull_secrets` and `image_pull_policy` are stronger than that template and weaker than a run's own.
    `ttl_seconds_after_finished` is for Jobs whose template has none. With `api_key_secret` Kubernetes fills the key in;
    `allow_plain_api_key` lets it go into the Job instead while only AWS knows it by reference.
    """

    container: ContainerSettings
    namespace: str = "default"
    job_template: Document = field(default_factory=built_in_job)
    service_account_name: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    image_pull_policy: str | None = None
    ttl_seconds_after_finished: int | None = None
    api_key_secret: SecretKey | None = None
    allow_plain_api_key: bool = False
    agent_name: str = "agent"

    def validate(self) -> None:
        """Raise SettingsError with all problems of the template: found so, they fail the agent and not each run."""
        problems = template_problems(self.job_template, self.namespace)
        if problems:
            raise SettingsError([f"--job-template: {line}" for line in problems])


def template_problems(template: Document, namespace: str) -> list[str]:
    """What is wrong with a Job template, one line each, by where it is and never by what stands there."""
    return form_problems(template) or _content_problems(template, namespace)


def form_problems(template: Document) -> list[str]:
    """What keeps a Job template from being read and changed, one line each."""
    if _is_deeper(template, _DEPTH_LIMIT):
        return [f"it is nested more than {_DEPTH_LIMIT} deep"]
    return _shape_problems(template, _JOB, "")


def _is_deeper(value: Any, levels: int) -> bool:
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in children)


def _shape_problems(value: Any, shape: Any, where: str) -> list[str]:
    """How `value` differs from `shape`: `str`, a list of one shape, or an object, whose null fields are absent ones."""
    form, words = _FORMS.get(type(shape), (str, "text"))
    if not isinstance(value, form):
        return [f"{where[1:]} is {kind_of(value)}, not {words}"]
    parts: list[tuple[Any, Any, str]] = []
    if isinstance(value, list):
        parts = [(each, shape[0], f"{where}[{index}]") for index, each in enumerate(value)]
    elif isinstance(value, Mapping):
        inner = {name: shape.get(name, shape.get(_EACH)) for name, each in value.items() if each is not None}
        parts = [
            (value[name], each, f"{where}.{shorten(name, 80)}") for name, each in inner.items() if each is not None
        ]
    return [problem for part in parts for problem in _shape_problems(*part)]


def _content_problems(template: Document, namespace: str) -> list[str]:
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    pod_template = spec.get("template") or {}
    containers = (pod_template.get("spec") or {}).get("containers")
    problems = [f"{name} is not {only}" for name, only in _ONLY.items() if template.get(name) not in (None, only)]
    if metadata.get("namespace") not in (None, namespace):
        problems.append("metadata.namespace is not the one in which this agent starts Jobs: leave it out")
    for name in ("parallelism", "completions"):
        if spec.get(name) not in (None, 1):
            problems.append(f"spec.{name} is not 1, and a flow run is one pod: leave it out")
    problems += _labels_problems(metadata, "metadata")
    problems += _labels_problems(pod_template.get("metadata") or {}, "spec.template.metadata")
    if not containers:
        return [*problems, "spec.template.spec.containers is missing or empty: its first one runs the flow"]
    return problems + _container_problems(containers[0], "spec.template.spec.containers[0]")


def _labels_problems(metadata: Document, where: str) -> list[str]:
    return [
        f"{where}.labels: {shorten(name, 80)} is no label: Kubernetes takes at most 63 letters, digits, '-', '_' and "
        "'.', the first and last a letter or digit, as the name and the value of one"
        for name, value in (metadata.get("labels") or {}).items()
        if not (_LABEL_NAME.fullmatch(name) and _LABEL_VALUE.fullmatch(value or ""))
    ]


def _container_problems(container: Document, where: str) -> list[str]:
    problems = [f"{where}.image is empty: name one or leave it out"] if container.get("image") == "" else []
    for index, entry in enumerate(container.get("env") or ()):
        if not entry.get("name"):
            problems.append(f"{where}.env[{index}] has no name")
        elif "\x00" in f"{entry['name']}{entry.get('value')}":
            problems.append(f"{where}.env[{index}]: {shorten(entry['name'], 60)} has a NUL character: take it out")
    return problems
