"""The local launcher, with real processes of this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from chalicelib.agent import Agent
from chalicelib.builders.local_process import ProcessLaunch
from chalicelib.clock import SystemClock
from chalicelib.errors import LaunchDeferred, LaunchForbidden, LaunchRejected, LaunchUnknown, SettingsError
from chalicelib.flow_runs import FlowRun, Place
from chalicelib.launchers.local import KEPT_SECONDS, LocalLauncher, runtime_directory
from chalicelib.launchers.local_processes import find_processes
from chalicelib.launchers.pacing import Pace
from chalicelib.sightings import Consequence, Sighting, Stop
from tests.doubles.clock import TurnedClock
from tests.doubles.prefect1 import Prefect1Server
from tests.prefect1_agents import make_api

HOST = socket.gethostname()
PATIENCE_SECONDS = 20.0
RUN = f"run-{uuid4()}"
"""Of this process alone: what lives for a run is seen by every agent of a machine."""
KEY = f"{RUN}-1"


class Machine:
    """A directory that agents share, and the processes that they have started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def agent(self, name: str = f"agent of {RUN}", grace_seconds: float = 30.0, **more: Any) -> LocalLauncher:
        """One more agent's launcher."""
        clock = SystemClock()
        return LocalLauncher(_sleep, name, self.directory, Pace(0, clock), clock, grace_seconds, **more)

    def end(self) -> None:
        """Kill all that is left; when nobody waits for any of it, its directory has nothing that still changes."""
        for pid in (int(path.read_text()) for path in self.directory.glob("*/pid")):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        wait_until(lambda: not waiting_threads())


def waiting_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if "_await_end" in each.name]


def _sleep(run: FlowRun) -> ProcessLaunch:
    return shell("exec sleep 100", run.id)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "agents").mkdir()
    machine = Machine(tmp_path / "agents")
    yield machine
    machine.end()


@pytest.fixture
def launcher(machine: Machine) -> LocalLauncher:
    return machine.agent()


def shell(script: str, run_id: str = RUN, **more: Any) -> ProcessLaunch:
    return ProcessLaunch(run_id, ["sh", "-c", script], more.pop("environment", {}), **more)


def wait_until(is_so: Callable[[], Any]) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < give_up, "it was not so in time"
        time.sleep(0.01)


def stop_of(launcher: LocalLauncher, text: str) -> Stop:
    """How a launch ended, once it has."""
    seen: list[Sighting] = []

    def has_ended() -> bool:
        seen[:] = launcher.look_at([text])
        return bool(seen and seen[0].stop)

    wait_until(has_ended)
    assert seen[0].stop
    return seen[0].stop


def pid_of(text: str) -> int:
    return int(text.rpartition(":")[2])


def names_of_children(text: str) -> list[str]:
    with suppress(psutil.NoSuchProcess):
        return [each.name() for each in psutil.Process(pid_of(text)).children()]
    return []


