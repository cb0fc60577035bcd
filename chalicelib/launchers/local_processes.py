"""The processes of flow runs as this machine shows them: which launch each belongs to, and how they are ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from threading import Timer
from typing import NamedTuple

import psutil

LAUNCH_VARIABLE, PROCESS_VARIABLE = "FLOW_RUN_LAUNCH", "FLOW_RUN_PROCESS"
"""What every process of a launch has in its environment: whose it is, and the id of the first of them.

The launch ends with the first one. Those that this one has started have both variables too, and may outlive it.
"""

SHIM = ("/bin/sh", "-c", f'export {PROCESS_VARIABLE}=$$; exec "$@"', "sh")
"""What a command begins with, so that its process is told its own id, which nobody knows before it is there."""


class LaunchedProcess(NamedTuple):
    """A living process of a launch."""

    process: psutil.Process
    launch: tuple[str, str]
    """The flow run and the key."""
    agent_name: str
    is_first: bool


def marks(run_id: str, key: str, agent_name: str) -> dict[str, str]:
    """What is in the environment of a launch's first process, whatever launch its agent is a process of."""
    return {LAUNCH_VARIABLE: f"{run_id} {key} {agent_name}", PROCESS_VARIABLE: ""}


def find_processes() -> list[LaunchedProcess]:
    """All living processes of launches on this machine, as far as this user may see them."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError, ValueError):  # the last is what has no mark
            environment = process.environ()
            run_id, key, agent_name = environment.get(LAUNCH_VARIABLE, "").split(" ", 2)
            is_first = environment.get(PROCESS_VARIABLE) in ("", str(process.pid))
            found.append(LaunchedProcess(process, (run_id, key), agent_name, is_first))
    return found


def is_running(pid: int, run_id: str) -> bool:
    """Whether the first process of a launch of this run lives, which had this id.

    While a process becomes another program its environment is empty: whether it is the one is then told by its session.
    """
    with suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        environment = process.environ()
        told = environment.get(LAUNCH_VARIABLE, "").startswith(f"{run_id} ")
        return process.status() != psutil.STATUS_ZOMBIE and (told if environment else os.getsid(pid) == pid)
    return False


def kill_rest(run_id: str) -> None:
    """Kill what is left of a run whose launches have all ended: as in a container, nothing of it goes on alone."""
    left = [each for each in find_processes() if each.launch[0] == run_id]
    if not any(each.is_first for each in left):
        _kill(each.process for each in left)


def end(pid: int, run_id: str, grace_seconds: float) -> None:
    """End the run's launch whose first process this is: SIGTERM to its group now, SIGKILL later to what is left."""
    if is_running(pid, run_id):
        family = {each.process for each in find_processes() if each.launch[0] == run_id}
        with suppress(psutil.Error, OSError):
            first = psutil.Process(pid)
            family.update([first, *first.children(recursive=True)])
            os.killpg(pid, signal.SIGTERM)
        timer = Timer(grace_seconds, _kill, [family])
        timer.daemon = True
        timer.start()


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):  # which is also raised for another process that was given its id meanwhile
            process.kill()
