"""Run configs of Prefect 1, read from the documents that the API stores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from chalicelib.errors import UnsupportedRun, shorten
from chalicelib.flow_runs import Document, FlowRun
from chalicelib.sightings import RESUBMIT_VARIABLE, Resubmit

_OBJECTS = ("task_definition", "run_task_kwargs", "job_template", "env")
_FORMS: Mapping[str, tuple[type, str]] = {
    **dict.fromkeys(_OBJECTS, (Mapping, "an object")),
    "image_pull_secrets": (list, "a list"),
    "host_config": (Mapping, "an object"),
    "ports": (list, "a list"),
}
_ONE_OF = (("task_definition", "task_definition_path", "task_definition_arn"), ("job_template", "job_template_path"))
_NEVER_EMPTY = ("image", "task_definition_path", "task_definition_arn", "job_template_path")
_QUANTITIES = ("cpu_limit", "cpu_request", "memory_limit", "memory_request")
_QUANTITY = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")


@dataclass(frozen=True)
class EcsRun:
    """What a run asks of ECS; None and empty mean that the agent decides.

    At most one of `task_definition`, `task_definition_path` and `task_definition_arn` is set. `cpu` and `memory` are
    text as ECS takes it ("1024", "1 vcpu", "2 GB").
    """

    env: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    cpu: str | None = None
    memory: str | None = None
    task_definition: Document | None = None
    task_definition_path: str | None = None
    task_definition_arn: str | None = None
    task_role_arn: str | None = None
    execution_role_arn: str | None = None
    run_task_kwargs: Document = field(default_factory=dict)


@dataclass(frozen=True)
class KubernetesRun:
    """What a run asks of Kubernetes; None and empty mean that its template or the agent decides.

    At most one of `job_template` and `job_template_path` is set. Limits and requests are Kubernetes quantities ("500m",
    "2", "1.5Gi"). An empty `service_account_name` does say something: the namespace's own account.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    job_template: Document | None = None
    job_template_path: str | None = None
    cpu_limit: str | None = None
    cpu_request: str | None = None
    memory_limit: str | None = None
    memory_request: str | None = None
    service_account_name: str | None = None
    image_pull_secrets: Sequence[str] = ()
    image_pull_policy: str | None = None

    @property
    def has_template(self) -> bool:
        """Whether the template is the run's own and not the agent's."""
        return bool(self.job_template or self.job_template_path)


@dataclass(frozen=True)
class DockerRun:
    """What a run asks of Docker: `host_config` as arguments of the Docker SDK's `create_host_config`."""

    env: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    ports: Sequence[int] = ()
    host_config: Document = field(default_factory=dict)


@dataclass(frozen=True)
class LocalRun:
    """What a run asks of a process of the agent's own machine."""

    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None


@dataclass(frozen=True)
class AnyRun:
    """What a run of any type may ask of any platform."""

    env: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None


_Config = TypeVar("_Config", EcsRun, KubernetesRun, DockerRun, LocalRun, AnyRun)


def read_ecs_run(run: FlowRun) -> EcsRun:
    """The run config of `run` for ECS: an ECSRun, the env of a UniversalRun, or the defaults when it has none.

    Raises UnsupportedRun for another type, or for a document that is malformed, with all its problems at once.
    """
    return _read(run, EcsRun, "ECSRun")


def read_kubernetes_run(run: FlowRun) -> KubernetesRun:
    """The run config of `run` for Kubernetes, as `read_ecs_run` reads it for ECS, from a KubernetesRun."""
    return _read(run, KubernetesRun, "KubernetesRun")


def read_docker_run(run: FlowRun) -> DockerRun:
    """The run config of `run` for Docker, as `read_ecs_run` reads it for ECS, from a DockerRun."""
    return _read(run, DockerRun, "DockerRun")


def read_local_run(run: FlowRun) -> LocalRun:
    """The run config of `run` for a process, as `read_ecs_run` reads it for ECS, from a LocalRun."""
    return _read(run, LocalRun, "LocalRun")