def lives(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


# what is started


def test_a_launch_is_named_by_this_machine_and_the_process(launcher: LocalLauncher) -> None:
    text = launcher.launch(shell("sleep 100"), KEY)
    assert text == f"Process {HOST}:{pid_of(text)}"
    assert launcher.look_at([text]) == [Sighting(RUN, KEY, text, is_running=True)]
    assert launcher.place == Place("local", HOST)
    assert lives(pid_of(text))


def test_a_process_has_the_agents_environment_and_its_own(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_AGENT", "a")
    monkeypatch.setenv("OF_BOTH", "a")
    script = f'echo "$OF_THE_AGENT $OF_BOTH $PWD" > {tmp_path}/told'
    request = shell(script, environment={"OF_BOTH": "b"}, working_directory=str(tmp_path))
    assert stop_of(launcher, launcher.launch(request, KEY)).went_well
    assert (tmp_path / "told").read_text() == f"a b {tmp_path}\n"


def test_a_process_without_a_directory_gets_one_that_is_gone_with_it(launcher: LocalLauncher, tmp_path: Path) -> None:
    request = shell(f"touch here; pwd > {tmp_path}/told")
    assert stop_of(launcher, launcher.launch(request, KEY)).went_well
    directory = Path((tmp_path / "told").read_text().strip())
    assert directory not in (Path.cwd(), tmp_path)
    assert not directory.exists()


def test_a_process_is_in_a_session_of_its_own_and_outlives_its_agent(machine: Machine, tmp_path: Path) -> None:
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.unit.test_local_launcher import Machine, shell
from pathlib import Path
script = "sleep 0.5; echo on; echo on; touch {tmp_path}/done; exec sleep 100"
print(Machine(Path({str(machine.directory)!r})).agent().launch(shell(script, {RUN!r}), {KEY!r}))
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    text = finished.stdout.strip()
    assert os.getsid(pid_of(text)) == pid_of(text)
    # What it prints after the end of its agent does it no harm.
    wait_until((tmp_path / "done").exists)
    other = machine.agent()
    assert other.look_at([text]) == [Sighting(RUN, KEY, text, is_running=True)]
    assert other.launch(shell("sleep 100"), KEY) == text
    other.stop(Sighting(RUN, KEY, text), "")
    reason = stop_of(other, text).reason
    assert "exit code unknown, as the agent that started it had ended before" in reason
    wait_until(lambda: "on on" in stop_of(other, text).reason)


def test_what_a_process_prints_is_shown_where_that_is_asked_for(
    launcher: LocalLauncher, capfd: pytest.CaptureFixture[str]
) -> None:
    hidden = launcher.launch(shell("echo hidden"), KEY)
    shown = launcher.launch(shell("echo shown; echo this too >&2", shows_output=True), f"{KEY}-2")
    assert stop_of(launcher, hidden).went_well
    assert stop_of(launcher, shown).went_well
    assert capfd.readouterr() == ("shown\nthis too\n", "")


# once


def test_one_key_starts_one_process_whoever_asks(machine: Machine) -> None:
    agents = [machine.agent(f"agent-{number}") for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        texts = set(threads.map(lambda agent: agent.launch(shell("sleep 100"), KEY), agents))
    assert len(texts) == 1
    wait_until(lambda: len([each for each in find_processes() if each.launch == (RUN, KEY) and each.is_first]) == 1)


@pytest.mark.parametrize("reader", ["the same agent", "another"])
def test_a_key_that_was_used_up_starts_nothing_more(machine: Machine, launcher: LocalLauncher, reader: str) -> None:
    good, bad = launcher.launch(shell("true"), f"{KEY}-1"), launcher.launch(shell("echo oh; exit 3"), f"{KEY}-2")
    assert stop_of(launcher, good).went_well
    assert not stop_of(launcher, bad).went_well
    again = launcher if reader == "the same agent" else machine.agent()
    assert again.launch(shell("sleep 100"), f"{KEY}-1") == good
    with pytest.raises(LaunchRejected, match="exit code 3: oh"):
        again.launch(shell("sleep 100"), f"{KEY}-2")
    assert again.list_alive() == []


def test_another_key_starts_another_process(launcher: LocalLauncher) -> None:
    first, second = (launcher.launch(shell("sleep 100"), f"{KEY}-{n}") for n in (1, 2))
    assert first != second
    assert [each.stop for each in launcher.look_at([first, second])] == [None, None]


@pytest.mark.parametrize("key", ["../escape", "a b", ""])
def test_a_key_of_nobodys_making_is_refused(launcher: LocalLauncher, key: str) -> None:
    with pytest.raises(LaunchRejected, match="none that an agent makes"):
        launcher.launch(shell("true"), key)


# what cannot be started


def test_without_prefect_the_agent_is_misconfigured(launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LaunchForbidden, match="There is no `prefect` on the PATH"):
        launcher.launch(ProcessLaunch(RUN, ["prefect", "execute", "flow-run"], {}), KEY)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ProcessLaunch(RUN, ["prefect"], {"PATH": "/nowhere"}), "no `prefect` on the PATH"),
        (ProcessLaunch(RUN, ["no-such-program"], {}), "no `no-such-program` on the PATH"),
        (shell("true", working_directory="/no/such/directory"), "in /no/such/directory on .*is it there"),
        (shell("true", environment={"A": "\x00"}), "null byte"),
        (shell("true", environment={"A": "x" * 4_000_000}), "Argument list too long"),
    ],
)
def test_what_a_run_has_wrong_is_refused_for_good(
    launcher: LocalLauncher, request_: ProcessLaunch, reason: str
) -> None:
    with pytest.raises(LaunchRejected, match=reason) as refusal:
        launcher.launch(request_, KEY)
    assert not isinstance(refusal.value, LaunchForbidden)
    assert launcher.list_alive() == []
    # Once that is mended, the same key may be used.
    text = launcher.launch(shell("sleep 100"), KEY)
    assert launcher.find_alive(RUN) == Sighting(RUN, KEY, text, is_running=True)


