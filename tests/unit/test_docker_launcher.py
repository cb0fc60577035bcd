"""Flow runs as containers: the real Docker SDK against a daemon's double."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.errors import (
    LaunchDeferred,
    LaunchError,
    LaunchForbidden,
    LaunchRejected,
    LaunchUnknown,
    UnsupportedRun,
)
from chalicelib.flow_runs import Flow, FlowRun
from chalicelib.launchers.docker import TEXT, DockerLauncher, DockerOptions, reachable_api_url
from tests.doubles.clock import TurnedClock
from tests.doubles.docker import DockerDaemon

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
IMAGE, LOCAL_IMAGE = "registry.example/flows:1", "flows:1"
KEY = "6e3ad6c1-55a2-4a16-8e1a-3c1b6f0c3b52-3"


class World:
    """A daemon, a clock, and a launcher that speaks to the one by the other."""

    def __init__(self, **options: Any) -> None:
        self.clock = TurnedClock(NOON)
        self.daemon = DockerDaemon(
            images=[LOCAL_IMAGE],
            registry=[IMAGE, "prefecthq/prefect:1.4.1"],
            networks=["bridge", "one", "two"],
            now=self.clock.now,
        )
        self.options = {"base_url": self.daemon.url, **options}
        self.settings = ContainerSettings("http://localhost:4200", labels=("dev",), env_vars={"REGION": "eu"})
        self.launcher = self.new_launcher()

    def new_launcher(self, **options: Any) -> DockerLauncher:
        return DockerLauncher(self.settings, DockerOptions(**{**self.options, **options}), self.clock)

    def launch(self, key: str = KEY, launcher: DockerLauncher | None = None, **config: Any) -> str:
        launcher = launcher or self.launcher
        run = flow_run({"type": "DockerRun", "image": LOCAL_IMAGE, **config})
        return launcher.launch(launcher.build(run), key, NOON + timedelta(seconds=30))

    def container(self) -> dict[str, Any]:
        (container,) = self.daemon.containers()
        return container

    def variables(self) -> dict[str, str]:
        return dict(each.split("=", 1) for each in self.container()["Config"]["Env"])


def flow_run(run_config: Any = None, run_id: str = "run-1", core_version: str = "1.4.1") -> FlowRun:
    return FlowRun(run_id, "fast-fox", 3, NOON, Flow("flow-1", "etl", 1, core_version), run_config=run_config)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.daemon:
        yield world


def test_a_launch_is_one_running_container_with_the_flow_run_command_and_labels(world: World) -> None:
    text = world.launch()
    container = world.container()
    assert text == f"Container ID: {container['Id']}"
    assert (container["State"]["Status"], container["Name"]) == ("running", f"/prefect-{KEY}")
    assert container["Config"]["Cmd"] == ["prefect", "execute", "flow-run"]
    assert container["Config"]["Labels"] == {
        "io.prefect.flow-name": "etl",
        "io.prefect.flow-id": "flow-1",
        "io.prefect.flow-run-id": "run-1",
        "prefect-agent.agent": "agent",
        "prefect-agent.launch-key": KEY,
    }
    assert container["HostConfig"]["ExtraHosts"] == ["host.docker.internal:host-gateway"]


def test_the_variables_are_those_of_prefects_own_agent(world: World) -> None:
    world.launch(env={"COLOUR": "blue"})
    assert world.variables() == {
        "COLOUR": "blue",
        "REGION": "eu",
        "PREFECT__LOGGING__LEVEL": "INFO",
        "PREFECT__LOGGING__LOG_TO_CLOUD": "true",
        "PREFECT__CLOUD__SEND_FLOW_RUN_LOGS": "true",
        "PREFECT__CLOUD__USE_LOCAL_SECRETS": "false",
        "PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS": "prefect.engine.cloud.CloudFlowRunner",
        "PREFECT__BACKEND": "server",
        "PREFECT__CLOUD__API": "http://host.docker.internal:4200",
        "PREFECT__CONTEXT__FLOW_RUN_ID": "run-1",
        "PREFECT__CONTEXT__FLOW_ID": "flow-1",
        "PREFECT__CONTEXT__IMAGE": LOCAL_IMAGE,
        "PREFECT__CLOUD__API_KEY": "",
        "PREFECT__CLOUD__TENANT_ID": "",
        "PREFECT__CLOUD__AUTH_TOKEN": "",
        "PREFECT__CLOUD__AGENT__LABELS": "['dev']",
    }


@pytest.mark.parametrize("variable", ["env_vars", "run"])
def test_the_way_to_the_api_that_somebody_names_is_the_one_that_counts(world: World, variable: str) -> None:
    said = {"PREFECT__CLOUD__API": "http://10.0.0.7:4200"}
    if variable == "env_vars":
        world.settings = ContainerSettings("http://localhost:4200", env_vars=said)
    world.launch(launcher=world.new_launcher(), env=said if variable == "run" else {})
    assert world.variables()["PREFECT__CLOUD__API"] == "http://10.0.0.7:4200"


@pytest.mark.parametrize(
    ("url", "networks", "expected"),
    [
        ("http://127.0.0.1:4200/graphql", (), "http://host.docker.internal:4200/graphql"),
        ("http://localhost", (), "http://host.docker.internal"),
        ("http://localhost:4200", ("prefect-server",), "http://apollo:4200"),
        ("http://localhost:4200", ("host",), "http://localhost:4200"),
        ("http://localhost.example:4200", (), "http://localhost.example:4200"),
        ("https://api.prefect.io", ("prefect-server",), "https://api.prefect.io"),
    ],
)
def test_localhost_is_another_machine_in_a_container(url: str, networks: tuple[str, ...], expected: str) -> None:
    assert reachable_api_url(url, networks) == expected


def test_volumes_networks_and_what_the_run_asks_for_are_in_the_container(world: World) -> None:
    launcher = world.new_launcher(volumes=("/data", "/here:/there:ro"), networks=("one", "two"))
    world.launch(launcher=launcher, host_config={"mem_limit": "1g", "extra_hosts": {"db": "10.0.0.1"}}, ports=[8080])
    container = world.container()
    assert container["HostConfig"]["Binds"] == ["/data:/data", "/here:/there:ro"]
    assert (container["HostConfig"]["Memory"], container["HostConfig"]["ExtraHosts"]) == (2**30, ["db:10.0.0.1"])
    assert container["Config"]["ExposedPorts"] == {"8080/tcp": {}}
    assert set(container["NetworkSettings"]["Networks"]) == {"one", "two"}


def test_the_same_key_is_started_once(world: World) -> None:
    assert world.launch() == world.launch(launcher=world.new_launcher())
    assert (len(world.daemon.containers()), world.daemon.count("start")) == (1, 1)


@pytest.mark.parametrize("moment", ["create", "start"])
def test_a_launch_whose_answer_was_lost_is_made_up_for_by_the_same_key(world: World, moment: str) -> None:
    world.daemon.faults.add(moment, "cut_after")
    with pytest.raises(LaunchUnknown):
        world.launch()
    text = world.launch()
    assert text == TEXT + world.container()["Id"]
    assert world.container()["State"]["Status"] == "running"


def test_a_container_that_was_made_and_never_started_joins_the_networks_that_it_lacks(world: World) -> None:
    launcher = world.new_launcher(networks=("one", "two"))
    world.daemon.faults.add("start", "cut_before")
    with pytest.raises(LaunchUnknown):
        world.launch(launcher=launcher)
    world.launch(launcher=launcher)
    assert (world.container()["State"]["Status"], world.daemon.count("connect")) == ("running", 1)


def test_a_key_whose_container_has_ended_is_not_started_again(world: World) -> None:
    text = world.launch()
    world.daemon.finish(text.removeprefix(TEXT))
    assert world.launch() == text
    world.daemon.finish(text.removeprefix(TEXT), exit_code=1)
    with pytest.raises(LaunchRejected, match="exit code 1"):
        world.launch()
    assert world.daemon.count("start") == 1


def test_what_the_daemon_refuses_to_start_leaves_nothing_behind(world: World) -> None:
    world.daemon.faults.add("start", status=500, message="port is already allocated")
    with pytest.raises(LaunchDeferred, match="already allocated"):
        world.launch()
    assert world.daemon.containers() == []


@pytest.mark.parametrize(
    ("status", "message", "answer"),
    [
        (400, "OCI runtime create failed: exec: no such file or directory", LaunchRejected),
        (500, "OCI runtime create failed: exec: no such file or directory", LaunchRejected),
        (400, "invalid mount config for type bind", LaunchRejected),
        (500, "no space left on device", LaunchDeferred),
        (404, "network one not found", LaunchForbidden),
    ],
)
def test_each_refusal_of_the_daemon_is_one_of_the_three_answers(
    world: World, status: int, message: str, answer: type[LaunchError]
) -> None:
    world.daemon.faults.add("create", status=status, message=message)
    with pytest.raises(answer, match=message) as caught:
        world.launch()
    assert caught.type is answer


def test_a_network_that_does_not_exist_is_the_agents_own_fault(world: World) -> None:
    with pytest.raises(LaunchForbidden, match="--network"):
        world.launch(launcher=world.new_launcher(networks=("missing",)))


# Images


def test_an_image_of_a_registry_is_pulled_each_time_and_a_local_one_never(world: World) -> None:
    world.launch("first", image=IMAGE)
    world.launch("second", image=IMAGE)
    world.launch("third", image=LOCAL_IMAGE)
    assert (world.daemon.count("pull"), len(world.daemon.containers())) == (2, 3)


def test_the_image_is_that_of_the_storage_then_of_the_run_then_prefects_own(world: World) -> None:
    storage = {"type": "Docker", "registry_url": "hub", "image_name": "etl", "image_tag": "9"}
    stored = FlowRun("r", "n", 1, NOON, Flow("f", "etl", 1, "1.4.1", storage), run_config={"type": "DockerRun"})
    build = world.launcher.build
    assert build(stored).image == "hub/etl:9"
    assert build(flow_run({"type": "DockerRun", "image": IMAGE})).image == IMAGE
    assert build(flow_run({"type": "UniversalRun", "env": {"A": "b"}})).image == "prefecthq/prefect:1.4.1"


def test_without_pulling_only_local_images_start(world: World) -> None:
    launcher = world.new_launcher(pulls=False)
    with pytest.raises(LaunchRejected, match=r"No such image.*--no-pull"):
        world.launch(launcher=launcher, image=IMAGE)
    assert world.daemon.count("pull") == 0


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        ("manifest for registry.example/flows:1 not found: manifest unknown", LaunchRejected),
        ("toomanyrequests: You have reached your pull rate limit", LaunchDeferred),
        ("net/http: TLS handshake timeout", LaunchDeferred),
    ],
)
def test_a_pull_that_fails_half_way_is_one_of_the_answers(world: World, error: str, answer: type[LaunchError]) -> None:
    world.daemon.pull_error = error
    with pytest.raises(answer, match=error):
        world.launch(image=IMAGE)


def test_an_image_that_nobody_has_is_refused_for_good(world: World) -> None:
    with pytest.raises(LaunchRejected, match="check the image's name"):
        world.launch(image="registry.example/missing:1")


def test_a_pull_that_takes_long_gives_the_run_back_and_goes_on_for_all(world: World) -> None:
    world.daemon.pull_may_end.clear()
    run = flow_run({"type": "DockerRun", "image": IMAGE})
    for key in ("first", "second"):
        with pytest.raises(LaunchDeferred, match="still being pulled"):
            world.launcher.launch(world.launcher.build(run), key, world.clock.now() + timedelta(seconds=0.1))
    assert world.daemon.count("pull") == 1
    world.daemon.pull_may_end.set()
    world.launch("third", image=IMAGE)
    assert len(world.daemon.containers()) == 1


def test_a_launch_that_comes_too_late_starts_nothing(world: World) -> None:
    request = world.launcher.build(flow_run({"type": "DockerRun", "image": LOCAL_IMAGE}))
    with pytest.raises(LaunchUnknown, match="stood still"):
        world.launcher.launch(request, KEY, NOON - timedelta(seconds=1))
    assert world.daemon.containers() == []


# Runs that cannot be


@pytest.mark.parametrize(
    ("run_config", "problem"),
    [
        ({"type": "ECSRun"}, "only `DockerRun` is supported"),
        ({"type": "DockerRun", "host_config": []}, "host_config is a list"),
        ({"type": "DockerRun", "host_config": {"colour": 1}}, "unusable host_config"),
        ({"type": "DockerRun", "host_config": {"mem_limit": "lots"}}, "unusable host_config"),
        ({"type": "DockerRun", "ports": "80"}, "ports is text"),
        ({"type": "DockerRun", "env": {"A": 1}}, "env: A is a number"),
    ],
)
def test_a_run_config_that_cannot_be_is_told_before_the_claim(world: World, run_config: Any, problem: str) -> None:
    with pytest.raises(UnsupportedRun, match=problem):
        world.launcher.build(flow_run(run_config))


# What has become of it


def test_a_container_that_runs_is_seen_alive_and_one_that_ended_with_its_exit_code(world: World) -> None:
    text = world.launch()
    (seen,) = world.launcher.look_at([text, f"{TEXT}unknown"])
    assert (seen.run_id, seen.key, seen.text, seen.is_running, seen.stop) == ("run-1", KEY, text, True, None)
    assert world.launcher.find_alive("run-1") == seen
    assert world.launcher.list_alive() == [seen]
    world.daemon.finish(text.removeprefix(TEXT), exit_code=137, out_of_memory=True)
    (ended,) = world.launcher.look_at([text])
    assert ended.stop
    assert (ended.stop.has_run, ended.stop.went_well, ended.stop.passes) == (True, False, False)
    assert "exit code 137 (it needs more memory)" in ended.stop.reason
    assert (world.launcher.find_alive("run-1"), world.launcher.list_alive()) == (None, [])


def test_stop_ends_a_container_and_is_content_when_there_is_none(world: World) -> None:
    text = world.launch()
    (seen,) = world.launcher.look_at([text])
    world.launcher.stop(seen, "cancelled")
    (ended,) = world.launcher.look_at([text])
    assert ended.stop
    assert "exit code 143" in ended.stop.reason
    world.clock.turn(3700)
    world.launcher.look_at([])
    world.launcher.stop(seen, "cancelled")
    assert world.daemon.containers() == []


def test_what_has_ended_is_kept_for_an_hour_and_as_long_as_it_is_asked_for(world: World) -> None:
    text = world.launch()
    world.clock.turn(7200)
    world.daemon.finish(text.removeprefix(TEXT))
    world.launcher.look_at([])
    world.clock.turn(3601)
    assert len(world.launcher.look_at([text])) == 1
    world.new_launcher(agent_name="another").look_at([])
    assert len(world.daemon.containers()) == 1
    world.launcher.look_at([])
    assert world.daemon.containers() == []


def test_what_a_flow_prints_is_shown_where_somebody_asked_for_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.launch(launcher=world.new_launcher(shows_logs=True))
    followers = [thread for thread in threading.enumerate() if thread.name.endswith("(_show_logs)")]
    for follower in followers:
        follower.join()
    assert "hello" in capsys.readouterr().out


# A daemon that is away


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# The SDK leaves the socket open that it could not connect.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("base_url", ["tcp", "unix"])
def test_a_daemon_that_is_away_defers_before_the_claim_and_says_what_to_do(base_url: str, tmp_path: Any) -> None:
    url = f"tcp://127.0.0.1:{free_port()}" if base_url == "tcp" else f"unix://{tmp_path}/docker.sock"
    launcher = DockerLauncher(ContainerSettings("http://host"), DockerOptions(url), TurnedClock(NOON))
    with pytest.raises(LaunchDeferred, match=r"start the Docker daemon, or say where it is \(--base-url\)"):
        launcher.build(flow_run())
    with pytest.raises(LaunchDeferred):
        _ = launcher.place
    del launcher
    gc.collect()


def test_a_daemon_that_went_away_says_nothing_of_what_lives(world: World) -> None:
    world.launch()
    world.daemon.faults.add("list", "cut_before", times=None)
    with pytest.raises(LaunchUnknown):
        world.launcher.find_alive("run-1")
    with pytest.raises(LaunchError):
        world.launcher.look_at(["x"])


def test_the_place_is_the_daemon_whatever_the_machine_is_called(world: World) -> None:
    assert (world.launcher.place.platform, world.launcher.place.name) == ("docker", "double-1")


@hypothesis.given(st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True), st.integers(1, 65535))
def test_no_container_is_sent_to_its_own_localhost(host: str, port: int) -> None:
    for each in (host, "localhost", "127.0.0.1"):
        assert not reachable_api_url(f"http://{each}:{port}", ()).startswith(("http://localhost:", "http://127.0.0.1:"))
