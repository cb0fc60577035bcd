"""The process form of the agent: tick, wait, tick again, until somebody says stop."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Protocol

from chalicelib.errors import AgentError, PrefectUnauthorized, SettingsError
from chalicelib.outcomes import TickReport
from chalicelib.ports import Clock

BACK_OFF_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
"""What Prefect's own agent 1.4.1 waits between polls: the first after a find, one further for each time in vain."""

RECOVERY_SECONDS = 60.0  # as the schedule has it in the Lambda

Wait = Callable[[float], bool]
"""Returns after so many seconds, or as soon as somebody says stop or pokes; answers whether somebody said stop."""

LOGGER = logging.getLogger(__name__)


class Ticking(Protocol):
    """The part of the agent that is used here."""

    def tick(self, deadline: datetime, recovers: bool = False) -> TickReport:
        """Serve what is due; first what an earlier tick left half done, if it `recovers`."""


def keep_ticking(
    agent: Ticking, clock: Clock, max_polls: int | None, wait: Wait, cadence_seconds: float = 10.0
) -> bool:
    """Tick until `wait` answers that somebody says stop, or `max_polls` ticks were made; None is no limit.

    Each tick is given a deadline `cadence_seconds` ahead and is never cut short. A tick that fails is one that found
    nothing: Prefect may be back later. PrefectUnauthorized and SettingsError are raised on, since waiting does not
    mend them. Says whether it ended well: by that word, or by a last tick that did its work.
    """
    ticks, back_off, succeeded = 0, 0, True
    next_recovery = clock.now()
    while max_polls is None or ticks < max_polls:
        now = clock.now()
        recovers = now >= next_recovery
        next_recovery = now + timedelta(seconds=RECOVERY_SECONDS) if recovers else next_recovery
        report = _try(agent, now + timedelta(seconds=cadence_seconds), recovers)
        succeeded = report is not None and not report.errors
        ticks += 1
        back_off = 0 if report and _got_on(report) else min(back_off + 1, len(BACK_OFF_SECONDS) - 1)
        if ticks != max_polls and wait(BACK_OFF_SECONDS[back_off]):
            return True
    return succeeded


def _got_on(report: TickReport) -> bool:
    """Whether more of the same may follow at once. Runs that are due and have to be left are no reason to hurry."""
    return bool(report.claimed or report.answers) and not report.errors and report.agent_fault is None


def _try(agent: Ticking, deadline: datetime, recovers: bool) -> TickReport | None:
    try:
        report = agent.tick(deadline, recovers)
    except (PrefectUnauthorized, SettingsError):
        raise
    except Exception as error:
        # The next tick starts from what Prefect knows, as it would in a process of its own.
        LOGGER.warning("Tick failed, trying again: %s", error, exc_info=not isinstance(error, AgentError))
        return None
    level = logging.WARNING if report.errors else logging.INFO if report.found else logging.DEBUG
    LOGGER.log(level, "Tick: %s", json.dumps(report.as_dict()))
    return report


class Bell:
    """Ends the wait between two ticks: somebody says stop, or pokes. It may be rung in any thread or signal handler."""

    def __init__(self) -> None:
        # An Event may not be set in a signal handler: it waits for ever for the wait that the signal interrupted.
        self._rings: SimpleQueue[bool] = SimpleQueue()

    def stop(self) -> None:
        """Let this wait be the last, or the next one, if none is under way."""
        self._rings.put(True)

    def poke(self) -> None:
        """Let the next tick be now; once, however often this is said before it begins."""
        self._rings.put(False)

    def wait(self, seconds: float) -> bool:
        """See `Wait`."""
        with suppress(Empty):
            stops = self._rings.get(timeout=seconds)
            while not stops:
                stops = self._rings.get_nowait()
            return True
        return False


@contextmanager
def stop_on_signals() -> Iterator[Bell]:
    """A Bell that SIGINT (Ctrl-C) and SIGTERM ring; in a thread other than the main one no signal does.

    The second one of either kind ends the process where it stands.
    """
    bell = Bell()
    kinds = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()

    def take(number: int, _frame: FrameType | None) -> None:
        for kind in kinds:
            signal.signal(kind, signal.SIG_DFL)
        # Written past the log and the stream, which the interrupted code may be in the middle of.
        os.write(2, f"{signal.Signals(number).name}: ending after this tick; once more ends at once\n".encode())
        bell.stop()

    before = {kind: signal.signal(kind, take) for kind in kinds}
    try:
        yield bell
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
