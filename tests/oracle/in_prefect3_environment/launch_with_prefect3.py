# mypy: ignore-errors
"""Launches flow runs with the real ECSWorker of prefect-aws 0.7.12 and prints what it asks ECS for.

One case a line on stdin, as JSON: {"pool", "flow", "deployment", "flow_run", "settings", "described", "subnets"}; one
answer a line on stdout: {"definition", "run_task"}, or {"refused"} with the reason. ECS and EC2 are objects that
remember requests and refuse what botocore would refuse. `described` is what ECS knows as a task definition, `subnets`
are those of each VPC by its id; the default VPC is `vpc-default`.
"""

import asyncio
import json
import logging
import os
import sys
from types import SimpleNamespace

import botocore.session
from botocore.validate import ParamValidator
from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL, temporary_settings
from prefect_aws.workers import ecs_worker
from prefect_aws.workers.ecs_worker import ECSJobConfiguration, ECSWorker

SETTINGS = {"api_url": PREFECT_API_URL, "api_key": PREFECT_API_KEY, "auth_string": PREFECT_API_AUTH_STRING}
MODEL = botocore.session.get_session().get_service_model("ecs")


class RememberingECS:
    """Takes the calls of one launch, as far as botocore's checks and ECS's wishes for names, tags and images go."""

    meta = SimpleNamespace(region_name="us-east-1")

    def __init__(self, described):
        self.described = described
        self.definition = None
        self.run_task_request = None

    def _check(self, operation, request):
        report = ParamValidator().validate(request, MODEL.operation_model(operation).input_shape)
        if report.has_errors():
            raise ValueError("botocore: " + report.generate_report())

    def register_task_definition(self, **request):
        self._check("RegisterTaskDefinition", request)
        if not all(each.get("image") and each.get("name") for each in request["containerDefinitions"]):
            raise ValueError("ECS: Container.image and name should not be null or empty.")
        self.definition = request
        return {"taskDefinition": {**request, "taskDefinitionArn": "arn:registered", "status": "ACTIVE"}}

    def describe_task_definition(self, taskDefinition):  # noqa: N803 - AWS's own name
        return {"taskDefinition": {**self.described, "taskDefinitionArn": taskDefinition, "status": "ACTIVE"}}

    def run_task(self, **request):
        self._check("RunTask", request)
        keys = [tag["key"] for tag in request.get("tags", ())]
        if len(set(keys)) < len(keys):
            raise ValueError("ECS: Duplicate tag keys found.")
        overrides = request.get("overrides", {}).get("containerOverrides", [])
        if not all(each.get("name") for each in overrides):
            raise ValueError("ECS: Override for container named null is not a container in the TaskDefinition.")
        self.run_task_request = request
        return {"tasks": [{"taskArn": "arn:task", "clusterArn": "arn:cluster"}], "failures": []}


class KnownEC2:
    """The VPCs of a case."""

    def __init__(self, subnets):
        self.subnets = subnets

    def describe_vpcs(self, VpcIds=("vpc-default",), Filters=()):  # noqa: N803
        return {"Vpcs": [{"VpcId": each} for each in VpcIds if each in self.subnets]}

    def describe_subnets(self, Filters):  # noqa: N803
        (vpc_id,) = Filters[0]["Values"]
        return {"Subnets": [{"SubnetId": each} for each in self.subnets[vpc_id]]}


class Client:
    """What a worker asks the API for."""

    def __init__(self, case):
        self.case = case

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None

    async def read_flow(self, _):
        return Flow(**self.case["flow"])


async def configure(case, flow_run, pool):
    return await ECSJobConfiguration.resolve_for_flow_run(
        flow_run,
        client=Client(case),
        work_pool=pool,
        worker_name="oracle",
        deployment=DeploymentResponse(**case["deployment"]) if case["deployment"] else None,
    )


def launch(case):
    flow_run, pool = FlowRun(**case["flow_run"]), WorkPool(**case["pool"])
    configuration = asyncio.run(configure(case, flow_run, pool))
    ecs = RememberingECS(case["described"])
    ec2 = KnownEC2(case["subnets"])
    configuration.aws_credentials = SimpleNamespace(get_client=lambda name: {"ecs": ecs, "ec2": ec2}[name])
    worker = ECSWorker(work_pool_name=pool.name)
    worker._work_pool = pool
    ecs_worker._TASK_DEFINITION_CACHE.clear()
    worker._prepare_and_create_task(logging.getLogger("oracle"), ecs, configuration, flow_run)
    return {"definition": ecs.definition, "run_task": ecs.run_task_request}


def answer(case):
    try:
        with temporary_settings({SETTINGS[name]: value for name, value in case["settings"].items()}):
            return json.dumps(launch(case))
    except Exception as error:
        return json.dumps({"refused": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Whatever Prefect prints does not mix with the answers.
    for line in sys.stdin:
        answers.write(answer(json.loads(line)) + "\n")
    answers.close()