def read_any_run(run: FlowRun) -> AnyRun:
    """What the run config of `run` asks for, whatever its type. Raises UnsupportedRun when it is malformed."""
    kind = run.run_config.get("type") if isinstance(run.run_config, Mapping) else None
    return _read(run, AnyRun, str(kind))


def _read(run: FlowRun, config: type[_Config], own_kind: str) -> _Config:
    document: Any = run.run_config
    if document is None:
        return config()
    if not isinstance(document, Mapping):
        raise UnsupportedRun(f"the run config is {kind_of(document)}, not an object: register the flow again")
    kind = document.get("type")
    if kind not in (own_kind, "UniversalRun"):
        raise UnsupportedRun(
            f"Flow run {run.id} has a `run_config` of type `{shorten(str(kind), 60)}`, only `{own_kind}` "
            "is supported (and UniversalRun): change the run config, or its labels so that another agent takes the run"
        )
    names = ["env"] if kind == "UniversalRun" else [each.name for each in fields(config)]
    values = {name: document[name] for name in names if document.get(name) is not None}
    problems = _problems(values) + _kubernetes_problems(values)
    if problems:
        raise UnsupportedRun(f"the {kind} run config is malformed: {'; '.join(problems)}")
    # An empty value says nothing, so that `x or default` reads alike here and in the launcher.
    return config(**{name: value for name, value in values.items() if value or name == "service_account_name"})


def _problems(values: Document) -> list[str]:
    problems = [f"{name} is empty" for name in _NEVER_EMPTY if values.get(name) == ""]
    for name, value in values.items():
        expected, words = _FORMS.get(name, (str, "text"))
        if not isinstance(value, expected):
            problems.append(f"{name} is {kind_of(value)}, not {words}")
    if isinstance(values.get("env"), Mapping):
        problems += [problem for item in values["env"].items() for problem in _variable_problems(*item)]
    for choice in _ONE_OF:
        given = [name for name in choice if name in values]
        if len(given) > 1:
            problems.append(f"only one of {', '.join(choice)} can be given, not {' and '.join(given)}")
    if "task_definition_arn" in values and "image" in values:
        problems.append("image cannot be given beside task_definition_arn: the image is part of that task definition")
    return problems


def _kubernetes_problems(values: Document) -> list[str]:
    asked = {name: values[name] for name in _QUANTITIES if values.get(name) and isinstance(values[name], str)}
    problems = [
        f"{name} is no quantity that Kubernetes knows: write it like 2, 0.5, 500m or 1.5Gi"
        for name, value in asked.items()
        if not _QUANTITY.fullmatch(value)
    ]
    secrets = values.get("image_pull_secrets")
    for index, secret in enumerate(secrets if isinstance(secrets, list) else ()):
        if not secret or not isinstance(secret, str):
            problems.append(f"image_pull_secrets[{index}] is {kind_of(secret) if secret else 'empty'}, not a name")
    policy = values.get("image_pull_policy", "Always")
    if isinstance(policy, str) and policy not in _PULL_POLICIES:
        problems.append(f"image_pull_policy is none of {', '.join(_PULL_POLICIES)}")
    return problems


def _variable_problems(name: str, value: object) -> list[str]:
    if not name or "\x00" in name:
        return [f"env: {shorten(name, 60)} is not a usable name"]
    if not isinstance(value, str):
        return [f"env: {shorten(name, 60)} is {kind_of(value)}: a container takes text only, put it in quotes"]
    if name == RESUBMIT_VARIABLE and value not in (choices := [choice.value for choice in Resubmit]):
        return [f"env: {name} is none of {', '.join(choices)}"]
    return [f"env: {shorten(name, 60)} has a NUL character, which no environment can hold"] if "\x00" in value else []


def kind_of(value: object) -> str:
    """What a JSON value is, for a message: `a list`, `null`, `an object`..."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), "an object")
