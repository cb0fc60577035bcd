"""The two stages of the demo: the same app, told by its environment where it starts flow runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demo.parts import CLUSTER, EKS_CLUSTER, NAMESPACE, Parts, environment

if TYPE_CHECKING:
    from tests.integration.lambdas import Lambdas

CADENCE_SECONDS = 6
EXECUTION_ROLE = "arn:aws:iam::123456789012:role/execution"
JOB_SECRET, JOB_SECRET_KEY = "prefect", "api-key"


@dataclass(frozen=True)
class Stage:
    """A stage: its platform, the name and labels of its agent."""

    platform: str
    agent: str
    labels: tuple[str, ...]


ECS = Stage("ecs", "demo", ("dev", "etl"))
KUBERNETES = Stage("kubernetes", "demo-k8s", ("k8s",))


def settings_of(stage: Stage, parts: Parts) -> dict[str, str]:
    """What the stage's functions find in their environment beside the way to AWS."""
    return {
        "PREFECT__BACKEND": "cloud",
        "PREFECT__CLOUD__API": parts.prefect.url,
        "PREFECT__CLOUD__API_KEY": parts.secret_arn,
        "PREFECT__CLOUD__AGENT__NAME": stage.agent,
        "PREFECT__CLOUD__AGENT__LABELS": json.dumps(stage.labels),
        "AGENT_PLATFORM": stage.platform,
        # It is looked for them at the beginning of each hour, by the clock on the wall.
        "AGENT_STRAYS": "ignore",
        **(_kubernetes_settings() if stage is KUBERNETES else _ecs_settings(parts)),
    }


def _ecs_settings(parts: Parts) -> dict[str, str]:
    return {
        "AGENT_CLUSTER": CLUSTER,
        "AGENT_EXECUTION_ROLE_ARN": EXECUTION_ROLE,
        "AGENT_WAKEUP_QUEUE_URL": parts.queue_url,
        "AGENT_CADENCE_SECONDS": str(CADENCE_SECONDS),
        # A flow that was cancelled has a minute to end by itself; nobody wants to wait for that here.
        "AGENT_CANCEL_GRACE_SECONDS": "0",
    }


def _kubernetes_settings() -> dict[str, str]:
    return {
        "AGENT_EKS_CLUSTER": EKS_CLUSTER,
        "AGENT_KUBERNETES_NAMESPACE": NAMESPACE,
        "AGENT_API_KEY_SECRET": f"{JOB_SECRET}/{JOB_SECRET_KEY}",
    }


@contextmanager
def container_of(stage: Stage, parts: Parts) -> Iterator[Lambdas]:
    """The handlers of `app.py` in a new container of this stage."""
    with environment(parts.aws | settings_of(stage, parts)):
        # app.py reads its environment when it is imported, as it does in the Lambda.
        from tests.integration.lambdas import Lambdas

        with Lambdas() as functions:
            yield functions
            _sign_out()


def _sign_out() -> None:
    """End the connections to a cluster, which Lambda cuts when it throws a container away."""
    import app
    from chalicelib.launchers.kubernetes import KubernetesLauncher

    launcher = app.installation().ticks.agent.launcher
    if isinstance(launcher, KubernetesLauncher):
        launcher.api.close()
