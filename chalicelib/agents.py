"""Agents as objects, for programs of one's own: `DockerAgent(labels=["dev"]).start()`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from chalicelib.cli.config_file import read_config_file
from chalicelib.cli.options import REFUSED
from chalicelib.clock import SystemClock
from chalicelib.errors import PrefectUnreachable, SettingsError
from chalicelib.launchers.platform_launcher import PlatformLauncher
from chalicelib.outcomes import TickReport
from chalicelib.settings import SETTINGS, Given, Setting, load_settings
from chalicelib.sweep import Sweep

if TYPE_CHECKING:
    from chalicelib.agent import Agent
    from chalicelib.builders.flow_container import ContainerSettings

__all__ = ["DockerAgent", "ECSAgent", "KubernetesAgent", "LocalAgent", "PlatformAgent", "PlatformLauncher"]


class PlatformAgent:
    """An agent of one platform. A class of one's own names its `launcher`, as `examples/own_platform.py` does.

    Arguments are settings by the names of their fields, of their options (`no_cloud_logs=True`), or as Prefect 1.4.1's
    agents have them. They beat the environment, which beats Prefect's config file, which beats the default. Raises
    SettingsError with every problem.
    """

    platform: ClassVar[str] = ""
    """The name of a platform that comes with this package."""

    launcher: ClassVar[type[PlatformLauncher] | None] = None
    """What starts flow runs, where that is a platform of one's own."""

    aliases: ClassVar[Mapping[str, str]] = {}
    """Further names of arguments, with the fields that they mean."""

    def __init__(self, **arguments: Any) -> None:
        given = {name: value for name, value in arguments.items() if value is not None}
        known = {*self.aliases, *(row.field for row in SETTINGS)}
        refused = [f"{name}: {REFUSED[name]}" for name in given if name in REFUSED and name not in known]
        if self.platform and given.get("platform", self.platform) != self.platform:
            refused.append(f"platform: this class starts flow runs on {self.platform}: leave it out")
        if refused:
            raise SettingsError(refused)
        flags = dict(_read(self.aliases.get(name, name), value, name) for name, value in given.items())
        platform = {"platform": Given(self.platform, "platform")} if self.platform else {}
        self.settings = load_settings(os.environ, {**flags, **platform}, read_config_file(os.environ, flags))
        if self.settings.work_pools and (self.platform or self.launcher):
            own = "the type of a work pool is its platform, and this class has one of its own"
            raise SettingsError([f"work_pools: {own}: use PlatformAgent, or leave out AGENT_WORK_POOLS"])

    @cached_property
    def agent(self) -> Agent:
        """What ticks. Raises SettingsError when a template of the operator's cannot be used."""
        from chalicelib.bootstrap import build_agent
        from chalicelib.platforms import PLATFORMS, Platform

        if self.launcher is None:
            return build_agent(self.settings)
        kind = type(self).__name__
        PLATFORMS[kind] = Platform(kind, lambda _settings, container, *_others: self.build_launcher(container))
        agent = build_agent(replace(self.settings, platform=kind))
        if type(agent.launcher).look_at is PlatformLauncher.look_at:
            agent.sweep = _NoSweep(agent.sweep.prefect, agent.sweep.launcher, agent.sweep.clock, agent.sweep.manners)
        return agent

    def build_launcher(self, container: ContainerSettings) -> PlatformLauncher:
        """The launcher of a platform of one's own, where that takes more than `container`, overridden."""
        if self.launcher is None:
            raise NotImplementedError
        return self.launcher(container)

    def start(self) -> None:
        """Keep starting flow runs until Ctrl-C, or `max_polls`. Raises PrefectError when the last poll failed."""
        from chalicelib.cli.commands import FINE, show_logs, start

        show_logs(self.settings.log_level)
        if start(self.agent, self.settings) != FINE:
            raise PrefectUnreachable("The last poll failed; the log says why")

    def tick(self) -> TickReport:
        """Start what is due, once. Raises PrefectError when the API is away, and then nothing was done."""
        deadline = SystemClock().now() + timedelta(seconds=self.settings.cadence_seconds)
        return self.agent.tick(deadline, recovers=True)


class ECSAgent(PlatformAgent):
    """Starts flow runs as tasks of Amazon ECS."""

    platform = "ecs"


class KubernetesAgent(PlatformAgent):
    """Starts flow runs as Jobs of Kubernetes."""

    platform = "kubernetes"


class LocalAgent(PlatformAgent):
    """Starts flow runs as processes of this machine."""

    platform = "local"


class DockerAgent(PlatformAgent):
    """Starts flow runs as containers of a Docker daemon."""

    platform = "docker"
    aliases: ClassVar[Mapping[str, str]] = {"volumes": "docker_volumes", "networks": "docker_networks"}


class _NoSweep(Sweep):
    """For a platform that cannot look at what it has started: Prefect itself finds out what has ended."""

    def run(self, *_: Any) -> None:
        """Nothing."""


def _read(name: str, value: Any, typed: str) -> tuple[str, Given]:
    """A setting's field and value, out of an argument; an unknown name stays as it is, to be told as one."""
    options = {flag.lstrip("-").replace("-", "_"): row for row in SETTINGS for flag in row.flags if flag[1] == "-"}
    row: Setting | None = options.get(name)
    if row is None or any(row.field == name for row in SETTINGS):
        return name, Given(value, typed)
    says_no = row.default is True and name.startswith("no_")
    return row.field, Given(not value if says_no else value, typed)
