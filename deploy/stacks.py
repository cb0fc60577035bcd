"""CloudFormation stacks, changed through change sets: what a plan shows is what is carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError, WaiterError

from deploy.account import Account, DeployError

NOTHING_CHANGES = ("didn't contain changes", "No updates are to be performed")
NEVER_MADE = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
"""A stack in one of these states can only be deleted."""

WAITING = {"Delay": 3, "MaxAttempts": 600}


@dataclass(frozen=True)
class Stack:
    """One template of `infra/` in one account, under the name that its stage gives it."""

    account: Account
    name: str
    template: Path

    @property
    def status(self) -> str:
        """CloudFormation's word for how it stands; empty when there is no such stack."""
        return str(self._describe().get("StackStatus", ""))

    @property
    def outputs(self) -> dict[str, str]:
        """What it says of itself, by name; nothing when there is no such stack."""
        return {each["OutputKey"]: each["OutputValue"] for each in self._describe().get("Outputs", ())}

    def change(self, parameters: Mapping[str, str], carries_out: bool) -> list[str]:
        """What changes, a line for each resource; it is carried out only if that is wanted.

        Parameters that the template does not declare are left out. Raises DeployError with what CloudFormation says of
        the resource that failed.
        """
        if self.status in NEVER_MADE and carries_out:
            self.delete()
        kind = "CREATE" if self.status in ("", "REVIEW_IN_PROGRESS") else "UPDATE"
        change_set = self._propose(parameters, kind)
        lines = self._read(change_set)
        if carries_out and lines:
            self._client.execute_change_set(ChangeSetName=change_set)
            self._wait(f"stack_{kind.lower()}_complete")
        elif kind == "CREATE":
            self._client.delete_stack(StackName=self.name)
        else:
            self._client.delete_change_set(ChangeSetName=change_set)
        return lines

    def delete(self) -> None:
        """Delete it, if it is there, and wait. Raises DeployError."""
        self._client.delete_stack(StackName=self.name)
        self._wait("stack_delete_complete")

    @property
    def _client(self) -> Any:
        return self.account.client("cloudformation")

    def _describe(self) -> Mapping[str, Any]:
        try:
            return dict(self._client.describe_stacks(StackName=self.name)["Stacks"][0])
        except ClientError as error:
            if "does not exist" in str(error):
                return {}
            raise

    def _propose(self, parameters: Mapping[str, str], kind: str) -> str:
        text = self.template.read_text()
        declared = [each["ParameterKey"] for each in self._client.get_template_summary(TemplateBody=text)["Parameters"]]
        given = [{"ParameterKey": name, "ParameterValue": parameters[name]} for name in declared if name in parameters]
        what: dict[str, Any] = {"StackName": self.name, "ChangeSetName": f"deploy-{uuid4()}", "ChangeSetType": kind}
        what |= {"TemplateBody": text, "Parameters": given, "Capabilities": ["CAPABILITY_IAM"]}
        return str(self._client.create_change_set(**what)["Id"])

    def _read(self, change_set: str) -> list[str]:
        try:
            self._client.get_waiter("change_set_create_complete").wait(ChangeSetName=change_set, WaiterConfig=WAITING)
        except WaiterError as error:
            reason = str(error.last_response.get("StatusReason", error))
            if any(words in reason for words in NOTHING_CHANGES):
                return []
            raise DeployError(f"The stack {self.name} cannot be planned: {reason}") from None
        changes = self.account.pages("cloudformation", "describe_change_set", "Changes", ChangeSetName=change_set)
        told = [change["ResourceChange"] for change in changes]
        lines = [f"{each['Action'].lower()} {each['ResourceType']} {each['LogicalResourceId']}" for each in told]
        return sorted(lines) or ["no resource, only what it says of itself"]

    def _wait(self, for_what: str) -> None:
        try:
            self._client.get_waiter(for_what).wait(StackName=self.name, WaiterConfig=WAITING)
        except WaiterError as error:
            events = self._client.describe_stack_events(StackName=self.name)["StackEvents"]
            failed = [each for each in events if each.get("ResourceStatus", "").endswith("_FAILED")]
            reasons = [f"{each['LogicalResourceId']}: {each.get('ResourceStatusReason')}" for each in failed]
            first = next((reason for reason in reversed(reasons) if "cancelled" not in reason), error)
            raise DeployError(f"The stack {self.name}: {first}") from None
