"""Figures and sheets for the tests of the bench."""

from __future__ import annotations

from bench.results import ECS_AGENT, ONE_PROCESS, PER_TICK, Figure, at_least
from bench.sheets import Sheet

FAST, SLOW = at_least(ONE_PROCESS, "runs a second", 210, 200), at_least(PER_TICK, "runs a second", 90, 200)
PEER = Figure(ECS_AGENT, "runs a second", 32)


def sheet(*figures: Figure, **more: object) -> Sheet:
    """A complete one, but for what is said otherwise."""
    made = Sheet("drain", "A backlog", "About it.", complete=True, reason="", figures=list(figures))
    for name, value in more.items():
        setattr(made, name, value)
    return made


def line_of(text: str, begin: str) -> str:
    """The one line that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(begin)]
    return line
