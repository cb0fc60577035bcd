"""Launches flow runs with the real ECSAgent of Prefect 1.4.1 and prints what it asks ECS for.

One case a line on stdin, as JSON: {"settings", "config", "flow_run", "described"}; one answer a line on stdout:
{"definition", "run_task"}, or {"refused"} with the reason. Runs in an environment that has prefect 1.4.1; ECS itself is
an object that remembers requests and refuses what botocore would refuse.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from botocore.validate import ParamValidator
from prefect.agent.ecs.agent import ECSAgent
from prefect.utilities.configuration import set_temporary_config
from prefect.utilities.graphql import GraphQLResult


class RememberingECS:
    """Takes the calls of one launch, as far as botocore's checks and ECS's wish for an image go."""

    def __init__(self, service_model, described):
        self.service_model = service_model
        self.described = described
        self.definition = None
        self.run_task_arguments = None

    def _check(self, operation, request):
        shape = self.service_model.operation_model(operation).input_shape
        report = ParamValidator().validate(request, shape)
        if report.has_errors():
            raise ValueError("botocore: " + report.generate_report())

    def register_task_definition(self, **request):
        self._check("RegisterTaskDefinition", request)
        if not all(each.get("image") for each in request["containerDefinitions"] if each["name"] == "flow"):
            raise ValueError("ECS: Container.image should not be null or empty.")
        self.definition = request
        return {"taskDefinition": {**request, "taskDefinitionArn": "arn:registered"}}

    def deregister_task_definition(self, **request):
        self._check("DeregisterTaskDefinition", request)

    def describe_task_definition(self, **request):
        self._check("DescribeTaskDefinition", request)
        return {"taskDefinition": self.described}

    def run_task(self, taskDefinition, **request):  # noqa: N803 - ECS's spelling
        self._check("RunTask", {"taskDefinition": taskDefinition, **request})
        self.run_task_arguments = request
        return {"tasks": [{"taskArn": "arn:task"}]}


class AgentInTheDefaultVPC(ECSAgent):
    """The real agent, told what EC2 would answer about the default VPC."""

    def infer_network_configuration(self):
        return {"awsvpcConfiguration": {"subnets": ["subnet-default"], "assignPublicIp": "ENABLED"}}


def make_agent(settings):
    documents = {}
    with tempfile.TemporaryDirectory() as directory:
        for option in ("task_definition_path", "run_task_kwargs_path"):
            if settings.get(option) is not None:
                documents[option] = f"{directory}/{option}"
                Path(documents[option]).write_text(json.dumps(settings[option]))
        return AgentInTheDefaultVPC(**{**settings, **documents})


def launch(case):
    with set_temporary_config(case["config"]):
        agent = make_agent(case["settings"])
        ecs = RememberingECS(agent.ecs_client.meta.service_model, case.get("described"))
        agent.ecs_client = ecs
        try:
            agent.deploy_flow(GraphQLResult(case["flow_run"]))
        except Exception as error:
            return {"refused": f"{type(error).__name__}: {error}"}
    return {"definition": ecs.definition, "run_task": ecs.run_task_arguments}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Whatever Prefect prints does not mix with the answers.
    for line in sys.stdin:
        answers.write(json.dumps(launch(json.loads(line))) + "\n")
    answers.close()
