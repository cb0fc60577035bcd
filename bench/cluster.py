"""Surroundings with a Kubernetes cluster in the place of ECS."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.hosted import Hosted
from bench.surroundings import Surroundings
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.kubernetes.kubeconfig import write_kubeconfig
from tests.doubles.prefect1 import Prefect1Server

NAMESPACE = "flows"


class ClusterSurroundings(Surroundings):
    """Surroundings with one Kubernetes API in a process of its own, for which everybody has a kubeconfig at home."""

    platform = "kubernetes"

    def __init__(self, prefect: Prefect1Server, kubernetes: Hosted[KubernetesServer], directory: Path) -> None:
        super().__init__(prefect, directory)
        self.kubernetes = kubernetes
        kubernetes.ask(write_kubeconfig, directory / ".kube" / "config")
        # Strays are looked for at some times and not at others, by the clock on the wall.
        self.environment |= {"AGENT_STRAYS": "ignore"}

    def our_options(self) -> list[str]:
        """That of Kubernetes too."""
        return [*super().our_options(), "--namespace", NAMESPACE]

    def run_config(self, image: str) -> dict[str, Any]:
        """A KubernetesRun."""
        return {"type": "KubernetesRun", "__version__": "1.4.1", "image": image, "cpu_request": "250m", "labels": []}

    def calls(self) -> list[tuple[str, datetime]]:
        """What the Kubernetes API has been asked (`create jobs`), and when, in order."""
        return self.kubernetes.ask(_calls)

    def jobs(self) -> list[dict[str, Any]]:
        """The Jobs there are."""
        return self.kubernetes.ask(KubernetesServer.jobs)

    def forget(self) -> None:
        """Begin all counts anew."""
        super().forget()
        self.kubernetes.ask(KubernetesServer.forget_calls)


def _calls(kubernetes: KubernetesServer) -> list[tuple[str, datetime]]:
    return [(call.what, call.at) for call in kubernetes.calls]


@contextmanager
def cluster_surroundings(
    round_trip_seconds: float = 0.0, field_seconds: float | None = None
) -> Iterator[ClusterSurroundings]:
    """Fresh ones, stopped afterwards; `field_seconds` as in `bench.surroundings`."""
    with ExitStack() as stack:
        per_request = round_trip_seconds if field_seconds is None else 0.0
        prefect = stack.enter_context(Prefect1Server(None, per_request, field_seconds or 0.0))
        kubernetes = Hosted(KubernetesServer, round_trip_seconds=round_trip_seconds, namespaces=(NAMESPACE,))
        stack.enter_context(kubernetes)
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        yield ClusterSurroundings(prefect, kubernetes, Path(directory))
