"""Prefect's agent without the process.

Its agents as objects: `from chalicelib import ECSAgent, KubernetesAgent, LocalAgent, DockerAgent`, and for a platform
of one's own `PlatformAgent, PlatformLauncher`. Importing this package imports nothing else until one is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chalicelib.agents import DockerAgent, ECSAgent, KubernetesAgent, LocalAgent, PlatformAgent
    from chalicelib.launchers.platform_launcher import PlatformLauncher

__all__ = ["DockerAgent", "ECSAgent", "KubernetesAgent", "LocalAgent", "PlatformAgent", "PlatformLauncher"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("chalicelib.agents"), name)
