"""What is measured: figures of one agent each, and curves; each is kept as soon as it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

ONE_PROCESS = "one process"
PER_TICK = "a process per tick"
REAL_ZIP = "the real zip"
LINGERING_ZIP = "the real zip, lingering"
ECS_AGENT = "ECS agent 1.4.1"
KUBERNETES_AGENT = "Kubernetes agent 1.4.1"
ECS_WORKER = "ECS worker 3.8.8"
OURS = (ONE_PROCESS, PER_TICK, REAL_ZIP, LINGERING_ZIP)


@dataclass(frozen=True)
class Figure:
    """One number of one agent (OURS, a peer, or "" where only one thing is measured).

    `promise` is what it should be, "" when nothing is promised; `holds` whether it is.
    """

    agent: str
    quantity: str
    value: float
    unit: str = ""
    promise: str = ""
    holds: bool = True

    def __str__(self) -> str:
        return self.number + (f" {self.unit}" if self.unit else "")

    @property
    def number(self) -> str:
        """The value to three digits; a count, and what has four digits before the point, in full."""
        if self.value == round(self.value) or abs(self.value) >= 1000:
            return f"{self.value:,.0f}"
        return f"{self.value:.3g}"


@dataclass(frozen=True)
class Curve:
    """A line of the plot with this title; its points are in the units of the plot."""

    plot: str
    agent: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Plot:
    """The axes that curves of one title share."""

    title: str
    x: str
    y: str
    is_logarithmic: bool = False


@dataclass(frozen=True)
class Measurement:
    """Something to measure: what it is about in a sentence or two, what it needs installed, and how it is done.

    `needs` names environments (`prefect1`, `prefect3`, `postgres`). `measure` yields what it knows as soon as it does.
    """

    title: str
    about: str
    measure: Callable[[], Iterator[Figure | Curve]]
    needs: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()


def at_most(agent: str, quantity: str, value: float, limit: float, unit: str = "") -> Figure:
    """A number that is promised not to exceed a limit."""
    return Figure(agent, quantity, value, unit, f"at most {limit:g}", value <= limit)


def at_least(agent: str, quantity: str, value: float, limit: float, unit: str = "") -> Figure:
    """A number that is promised to reach a limit."""
    return Figure(agent, quantity, value, unit, f"at least {limit:g}", value >= limit)


def exactly(agent: str, quantity: str, value: float, promised: float) -> Figure:
    """A count that is promised."""
    return Figure(agent, quantity, value, "", f"{promised:g}", value == promised)
