"""Flow runs started as processes of the agent's own machine, which outlive the agent."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen, TimeoutExpired
from threading import Thread

from chalicelib.builders.local_process import ProcessLaunch
from chalicelib.errors import LaunchDeferred, LaunchForbidden, LaunchRejected, LaunchUnknown, SettingsError, shorten
from chalicelib.flow_runs import FlowRun, Place
from chalicelib.launchers.local_processes import SHIM, end, find_processes, is_running, kill_rest, marks
from chalicelib.launchers.pacing import Pace
from chalicelib.ports import Clock
from chalicelib.sightings import Sighting, Stop

LOGGER = logging.getLogger(__name__)

KEPT_SECONDS = 60 * 60
"""How long it can be seen how a process has ended, as on ECS."""

LAST_WORDS_BYTES, LAST_WORDS_LIMIT = 4096, 256
LAST_WORDS_SECONDS = 2.0
"""How long an ended process waits for its last words; what it has started and left behind may hold them back."""

GRACE_SECONDS = 30.0
"""From SIGTERM to SIGKILL: what ECS and Kubernetes give where nobody says otherwise."""


def runtime_directory() -> Path:
    """Where the agents of this user on this machine keep what they know of their launches; nobody else can read it.

    Raises SettingsError when somebody else could.
    """
    directory = Path(tempfile.gettempdir(), f"prefect-agent-{os.getuid()}")
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if directory.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SettingsError([f"{directory} is not this user's alone: remove it, or set TMPDIR to another directory"])
    return directory


@dataclass(frozen=True)
class LocalLauncher:
    """Starts flow runs as processes, in sessions of their own. One a process, for all threads.

    `build` makes the launch request of a run. `directory` is shared by the agents of this machine, which see each
    other's processes: each bears its launch in its environment. A directory in there remembers a launch, until an hour
    after its end: the process id, the end of what it printed, and its exit code if its agent lived to see it.
    """

    build: Callable[[FlowRun], ProcessLaunch]
    agent_name: str
    directory: Path
    pace: Pace
    clock: Clock
    grace_seconds: float = GRACE_SECONDS
    host: str = field(default_factory=socket.gethostname)
    _awaited: set[Path] = field(default_factory=set)

    @property
    def place(self) -> Place:
        """This machine."""
        return Place("local", self.host)

    def room(self, seconds: float) -> int:
        """How many launches the pace lets go within so many seconds."""
        return self.pace.room(seconds)

    def launch(self, request: ProcessLaunch, key: str, start_until: datetime | None = None) -> str:
        """Start a process and say which it is: `Process <hostname>:<pid>`; the one that `key` has started is found.

        Raises LaunchRejected (LaunchForbidden without Prefect on this machine), LaunchDeferred while the machine has no
        room for a process, LaunchUnknown when it is later than `start_until`.
        """
        self.pace.acquire(start_until)
        if not re.fullmatch(r"[\w-]+ [\w-]+", f"{request.run_id} {key}"):
            raise LaunchRejected("The claim's key is none that an agent makes")
        self.directory.mkdir(mode=0o700, exist_ok=True)  # where what is old is cleared away, so is this
        with (self.directory / "lock").open("w") as lock:
            # Nobody else starts a process between the look and the start.
            fcntl.flock(lock, fcntl.LOCK_EX)
            earlier = next((each for each in self._survey() if each.key == key), None)
            if earlier is None:
                return self._start(request, key)
        if earlier.stop and not earlier.stop.went_well:
            raise LaunchRejected(earlier.stop.reason)
        return earlier.text

    def _start(self, request: ProcessLaunch, key: str) -> str:
        path = request.environment.get("PATH") or search_path()
        command = [*SHIM, _find_executable(request, path), *request.command[1:]]
        own = {"PATH": path, **request.environment, **marks(request.run_id, key, self.agent_name)}
        record = self.directory / f"{request.run_id}.{key}"
        directory = request.working_directory or record / "work"
        (record / "work").mkdir(parents=True, exist_ok=True)
        keeper = None if request.shows_output else _keep_last_words(record)
        output = keeper.stdin if keeper else None
        try:
            process = Popen(  # noqa: S603 - a flow run's command is what it is all about
                command,
                cwd=directory,
                env=os.environ | own,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError, MemoryError) as error:
            _ = keeper and keeper.communicate()
            shutil.rmtree(record)
            kind = LaunchDeferred if isinstance(error, BlockingIOError | MemoryError) else LaunchRejected
            what = f"No process can be started in {directory} on {self.host} (is it there, and this user's?)"
            raise kind(f"{what}: {shorten(str(error))}") from error
        if output:
            output.close()
        self._awaited.add(record)
        (record / "pid").write_text(str(process.pid))
        Thread(target=self._await_end, args=(process, keeper, record), daemon=True).start()
        return self._text(process.pid)

    def _await_end(self, process: Popen[bytes], keeper: Popen[bytes] | None, record: Path) -> None:
        """Reap a process, and remember how it has ended."""
        code = process.wait()
        with suppress(TimeoutExpired):
            _ = keeper and keeper.wait(LAST_WORDS_SECONDS)
        shutil.rmtree(record / "work", ignore_errors=True)
        with suppress(FileNotFoundError):
            (record / "exit_code").write_text(str(code))
        self._awaited.discard(record)
        LOGGER.log(logging.WARNING if code else logging.DEBUG, "Process %s: exit code %s", process.pid, code)
        _ = keeper and keeper.wait()

    def _survey(self) -> list[Sighting]:
        """All launches of this machine that live, or have ended within the hour."""
        # In this order: what is awaited is so until it is told how it ended.
        awaited, seen = set(self._awaited), {}
        for record in (path.parent for path in self.directory.glob("*/pid")):
            run_id, _, key = record.name.partition(".")
            if pid := _read(record / "pid"):
                text = self._text(pid)
                lives = record in awaited or is_running(int(pid), run_id)
                seen[run_id, key] = Sighting(run_id, key, text, lives, None if lives else _read_stop(record, text))
        for each in find_processes():
            if each.is_first and each.launch not in seen:
                seen[each.launch] = Sighting(*each.launch, self._text(each.process.pid), is_running=True)
        return list(seen.values())

    def _text(self, pid: int | str) -> str:
        return f"Process {self.host}:{pid}"

    def read_events(self, bodies: Sequence[str]) -> list[str]:  # noqa: ARG002 - no machine sends any
        """Nothing: the sweep alone finds out what has ended."""
        return []

    def find_alive(self, run_id: str) -> Sighting | None:
        """The process of this flow run; None when none lives: then what one has left behind is ended too."""
        found = next((each for each in self._survey() if each.run_id == run_id and each.stop is None), None)
        if found is None:
            kill_rest(run_id)
        return found

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:
        """What has become of these processes of this machine; nothing of another's, or of what was long forgotten.

        What has failed leaves nothing behind that goes on.
        """
        forgotten_at = self.clock.now().timestamp() - KEPT_SECONDS
        wanted = []
        for each in self._survey():
            record = self.directory / f"{each.run_id}.{each.key}"
            if each.text in texts:
                wanted.append(each)
                if each.stop and not each.stop.went_well:
                    kill_rest(each.run_id)
            elif each.stop and record.exists() and record.stat().st_mtime < forgotten_at:
                shutil.rmtree(record, ignore_errors=True)
        return wanted

    def list_alive(self) -> list[Sighting]:
        """All living processes that an agent of this name has launched on this machine."""
        own = [each for each in find_processes() if each.is_first and each.agent_name == self.agent_name]
        return [Sighting(*each.launch, self._text(each.process.pid), is_running=True) for each in own]

    def stop(self, sighting: Sighting, reason: str) -> None:  # noqa: ARG002 - a process cannot be told
        """End the process and all that it has started: SIGTERM, and SIGKILL after the grace. Raises LaunchUnknown."""
        if not (found := re.fullmatch(rf"Process {re.escape(self.host)}:(\d+)", sighting.text)):
            raise LaunchUnknown(f"it is not on {self.host}: only an agent on its own machine can end it")
        end(int(found[1]), sighting.run_id, self.grace_seconds)


def search_path() -> str:
    """The PATH of flow runs: this one's, after this Python's own directory when Prefect is installed there."""
    own, inherited = Path(sys.executable).parent, os.environ.get("PATH", os.defpath)
    return f"{own}{os.pathsep}{inherited}" if (own / "prefect").exists() else inherited


def _find_executable(request: ProcessLaunch, path: str) -> str:
    name = request.command[0]
    if found := name if "/" in name else shutil.which(name, path=path):
        return found
    is_ours = name == "prefect" and "PATH" not in request.environment
    raise (LaunchForbidden if is_ours else LaunchRejected)(
        f"There is no `{shorten(name, 60)}` on the PATH of flow runs: install it there, or set another PATH for them"
    )


def _keep_last_words(record: Path) -> Popen[bytes]:
    """A process that takes what another prints and remembers the end of it; it outlives us as that one does."""
    command = ["tail", "-c", str(LAST_WORDS_BYTES)]
    with (record / "output").open("wb") as file:
        return Popen(command, stdin=PIPE, stdout=file, stderr=DEVNULL, start_new_session=True)  # noqa: S603 - it is all ours


def _read_stop(record: Path, text: str) -> Stop:
    """How a launch has ended, as far as that was seen; a negative exit code is the number of a signal."""
    code = _read(record / "exit_code") or "unknown, as the agent that started it had ended before"
    words = shorten(_read(record / "output"), LAST_WORDS_BYTES)[-LAST_WORDS_LIMIT:]
    reason = f"{text} has ended with exit code {code}{f': {words}' if words else ''}"
    return Stop(reason, has_run=code not in ("126", "127"), went_well=code == "0")


def _read(path: Path) -> str:
    with suppress(FileNotFoundError):
        return path.read_text(errors="replace")
    return ""
