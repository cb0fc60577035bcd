"""Flow runs and agent settings that both Prefect 1.4.1 and this agent are asked to launch on ECS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

TENANT_ID = "0a0a0a0a-0000-4000-8000-000000000001"
ALLOWED_CLUSTER = "batch"
ROLE = "arn:aws:iam::123456789012:role/"
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}}
SPOT = [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]

REFUSED_HERE = {
    "cluster": "a run chooses among the clusters that the agent lists",
    "execute command": "a run may ask for ECS Exec only if the agent allows it",
    "overrides": "overrides that ECS would find too long are refused before the claim",
    "count": "a flow run is one task",
    "client token": "the client token is the launch key",
    "NUL": "a NUL in a variable is refused, no process could be given it",
    "both launch ways": "launchType beside capacityProviderStrategy is refused before ECS does it",
    "no flow container": "a definition of the run's own without a container `flow` is refused before ECS does it",
    "unnamed override": "a container override without a name is refused before ECS does it",
    "empty of a wrong type": "an empty value of a wrong type is refused, where Prefect takes it for nothing",
    "null that is overruled": "a null in run_task_kwargs is refused even where another value would replace it",
    "null image": "a null image in a template is refused as every other null is, where Prefect takes it for none",
    "reserved variable": "a run's value for a variable that the agent sets must be text all the same",
}
REFUSED_THERE = {
    "flow container": "a run's own template gets its container `flow` as documented; Prefect adds one without an image",
    "odd version": "a core version without numbers starts as a new one, where Prefect fails the run",
    "storage type": "the storage is the container's business; Prefect fails the run for one it does not know",
    "labels": "the run config's own labels are not looked at",
}


@dataclass(frozen=True)
class Case:
    """One flow run for one agent.

    `agent` has the options of ECSAgent (task_definition_path and run_task_kwargs_path hold the documents themselves);
    `prefect` has api_key, backend, log_level. `difference` names an entry of the two tables above, or is empty where
    both must do the same. `described` is what ECS knows under a run's own task_definition_arn.
    """

    title: str
    run_config: Any = None
    flow: Json = field(default_factory=dict)
    agent: Json = field(default_factory=dict)
    prefect: Json = field(default_factory=dict)
    described: Json | None = None
    difference: str = ""

    def flow_run(self) -> Json:
        """The flow run as the API would answer it."""
        flow = {
            "id": "aaaaaaaa-0000-4000-8000-00000000000f",
            "name": "Étude n° 1",
            "version": 7,
            "core_version": "1.4.1",
            "storage": {"type": "Local", "flows": {}, "__version__": "1.4.1"},
        }
        return {
            "id": "bbbbbbbb-0000-4000-8000-00000000000f",
            "name": "wise-owl",
            "version": 3,
            "run_config": self.run_config,
            "flow": {**flow, **self.flow},
        }

    def config(self) -> Json:
        """Prefect's configuration for the real agent."""
        key = self.prefect.get("api_key")
        return {
            "backend": self.prefect.get("backend", "server"),
            "cloud.api": "http://127.0.0.1:9",
            "logging.level": self.prefect.get("log_level", "INFO"),
            "cloud.tenant_id": TENANT_ID if key else "",
            "cloud.api_key": key,
        }


def ecs(**fields: Any) -> Json:
    """An ECSRun document as Prefect 1.4.1 stores it."""
    names = ("task_definition", "task_definition_path", "task_definition_arn", "image", "cpu", "memory", "env")
    roles = ("task_role_arn", "execution_role_arn", "run_task_kwargs")
    return {"type": "ECSRun", "__version__": "1.4.1", "labels": [], **dict.fromkeys(names + roles), **fields}


def kwargs(**arguments: Any) -> Json:
    """An ECSRun with RunTask arguments."""
    return ecs(run_task_kwargs=arguments)


def template(*containers: Json, **fields: Any) -> Json:
    """A task definition template."""
    return {"networkMode": "awsvpc", "cpu": 512, "memory": 1024, "containerDefinitions": list(containers), **fields}


def docker(**parts: Any) -> Json:
    """A flow in an image of its own."""
    return {"storage": {"type": "Docker", "flows": {}, "prefect_version": "1.4.1", **parts}}


def overriding(*containers: Json, **fields: Any) -> Json:
    """The argument `overrides`."""
    return {"overrides": {"containerOverrides": list(containers), **fields}}