def test_a_machine_that_is_full_refuses_for_now() -> None:
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import os, resource, shutil, tempfile
from tests.unit.test_local_launcher import Machine, shell
from pathlib import Path
if os.getuid() == 0:
    os.setuid(64123)  # root is never refused
launcher = Machine(Path(tempfile.mkdtemp())).agent()
request = shell("true", shows_output=True)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
try:
    launcher.launch(request, {KEY!r})
except Exception as error:
    print(type(error).__name__)
shutil.rmtree(launcher.directory)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == LaunchDeferred.__name__


def test_a_tick_that_stood_still_starts_nothing(launcher: LocalLauncher) -> None:
    with pytest.raises(LaunchUnknown):
        launcher.launch(shell("true"), KEY, datetime.now(UTC) - timedelta(seconds=1))
    assert list(launcher.directory.glob("*/pid")) == []


# how it ends


@pytest.mark.parametrize(
    ("script", "code", "has_run"),
    [("exit 7", "7", True), ("kill -9 $$", "-9", True), ("exec /no/such/program", "127", False)],
)
def test_a_failed_process_is_a_stop_with_its_exit_code_and_last_words(
    launcher: LocalLauncher, script: str, code: str, has_run: bool
) -> None:
    stop = stop_of(launcher, launcher.launch(shell(f"echo the; echo last word >&2; {script}"), KEY))
    assert f"has ended with exit code {code}: the last word" in stop.reason
    assert (stop.has_run, stop.went_well, stop.passes) == (has_run, False, False)


def test_only_the_last_of_many_words_are_told(launcher: LocalLauncher) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 1"
    reason = stop_of(launcher, launcher.launch(shell(script), KEY)).reason
    assert reason.endswith("line 2999")
    assert len(reason) < 400
    (output,) = launcher.directory.glob("*/output")
    assert output.stat().st_size == 4096


def test_nothing_stays_behind_as_a_zombie(launcher: LocalLauncher) -> None:
    before = psutil.Process().children()  # a server of other tests, perhaps
    text = launcher.launch(shell("exit 1"), KEY)
    assert not stop_of(launcher, text).went_well
    wait_until(lambda: not waiting_threads())
    assert psutil.Process().children() == before


def test_what_a_failed_process_leaves_behind_ends_with_it(launcher: LocalLauncher, tmp_path: Path) -> None:
    script = f"setsid sleep 100 & echo $! > {tmp_path}/child; exit 1"
    text = launcher.launch(shell(script, shows_output=True), KEY)
    assert not stop_of(launcher, text).went_well
    wait_until(lambda: not lives(int((tmp_path / "child").read_text())))


def test_what_a_process_leaves_behind_is_no_living_launch(launcher: LocalLauncher, tmp_path: Path) -> None:
    script = f"setsid sleep 100 & echo $! > {tmp_path}/child; exit 0"
    text = launcher.launch(shell(script, shows_output=True), KEY)
    assert stop_of(launcher, text).went_well
    child = int((tmp_path / "child").read_text())
    assert lives(child)
    assert launcher.list_alive() == []
    # Before its run is launched again, nothing of it may live.
    assert launcher.find_alive(RUN) is None
    wait_until(lambda: not lives(child))


