"""The process form of the agent: tick, wait, tick again, until somebody says stop."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import FrameType
from typing import Protocol

from chalicelib.errors import PrefectError, PrefectUnauthorized, SettingsError
from chalicelib.outcomes import TickReport
from chalicelib.ports import Clock

BACK_OFF_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
"""What Prefect's own agent 1.4.1 waits between polls: the first after a find, one further for each time in vain."""

RECOVERY_SECONDS = 60.0

LOGGER = logging.getLogger(__name__)


class StopSignal(Protocol):
    """Whether the loop was told to end."""

    @property
    def requested(self) -> bool:
        """Whether somebody said stop."""

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or as soon as somebody says stop."""


def recovering(tick: Callable[[datetime, bool], TickReport], clock: Clock) -> Callable[[datetime], TickReport]:
    """A tick that recovers once in RECOVERY_SECONDS, the first time at once, as the schedule does in the Lambda."""
    latest: datetime | None = None

    def tick_and_recover(deadline: datetime) -> TickReport:
        nonlocal latest
        now = clock.now()
        is_due = latest is None or (now - latest).total_seconds() >= RECOVERY_SECONDS
        latest = now if is_due else latest
        return tick(deadline, is_due)

    return tick_and_recover


def keep_ticking(
    tick: Callable[[datetime], TickReport],
    clock: Clock,
    max_polls: int | None,
    stop: StopSignal,
    cadence_seconds: float = 10.0,
) -> bool:
    """Tick until `stop` is requested or `max_polls` ticks were made; None is no limit.

    Each tick is given a deadline `cadence_seconds` ahead and is never cut short. A tick that fails is one that found
    nothing: Prefect may be back later. PrefectUnauthorized and SettingsError are raised on, since waiting does not
    mend them. Says whether the last tick did its work; True when there was none.
    """
    ticks, back_off, succeeded = 0, 0, True
    while not stop.requested and (max_polls is None or ticks < max_polls):
        report = _try(tick, clock.now() + timedelta(seconds=cadence_seconds))
        succeeded = report is not None
        ticks += 1
        back_off = 0 if report and _got_on(report) else min(back_off + 1, len(BACK_OFF_SECONDS) - 1)
        if ticks != max_polls:
            stop.wait(BACK_OFF_SECONDS[back_off])
    return succeeded


def _got_on(report: TickReport) -> bool:
    """Whether more of the same may follow at once. Runs that are due and have to be left are no reason to hurry."""
    return bool(report.claimed or report.answers) and not report.errors and report.agent_fault is None


def _try(tick: Callable[[datetime], TickReport], deadline: datetime) -> TickReport | None:
    try:
        report = tick(deadline)
    except (PrefectUnauthorized, SettingsError):
        raise
    except PrefectError as error:
        LOGGER.warning("Tick failed, trying again: %s", error)
        return None
    except Exception:
        # The next tick starts from what Prefect knows, as it would in a process of its own.
        LOGGER.exception("Tick failed, trying again")
        return None
    _log_report(report)
    return report


def _log_report(report: TickReport) -> None:
    is_idle = not report.found and not report.errors
    LOGGER.log(logging.DEBUG if is_idle else logging.INFO, "Tick: %s", json.dumps(report.as_dict()))
    if report.agent_fault is not None:
        LOGGER.error("This agent is misconfigured, no more is claimed: %s", report.agent_fault)


class _Stop:
    """A StopSignal that is set by the operating system's signals."""

    def __init__(self) -> None:
        self._event = threading.Event()

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or when a signal comes."""
        self._event.wait(seconds)

    def request(self, number: int, _frame: FrameType | None) -> None:
        """Take the first signal; the next one of either kind ends the process where it stands."""
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, signal.SIG_DFL)
        # Written past the log and the stream, which the interrupted code may be in the middle of.
        os.write(2, f"{signal.Signals(number).name}: ending after this tick; once more ends at once\n".encode())
        self._event.set()


@contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """SIGINT (Ctrl-C) and SIGTERM request a stop inside this context, which only the main thread may enter."""
    stop = _Stop()
    before = {kind: signal.signal(kind, stop.request) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
