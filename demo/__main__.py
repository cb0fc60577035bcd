"""`python -m demo [DIRECTORY]`: runs the demo, its Lambda's log in DIRECTORY (`.demo/` of the project)."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from demo import outcome, table
from demo.parts import Parts, embedded_parts
from demo.scene import BETWEEN_TICKS, IN_THE_TICK, Kind, Scheduled, create
from demo.stages import ECS, KUBERNETES, container_of
from demo.trouble import befall, end_what_is_to_stop, let_capacity_run_out, stop_events
from demo.wakeups import receive_wakeups

PROJECT = Path(__file__).parents[1]


def main(arguments: Sequence[str], scene: tuple[Kind, ...] = IN_THE_TICK) -> int:
    """Show it; 0 when everything is as it should be, else 1. `scene` is what there is before the scheduled ticks."""
    began = time.monotonic()
    log_path = Path(arguments[0] if arguments else PROJECT / ".demo") / "lambda.jsonl"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    paint = table.in_colour if sys.stdout.isatty() else table.plain
    print(table.render_intro(), flush=True)
    with embedded_parts() as parts:
        runs, health = play(parts, scene, log_path)
        rows = outcome.look_at(parts, runs)
        lambda_log = log_path.read_text(encoding="utf-8")
        problems = outcome.problems_of_rows(rows) + outcome.problems_of_parts(parts, runs, health, lambda_log)
        key_line = table.render_key(outcome.places_of_key(parts, runs, lambda_log), paint)
        print(f"\n{table.render_rows(rows, paint)}\n")
        print(f"{table.render_account(rows)}\n{table.render_cost(parts)}\n{key_line}")
    print(table.render_health(health, paint))
    print(f"The Lambda's own log: {_shown(log_path)}")
    print(f"{table.render_problems(problems, paint)} ({time.monotonic() - began:.0f} s)")
    return 1 if problems else 0


def play(parts: Parts, scene: tuple[Kind, ...], log_path: Path) -> tuple[list[Scheduled], outcome.Health]:
    """The scene: runs are created, the handlers of both stages called, their output kept in `log_path`."""
    warnings.filterwarnings("ignore", "IAMAuthorizer is not a supported in local mode")
    let_capacity_run_out(parts)
    runs = create(parts, scene)
    with log_path.open("w", encoding="utf-8") as log, redirect_stdout(log):
        with container_of(ECS, parts) as functions:
            functions.tick()
            runs += create(parts, BETWEEN_TICKS)
            functions.wake(*receive_wakeups(parts.queue_url))
            befall(parts, runs)
            functions.tick()
            end_what_is_to_stop(parts)
            functions.task_stopped(*stop_events(parts))
            status_code, answer = functions.get("/api/health")
            _, details = functions.get("/api/health/details")
        with container_of(KUBERNETES, parts) as functions:
            functions.tick()
    return runs, outcome.Health(status_code, answer, details)


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
