"""The Docker double, and what this agent makes, beside the real DockerAgent of prefect 1.4.1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib import DockerAgent
from tests.contract.conftest import Prefect1
from tests.doubles.docker import DockerDaemon
from tests.doubles.prefect1 import Prefect1Server

pytestmark = pytest.mark.oracle

MODULE = {"type": "Module", "__version__": "1.4.1", "module": "flows", "secrets": []}
DOCKER: dict[str, Any] = {
    "type": "Docker",
    "__version__": "1.4.1",
    "registry_url": "hub.example",
    "image_name": "etl",
    "image_tag": "7",
    "flows": {},
    "path": None,
    "prefect_version": "1.4.1",
    "secrets": [],
}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("defaults", MODULE, {"type": "DockerRun"}, {}),
    ("an image and variables", MODULE, {"type": "DockerRun", "image": "flows:1", "env": {"A": "b"}}, {}),
    ("Docker storage", DOCKER, {"type": "DockerRun", "image": "flows:1"}, {}),
    ("a universal run", MODULE, {"type": "UniversalRun", "env": {"PREFECT__LOGGING__LEVEL": "DEBUG"}}, {}),
    ("host config and ports", MODULE, {"type": "DockerRun", "host_config": {"mem_limit": "1g"}, "ports": [8080]}, {}),
    ("volumes and networks", MODULE, {"type": "DockerRun"}, {"volumes": ["/a:/b:ro"], "networks": ["one", "two"]}),
    ("variables of the agent", MODULE, {"type": "DockerRun", "env": {"A": "run"}}, {"env_vars": {"A": "x", "B": "y"}}),
    ("no logs", MODULE, {"type": "DockerRun"}, {"no_cloud_logs": True}),
    ("no pull", MODULE, {"type": "DockerRun", "image": "hub.example/local:1"}, {"no_pull": True}),
]


@pytest.fixture
def daemons() -> Iterator[tuple[DockerDaemon, DockerDaemon]]:
    images = {
        "images": ["flows:1", "hub.example/local:1"],
        "registry": ["prefecthq/prefect:1.4.1", "hub.example/etl:7"],
        "networks": ["bridge", "one", "two"],
    }
    with DockerDaemon(**images) as theirs, DockerDaemon(**images) as ours:  # type: ignore[arg-type]
        yield theirs, ours


def container_of(daemon: DockerDaemon, run_id: str) -> dict[str, Any]:
    """The one container, without what is each agent's own way: names, its labels, and how long it is kept."""
    (container,) = daemon.containers()
    config, host = container["Config"], dict(container["HostConfig"])
    # Theirs is removed as soon as it has ended, so that nobody can tell how.
    host.pop("AutoRemove", None)
    variables = dict(each.split("=", 1) for each in config["Env"])
    return {
        "image": config["Image"],
        "command": config["Cmd"],
        "ports": config["ExposedPorts"],
        "labels": {name: text for name, text in config["Labels"].items() if name.startswith("io.prefect.")},
        "env": {name: text.replace(run_id, "<run>") for name, text in variables.items()},
        "host": {name: value for name, value in host.items() if value},
        "networks": sorted(container["NetworkSettings"]["Networks"]),
        "state": container["State"]["Status"],
    }


@pytest.mark.parametrize(("storage", "run_config", "agent"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_both_agents_make_the_same_container_of_a_run(
    prefect1: Prefect1,
    server: Prefect1Server,
    daemons: tuple[DockerDaemon, DockerDaemon],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    storage: dict[str, Any],
    run_config: dict[str, Any],
    agent: dict[str, Any],
) -> None:
    theirs, ours = daemons
    monkeypatch.setenv("HOME", str(tmp_path))
    config = {"__version__": "1.4.1", "labels": ["lab"], "env": None, **run_config}
    flow_id = server.add_flow("my flow", storage=storage, run_config=config)
    given = {"labels": ["lab"], "name": "oracle", "max_polls": 1, **agent}

    first = server.add_flow_run(flow_id, labels=["lab"])
    prefect1.script("poll_as_docker_agent", json.dumps({**given, "base_url": theirs.url}))
    second = server.add_flow_run(flow_id, labels=["lab"])
    DockerAgent(**given, base_url=ours.url, api=server.url).tick()

    expected, made = container_of(theirs, first), container_of(ours, second)
    expected["labels"]["io.prefect.flow-run-id"] = second
    # `127.0.0.1` is as little the API of a container as `localhost`, which is all that theirs looks for.
    expected["env"]["PREFECT__CLOUD__API"] = expected["env"]["PREFECT__CLOUD__API"].replace(
        "127.0.0.1", "host.docker.internal"
    )
    assert made == expected
    logs = [line["message"] for run_id in (first, second) for line in server.logs(run_id)]
    assert [message.split(": ")[:2] for message in logs] == [["Submitted for execution", "Container ID"]] * 2
