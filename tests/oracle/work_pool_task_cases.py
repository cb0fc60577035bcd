"""Flow runs of ECS work pools that both the official worker and this agent are asked to launch."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.prefect3_environment import default_base_job_template

Json = dict[str, Any]

ROLE = "arn:aws:iam::123456789012:role/"
KEY_SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:key"
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-9"], "securityGroups": ["sg-1"]}}
SPOT = [{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}]
SUBNETS = {"vpc-default": ["subnet-a", "subnet-b"], "vpc-1": ["subnet-1", "subnet-2"], "vpc-empty": []}
FLOW_ID, RUN_ID, DEPLOYMENT_ID, POOL_ID = (f"00000000-0000-4000-8000-00000000000{number}" for number in range(1, 5))
OWN = "arn:aws:ecs:us-east-1:123456789012:task-definition/own:1"
DESCRIBED: Json = {
    "family": "own",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
    "executionRoleArn": ROLE + "own",
    "containerDefinitions": [{"name": "prefect", "image": "own:1"}, {"name": "proxy", "image": "proxy:1"}],
}

NORMALISED = {
    "family": "ours ends in a hash of the content, in whatever characters ECS takes",
    "startedBy": "ours says the flow run, by which all of its tasks are found",
    "count": "ours says the number that is meant anyway: one",
    "prefect-agent:name": "our tag says which agent has launched a task",
    "prefect.io/version": "no Prefect is installed here, whose version this tag could say",
    "cluster": "ours names the cluster also where it is the default one",
    "settings": "the worker hands on every setting of its own; this agent those that a flow run needs",
    "securityGroups": "an empty list of security groups is left out: both mean the VPC's own",
}
"""Where the requests differ on purpose and mean the same to ECS; the comparison does not look at it."""

REFUSED_HERE = {
    "cluster": "a cluster that only job variables name must be one that the agent's settings list",
    "count": "a flow run is one task",
    "client token": "the client token is the launch key",
    "overrides": "overrides that ECS would find too long are refused before the claim",
    "secret without role": "a secret without an execution role is refused before ECS does it",
    "credentials": "AWS credentials of the pool's own are not used: the agent's role launches",
    "secret of a named definition": "a definition that is named must show the secret itself, where Prefect's worker "
    "starts a container without a key",
}
REFUSED_THERE = {
    "secret without key": "a secret's ARN is enough where the worker has no key itself, which there is a KeyError",
    "null": "a null or empty value counts as none",
    "same tag": "of two tags that are spelt alike in the end one stays, as ECS takes no key twice",
    "unused definition": "beside a definition that is named, what the template says of its own does not matter",
    "subnets": "that subnets are in the VPC that stands beside them is not looked up; ECS refuses what is not there",
    "empty tag": "a label without a character that a tag takes is left out, where ECS refuses an empty one",
    "external": "a definition for EXTERNAL need not be for Fargate",
}
UNLIKE = {
    "no launch type": "without launch type, strategy or compatibilities it is Fargate in definition and request alike; "
    "there only in the request, which ECS refuses",
    "no override": "the flow's container gets its variables also where the template has no override for it",
    "unused execution role": "execution_role_arn counts also where the template does not use it",
    "tag of a run": "a label cannot say that a task is another flow run's",
    "auto deregister": "definitions are shared by content, so none is marked to be deregistered",
    "HTML": "a character that is written as in HTML stays as it is written in tags",
}


@dataclass(frozen=True)
class Case:
    """One flow run: the job variables of its deployment and its own, and the pool's job configuration and defaults.

    `configuration` is put over the default template's job configuration, key by key, `defaults` are defaults of its
    variables. `settings` are api_key and auth_string; `described` is what ECS knows as a task definition. `difference`
    names an entry of the tables above, or is empty where both must do the same.
    """

    title: str
    variables: Json = field(default_factory=dict)
    own_variables: Json = field(default_factory=dict)
    defaults: Json = field(default_factory=dict)
    configuration: Json = field(default_factory=dict)
    settings: Json = field(default_factory=dict)
    described: Json | None = None
    run_name: str = "wise-owl"
    has_deployment: bool = True
    difference: str = ""

    def documents(self) -> Json:
        """The documents as the API would answer them."""
        template = default_base_job_template("ecs")
        template["job_configuration"].update(deepcopy(self.configuration))
        properties = template["variables"]["properties"]
        for name, value in self.defaults.items():
            properties.setdefault(name, {})["default"] = value
        deployment = {
            "id": DEPLOYMENT_ID,
            "name": "nightly",
            "flow_id": FLOW_ID,
            "updated": "2026-01-02T03:04:05.678900Z",
            "job_variables": self.variables,
        }
        return {
            "pool": {"id": POOL_ID, "name": "ecs-pool", "type": "ecs", "base_job_template": template},
            "flow": {"id": FLOW_ID, "name": "Étude n° 1"},
            "deployment": deployment if self.has_deployment else None,
            "flow_run": {
                "id": RUN_ID,
                "name": self.run_name,
                "flow_id": FLOW_ID,
                "deployment_id": DEPLOYMENT_ID if self.has_deployment else None,
                "job_variables": self.own_variables,
            },
        }


def request(**changes: Any) -> Json:
    """A job configuration whose RunTask request is the default one with these changes; None takes a key away."""
    asked = {**default_base_job_template("ecs")["job_configuration"]["task_run_request"], **changes}
    return {"task_run_request": {name: value for name, value in asked.items() if value is not None}}


def definition(*containers: Json, **changes: Any) -> Json:
    """A job configuration whose task definition is the default one with these containers and changes."""
    asked = {**default_base_job_template("ecs")["job_configuration"]["task_definition"], **changes}
    if containers:
        asked["containerDefinitions"] = list(containers)
    return {"task_definition": {name: value for name, value in asked.items() if value is not None}}


PREFECT = {"name": "prefect", "image": "{{ image }}"}


def tables() -> tuple[list[Case], list[Case], list[Case]]:
    """Cases in which both do the same; in which one refuses; in which both launch and it is not the same."""
    alike = [
        Case("nothing is asked for"),
        Case("no deployment", has_deployment=False),
        Case("odd names", run_name="it's  1,000 x é -- (a)"),
        Case("API key", settings={"api_key": "pnu_1"}),
        Case("auth string", settings={"auth_string": "me:secret"}),
        Case("key taken away", {"env": {"PREFECT_API_KEY": None}}, settings={"api_key": "pnu_1"}),
        Case("key of a run's own", {"env": {"PREFECT_API_KEY": "other"}}, settings={"api_key": "pnu_1"}),
        Case("image", {"image": "img:1"}),
        Case("command", {"command": "python -m 'my flow' --x=\"1 2\""}),
        Case("env", {"env": {"A": "1", "B": None, "PREFECT_API_URL": "http://other"}}, {"env": {"A": "2", "C": "3"}}),
        Case("labels", {"labels": {"team": "x y", "prefect.io/flow-name": "mine", "a--b": "-c-"}}),
        Case("null command", {"command": None}),
        Case("sizes", {"cpu": 512, "memory": 1024}),
        Case("sizes on EC2", {"cpu": 512, "memory": 1024, "launch_type": "EC2"}),
        *(
            Case(f"launch type {name}", {"launch_type": name})
            for name in ("FARGATE", "FARGATE_SPOT", "EC2", "EXTERNAL")
        ),
        Case("capacity providers", {"capacity_provider_strategy": SPOT}),
        Case("capacity providers on EC2", {"capacity_provider_strategy": SPOT, "launch_type": "EC2"}),
        Case("capacity providers beside spot", {"capacity_provider_strategy": SPOT, "launch_type": "FARGATE_SPOT"}),
        Case("no capacity providers", {"capacity_provider_strategy": []}),
        Case("cluster of the pool", defaults={"cluster": "pool-cluster"}),
        Case("literal cluster", configuration=request(cluster="literal")),
        Case("cluster of the configuration alone", defaults={"cluster": "c"}, configuration=request(cluster=None)),
        Case("family", {"family": "mine"}),
        Case("roles", {"task_role_arn": ROLE + "task", "execution_role_arn": ROLE + "execution"}),
        Case("container name", {"container_name": "mine"}),
        Case("vpc", {"vpc_id": "vpc-1"}),
        Case("missing vpc", {"vpc_id": "vpc-9"}),
        Case("empty vpc", {"vpc_id": "vpc-empty"}),
        Case("network", {"vpc_id": "vpc-1", "network_configuration": {"subnets": ["subnet-2"]}}),
        Case("network without vpc", {"network_configuration": {"subnets": ["subnet-2"]}}),
        Case("network of an unknown kind", {"vpc_id": "vpc-1", "network_configuration": {"subnet": ["subnet-2"]}}),
        Case("literal network", configuration=request(networkConfiguration=NETWORK)),
        Case(
            "literal network and custom network",
            {"vpc_id": "vpc-1", "network_configuration": {"subnets": ["subnet-2"]}},
            configuration=request(networkConfiguration=NETWORK),
        ),
        Case("literal network and vpc", {"vpc_id": "vpc-1"}, configuration=request(networkConfiguration=NETWORK)),
        Case("network on EC2", {"launch_type": "EC2", "vpc_id": "vpc-1"}),
        Case("logs", {"configure_cloudwatch_logs": True, "execution_role_arn": ROLE + "e"}),
        Case("logs without role", {"configure_cloudwatch_logs": True}),
        Case(
            "logs of no deployment",
            has_deployment=False,
            own_variables={"configure_cloudwatch_logs": True, "execution_role_arn": ROLE + "e"},
        ),
        Case(
            "logs with prefix and options",
            {
                "configure_cloudwatch_logs": True,
                "execution_role_arn": ROLE + "e",
                "cloudwatch_logs_prefix": "p",
                "cloudwatch_logs_options": {"awslogs-group": "g", "mode": "non-blocking"},
            },
        ),
        Case("log options alone", {"cloudwatch_logs_options": {"awslogs-group": "g"}}),
        Case(
            "secret",
            {"prefect_api_key_secret_arn": KEY_SECRET, "execution_role_arn": ROLE + "e"},
            settings={"api_key": "pnu_1"},
        ),
        Case(
            "secret auth string",
            {"prefect_api_auth_string_secret_arn": KEY_SECRET, "execution_role_arn": ROLE + "e"},
            settings={"auth_string": "a:b"},
        ),
        Case(
            "secret beside others",
            {"prefect_api_key_secret_arn": KEY_SECRET, "execution_role_arn": ROLE + "e"},
            settings={"api_key": "pnu_1"},
            configuration=definition(
                {
                    **PREFECT,
                    "secrets": [
                        {"name": "X", "valueFrom": "arn:x"},
                        {"name": "PREFECT_API_KEY", "valueFrom": "arn:old"},
                    ],
                    "environment": [{"name": "PREFECT_API_KEY", "value": "old"}],
                }
            ),
        ),
        Case("definition of its own", {"task_definition_arn": OWN}, described=DESCRIBED),
        Case(
            "definition without the usual container",
            {"task_definition_arn": OWN},
            described={**DESCRIBED, "containerDefinitions": [{"name": "first", "image": "i"}]},
        ),
        Case(
            "definition for EC2",
            {"task_definition_arn": OWN, "launch_type": "EC2"},
            described={**DESCRIBED, "requiresCompatibilities": ["EC2"], "networkMode": "bridge"},
        ),
        Case(
            "definition for EC2 on Fargate",
            {"task_definition_arn": OWN},
            described={**DESCRIBED, "requiresCompatibilities": ["EC2"]},
        ),
        Case(
            "definition for EC2 without launch type",
            {"task_definition_arn": OWN},
            configuration=request(launchType=None),
            described={**DESCRIBED, "requiresCompatibilities": ["EC2"]},
        ),
        Case(
            "definition of another network mode",
            {"task_definition_arn": OWN},
            described={**DESCRIBED, "networkMode": "bridge"},
        ),
        Case(
            "definition and logs", {"task_definition_arn": OWN, "configure_cloudwatch_logs": True}, described=DESCRIBED
        ),
        Case(
            "definition without role and logs",
            {"task_definition_arn": OWN, "configure_cloudwatch_logs": True},
            described={**DESCRIBED, "executionRoleArn": None},
        ),
        Case(
            "definition and container name",
            {"task_definition_arn": OWN, "container_name": "proxy"},
            described=DESCRIBED,
        ),
        Case("key beside a definition", {"task_definition_arn": OWN}, described=DESCRIBED, settings={"api_key": "p"}),
        Case("sidecar", configuration=definition({"name": "proxy", "image": "proxy:1", "cpu": 64}, PREFECT)),
        Case("sidecar alone", configuration=definition({"name": "proxy", "image": "proxy:1"})),
        Case("asked container that is missing", {"container_name": "mine"}, configuration=definition(PREFECT)),
        Case("nameless container", configuration=definition({"image": "img:1"})),
        Case("empty container", configuration=definition({}, PREFECT)),
        Case("no container is essential", configuration=definition({**PREFECT, "essential": False})),
        Case(
            "essential sidecar", configuration=definition({**PREFECT, "essential": False}, {"name": "b", "image": "i"})
        ),
        Case(
            "environment of the definition",
            {"env": {"A": None}},
            configuration=definition(
                {**PREFECT, "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": None}]}
            ),
        ),
        Case(
            "empty values",
            configuration=definition(
                {**PREFECT, "links": [], "healthCheck": {"command": ["x"], "interval": None}, "privileged": False}
            ),
        ),
        Case("network mode", configuration=definition(networkMode="host")),
        Case("network mode on EC2", {"launch_type": "EC2"}, configuration=definition(networkMode="awsvpc")),
        Case("compatibilities", configuration=definition(requiresCompatibilities=["EC2"])),
        Case("unknown field", configuration=definition(colour="red")),
        Case("unknown argument", configuration=request(colour="red")),
        Case(
            "further arguments",
            configuration=request(
                enableECSManagedTags=True,
                propagateTags="TASK_DEFINITION",
                platformVersion="1.4.0",
                group="g",
                enableExecuteCommand=True,
            ),
        ),
        Case(
            "tags as a list",
            {"labels": {"b": "2"}},
            configuration=request(tags=[{"key": "a", "value": "x, y"}, {"key": "b", "value": "1"}]),
        ),
        Case("tags as an object", configuration=request(tags={"a": "1"})),
        Case(
            "overrides",
            configuration=request(
                overrides={
                    "executionRoleArn": ROLE + "x",
                    "ephemeralStorage": {"sizeInGiB": 30},
                    "cpu": 512,
                    "containerOverrides": [
                        {"command": "x", "environment": {"A": "1", "B": None}},
                        {"name": "proxy", "command": "run 'it now'", "environment": {"A": "1", "B": None}},
                    ],
                }
            ),
            variables={"env": {"A": "2"}},
        ),
        Case(
            "overrides of another container",
            configuration=request(overrides={"containerOverrides": [{"name": "proxy", "memory": "text"}]}),
        ),
        Case("extra placeholder", {"zone": "a"}, configuration=request(group="{{ zone }}-{{ missing }}")),
        Case("wrong kind", configuration=definition({**PREFECT, "environment": {"A": "1"}})),
        Case("wrong kind of size", configuration=request(overrides={"containerOverrides": [{"cpu": "256"}]})),
        Case("size that is no number on EC2", {"launch_type": "EC2"}, configuration=definition(cpu="1 vcpu")),
        Case("size that is no number", configuration=definition(cpu="1 vcpu")),
        Case("match latest revision", {"match_latest_revision_in_family": True}),
        Case("what is no longer used", {"stream_output": True, "task_watch_poll_interval": 2.0}),
        Case("neither definition", configuration={"task_definition": {}}),
    ]
    refused = [
        Case("cluster", {"cluster": "elsewhere"}, difference="cluster"),
        Case("cluster of the run", {}, {"cluster": "elsewhere"}, {"cluster": "pool-cluster"}, difference="cluster"),
        Case("count", configuration=request(count=2), difference="count"),
        Case("token", configuration=request(clientToken="mine"), difference="client token"),
        Case("overrides", {"env": {"A": "x" * 9000}}, difference="overrides"),
        Case(
            "role",
            {"prefect_api_key_secret_arn": KEY_SECRET},
            settings={"api_key": "k"},
            difference="secret without role",
        ),
        Case("credentials", configuration={"aws_credentials": {"region_name": "eu-west-1"}}, difference="credentials"),
        Case(
            "named definition",
            {"task_definition_arn": OWN, "prefect_api_auth_string_secret_arn": KEY_SECRET},
            described=DESCRIBED,
            difference="secret of a named definition",
        ),
        Case(
            "secret",
            {"prefect_api_key_secret_arn": KEY_SECRET, "execution_role_arn": ROLE + "e"},
            difference="secret without key",
        ),
        Case("same tag", {"labels": {"a b": "1", "a-b": "2"}}, difference="same tag"),
        Case(
            "inessential",
            {"task_definition_arn": OWN},
            configuration=definition({**PREFECT, "essential": False}),
            described=DESCRIBED,
            difference="unused definition",
        ),
        Case(
            "network elsewhere",
            {"vpc_id": "vpc-1", "network_configuration": {"subnets": ["subnet-a"]}},
            difference="subnets",
        ),
        Case("tag", {"labels": {"é": "1"}}, difference="empty tag"),
        Case(
            "empty override",
            configuration=request(overrides={"containerOverrides": [{"command": "x"}, {}]}),
            difference="null",
        ),
        Case("null size", {"cpu": None}, difference="null"),
        Case("null network", {"network_configuration": None}, difference="null"),
        Case("empty image", configuration=definition({"name": "prefect", "image": ""}), difference="null"),
        Case(
            "null compatibilities",
            configuration=definition()
            | {"task_definition": {**definition()["task_definition"], "requiresCompatibilities": None}},
            difference="null",
        ),
        Case(
            "external",
            {"launch_type": "EXTERNAL"},
            configuration=definition(requiresCompatibilities=["EXTERNAL"]),
            difference="external",
        ),
    ]
    unlike = [
        Case("launch type", configuration=request(launchType=None), difference="no launch type"),
        Case("no override", configuration=request(overrides=None), difference="no override"),
        Case(
            "role",
            {"execution_role_arn": ROLE + "e"},
            configuration=definition(PREFECT, executionRoleArn=None),
            difference="unused execution role",
        ),
        Case("run", {"labels": {"prefect.io/flow-run-id": "another"}}, difference="tag of a run"),
        Case("deregister", {"auto_deregister_task_definition": True}, difference="auto deregister"),
        Case("entity", {"labels": {"a": "&amp;"}}, difference="HTML"),
    ]
    return alike, refused, unlike
