"""What Chalice has deployed, kept in an SSM parameter, so that any clone can go on where another has ended.

Chalice knows its REST API and its event source mappings from `.chalice/deployed/<stage>.json` alone: without that it
would make a second API, and after a deployment that broke off, a second mapping of each queue.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.account import Account
from deploy.stage import APP, write_document

FUNCTIONS = {"tick": "-tick", "wake": "-wake", "task_stopped": "-task_stopped", "api_handler": ""}
"""What Chalice puts after `prefect-agent-<stage>` for each function."""

QUEUES = {"wake": "wakeups", "task_stopped": "events"}
"""What infra/core.yaml puts after `prefect-agent-<stage>-` for the queue of each function that has one."""

Resource = dict[str, Any]


class Memory:
    """What any clone can know of one stage: Chalice's resources, and the stage itself for one that does not have it."""

    def __init__(self, account: Account, stage: str) -> None:
        self.account = account
        self.stage = stage
        self.parameter = f"/{APP}/{stage}/deployed"

    def recall(self) -> dict[str, Any]:
        """`stage` and `resources`, as they were kept; nothing when they were not."""
        ssm = self.account.client("ssm")
        try:
            return dict(json.loads(ssm.get_parameter(Name=self.parameter)["Parameter"]["Value"]))
        except ssm.exceptions.ParameterNotFound:
            return {}

    def keep(self, stage: Mapping[str, Any], resources: list[Resource] | None) -> None:
        """Keep both; `resources` is None while they change, so that whoever comes next looks for them."""
        value = json.dumps({"stage": stage, "resources": resources}, separators=(",", ":"))
        kind = {"Type": "String", "Tier": "Intelligent-Tiering", "Overwrite": True}
        self.account.client("ssm").put_parameter(Name=self.parameter, Value=value, **kind)

    def forget(self) -> None:
        """Keep nothing any more."""
        self.account.client("ssm").delete_parameters(Names=[self.parameter])

    def find(self) -> list[Resource]:
        """The resources as they live, in the form that Chalice keeps them in."""
        return [*self._functions(), *self._rules(), *self._mappings(), *self._apis()]

    def _functions(self) -> Iterator[Resource]:
        client = self.account.client("lambda")
        for function, suffix in FUNCTIONS.items():
            with suppress(client.exceptions.ResourceNotFoundException):
                found = client.get_function(FunctionName=f"{APP}-{self.stage}{suffix}")["Configuration"]
                yield {"name": function, "resource_type": "lambda_function", "lambda_arn": found["FunctionArn"]}

    def _rules(self) -> Iterator[Resource]:
        for rule in self.account.pages("events", "list_rules", "Rules", NamePrefix=f"{APP}-{self.stage}-tick-event"):
            yield {"name": "tick-event", "resource_type": "cloudwatch_event", "rule_name": rule["Name"]}

    def _mappings(self) -> Iterator[Resource]:
        number, region = self.account.identify()
        partition = self.account.client("sqs").meta.partition
        of_lambda = ("lambda", "list_event_source_mappings", "EventSourceMappings")
        for function, queue in QUEUES.items():
            name = f"{APP}-{self.stage}-{queue}"
            arn = f"arn:{partition}:sqs:{region}:{number}:{name}"
            kind = {"name": f"{function}-sqs-event-source", "resource_type": "sqs_event", "queue": name}
            for each in self.account.pages(*of_lambda, EventSourceArn=arn)[:1]:
                yield {**kind, "queue_arn": arn, "event_uuid": each["UUID"], "lambda_arn": each["FunctionArn"]}

    def _apis(self) -> Iterator[Resource]:
        client = self.account.client("apigateway")
        for api in self.account.pages("apigateway", "get_rest_apis", "items"):
            stages = client.get_stages(restApiId=api["id"])["item"] if api["name"] == APP else []
            if self.stage in [stage["stageName"] for stage in stages]:
                url = f"https://{api['id']}.execute-api.{client.meta.region_name}.amazonaws.com/{self.stage}/"
                yield {"name": "rest_api", "resource_type": "rest_api", "rest_api_id": api["id"], "rest_api_url": url}


def read_resources(directory: Path, stage: str) -> list[Resource]:
    """What Chalice has written down about a stage below a directory."""
    return list(json.loads(_path(directory, stage).read_text())["resources"])


def write_resources(directory: Path, stage: str, resources: list[Resource]) -> None:
    """Let Chalice know of these."""
    document = {"schema_version": "2.0", "backend": "api", "resources": resources}
    write_document(_path(directory, stage), document)


def _path(directory: Path, stage: str) -> Path:
    return directory / ".chalice" / "deployed" / f"{stage}.json"
