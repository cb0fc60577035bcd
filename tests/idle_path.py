"""What a woken tick with nothing due imports: two of them in a new process, as a warm container has them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
SDKS = ("boto3", "botocore.client", "botocore.session", "docker", "httpx2", "lightkube", "psutil", "yaml")
ON_MACHINES = ("argparse", "chalicelib.agents", "chalicelib.cli", "chalicelib.launchers.docker", "deploy")
TICK_TWICE = """
import json, sys, app
class Context:
    aws_request_id = "guard"
    def get_remaining_time_in_millis(self):
        return 60_000
event = {"Records": [{"body": "{}", "receiptHandle": "guard", "messageId": "guard"}]}
answers = [app.wake(event, Context()) for _ in range(2)]
print("\\n" + json.dumps([answers[-1], sorted(sys.modules)]))
"""


def modules_of_idle_ticks(environment: Mapping[str, str]) -> list[str]:
    """The modules in a process that has ticked with these settings and found nothing."""
    command = [sys.executable, "-c", TICK_TWICE]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": "", **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer, modules = json.loads(done.stdout.splitlines()[-1])
    assert (answer["found"], answer["errors"]) == (0, [])
    return list(modules)


def within(modules: Iterable[str], *packages: str) -> list[str]:
    """Those that are one of these packages, or in one."""
    return [name for name in modules if any(name == package or name.startswith(f"{package}.") for package in packages)]


def foreign(modules: Iterable[str]) -> list[str]:
    """Those of packages that are installed. `requests` has names of its own for what it uses: these cost nothing."""
    ours = {"__main__", "app", "chalicelib", *sys.stdlib_module_names}
    return [name for name in modules if name.split(".")[0] not in ours and not name.startswith("requests.packages.")]