def test_the_end_of_a_process_is_remembered_for_an_hour(machine: Machine) -> None:
    launcher = machine.agent()
    text = launcher.launch(shell("exit 1"), KEY)
    assert not stop_of(launcher, text).went_well
    wait_until(lambda: not waiting_threads())
    for seconds, expected in ((KEPT_SECONDS - 60, 1), (KEPT_SECONDS + 60, 0)):
        later = replace(launcher, clock=TurnedClock(datetime.now(UTC) + timedelta(seconds=seconds)))
        assert later.look_at([]) == []
        assert len(list(machine.directory.glob("*/pid"))) == expected
    assert launcher.look_at([text]) == []


# stopping and looking


def test_stopping_ends_the_whole_group_by_sigterm(machine: Machine, tmp_path: Path) -> None:
    launcher = machine.agent()
    script = f"trap 'touch {tmp_path}/heard; exit 0' TERM; sleep 100 & touch {tmp_path}/ready; wait"
    text = launcher.launch(shell(script), KEY)
    wait_until((tmp_path / "ready").exists)
    # Until it sleeps it may still heed what the shell heeds.
    wait_until(lambda: names_of_children(text) == ["sleep"])
    (child,) = psutil.Process(pid_of(text)).children()
    machine.agent("another").stop(launcher.look_at([text])[0], "cancelled")
    assert stop_of(launcher, text).went_well
    assert (tmp_path / "heard").exists()
    wait_until(lambda: not lives(child.pid))


def test_what_does_not_heed_sigterm_is_killed_with_all_it_has_started(machine: Machine, tmp_path: Path) -> None:
    launcher = machine.agent(grace_seconds=0.2)
    script = (
        f"trap '' TERM; setsid sleep 100 & echo $! > {tmp_path}/child; touch {tmp_path}/ready; sleep 100; sleep 100"
    )
    text = launcher.launch(shell(script, shows_output=True), KEY)
    wait_until((tmp_path / "ready").exists)
    launcher.stop(launcher.look_at([text])[0], "cancelled")
    assert "exit code -9" in stop_of(launcher, text).reason
    wait_until(lambda: not lives(int((tmp_path / "child").read_text())))


def test_what_has_ended_can_be_stopped_again(launcher: LocalLauncher) -> None:
    text = launcher.launch(shell("true"), KEY)
    before = stop_of(launcher, text)
    launcher.stop(Sighting(RUN, KEY, text), "cancelled")
    assert stop_of(launcher, text) == before


def test_another_machines_processes_are_left_out(machine: Machine, launcher: LocalLauncher) -> None:
    text = launcher.launch(shell("sleep 100"), KEY)
    elsewhere = machine.agent(host="elsewhere")
    assert elsewhere.look_at([text]) == []
    assert launcher.look_at([f"Process elsewhere:{pid_of(text)}", f"Process {HOST}:1", "Job x"]) == []
    with pytest.raises(LaunchUnknown, match="only an agent on its own machine"):
        elsewhere.stop(Sighting(RUN, KEY, text), "cancelled")
    assert lives(pid_of(text))


def test_a_run_is_found_whoever_launched_it_and_everything_of_an_agent_by_its_name(machine: Machine) -> None:
    ours, others = machine.agent(f"ours of {RUN}"), machine.agent("others")
    first = ours.launch(shell("sleep 100"), KEY)
    second = others.launch(shell("sleep 100", f"{RUN}-b"), f"{RUN}-b-1")
    assert ours.find_alive(f"{RUN}-b") == Sighting(f"{RUN}-b", f"{RUN}-b-1", second, is_running=True)
    assert ours.find_alive(f"{RUN}-c") is None
    wait_until(lambda: ours.list_alive() == [Sighting(RUN, KEY, first, is_running=True)])


