"""Prints what the commands and the constructors of prefect 1.4.1's agents take, as JSON."""

import inspect
import json

from prefect.agent.docker import DockerAgent
from prefect.agent.ecs import ECSAgent
from prefect.agent.kubernetes import KubernetesAgent
from prefect.agent.local import LocalAgent
from prefect.cli.agent import agent

AGENTS = {"local": LocalAgent, "docker": DockerAgent, "kubernetes": KubernetesAgent, "ecs": ECSAgent}

options = [
    [platform, command, [*option.opts, *option.secondary_opts], option.is_flag]
    for platform in AGENTS
    for command, made in agent.commands[platform].commands.items()
    for option in made.params
]
arguments = {
    platform: [name for name in inspect.signature(kind.__init__).parameters if name != "self"]
    for platform, kind in AGENTS.items()
}
print(json.dumps({"options": options, "arguments": arguments}))
