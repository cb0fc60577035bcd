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
from demo.scene import BETWEEN_TICKS, IN_THE_TICK, Scheduled, create, let_capacity_run_out

PROJECT = Path(__file__).parents[1]


def main(arguments: Sequence[str]) -> int:
    """Show it; 0 when everything is as it should be, else 1."""
    began = time.monotonic()
    log_path = Path(arguments[0] if arguments else PROJECT / ".demo") / "lambda.jsonl"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    paint = table.in_colour if sys.stdout.isatty() else table.plain
    print(table.render_intro(), flush=True)
    with embedded_parts() as parts:
        runs, health = play(parts, log_path)
        rows = outcome.look_at(parts, runs)
        lambda_log = log_path.read_text(encoding="utf-8")
        problems = outcome.problems_of_rows(rows) + outcome.problems_of_parts(parts, health, lambda_log)
        key_line = table.render_key(outcome.places_of_key(parts, lambda_log), paint)
        print(f"\n{table.render_rows(rows, paint)}\n\n{table.render_cost(parts)}\n{key_line}")
    print(table.render_health(health, paint))
    print(f"The Lambda's own log: {_shown(log_path)}")
    print(f"{table.render_problems(problems, paint)} ({time.monotonic() - began:.0f} s)")
    return 1 if problems else 0


def play(parts: Parts, log_path: Path) -> tuple[list[Scheduled], outcome.Health]:
    """The scene: runs are created, the handlers called, their output kept in `log_path`."""
    # app.py reads its environment when it is imported, as it does in the Lambda.
    from demo.wakeups import receive_wakeups
    from tests.integration.lambdas import Lambdas

    warnings.filterwarnings("ignore", "IAMAuthorizer is not a supported in local mode")
    let_capacity_run_out(parts)
    runs = create(parts, IN_THE_TICK)
    with log_path.open("w", encoding="utf-8") as log, redirect_stdout(log), Lambdas() as functions:
        functions.tick()
        runs += create(parts, BETWEEN_TICKS)
        functions.wake(*receive_wakeups(parts.queue_url))
        status_code, answer = functions.get("/api/health")
        _, details = functions.get("/api/health/details")
    return runs, outcome.Health(status_code, answer, details)


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
