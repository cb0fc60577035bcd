"""The table at the head of the page and in the README: each of its numbers stands on a sheet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.markdown import table
from bench.results import ONE_PROCESS, OURS, REAL_ZIP, Figure
from bench.sheets import Sheet

BUSY = "0.35 s / half the cadence of 10 s, and a tenth"
HEAD = ("what", "best peer, measured here", "ours", "asked", "holds?")
UNKNOWN, NO = "-", "**no**"


@dataclass(frozen=True)
class Number:
    """A quantity of ours on a sheet, and of the peers on the same one: the `best` of them is shown.

    `asked` is the quantity that carries the promise, when that is another one (a ratio to the peers); `peers` is the
    one that the peers have, when that is another one.
    """

    sheet: str
    quantity: str
    agent: str = ONE_PROCESS
    best: Callable[[Iterable[float]], float] = min
    asked: str = ""
    peers: str = ""


@dataclass(frozen=True)
class Row:
    """Something asked for, in one number or in some that belong together."""

    what: str
    asked: str
    numbers: tuple[Number, ...]
    joined: str = " / "


def _start(serves: str) -> Number:
    return Number("start", f"{serves}: start to first poll", asked=f"{serves}: start, of the best peer's")


def _late(sheet: str) -> tuple[Number, ...]:
    return tuple(
        Number(sheet, f"{case}: lateness, half of the runs") for case in ("planned", "ad hoc, busy", "ad hoc, sparse")
    )


def _idle(quantity: str, meant: str = "") -> Number:
    """Of the peers the one that serves what the Lambda serves here: its numbers belong together."""
    return Number("idle", f"in the Lambda: {meant or quantity}", REAL_ZIP, peers=f"Prefect 1 on ECS: {quantity}")


def _killed(sheet: str) -> tuple[Number, ...]:
    return Number(sheet, "lost"), Number(sheet, "started twice")


ROWS: tuple[Row, ...] = (
    Row(
        "start to first poll: Prefect 1 on ECS / on Kubernetes / work pool",
        "a quarter of the best peer's",
        (_start("Prefect 1 on ECS"), _start("Prefect 1 on Kubernetes"), _start("a work pool on ECS")),
    ),
    Row(
        "runs a second, 1,000 due: Prefect 1 on ECS / on Kubernetes",
        "200",
        (Number("drain", "runs a second", best=max), Number("kubernetes", "runs a second", best=max)),
    ),
    Row(
        "the same, 30 ms for each root field of a mutation",
        "64",
        (
            Number("drain-per-field", "runs a second", best=max),
            Number("kubernetes-per-field", "runs a second", best=max),
        ),
    ),
    Row(
        "runs a second, 1,000 due: work pool",
        "5 times the worker's",
        (Number("pools", "runs a second, start included", best=max, asked="times the worker's rate"),),
    ),
    Row(
        "requests to Prefect + to the platform a run: Prefect 1 on ECS",
        "0.2 + 1.02",
        (Number("drain", "requests to Prefect a run"), Number("drain", "calls to ECS a run")),
        " + ",
    ),
    Row(
        "the same: on Kubernetes",
        "0.2 + 1.02",
        (Number("kubernetes", "requests to Prefect a run"), Number("kubernetes", "requests to Kubernetes a run")),
        " + ",
    ),
    Row(
        "the same: work pool on ECS",
        "3 + 1.02",
        (Number("pools", "requests to Prefect a run"), Number("pools", "calls to ECS a run")),
        " + ",
    ),
    Row(
        "CPU a run: Prefect 1 on ECS / on Kubernetes / work pool",
        "4 / 4 / 20 ms",
        (
            Number("drain", "CPU a run"),
            Number("kubernetes", "CPU a run"),
            Number("pools", "CPU a run, without the start"),
        ),
    ),
    Row(
        "memory, 1,000 due: Prefect 1 on ECS / on Kubernetes / work pool",
        "80 MB",
        (Number("drain", "peak memory"), Number("kubernetes", "peak memory"), Number("pools", "peak memory")),
    ),
    Row(
        "AWS's documented limits, 1,000 due: launched / Failed / settled after",
        "1,000 / 0 / 56 s",
        (
            Number("limits", "Submitted, with a task", best=max),
            Number("limits", "Failed, without a task"),
            Number("limits", "seconds until all is settled"),
        ),
    ),
    Row(
        "lateness, half of the runs, Prefect 1: planned / ad hoc, busy / ad hoc, sparse",
        f"0.07 s / {BUSY}",
        _late("lateness"),
    ),
    Row("the same: work pool", f"- / {BUSY}", _late("pools-lateness")),
    Row(
        "a minute with nothing due, Prefect 1 on ECS: requests to Prefect / CPU / memory, woken / scheduled",
        "8 / - / 45 / 45 MB",
        (
            _idle("requests to Prefect"),
            _idle("CPU"),
            _idle("peak memory", "peak memory, woken"),
            _idle("peak memory", "peak memory, scheduled"),
        ),
    ),
    Row("process killed 30 times, Prefect 1: runs lost / started twice", "0 / 0", _killed("kills")),
    Row("the same: work pool", "0 / 0", _killed("pools-kills")),
)


def summary(sheets: Mapping[str, Sheet], rows: Sequence[Row] = ROWS) -> str:
    """The table in Markdown."""
    return table(HEAD, [_cells(row, sheets) for row in rows])


def _cells(row: Row, sheets: Mapping[str, Sheet]) -> tuple[str, ...]:
    best = [_best_peer(number, sheets) for number in row.numbers]
    ours = [_find(sheets, number.sheet, number.quantity, number.agent) for number in row.numbers]
    incomplete = _incomplete(row, sheets)
    mark = f" (incomplete: {', '.join(incomplete)})" if incomplete else ""
    return row.what, _peers(best, row.joined) + mark, _joined(ours, row.joined) + mark, row.asked, _holds(row, sheets)


def _incomplete(row: Row, sheets: Mapping[str, Sheet]) -> list[str]:
    """The sheets of this row that were not measured to their end."""
    names = dict.fromkeys(number.sheet for number in row.numbers)
    return [name for name in names if name in sheets and not sheets[name].complete]


def _find(sheets: Mapping[str, Sheet], sheet: str, quantity: str, agent: str) -> Figure | None:
    return sheets[sheet].find(quantity, agent) if sheet in sheets else None


def _best_peer(number: Number, sheets: Mapping[str, Sheet]) -> Figure | None:
    figures = sheets[number.sheet].figures if number.sheet in sheets else []
    quantity = number.peers or number.quantity
    of_peers = [each for each in figures if each.quantity == quantity and each.agent not in (*OURS, "")]
    by_value = {each.value: each for each in of_peers}
    return by_value[number.best(by_value)] if by_value else None


def _peers(figures: Sequence[Figure | None], joined: str) -> str:
    """The numbers, and whose they are."""
    agents = dict.fromkeys(figure.agent for figure in figures if figure)
    return _joined(figures, joined) + (f" ({', '.join(agents)})" if agents else "")


def _joined(figures: Sequence[Figure | None], joined: str) -> str:
    """The numbers with their unit, which is told once when it is the same for all."""
    if not any(figures):
        return UNKNOWN
    units = {figure.unit for figure in figures if figure}
    if len(units) > 1:
        return joined.join(str(figure) if figure else UNKNOWN for figure in figures)
    numbers = joined.join(figure.number if figure else UNKNOWN for figure in figures)
    return f"{numbers} {units.pop()}".strip()


def _holds(row: Row, sheets: Mapping[str, Sheet]) -> str:
    """The verdict on the form of ours that is shown, and the other forms whose promise does not hold.

    What was not measured to its end may be broken, and does not hold yet.
    """
    asked = [(number.sheet, number.asked or number.quantity) for number in row.numbers]
    shown = [_find(sheets, *each, number.agent) for each, number in zip(asked, row.numbers, strict=True)]
    others = [figure for each in asked for agent in OURS if (figure := _find(sheets, *each, agent))]
    broken = dict.fromkeys(figure.agent for figure in others if not figure.holds and figure not in shown)
    exceptions = f" ({', '.join(broken)}: {NO})" if broken else ""
    if verdict(shown) == NO:
        return NO
    return (UNKNOWN if _incomplete(row, sheets) else verdict(shown)) + exceptions


def verdict(figures: Iterable[Figure | None]) -> str:
    """Whether what is asked holds: no as soon as one does not, yes only when all were measured and some promised."""
    known = list(figures)
    if any(figure and not figure.holds for figure in known):
        return NO
    return "yes" if all(known) and any(figure and figure.promise for figure in known) else UNKNOWN
