"""Makes Jobs with the real KubernetesWorker of prefect-kubernetes 0.8.0 and prints their manifests.

One case a line on stdin, as JSON: {"pool", "flow", "deployment", "flow_run", "variables", "settings", "secret"}; one
answer a line on stdout: {"namespace", "manifest"}, or {"refused"} with the reason. `variables` are Prefect variables by
name; `secret` is the worker's own setting for its credential. Nothing is connected to: the client only knows what the
case has. Runs in an environment that has prefect 3.8.8 and prefect-kubernetes 0.8.0.
"""

# mypy: ignore-errors

import asyncio
import json
import os
import sys
from types import SimpleNamespace

from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL, temporary_settings
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration

SETTINGS = {"api_url": PREFECT_API_URL, "api_key": PREFECT_API_KEY, "auth_string": PREFECT_API_AUTH_STRING}


class Client:
    """What a worker asks the API for while it makes a Job, out of the case."""

    def __init__(self, case):
        self.case = case

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None

    async def read_flow(self, _):
        return Flow(**self.case["flow"])

    async def read_variable_by_name(self, name):
        return SimpleNamespace(value=self.case["variables"][name]) if name in self.case["variables"] else None


async def prepare(case):
    deployment = DeploymentResponse(**case["deployment"]) if case["deployment"] else None
    configuration = await KubernetesWorkerJobConfiguration.resolve_for_flow_run(
        FlowRun(**case["flow_run"]),
        client=Client(case),
        work_pool=WorkPool(**case["pool"]),
        worker_name="oracle",
        deployment=deployment,
    )
    if case["secret"]:
        worker = KubernetesWorker(work_pool_name=case["pool"]["name"])
        await worker._replace_env_variable_with_secret(
            env_variable_name=case["secret"]["variable"],
            configuration=configuration,
            secret_name=case["secret"]["name"],
            secret_key=case["secret"]["key"],
        )
    return {"namespace": configuration.namespace, "manifest": configuration.job_manifest}


def answer(case):
    try:
        with temporary_settings({SETTINGS[name]: value for name, value in case["settings"].items()}):
            return json.dumps(asyncio.run(prepare(case)))
    except Exception as error:
        return json.dumps({"refused": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Whatever Prefect prints does not mix with the answers.
    for line in sys.stdin:
        answers.write(answer(json.loads(line)) + "\n")
    answers.close()
