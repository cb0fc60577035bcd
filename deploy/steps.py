"""The way of a stage: up, a look at what would change, down."""

from __future__ import annotations

from collections.abc import Mapping

from chalicelib.settings import Settings
from deploy.account import Account, DeployError
from deploy.functions import Functions
from deploy.stacks import Stack
from deploy.stage import APP, NAME, Stage

AGENT_TAG = "prefect-agent:name"
LISTS = {"ClusterArns": ["ClusterArn"], "PassableRoleArns": ["ExecutionRoleArn", "TaskRoleArn"]}
"""Which parameters are lists that begin with outputs of the stack ecs."""


class Journey:
    """One stage, from nothing to an agent and back. `at` is the step under way, to tell where it broke off."""

    def __init__(self, stage: Stage, account: Account) -> None:
        self.stage = stage
        self.account = account
        self.functions = Functions(stage, account)
        self.at = "checks"

    def up(self) -> None:
        """Deploy everything; doing it again changes nothing. Raises DeployError."""
        outputs = self._change_stacks(self._check(), carries_out=True)
        self._begin("package")
        self.stage.take_outputs(outputs)
        schedule = self.stage.settings().schedule
        self.stage.write(self.stage.project)
        print(f"  {self.functions.prepare().stat().st_size / 1e6:.1f} MB")
        self._begin("functions")
        health = self.functions.deploy()
        print(f"  deployed\n\nHealth:    {health} (well after the first tick)\nNext tick: by {schedule}")
        print(f"Dashboard: {outputs['DashboardUrl']}")
        print(f"Log:       aws logs tail --follow /aws/lambda/{APP}-{self.stage.name}-tick")
        if secret := outputs.get("ApiKeySecretArn"):
            print(f"API key:   aws secretsmanager put-secret-value --secret-id {secret} --secret-string ...")

    def plan(self) -> None:
        """Tell what `up` would change, and change nothing. Raises DeployError."""
        self._change_stacks(self._check(), carries_out=False)
        self._begin("functions")
        print("  update code and settings" if self.functions.memory.find() else "  create functions, schedule and API")

    def down(self) -> None:
        """Delete everything; what is not there is passed over. Raises DeployError."""
        print("Stage {} in account {}, {}".format(self.stage.name, *self.account.identify()))
        self._begin("functions")
        self.functions.delete()
        self._begin("task definitions")
        self._delete_definitions(self._stack("ecs").outputs.get("ExecutionRoleArn"))
        for part in ("eks-access", "core", "ecs"):
            self._begin(f"stack {part}")
            self._stack(part).delete()
        self._begin("memory")
        self.functions.memory.forget()

    def package(self) -> None:
        """Make one SAM template and the zip, and tell where they are. Raises DeployError."""
        print(self.functions.package())

    def _begin(self, step: str) -> None:
        self.at = step
        print(f"{step}:", flush=True)

    def _check(self) -> Settings:
        self.stage.environment.setdefault(NAME, f"lambda-{self.stage.name}")
        settings = self.stage.settings()
        print("Stage {} in account {}, {}".format(self.stage.name, *self.account.identify()))
        if not self._stack("core").status and (strangers := self.functions.memory.find()):
            names = f"{', '.join(each['name'] for each in strangers)} of a stage {self.stage.name}"
            advice = f"choose another name, or delete what is there: make destroy STAGE={self.stage.name}"
            raise DeployError(f"{names} exist, and no stack of it: {advice}")
        return settings

    def _stack(self, part: str) -> Stack:
        name = f"{APP}-{self.stage.name}" + ("" if part == "core" else f"-{part}")
        return Stack(self.account, name, self.stage.project / "infra" / f"{part}.yaml")

    def _change_stacks(self, settings: Settings, carries_out: bool) -> dict[str, str]:
        """Change the stacks, or tell what would change; the outputs of all of them."""
        network = self._network() if "ecs" in self.stage.parts else {}
        outputs: dict[str, str] = {}
        for part in self.stage.parts:
            self._begin(f"stack {part}")
            stack, lines = self._stack(part), [f"create it from infra/{part}.yaml"]
            if carries_out or stack.status:
                lines = stack.change({**self._parameters(settings, outputs), **network}, carries_out)
            print(*(f"  {line}" for line in lines or ["nothing changes"]), sep="\n")
            outputs |= stack.outputs
        if network:
            self.stage.environment["AGENT_SUBNETS"] = network["SubnetIds"]
        return outputs

    def _parameters(self, settings: Settings, outputs: Mapping[str, str]) -> dict[str, str]:
        """All parameters of all templates, from the stage and from what the stacks before have made."""
        given = self.stage.parameters
        all_of = {name: [*map(outputs.get, made), given.get(name)] for name, made in LISTS.items()}
        lists = {name: ",".join(filter(None, arns)) for name, arns in all_of.items()}
        secret = "" if given.get("CreateApiKeySecret") == "yes" else settings.secret_reference or ""
        # ECS's `:json-key:stage:version` behind a secret's ARN is nothing that a policy knows.
        bare = ":".join(secret.split(":")[:7]) if ":secretsmanager:" in secret else secret
        in_vpc = "yes" if self.stage.document.get("subnet_ids") else "no"
        mine = {"Stage": self.stage.name, "AgentName": settings.name, "EksClusterName": settings.eks_cluster or ""}
        return {**mine, "InVpc": in_vpc, **given, **outputs, **lists, "ApiKeySecretArn": bare}

    def _network(self) -> dict[str, str]:
        network = {name: value for name, value in self.stage.parameters.items() if name in ("VpcId", "SubnetIds")}
        if len(network) == 1:
            raise DeployError("VpcId and SubnetIds go together: give both as --parameter, or neither")
        return network or self.account.default_network()

    def _delete_definitions(self, role: str | None) -> None:
        """Delete the task definitions with this agent's tag, or with the execution role of this stage.

        Others may be another agent's: equal content is registered once.
        """
        ecs, name = self.account.client("ecs"), self.stage.environment.get(NAME)
        ours = {"familyPrefix": "prefect-", "status": "ACTIVE"}
        for family in self.account.pages("ecs", "list_task_definition_families", "families", **ours):
            for arn in self.account.pages("ecs", "list_task_definitions", "taskDefinitionArns", familyPrefix=family):
                answer = ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
                is_tagged = {"key": AGENT_TAG, "value": name} in answer.get("tags", ())
                if is_tagged or (role and answer["taskDefinition"].get("executionRoleArn") == role):
                    ecs.deregister_task_definition(taskDefinition=arn)
                    ecs.delete_task_definitions(taskDefinitions=[arn])
