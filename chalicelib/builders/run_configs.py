"""Run configs of Prefect 1, read from the documents that the API stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chalicelib.builders.documents import environment_problems, kind_of
from chalicelib.errors import UnsupportedRun, shorten
from chalicelib.flow_runs import Document, FlowRun

_TEXTS = (
    "image",
    "cpu",
    "memory",
    "task_definition_path",
    "task_definition_arn",
    "task_role_arn",
    "execution_role_arn",
)
_OBJECTS = ("task_definition", "run_task_kwargs", "env")
_SOURCES = ("task_definition", "task_definition_path", "task_definition_arn")
_NEVER_EMPTY = ("image", "task_definition_path", "task_definition_arn")


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


def read_ecs_run(run: FlowRun) -> EcsRun:
    """The run config of `run` for ECS: an ECSRun, the env of a UniversalRun, or the defaults when it has none.

    Raises UnsupportedRun for another type, or for a document that is malformed, with all its problems at once.
    """
    if run.run_config is None:
        return EcsRun()
    document = _object_of_a_known_type(run)
    fields = ("env",) if document["type"] == "UniversalRun" else _TEXTS + _OBJECTS
    values = {name: document[name] for name in fields if document.get(name) is not None}
    problems = _problems(values)
    if problems:
        raise UnsupportedRun(f"the {document['type']} run config is malformed: {'; '.join(problems)}")
    # An empty value says nothing, so that `x or default` reads alike here and in the launcher.
    return EcsRun(**{name: value for name, value in values.items() if value})


def _object_of_a_known_type(run: FlowRun) -> Document:
    document: Any = run.run_config
    if not isinstance(document, Mapping):
        raise UnsupportedRun(f"the run config is {kind_of(document)}, not an object: register the flow again")
    if document.get("type") not in ("ECSRun", "UniversalRun"):
        raise UnsupportedRun(
            f"Flow run {run.id} has a `run_config` of type `{shorten(str(document.get('type')), 60)}`, only `ECSRun` "
            "is supported (and UniversalRun): change the run config, or its labels so that another agent takes the run"
        )
    return document


def _problems(values: Document) -> list[str]:
    texts = [name for name in _TEXTS if name in values]
    objects = [name for name in _OBJECTS if name in values]
    problems = [f"{name} is {kind_of(values[name])}, not text" for name in texts if not isinstance(values[name], str)]
    problems += [
        f"{name} is {kind_of(values[name])}, not an object" for name in objects if not isinstance(values[name], Mapping)
    ]
    problems += [f"{name} is empty" for name in _NEVER_EMPTY if values.get(name) == ""]
    if isinstance(values.get("env"), Mapping):
        problems += environment_problems(values["env"], "env")
    return problems + _contradictions(values)


def _contradictions(values: Document) -> list[str]:
    sources = [name for name in _SOURCES if name in values]
    problems = []
    if len(sources) > 1:
        problems.append(f"only one of {', '.join(_SOURCES)} can be given, not {' and '.join(sources)}")
    if "task_definition_arn" in values and "image" in values:
        problems.append("image cannot be given beside task_definition_arn: the image is part of that task definition")
    return problems
