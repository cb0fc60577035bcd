"""An AWS account on this machine, clones of the project, and the commands that a person would run in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import boto3

ROOT = Path(__file__).parents[2]
REGION = "us-east-1"
SHIPPED = ("app.py", "chalicelib", "requirements.txt", "infra", "deploy", ".chalice/config.json")
OURS = ("AWS_", "AGENT_", "PREFECT_")


class Outcome(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


class AwsAccount:
    """The server of `aws_server`, a context manager, and clients of it."""

    def __enter__(self) -> AwsAccount:
        command = [sys.executable, "-W", "ignore", "-m", "tests.deploy.aws_server"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, cwd=ROOT, text=True, env=_without_ours(), **pipes)  # type: ignore[call-overload]
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self._clients: dict[str, Any] = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            client.close()
        self._process.communicate()

    @property
    def environment(self) -> dict[str, str]:
        """What whoever deploys here has in the environment."""
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        return {"AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": REGION, **keys}

    def client(self, service: str) -> Any:
        """A client of one service."""
        if service not in self._clients:
            keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
            made = boto3.client(service, region_name=REGION, endpoint_url=self.url, **keys)  # type: ignore[call-overload]
            self._clients[service] = made
        return self._clients[service]

    def refuse(self, call: str = "", code: str = "AccessDeniedException", times: int = 1) -> None:
        """Refuse the next calls of that name; without one refuse nothing any more."""
        refusals = [{"call": call, "code": code, "times": times}] if call else []
        request = urllib.request.Request(f"{self.url}/test-support/refusals", json.dumps(refusals).encode())
        with urllib.request.urlopen(request) as answer:
            answer.read()

    def list(self, service: str, call: str, field: str, **parameters: Any) -> list[Any]:
        """What a call lists; of several pages all."""
        client = self.client(service)
        if client.can_paginate(call):
            pages = client.get_paginator(call).paginate(**parameters)
            return [item for page in pages for item in page.get(field, [])]
        return list(getattr(client, call)(**parameters).get(field, []))


class Clone:
    """A copy of what git keeps of this project."""

    def __init__(self, directory: Path, account: AwsAccount) -> None:
        self.directory = directory
        self.account = account
        for name in SHIPPED:
            source, target = ROOT / name, directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)

    def run(self, *words: str, without: tuple[str, ...] = (), answer: str = "", **environment: str) -> Outcome:
        """Run `python -m deploy` with these words, as a person in this clone."""
        return self._run(["-m", "deploy", *words], without, answer, environment)

    def chalice(self, *words: str) -> Outcome:
        """Run Chalice's own command."""
        return self._run(["-c", "import sys; from chalice.cli import main; sys.exit(main())", *words], (), "", {})

    def _run(self, words: list[str], without: tuple[str, ...], answer: str, environment: Mapping[str, str]) -> Outcome:
        variables = {**_without_ours(), **self.account.environment, **environment}
        variables = {name: value for name, value in variables.items() if name not in without}
        # Nobody's own profile is read, and no machine is asked for credentials.
        variables |= {"AWS_CONFIG_FILE": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"}
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.directory, env=variables, input=answer, capture_output=True, text=True, timeout=110,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    def stage(self, name: str) -> dict[str, Any]:
        """The stage as the clone has it."""
        document = json.loads((self.directory / ".chalice" / "config.json").read_text())
        stage: dict[str, Any] = document["stages"][name]
        return stage

    def package(self, stage: str) -> Path:
        """The zip that was deployed last."""
        (package,) = (self.directory / "build" / stage / ".chalice" / "deployments").glob("*.zip")
        return package

    def forget(self, stage: str) -> None:
        """Lose what Chalice wrote down here."""
        (self.directory / ".chalice" / "deployed" / f"{stage}.json").unlink()


def inventory(account: AwsAccount) -> dict[str, list[str]]:
    """The names of everything in the account that a stage is made of, by kind."""
    names: Mapping[str, list[Any]] = {
        "stacks": _each(account.list("cloudformation", "describe_stacks", "Stacks"), "StackName"),
        "functions": _each(account.list("lambda", "list_functions", "Functions"), "FunctionName"),
        "mappings": _each(account.list("lambda", "list_event_source_mappings", "EventSourceMappings"), "UUID"),
        "rules": _each(account.list("events", "list_rules", "Rules"), "Name"),
        "apis": _each(account.list("apigateway", "get_rest_apis", "items"), "id"),
        "queues": account.list("sqs", "list_queues", "QueueUrls"),
        "log groups": _each(account.list("logs", "describe_log_groups", "logGroups"), "logGroupName"),
        "alarms": _each(account.list("cloudwatch", "describe_alarms", "MetricAlarms"), "AlarmName"),
        "dashboards": _each(account.list("cloudwatch", "list_dashboards", "DashboardEntries"), "DashboardName"),
        "queries": _each(account.list("logs", "describe_query_definitions", "queryDefinitions"), "name"),
        "secrets": _each(account.list("secretsmanager", "list_secrets", "SecretList"), "Name"),
        "roles": _each(account.list("iam", "list_roles", "Roles"), "RoleName"),
        "policies": _each(account.list("iam", "list_policies", "Policies", Scope="Local"), "PolicyName"),
        "clusters": _clusters(account),
        "definitions": account.list("ecs", "list_task_definitions", "taskDefinitionArns"),
        "security groups": _each(account.list("ec2", "describe_security_groups", "SecurityGroups"), "GroupName"),
        "parameters": _each(account.list("ssm", "describe_parameters", "Parameters"), "Name"),
    }
    return {kind: sorted(found) for kind, found in names.items() if found}


def _clusters(account: AwsAccount) -> list[str]:
    arns = account.list("ecs", "list_clusters", "clusterArns")
    described = account.client("ecs").describe_clusters(clusters=arns)["clusters"]
    return [each["clusterArn"] for each in described if each["status"] == "ACTIVE"]


def _each(rows: list[Any], field: str) -> list[str]:
    return [row[field] for row in rows]


def _without_ours() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}