_FLOW = {"name": "flow", "image": "team/own:1", "memory": 900, "environment": [{"name": "A", "value": "template"}]}
_SIDECAR = {"name": "proxy", "image": "envoy:1", "essential": False, "environment": [{"name": "P", "value": "1"}]}
_DESCRIBED = {
    "taskDefinitionArn": "arn:own:1",
    "family": "own",
    "status": "ACTIVE",
    "taskRoleArn": ROLE + "described-task",
    "executionRoleArn": ROLE + "described-execution",
    "containerDefinitions": [_FLOW, _SIDECAR],
}
_ROLES = {"task_role_arn": ROLE + "agent-task", "execution_role_arn": ROLE + "agent-execution"}
_AGENT_ARGUMENTS = {
    "cluster": "from-kwargs",
    "networkConfiguration": NETWORK,
    "platformVersion": "1.4.0",
    "tags": [{"key": "team", "value": "agent"}],
    **overriding({"name": "flow", "environment": [{"name": "A", "value": "agent"}], "memory": 256}, cpu=256),
}

ALIKE = [
    Case("no run config"),
    Case("a universal run", {"type": "UniversalRun", "labels": ["x"], "env": {"A": "1"}}),
    Case("a universal run without env", {"type": "UniversalRun", "labels": [], "env": None}),
    Case("a universal run with fields of others", {"type": "UniversalRun", "image": "x:1", "cpu": "9"}),
    Case("an empty ecs run", ecs()),
    Case("an ecs run without any field", {"type": "ECSRun"}),
    Case("unknown fields of an ecs run", {"type": "ECSRun", "surprise": 1}),
    Case("env", ecs(env={"B": "2", "A": "", "ü": "ß"})),
    Case("env that sets what is reserved", ecs(env={"PREFECT__BACKEND": "x", "PREFECT__CLOUD__API_KEY": "mine"})),
    Case("env that sets the log level", ecs(env={"PREFECT__LOGGING__LEVEL": "DEBUG"})),
    Case("logs off by the run", ecs(env={"PREFECT__CLOUD__SEND_FLOW_RUN_LOGS": "false"})),
    Case(
        "logs off by the agent, on by the run",
        ecs(env={"PREFECT__CLOUD__SEND_FLOW_RUN_LOGS": "true"}),
        agent={"no_cloud_logs": True},
    ),
    Case("env of agent and run", ecs(env={"A": "run"}), agent={"env_vars": {"A": "agent", "C": "agent"}}),
    Case("labels", agent={"labels": ["ecs", "it's"]}),
    Case("another log level and backend", prefect={"log_level": "DEBUG", "backend": "cloud"}),
    Case("an api key", prefect={"api_key": "pcu_key", "backend": "cloud"}),
    Case("image", ecs(image="repo/img:2")),
    Case("cpu and memory", ecs(cpu="2 vcpu", memory="4096")),
    Case("roles of the run", ecs(task_role_arn=ROLE + "run-task", execution_role_arn=ROLE + "run-execution")),
    Case("roles of the agent", agent=_ROLES),
    Case("roles of both", ecs(task_role_arn=ROLE + "t", execution_role_arn=ROLE + "e"), agent=_ROLES),
    Case("an empty role", ecs(task_role_arn="", execution_role_arn="", cpu="", memory=""), agent=_ROLES),
    Case("a template of the run", ecs(task_definition=template(_FLOW, _SIDECAR))),
    Case("an agent's template without the flow container", agent={"task_definition_path": template(_SIDECAR)}),
    Case("an agent's template without containers", agent={"task_definition_path": {"networkMode": "awsvpc"}}),
    Case("an empty template", ecs(task_definition={})),
    Case("a template of the run and an image", ecs(task_definition=template(_FLOW), image="other:3")),
    Case("a described template", ecs(task_definition=template(_FLOW, revision=4))),
    Case("an unknown field in a template", ecs(task_definition=template({**_FLOW, "imag": "x"}))),
    Case("a log configuration without a driver", ecs(task_definition=template({**_FLOW, "logConfiguration": {}}))),
    Case(
        "a template with a family and tags",
        ecs(task_definition=template(_FLOW, family="x", tags=[{"key": "a", "value": "b"}])),
    ),
    Case(
        "a template with roles",
        ecs(task_definition=template(_FLOW, taskRoleArn=ROLE + "tt", executionRoleArn=ROLE + "te")),
        agent=_ROLES,
    ),
    Case(
        "a template with roles and a run with roles",
        ecs(
            task_definition=template(_FLOW, taskRoleArn=ROLE + "tt", executionRoleArn=ROLE + "te"),
            task_role_arn=ROLE + "t",
            execution_role_arn=ROLE + "e",
        ),
    ),
    Case(
        "a template that says its compatibilities",
        ecs(task_definition=template(_FLOW, requiresCompatibilities=["EC2"])),
    ),
    Case("a template of the agent", agent={"task_definition_path": template(_FLOW, _SIDECAR)}),
    Case(
        "a template of the agent and one of the run",
        ecs(task_definition=template({"name": "flow", "image": "run:1"})),
        agent={"task_definition_path": template(_FLOW, _SIDECAR)},
    ),
    Case(
        "a template that knows its image variable",
        ecs(task_definition=template({**_FLOW, "environment": [{"name": "PREFECT__CONTEXT__IMAGE", "value": "z"}]})),
    ),
    Case("docker storage", flow=docker(registry_url="reg.io/x/", image_name="etl", image_tag="v1")),
    Case("docker storage without a registry", flow=docker(image_name="etl", image_tag="v1")),
    Case("docker storage wins", ecs(image="x:1"), flow=docker(image_name="etl", image_tag="v1")),
    Case("docker storage without a tag", flow=docker(image_name="etl")),
    Case("docker storage without a name", flow=docker(image_tag="etl")),
    Case("a local build of prefect", flow={"core_version": "0.14.6+3.g12"}),
    Case("no core version", flow={"core_version": None}),
    Case("before 0.13", flow={"core_version": "0.12.6+3.g1"}),
    Case("a post release of 0.13", flow={"core_version": "0.13.0.post1"}),
    Case("a short version", flow={"core_version": "0.13"}),
    Case("a release candidate of 1.0", flow={"core_version": "1.0rc1"}),
    Case("launch type EC2", agent={"launch_type": "EC2"}),
    Case("a run on EC2", kwargs(launchType="EC2")),
    Case("capacity providers of the run", kwargs(capacityProviderStrategy=SPOT)),
    Case("capacity providers of the agent", agent={"run_task_kwargs_path": {"capacityProviderStrategy": SPOT}}),
    Case(
        "a launch type of the run over capacity providers",
        kwargs(launchType="FARGATE", networkConfiguration=NETWORK),
        agent={"run_task_kwargs_path": {"capacityProviderStrategy": SPOT}},
    ),
    Case(
        "capacity providers and a launch type of the agent",
        agent={"run_task_kwargs_path": {"capacityProviderStrategy": SPOT}, "launch_type": "FARGATE"},
    ),
    Case("a launch type in the agent's arguments", agent={"run_task_kwargs_path": {"launchType": "EC2"}}),
    Case("no capacity providers asked for", kwargs(capacityProviderStrategy=[])),
    Case("the agent's cluster", agent={"cluster": "prod"}),
    Case("the agent's cluster over its arguments", agent={"cluster": "prod", "run_task_kwargs_path": _AGENT_ARGUMENTS}),
    Case("the agent's cluster in its arguments", agent={"run_task_kwargs_path": _AGENT_ARGUMENTS}),
    Case("an allowed cluster", kwargs(cluster=ALLOWED_CLUSTER), agent={"cluster": "prod"}),
    Case("a network of the run", kwargs(networkConfiguration=NETWORK)),
    Case(
        "arguments of both",
        kwargs(
            tags=[{"key": "owner", "value": "run"}],
            group="g",
            propagateTags="TASK_DEFINITION",
            **overriding(
                {"name": "flow", "environment": [{"name": "B", "value": "run"}]},
                {"name": "proxy", "command": ["sleep"]},
                memory=4096,
            ),
        ),
        agent={"run_task_kwargs_path": _AGENT_ARGUMENTS},
    ),
    Case(
        "overrides of the run over its own fields",
        ecs(
            cpu="1024",
            task_role_arn=ROLE + "t",
            env={"A": "env"},
            run_task_kwargs=overriding(
                {"name": "flow", "command": ["mine"], "environment": [{"name": "A", "value": "x"}]},
                cpu=1,
                memory=2,
                taskRoleArn=ROLE + "x",
                executionRoleArn=ROLE + "y",
            ),
        ),
    ),
    Case(
        "one container overridden twice",
        kwargs(**overriding({"name": "a", "cpu": 1}, {"name": "a", "cpu": 2, "memory": 3})),
    ),
    Case("a definition of the run's own", ecs(task_definition_arn="own:1"), described=_DESCRIBED, agent=_ROLES),
    Case(
        "a definition of the run's own, and roles",
        ecs(task_definition_arn="own:1", task_role_arn=ROLE + "t", execution_role_arn=ROLE + "e", cpu="256"),
        described=_DESCRIBED,
    ),
    Case(
        "a definition of the run's own in docker",
        ecs(task_definition_arn="own:1"),
        docker(image_name="a", image_tag="b"),
        described=_DESCRIBED,
    ),
    Case("another run config", {"type": "DockerRun", "labels": [], "image": "x"}),
    Case("an unknown run config", {"type": "MysteryRun"}),
    Case("a run config without a type", {"env": {}}),
    Case("an empty run config", {}),
    Case("an empty image", ecs(image="")),
    Case("an empty image in a template", ecs(task_definition=template({"name": "flow", "image": ""}))),
    Case("an image that is a number", ecs(image=5)),
    Case("a cpu that is a number", ecs(cpu=1024)),
    Case("an env that is a list", ecs(env=["A=1"])),
    Case("an env value that is a number", ecs(env={"A": 1})),
    Case("an env value that is null", ecs(env={"A": None})),
    Case("an env value that is a list", {"type": "UniversalRun", "env": {"A": []}}),
    Case("two definitions", ecs(task_definition={}, task_definition_arn="own:1"), described=_DESCRIBED),
    Case("a definition and an image", ecs(task_definition_arn="own:1", image="x:1"), described=_DESCRIBED),
    Case("a template that is text", ecs(task_definition="networkMode: awsvpc")),
    Case("a template that is a list", ecs(task_definition=[1])),
    Case("containers that are an object", ecs(task_definition={"containerDefinitions": {"name": "flow"}})),
    Case("containers that are null", ecs(task_definition={"containerDefinitions": None})),
    Case("a container that is text", ecs(task_definition=template("flow"))),  # type: ignore[arg-type]
    Case("an image in a template that is a number", ecs(task_definition=template({"name": "flow", "image": 5}))),
    Case(
        "an environment that is an object", ecs(task_definition=template({"name": "flow", "environment": {"A": "1"}}))
    ),
    Case(
        "an environment value in a template that is a number",
        ecs(task_definition=template({"name": "flow", "environment": [{"name": "A", "value": 1}]})),
    ),
    Case("a null role in a template", ecs(task_definition=template(_FLOW, taskRoleArn=None))),
    Case("arguments that are a list", ecs(run_task_kwargs=["count"])),
    Case("an unknown argument", kwargs(clusterr="x")),
    Case("the task definition as an argument", kwargs(taskDefinition="other:1")),
    Case("overrides that are null", kwargs(overrides=None)),
    Case("overrides that are a list", kwargs(overrides=[1])),
    Case("container overrides that are an object", kwargs(overrides={"containerOverrides": {"name": "flow"}})),
    Case("a null argument", kwargs(group=None)),
    Case("tags that are an object", kwargs(tags={"a": "b"})),
]

