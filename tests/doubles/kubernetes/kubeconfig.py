"""A kubeconfig that leads to the double."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.doubles.kubernetes.server import KubernetesServer

NAME = "double"


def write_kubeconfig(server: KubernetesServer, path: Path, token: str = "secret-token") -> None:
    """Let `path` lead to `server`, and trust it alone; directories are made as needed."""
    authority = base64.b64encode(server.ca_pem.encode()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NAME,
        "clusters": [{"name": NAME, "cluster": {"server": server.url, "certificate-authority-data": authority}}],
        "users": [{"name": NAME, "user": {"token": token}}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))
