"""The job configuration of a work pool's run (Prefect 3): its template, filled in as the official workers do it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from typing import Any

from chalicelib.builders.job_placeholders import ABSENT, References, fill_in, path_of, values_lookup
from chalicelib.builders.run_configs import kind_of
from chalicelib.errors import UnsupportedRun, shorten
from chalicelib.flow_runs import Document, FlowRun, WorkPoolJob

FLOW_RUN_COMMAND = "prefect flow-run execute"
"""What runs in the job when nothing else is asked for."""

_TEMPLATE = "the work pool's base job template"
_REFUSED = {"aws_credentials": "role the rights", "cluster_config": "role, or its kubeconfig, the access"}


def find_references(job: WorkPoolJob) -> frozenset[str]:
    """The blocks and variables that the configuration of `job` needs, named as `WorkPoolJob.references` has them.

    These are `prefect.blocks.<type slug>.<name>`, `block_document_id:<uuid>` and `prefect.variables.<name>`; names are
    of letters, digits, `_` and `-`. Blocks may name variables: once `references` has the blocks, ask again, which is
    enough. Empty for a job that is refused whatever they are.
    """
    references = References(job.references)
    with suppress(UnsupportedRun, RecursionError):
        references.resolve(_fill_in_variables(job))
    return frozenset(references.asked)


def render_job_configuration(run: FlowRun) -> dict[str, Any]:
    """The effective job configuration of `run`: a fresh document that shares nothing with those of the run.

    Always there and checked are `name`, `command` (text, not empty), `labels` (texts by name) and `env`, whose values
    are text or None for "not set, whoever sets it"; on Kubernetes `env` may be a list of its own form. All else is as
    the template has it. Raises UnsupportedRun, with what to change and without any value.
    """
    if run.job is None:
        raise UnsupportedRun("the flow run belongs to no work pool: give its deployment one")
    references = References(run.job.references)
    try:
        configuration = references.resolve(_fill_in_variables(run.job))
    except RecursionError:
        raise UnsupportedRun("the job configuration is nested too deeply: make the template flatter") from None
    if references.problems:
        raise UnsupportedRun("; ".join(dict.fromkeys(references.problems)))
    return _complete(configuration, run, run.job)


def _fill_in_variables(job: WorkPoolJob) -> Any:
    """The template with the job's variables in it, blocks and Prefect variables still to come."""
    configuration, defaults = _read_template(job.pool)
    if defaults.get("env"):
        configuration["env"] = _with(configuration.get("env"), defaults["env"])
    variables = {**defaults, **_nested(_job_variables(job))}
    # The template's own entries of `env` stay beside those of the job; a placeholder there is replaced as a whole.
    if isinstance(configuration.get("env"), Mapping) and variables.get("env"):
        configuration["env"] = _with(configuration["env"], variables["env"])
    filled = fill_in(configuration, values_lookup(variables))
    for name, gift in _REFUSED.items():
        if filled.get(name):
            raise UnsupportedRun(
                f"{name} would reach past the accounts and clusters that this agent is held to, with keys of its own: "
                f"leave it empty in the work pool and the job variables, and give the agent's {gift} instead"
            )
    return filled


def _with(env: Any, more: Any) -> Any:
    return {**env, **_object(more, "the variable env")} if isinstance(env, Mapping) else more


def _read_template(pool: Document) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job configuration of a pool and the defaults of its variables."""
    template = _object(pool.get("base_job_template"), _TEMPLATE)
    configuration, variables = (
        _object(template.get(part), f"{_TEMPLATE}: {part}") for part in ("job_configuration", "variables")
    )
    properties = _object(variables.get("properties", {}), f"{_TEMPLATE}: variables.properties")
    defaults = {
        name: _object(schema, f"{_TEMPLATE}: variables.properties.{shorten(name, 60)}").get("default")
        for name, schema in properties.items()
    }
    return dict(configuration), {name: value for name, value in defaults.items() if value is not None}


def _job_variables(job: WorkPoolJob) -> dict[str, Any]:
    """The run's variables over those of its deployment, as whole values but for `env`."""
    general = _object(job.deployment.get("job_variables") or {}, "the deployment's job_variables")
    own = _object(job.flow_run.get("job_variables") or {}, "the flow run's job_variables")
    envs = {"env": _with(general["env"], own["env"])} if "env" in general and "env" in own else {}
    return {**general, **own, **envs}


def _nested(variables: Document) -> dict[str, Any]:
    """Variables with dotted names (`env.HOME`) as objects, those with plain names over them."""
    nested: dict[str, Any] = {}
    for name in sorted(variables, key=lambda name: "." not in name):
        *steps, last = path_of(name) if "." in name else [name]
        target = nested
        for step in steps:
            target = target.setdefault(step, {})
            if not isinstance(target, dict):
                raise UnsupportedRun(f"the job variable {shorten(name, 60)} is inside of another that is no object")
        target[last] = deepcopy(variables[name]) if steps else _merged(target.get(last), variables[name])
    return nested


def _merged(under: Any, over: Any) -> Any:
    if not (isinstance(under, Mapping) and isinstance(over, Mapping)):
        return over
    return {**under, **{name: _merged(under.get(name), value) for name, value in over.items()}}


def _complete(configuration: Document, run: FlowRun, job: WorkPoolJob) -> dict[str, Any]:
    labels = _object(configuration.get("labels", {}), "labels")
    command, name = ("" if (text := configuration.get(part)) is None else text for part in ("command", "name"))
    texts = {"command": command, "name": name, **{f"labels.{shorten(key, 60)}": labels[key] for key in labels}}
    problems = [f"{where} is {kind_of(text)}, not text" for where, text in texts.items() if not isinstance(text, str)]
    if problems:
        raise UnsupportedRun(f"the job configuration is malformed: {'; '.join(problems)}")
    env = configuration.get("env", {})
    if not (isinstance(env, list) and job.pool.get("type") == "kubernetes"):
        env = {key: None if value is None else str(value) for key, value in _object(env, "env").items()}
    rest = {"command": command or FLOW_RUN_COMMAND, "name": _job_name(name, run, job), "labels": labels, "env": env}
    return {**configuration, **rest}


def _job_name(name: str, run: FlowRun, job: WorkPoolJob) -> str:
    """The name with the flow and the flow run in it; that of the flow run where nothing is left of it."""
    context = {"flow": {"id": run.flow.id, "name": run.flow.name}, "flow_run": job.flow_run}
    rendered = fill_in(name, values_lookup({"ctx": context}))
    # A placeholder that stands for nothing stays as it is when it is all of the name, as it does in Prefect.
    return str((name if rendered is ABSENT else rendered) or run.name)


def _object(value: Any, where: str) -> Document:
    if not isinstance(value, Mapping):
        raise UnsupportedRun(f"{where} is {kind_of(value)}, not an object: correct it")
    return value
