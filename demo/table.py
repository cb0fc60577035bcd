"""The result as text of at most 120 columns, in colours on a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence

from demo.outcome import Health, Launch, Row
from demo.parts import Parts
from demo.stages import ECS, KUBERNETES

WIDTH = 120
HEADS = ("flow run", "labels", "state", "task", "message")
GREEN, YELLOW, RED, BLUE = 32, 33, 31, 34
COLOURS = {"Submitted": GREEN, "Running": GREEN, "Scheduled": YELLOW, "Cancelled": YELLOW, "Failed": RED}
GAP = "  "
MESSAGE_LINES = 6
ID_LENGTH = 8

Paint = Callable[[str, int], str]


def in_colour(text: str, colour: int) -> str:
    """The text as a terminal colours it."""
    return f"\x1b[{colour}m{text}\x1b[0m"


def plain(text: str, colour: int) -> str:  # noqa: ARG001 - the same shape as `in_colour`
    """The text alone."""
    return text


def render_rows(rows: Sequence[Row], paint: Paint) -> str:
    """The table of flow runs."""
    cells = [_cells(row) for row in rows]
    widths = [max(len(line[column]) for line in [HEADS, *cells]) for column in range(len(HEADS) - 1)]
    room = WIDTH - sum(widths) - len(GAP) * len(widths)
    lines = [_line(HEADS, widths), GAP.join("-" * width for width in [*widths, room])]
    for row, line in zip(rows, cells, strict=True):
        lines += _paint_state(_wrapped(line, widths, room), row.state, widths, paint)
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    labels = ", ".join(row.run.kind.labels) or "-"
    tasks = ", ".join(map(short_name, row.launches)) or "-"
    # Region and account are the same in every ARN here, and would take half of a line each.
    message = re.sub(r"arn:aws:ecs:[^:]*:[^:]*:", "", row.message)
    return (row.run.kind.name, labels, row.state, tasks, message or "-")


def short_name(launch: Launch) -> str:
    """A task's cluster and the beginning of its id, or a Job's name with the beginning of its flow run's id."""
    if launch.name.startswith("Job "):
        return "-".join(launch.name.split("-")[:3])
    cluster, task_id = launch.name.split("/")[-2:]
    return f"{cluster}/{task_id[:ID_LENGTH]}{' stopped' if launch.has_stopped else ''}"


def _wrapped(cells: Sequence[str], widths: Sequence[int], room: int) -> list[str]:
    *others, message = cells
    first, *more = textwrap.wrap(message, room, max_lines=MESSAGE_LINES, break_on_hyphens=False)
    blank = [""] * len(widths)
    return [_line([*others, first], widths), *(_line([*blank, part], widths) for part in more)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=True)]
    return GAP.join([*padded, cells[-1]]).rstrip()


def _paint_state(lines: list[str], state: str, widths: Sequence[int], paint: Paint) -> list[str]:
    begin = widths[0] + widths[1] + 2 * len(GAP)
    end = begin + len(state)
    return [lines[0][:begin] + paint(state, COLOURS.get(state, RED)) + lines[0][end:], *lines[1:]]


def render_account(rows: Sequence[Row]) -> str:
    """What was shown, counted."""
    launches = [launch for row in rows for launch in row.launches]
    jobs = sum(launch.name.startswith("Job ") for launch in launches)
    stopped = sum(launch.has_stopped for launch in launches)
    return (
        f"Shown: {len(rows)} flow runs, for which {len(launches) - jobs} tasks and {jobs} Jobs were started; "
        f"what followed when {stopped} of these tasks stopped"
    )


def render_cost(parts: Parts) -> str:
    """What all of it has cost, in requests."""
    counts = {action: parts.ecs.count(action) for action in ("RunTask", "RegisterTaskDefinition", "StopTask")}
    calls = ", ".join(f"{count} {action}" for action, count in counts.items())
    jobs = parts.kubernetes.count("create jobs")
    return f"Cost: {len(parts.prefect.requests)} requests to Prefect, {calls}, {jobs} Jobs created"


def render_health(health: Health, paint: Paint) -> str:
    """What the health routes answered."""
    colour = GREEN if health.status_code == 200 else RED
    answer = paint(f"{health.status_code} {health.answer['status']}", colour)
    return f"Health: GET /api/health answers {answer}; signed in: {health.details['reason']}"


def render_key(places: Sequence[str], paint: Paint) -> str:
    """Whether anybody can read the API key."""
    seen = paint(f"visible in {', '.join(places)}", RED) if places else paint("visible in no task or Job", GREEN)
    more = "" if places else ", no definition, no flow run, no log line"
    return f"The API key is a reference to a secret: {seen}{more}"


def render_intro() -> str:
    """What the reader is about to see."""
    on_ecs, on_kubernetes = (f"agent {stage.agent!r}, labels {', '.join(stage.labels)}" for stage in (ECS, KUBERNETES))
    return (
        "Flow runs, and what the handlers of app.py make of them in two stages: ticks, a wake-up, stop events of ECS.\n"
        f"  ECS: {on_ecs}: launches, refusals, a task that cannot start, a cancelled run\n"
        f"  Kubernetes: {on_kubernetes}: launches as Jobs"
    )


def render_problems(problems: Iterable[str], paint: Paint) -> str:
    """The verdict of the demo on itself."""
    lines = list(problems)
    if not lines:
        return paint("All of this is as it should be.", GREEN)
    return "\n".join(paint(f"NOT as it should be: {line}", RED) for line in lines)
