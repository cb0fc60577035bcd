"""The launch request of a flow run on ECS: which task definition, and which RunTask call."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.flow_runs import Document


@dataclass(frozen=True)
class EcsLaunch:
    """What the ECS launcher needs to start one flow run.

    Exactly one of `definition` and `definition_arn` is set. `definition` is a whole RegisterTaskDefinition request,
    its `family` carrying the hash of its content; `definition_arn` names one that exists. `run_task` is the RunTask
    request without `taskDefinition` and `clientToken`.
    """

    run_task: Document
    definition: Document | None = None
    definition_arn: str | None = None
