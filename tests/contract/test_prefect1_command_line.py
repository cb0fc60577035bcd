"""Every option and argument of prefect 1.4.1's agents is there, or refused with a word of what to do instead."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib import DockerAgent, ECSAgent, KubernetesAgent, LocalAgent
from chalicelib.cli.options import REFUSED, read_command_line
from chalicelib.errors import SettingsError
from tests.contract.conftest import Prefect1

pytestmark = pytest.mark.oracle

AGENTS = {"local": LocalAgent, "docker": DockerAgent, "kubernetes": KubernetesAgent, "ecs": ECSAgent}
OTHER_SHORT = {"-n", "-b", "-i"}
"""Short options of `prefect agent kubernetes install` that mean something else elsewhere."""


def complaint(*words: str) -> str:
    try:
        read_command_line(words)
    except SettingsError as error:
        return str(error)
    return ""


def test_every_option_of_every_agent_is_taken_or_refused_with_advice(prefect1: Prefect1) -> None:
    options = json.loads(prefect1.script("list_agent_options"))["options"]
    refused: set[str] = set()
    for platform, command, names, is_flag in options:
        if (platform, command) == ("local", "install"):
            continue  # Refused as a whole, as the next test shows.
        for name in names:
            if command == "install" and name in OTHER_SHORT:
                continue
            said = complaint(command, platform, name, *([] if is_flag else ["x"]))
            field = name.lstrip("-").replace("-", "_")
            assert said == "" or (field in REFUSED and REFUSED[field] in said), (platform, command, name, said)
            refused |= {name} if said else set()
    assert len(options) > 60
    assert refused == {
        "--agent-config-id",
        "--cpu-limit",
        "--cpu-request",
        "--disable-job-deletion",
        "--hostname-label",
        "--latest",
        "--mem-limit",
        "--mem-request",
    }


def test_what_is_installed_elsewhere_is_said_in_one_line() -> None:
    assert "it may be followed by kubernetes, aws" in complaint("install", "local")


def test_every_argument_of_every_agent_is_taken_or_refused_with_advice(prefect1: Prefect1) -> None:
    arguments: dict[str, list[str]] = json.loads(prefect1.script("list_agent_options"))["arguments"]
    values: dict[str, Any] = {"labels": ["a"], "env_vars": {"A": "b"}, "max_polls": 1, "docker_client_timeout": 5}
    values |= {"agent_address": "http://:8080", "launch_type": "EC2", "base_url": "tcp://host:2375"}
    values |= dict.fromkeys(("task_role_arn", "execution_role_arn"), "arn:aws:iam::111122223333:role/x")
    values |= dict.fromkeys(("no_cloud_logs", "no_pull", "show_flow_logs", "hostname_label"), True)
    values |= {name: ["/x"] for name in ("import_paths", "volumes")} | {"networks": ["x"], "image_pull_secrets": ["x"]}
    for platform, names in arguments.items():
        for name in names:
            try:
                AGENTS[platform](**{name: values.get(name, "x")})
            except SettingsError as error:
                assert error.problems == (f"{name}: {REFUSED.get(name)}",)
