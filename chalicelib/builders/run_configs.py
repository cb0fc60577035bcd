"""Run configs of Prefect 1, read from the documents that the API stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from chalicelib.errors import UnsupportedRun, shorten
from chalicelib.flow_runs import Document, FlowRun

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
    document: Any = run.run_config
    if document is None:
        return EcsRun()
    if not isinstance(document, Mapping):
        raise UnsupportedRun(f"the run config is {kind_of(document)}, not an object: register the flow again")
    kind = document.get("type")
    if kind not in ("ECSRun", "UniversalRun"):
        raise UnsupportedRun(
            f"Flow run {run.id} has a `run_config` of type `{shorten(str(kind), 60)}`, only `ECSRun` "
            "is supported (and UniversalRun): change the run config, or its labels so that another agent takes the run"
        )
    names = ["env"] if kind == "UniversalRun" else [each.name for each in fields(EcsRun)]
    values = {name: document[name] for name in names if document.get(name) is not None}
    problems = _problems(values)
    if problems:
        raise UnsupportedRun(f"the {kind} run config is malformed: {'; '.join(problems)}")
    # An empty value says nothing, so that `x or default` reads alike here and in the launcher.
    return EcsRun(**{name: value for name, value in values.items() if value})


def _problems(values: Document) -> list[str]:
    problems = [f"{name} is empty" for name in _NEVER_EMPTY if values.get(name) == ""]
    for name, value in values.items():
        expected, words = (Mapping, "an object") if name in _OBJECTS else (str, "text")
        if not isinstance(value, expected):
            problems.append(f"{name} is {kind_of(value)}, not {words}")
    if isinstance(values.get("env"), Mapping):
        problems += [problem for item in values["env"].items() for problem in _variable_problems(*item)]
    sources = [name for name in _SOURCES if name in values]
    if len(sources) > 1:
        problems.append(f"only one of {', '.join(_SOURCES)} can be given, not {' and '.join(sources)}")
    if "task_definition_arn" in values and "image" in values:
        problems.append("image cannot be given beside task_definition_arn: the image is part of that task definition")
    return problems


def _variable_problems(name: str, value: object) -> list[str]:
    if not name or "\x00" in name:
        return [f"env: {shorten(name, 60)} is not a usable name"]
    if not isinstance(value, str):
        return [f"env: {shorten(name, 60)} is {kind_of(value)}: a container takes text only, put it in quotes"]
    return [f"env: {shorten(name, 60)} has a NUL character, which no environment can hold"] if "\x00" in value else []


def kind_of(value: object) -> str:
    """What a JSON value is, for a message: `a list`, `null`, `an object`..."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), "an object")