def test_an_agent_inside_of_a_flow_run_starts_launches_of_its_own(machine: Machine) -> None:
    program = f"""
import sys, time; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.unit.test_local_launcher import Machine, shell
from pathlib import Path
Machine(Path({str(machine.directory)!r})).agent("inner of {RUN}").launch(shell("sleep 100", "{RUN}-in"), "{KEY}-in")
time.sleep(100)
"""
    launcher = machine.agent()
    outer = launcher.launch(ProcessLaunch(RUN, [sys.executable, "-c", program], {}, shows_output=True), KEY)
    wait_until(lambda: launcher.find_alive(f"{RUN}-in"))
    inner = machine.agent(f"inner of {RUN}")
    wait_until(lambda: [(each.run_id, each.key) for each in inner.list_alive()] == [(f"{RUN}-in", f"{KEY}-in")])
    assert [each.text for each in launcher.list_alive()] == [outer]


def test_no_event_says_anything(launcher: LocalLauncher) -> None:
    assert launcher.read_events([json.dumps({"process": 1})]) == []
    assert launcher.room(1) > 1000


# the runtime directory


def test_a_runtime_directory_that_others_may_read_is_refused(tmp_path: Path) -> None:
    program = "from chalicelib.launchers.local import runtime_directory; print(runtime_directory())"
    ask = [sys.executable, "-c", program]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    root = Path(__file__).parents[2]
    told = subprocess.run(ask, env=environment, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(told).parent == tmp_path
    assert Path(told).stat().st_mode & 0o077 == 0
    Path(told).chmod(0o755)
    refused = subprocess.run(ask, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert SettingsError.__name__ in refused.stderr
    assert "remove it, or set TMPDIR" in refused.stderr


def test_the_runtime_directory_is_the_same_for_all_agents_of_a_user() -> None:
    assert runtime_directory() == runtime_directory()


# with Prefect


class Laptop:
    """An agent of ours on the Prefect 1 double, whose flow runs only sleep."""

    def __init__(self, server: Prefect1Server, machine: Machine) -> None:
        self.server, self.launcher, self.clock = server, machine.agent("lambda", grace_seconds=0.2), SystemClock()

    def tick(self) -> dict[str, Any]:
        """A tick of a process of its own, which recovers."""
        agent = Agent(make_api(self.server, self.clock), self.launcher, self.clock)
        return agent.tick(self.clock.now() + timedelta(seconds=10), recovers=True).as_dict()

    def start_run(self) -> tuple[str, str]:
        """A run that runs, and what it was launched as."""
        run_id = self.server.add_flow_run()
        assert self.tick()["launched"] == 1
        self.server.set_state(run_id, {"type": "Running"})
        (sign,) = self.server.logs(run_id)
        return run_id, sign["message"].removeprefix("Submitted for execution: ")


@pytest.fixture
def laptop(machine: Machine) -> Iterator[Laptop]:
    with Prefect1Server() as server:
        yield Laptop(server, machine)


def test_the_sweep_fails_a_run_whose_process_ended_without_a_word(laptop: Laptop) -> None:
    run_id, text = laptop.start_run()
    assert laptop.tick()["stopped"] == {}
    os.kill(pid_of(text), signal.SIGKILL)
    assert not stop_of(laptop.launcher, text).went_well
    assert laptop.tick()["stopped"] == {Consequence.FAIL.value: 1}
    run = laptop.server.flow_run(run_id)
    assert (run["state"], run["state_message"]) == ("Failed", f"{text} has ended with exit code -9")


def test_the_sweep_ends_the_process_of_a_cancelled_run(laptop: Laptop) -> None:
    run_id, text = laptop.start_run()
    laptop.server.set_state(run_id, {"type": "Cancelling"})
    cancelling = Agent(make_api(laptop.server, laptop.clock), laptop.launcher, laptop.clock)
    cancelling.sweep.manners = replace(cancelling.sweep.manners, cancel_grace_seconds=-1)
    cancelling.tick(laptop.clock.now() + timedelta(seconds=10), recovers=True)
    assert "exit code -15" in stop_of(laptop.launcher, text).reason
    assert laptop.tick()["stopped"] == {Consequence.CONFIRM.value: 1}
    assert laptop.server.flow_run(run_id)["state"] == "Cancelled"
