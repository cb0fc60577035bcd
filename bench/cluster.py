"""Surroundings with a Kubernetes cluster in the place of ECS."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.surroundings import Surroundings
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.kubernetes.kubeconfig import write_kubeconfig
from tests.doubles.prefect1 import Prefect1Server

NAMESPACE = "flows"


class ClusterSurroundings(Surroundings):
    """Surroundings with one Kubernetes API, for which everybody has a kubeconfig at home."""

    platform = "kubernetes"

    def __init__(self, prefect: Prefect1Server, kubernetes: KubernetesServer, directory: Path) -> None:
        super().__init__(prefect, directory)
        self.kubernetes = kubernetes
        write_kubeconfig(kubernetes, directory / ".kube" / "config")
        # Strays are looked for at some times and not at others, by the clock on the wall.
        self.environment |= {"AGENT_STRAYS": "ignore"}

    def options(self) -> list[str]:
        """That of Kubernetes too."""
        return [*super().options(), "--namespace", NAMESPACE]

    def run_config(self, image: str) -> dict[str, Any]:
        """A KubernetesRun."""
        return {"type": "KubernetesRun", "__version__": "1.4.1", "image": image, "cpu_request": "250m", "labels": []}

    def forget(self) -> None:
        """Begin all counts anew."""
        super().forget()
        self.kubernetes.forget_calls()


@contextmanager
def cluster_surroundings(round_trip_seconds: float = 0.0) -> Iterator[ClusterSurroundings]:
    """Fresh ones, stopped afterwards."""
    with ExitStack() as stack:
        prefect = stack.enter_context(Prefect1Server(None, round_trip_seconds))
        kubernetes = KubernetesServer(round_trip_seconds=round_trip_seconds, namespaces=(NAMESPACE,))
        stack.enter_context(kubernetes)
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        yield ClusterSurroundings(prefect, kubernetes, Path(directory))
