"""How a flow run of a Prefect 3 work pool becomes a task: by the job configuration of its pool."""

from __future__ import annotations

import time

from chalicelib.builders import work_pool_task as tasks
from chalicelib.builders.ecs_defaults import PoolDefaults
from chalicelib.builders.ecs_launch import EcsLaunch
from chalicelib.builders.job_configuration import render_job_configuration
from chalicelib.builders.work_pool_definition import build_pool_definition
from chalicelib.flow_runs import Document, FlowRun
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.ecs_shapes import shape_problems
from chalicelib.launchers.network import find_subnets
from chalicelib.launchers.task_definitions import TaskDefinitions

SUBNETS_SECONDS = 300.0
"""How long the subnets of a VPC are taken to be the same: a process may live for days."""


class WorkPoolTasks:
    """Builds by job configuration; see `TaskBuilder`. `clusters` are all that it was ever asked for and may use."""

    def __init__(self, clients: AwsClients, defaults: PoolDefaults) -> None:
        self.clusters: set[str] = set()
        self._clients = clients
        self._defaults = defaults
        self._definitions = TaskDefinitions(clients.ecs, defaults.agent_name)
        self._subnets: dict[str, tuple[float, list[str]]] = {}

    def build(self, run: FlowRun) -> EcsLaunch:
        """The launch request of `run`: pure, but for the definition and the VPC that it names."""
        configuration = tasks.read_configuration(render_job_configuration(run))
        tasks.check_cluster(run, configuration, self._defaults)
        self.clusters.add(tasks.cluster_of(configuration, self._defaults))
        base = self._base(run, configuration)
        vpc_id = tasks.needed_vpc(configuration, base.definition, self._defaults)
        subnets = [] if vpc_id is None else self._subnets_of(vpc_id)
        return tasks.build_pool_launch(run, configuration, base, subnets, self._defaults, shape_problems)

    def _base(self, run: FlowRun, configuration: Document) -> tasks.Base:
        if arn := tasks.existing_definition(configuration):
            return tasks.Base(self._definitions.describe(arn), arn)
        region = str(self._clients.ecs().meta.region_name)
        return tasks.Base(build_pool_definition(run, configuration, self._defaults, region, shape_problems))

    def _subnets_of(self, vpc_id: str) -> list[str]:
        found_at, subnets = self._subnets.get(vpc_id, (-SUBNETS_SECONDS, []))
        if time.monotonic() - found_at >= SUBNETS_SECONDS or not subnets:
            subnets = find_subnets(self._clients.ec2, vpc_id)
            self._subnets[vpc_id] = time.monotonic(), subnets
        return subnets
