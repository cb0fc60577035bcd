"""How a flow run of Prefect 1 becomes a task: by its run config, and the templates that it may name."""

from __future__ import annotations

from collections.abc import Set
from functools import cached_property

from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.ecs_launch import EcsLaunch, build_ecs_launch, needs_network
from chalicelib.builders.run_configs import EcsRun, read_ecs_run
from chalicelib.flow_runs import Document, FlowRun
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.ecs_shapes import shape_problems
from chalicelib.launchers.network import infer_network
from chalicelib.launchers.task_definitions import TaskDefinitions
from chalicelib.launchers.templates import TemplateReader


class RunConfigTasks:
    """Builds by run config; see `TaskBuilder`."""

    clusters: Set[str] = frozenset()

    def __init__(self, clients: AwsClients, defaults: EcsDefaults, templates: TemplateReader) -> None:
        self._clients = clients
        self._defaults = defaults
        self._templates = templates
        self._definitions = TaskDefinitions(clients.ecs, defaults.agent_name)

    def build(self, run: FlowRun) -> EcsLaunch:
        """The launch request of `run`: pure, but for its template, the definition it names and the default VPC."""
        ecs_run = read_ecs_run(run)
        base = self._base_definition(ecs_run)
        network = self._network if needs_network(ecs_run, self._defaults) else None
        return build_ecs_launch(run, ecs_run, base, self._defaults, network, shape_problems)

    @cached_property
    def _network(self) -> Document:
        return infer_network(self._clients.ec2)

    def _base_definition(self, ecs_run: EcsRun) -> Document:
        if ecs_run.task_definition_arn:
            return self._definitions.describe(ecs_run.task_definition_arn)
        if ecs_run.task_definition_path:
            return self._templates.read(ecs_run.task_definition_path)
        return ecs_run.task_definition or self._defaults.task_definition
