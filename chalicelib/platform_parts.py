"""The parts that launchers of both generations of Prefect's API are built of, out of the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chalicelib.errors import SettingsError
from chalicelib.flow_runs import FlowRun
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.pacing import FARGATE_BURST, Pace
from chalicelib.ports import Clock, Launcher
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from chalicelib.launchers.kubernetes_access import KubernetesApi

LAUNCHES_PER_SECOND = {"FARGATE": 20.0, "EC2": 40.0, "KUBERNETES": 20.0, "LOCAL": 20.0}
"""What AWS sustains for RunTask in the larger regions, by launch type: the service quotas of Amazon ECS and Fargate.

A Kubernetes API says itself when it is too much; the number is what its own controller manager keeps to by default.
"""

BURST_SECONDS = 5
"""How many seconds' worth of launches may go at once, up to Fargate's burst: with its 20 a second that is all of it."""


def build_pace(settings: Settings, kind: str, clock: Clock) -> Pace:
    """How fast launches may go: as the settings say, else as LAUNCHES_PER_SECOND has it for this kind."""
    per_second = settings.launches_per_second
    if per_second is None:
        per_second = LAUNCHES_PER_SECOND[kind]
    return Pace(per_second, clock, min(FARGATE_BURST, round(per_second * BURST_SECONDS)))


def network_arguments(settings: Settings) -> dict[str, Any]:
    """The RunTask arguments that the settings' subnets are; empty without any."""
    if not settings.subnets:
        return {}
    configuration: dict[str, Any] = {
        "subnets": sorted(settings.subnets),
        "assignPublicIp": "ENABLED" if settings.assign_public_ip else "DISABLED",
    }
    if settings.security_groups:
        configuration["securityGroups"] = sorted(settings.security_groups)
    return {"networkConfiguration": {"awsvpcConfiguration": configuration}}


def build_kubernetes_api(settings: Settings, clients: AwsClients, clock: Clock) -> KubernetesApi:
    """The Kubernetes API of the EKS cluster that is named, else of the kubeconfig; not signed in to yet."""
    from chalicelib.launchers.eks import EksSignIn
    from chalicelib.launchers.kubernetes_access import KubeconfigSignIn, KubernetesApi

    eks = EksSignIn(settings.eks_cluster, clients, clock) if settings.eks_cluster else None
    return KubernetesApi(eks or KubeconfigSignIn(settings.kubeconfig_path, settings.kubeconfig_context))


def build_local_launcher(build: Callable[[FlowRun], Any], settings: Settings, clock: Clock) -> Launcher:
    """A launcher of processes, of Prefect 1 or of process pools. Raises SettingsError where psutil is not installed."""
    try:
        from chalicelib.launchers.local import LocalLauncher, runtime_directory
    except ImportError:
        needed = "flow runs as processes need Linux or macOS, and psutil: pip install 'prefect-agent-lambda[local]'"
        raise SettingsError([needed]) from None
    return LocalLauncher(build, settings.name, runtime_directory(), build_pace(settings, "LOCAL", clock), clock)