DIFFERENT = [
    Case("no flow container", ecs(task_definition=template(_SIDECAR)), difference="flow container"),
    Case("no containers", ecs(task_definition={"networkMode": "awsvpc"}), difference="flow container"),
    Case("a foreign cluster", kwargs(cluster="other"), agent={"cluster": "prod"}, difference="cluster"),
    Case("ECS Exec", kwargs(enableExecuteCommand=True), difference="execute command"),
    Case("9,000 characters of env", ecs(env={"A": "x" * 9000}), difference="overrides"),
    Case("ten tasks", kwargs(count=10), difference="count"),
    Case("a client token of one's own", kwargs(clientToken="mine"), difference="client token"),
    Case("a NUL", ecs(env={"A": "x\0y"}), difference="NUL"),
    Case("both ways", kwargs(launchType="EC2", capacityProviderStrategy=SPOT), difference="both launch ways"),
    Case(
        "no flow container in a definition of the run's own",
        ecs(task_definition_arn="own:1"),
        described={**_DESCRIBED, "containerDefinitions": [_SIDECAR]},
        difference="no flow container",
    ),
    Case("an override without a name", kwargs(**overriding({"cpu": 1})), difference="unnamed override"),
    Case("an empty list as template", ecs(task_definition=[]), difference="empty of a wrong type"),
    Case(
        "a null that is overruled",
        ecs(cpu="256", run_task_kwargs=overriding(cpu=None)),
        difference="null that is overruled",
    ),
    Case("a null image", ecs(task_definition=template({"name": "flow", "image": None})), difference="null image"),
    Case("a number for a reserved variable", ecs(env={"PREFECT__BACKEND": 1}), difference="reserved variable"),
    Case("a branch as version", flow={"core_version": "master"}, difference="odd version"),
    Case("a storage of one's own", flow={"storage": {"type": "Tape"}}, difference="storage type"),
    Case("labels that are null", {**ecs(), "labels": None}, difference="labels"),
]
