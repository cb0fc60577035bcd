"""The way of a stage: up, a look at what would change, down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chalicelib.settings import Settings
from deploy.account import Account, DeployError
from deploy.functions import Functions
from deploy.stacks import Stack
from deploy.stage import APP, NAME, Stage

AGENT_TAG = "prefect-agent:name"


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
        self.stage.settings()
        self.stage.write(self.stage.project)
        print(f"  {self.functions.prepare().stat().st_size / 1e6:.1f} MB")
        self._begin("functions")
        health = self.functions.deploy()
        schedule = self.stage.environment.get("AGENT_SCHEDULE", "rate(1 minute)")
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
        self._begin("functions")
        self.functions.delete()
        self._begin("task definitions")
        self._delete_definitions(self._stack("ecs").outputs.get("ExecutionRoleArn"))
        for part in ("eks-access", "core", "ecs"):
            self._begin(f"stack {part}")
            self._stack(part).delete()
        self._begin("memory")
        self.functions.memory.forget()

    def _begin(self, step: str) -> None:
        self.at = step
        print(f"{step}:", flush=True)

    def _check(self) -> Settings:
        number, region = self.account.identify()
        print(f"Stage {self.stage.name} in account {number}, {region}")
        self.stage.environment.setdefault(NAME, f"lambda-{self.stage.name}")
        settings = self.stage.settings()
        strangers = [] if self._stack("core").status else [each["name"] for each in self.functions.memory.find()]
        if strangers:
            advice = f"choose another name, or delete what is there: make destroy STAGE={self.stage.name}"
            raise DeployError(
                f"{', '.join(strangers)} of a stage {self.stage.name} exist, and no stack of it: {advice}"
            )
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
            stack = self._stack(part)
            if carries_out or stack.status:
                lines = stack.change({**self._parameters(settings, outputs), **network}, carries_out)
            else:
                lines = [f"create it from infra/{part}.yaml"]
            print(*(f"  {line}" for line in lines or ["nothing changes"]), sep="\n")
            outputs |= stack.outputs
        if network:
            self.stage.environment["AGENT_SUBNETS"] = network["SubnetIds"]
        return outputs

    def _parameters(self, settings: Settings, outputs: Mapping[str, str]) -> dict[str, str]:
        """All parameters of all templates, from the stage and from what the stacks before have made."""
        given = self.stage.infrastructure["parameters"]
        mine = {
            "ClusterArns": [outputs.get("ClusterArn")],
            "PassableRoleArns": [outputs.get("ExecutionRoleArn"), outputs.get("TaskRoleArn")],
        }
        lists = {name: ",".join(filter(None, [*arns, given.get(name)])) for name, arns in mine.items()}
        secret = "" if given.get("CreateApiKeySecret") == "yes" else settings.secret_reference or ""
        # ECS's `:json-key:stage:version` behind a secret's ARN is nothing that a policy knows.
        bare = ":".join(secret.split(":")[:7]) if ":secretsmanager:" in secret else secret
        in_vpc = "yes" if self.stage.document.get("subnet_ids") else "no"
        known = {"Stage": self.stage.name, "AgentName": settings.name, "EksClusterName": settings.eks_cluster or ""}
        return {**known, "InVpc": in_vpc, **given, **outputs, **lists, "ApiKeySecretArn": bare}

    def _network(self) -> dict[str, str]:
        given = self.stage.infrastructure["parameters"]
        network = {name: given[name] for name in ("VpcId", "SubnetIds") if name in given}
        if len(network) == 1:
            raise DeployError("VpcId and SubnetIds go together: give both as --parameter, or neither")
        return network or self.account.default_network()

    def _delete_definitions(self, role: str | None) -> None:
        """Delete the task definitions with this agent's tag, or with the execution role of this stage.

        Others may be another agent's: equal content is registered once.
        """
        ecs, name = self.account.client("ecs"), self.stage.environment.get(NAME)
        for arn in list(self._definitions()):
            answer = ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
            is_tagged = {"key": AGENT_TAG, "value": name} in answer.get("tags", ())
            if is_tagged or (role and answer["taskDefinition"].get("executionRoleArn") == role):
                ecs.deregister_task_definition(taskDefinition=arn)
                ecs.delete_task_definitions(taskDefinitions=[arn])

    def _definitions(self) -> Iterator[str]:
        ours = {"familyPrefix": "prefect-", "status": "ACTIVE"}
        for family in self.account.pages("ecs", "list_task_definition_families", "families", **ours):
            yield from self.account.pages("ecs", "list_task_definitions", "taskDefinitionArns", familyPrefix=family)
