"""The functions, the schedule and the API: by Chalice's own command, and by hand what Chalice cannot set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from deploy.account import Account, DeployError
from deploy.deployed import Memory, read_resources, write_resources
from deploy.package import build_package, copy_app
from deploy.stage import APP, Stage

ONCE = {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
"""A scheduled tick that failed is not repeated, and not late: the next one is due within the minute."""

THROTTLE = {"rateLimit": "5", "burstLimit": "10"}
"""Requests a second from all callers together; machines ask for health, and each verdict is kept for 10 s."""


class Functions:
    """What Chalice makes of one stage. Chalice works in a copy of the project, which nothing else writes to."""

    def __init__(self, stage: Stage, account: Account) -> None:
        self.stage = stage
        self.account = account
        self.memory = Memory(account, stage.name)
        self.directory = stage.project / "build" / stage.name

    def prepare(self) -> Path:
        """Lay out the copy, with a zip that is ready; the zip. Raises DeployError."""
        copy_app(self.stage.project, self.directory)
        self.stage.write(self.directory)
        architecture = self.stage.document.get("lambda_architecture", "arm64")
        return build_package(self.directory, architecture, self.stage.needs_kubernetes)

    def deploy(self) -> str:
        """Let Chalice deploy the copy; where health is asked. What breaks off is remembered as unknown."""
        name, known = self.stage.name, self.memory.recall().get("resources")
        self.memory.keep(self.stage.document, None)
        write_resources(self.directory, name, self.memory.find() if known is None else known)
        self._chalice("deploy")
        made = read_resources(self.directory, name)
        write_resources(self.stage.project, name, made)
        self.account.client("lambda").put_function_event_invoke_config(FunctionName=f"{APP}-{name}-tick", **ONCE)
        limits = [{"op": "replace", "path": f"/*/*/throttling/{key}", "value": THROTTLE[key]} for key in THROTTLE]
        apis = [each for each in made if each["resource_type"] == "rest_api"]
        for api in apis:
            stage = {"restApiId": api["rest_api_id"], "stageName": name}
            self.account.client("apigateway").update_stage(**stage, patchOperations=limits)
        self.memory.keep(self.stage.document, made)
        return next((f"{api['rest_api_url']}api/health" for api in apis), "none, as there is no API")

    def delete(self) -> None:
        """Let Chalice delete all that lives, whatever anybody has written down."""
        if resources := self.memory.find():
            copy_app(self.stage.project, self.directory)
            self.stage.write(self.directory)
            write_resources(self.directory, self.stage.name, resources)
            self._chalice("delete")

    def package(self) -> Path:
        """Let Chalice write one SAM template and the zip; the folder that they are in."""
        self.prepare()
        target, template = self.directory / "package", self.stage.project / "infra" / "package.json"
        self._chalice("package", "--merge-template", str(template), str(target))
        return target

    def _chalice(self, command: str, *options: str) -> None:
        main = "import sys; from chalice.cli import main; sys.exit(main())"
        words = [sys.executable, "-c", main, "--project-dir", str(self.directory), command, "--stage", self.stage.name]
        # What Python would leave beside the modules is part of what Chalice names its zip by.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([*words, *options], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise DeployError(f"chalice {command} failed: {(done.stderr or done.stdout).strip()[-1500:]}")
