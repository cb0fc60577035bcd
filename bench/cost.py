"""What the page about the cost rests on: `python -m bench.cost` measures it and writes `bench/cost_measurements.json`.

Only CPU time, memory and requests are taken from here, as this machine is no Lambda: how long an invocation lasts there
is worked out of them by `tests/cost_page.py`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

from bench.container import LambdaContainer
from bench.machine import machine
from bench.surroundings import EcsSurroundings, surroundings

MEASUREMENTS = Path(__file__).with_name("cost_measurements.json")
IDLE_TICKS, BUSY_TICKS, RUNS_IN_A_BUSY_TICK = 40, 5, 12
"""12 runs in a tick of 10 s are 100,000 a day."""


def measure() -> dict[str, Any]:
    """Everything, as it is written to the file."""
    with surroundings() as place, LambdaContainer(place) as container:
        cold = container.invoke("wake")
        container.invoke("tick")
        idle = {handler: _measure_idle(place, container, handler) for handler in ("wake", "tick")}
        _measure_busy(place, container, 1)
        busy = {runs: _measure_busy(place, container, runs) for runs in (1, RUNS_IN_A_BUSY_TICK)}
        peak_mb = container.invoke("wake")["peak_mb"]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "cold": {"cpu_seconds": round(cold["cpu_seconds_since_start"], 3)},
        **{f"idle {handler}": numbers for handler, numbers in idle.items()},
        **{f"wake with {runs} due": numbers for runs, numbers in busy.items()},
        "peak_mb": round(peak_mb, 1),
    }


def _measure_idle(place: EcsSurroundings, container: LambdaContainer, handler: str) -> dict[str, float]:
    place.forget()
    answers = [container.invoke(handler) for _ in range(IDLE_TICKS)]
    return _numbers(answers, len(place.requests()) / IDLE_TICKS)


def _measure_busy(place: EcsSurroundings, container: LambdaContainer, runs: int) -> dict[str, float]:
    answers, requests = [], 0
    for _ in range(BUSY_TICKS):
        place.add_due_runs(runs, images=1)
        place.forget()
        answers.append(container.invoke("wake"))
        requests += len(place.requests())
        if answers[-1]["returned"]["launched"] != runs:
            raise RuntimeError(f"{runs} runs were due: {answers[-1]['returned']}")
    return _numbers(answers, requests / BUSY_TICKS)


def _numbers(answers: list[dict[str, Any]], requests: float) -> dict[str, float]:
    return {"cpu_seconds": round(mean(answer["cpu_seconds"] for answer in answers), 4), "requests": round(requests, 1)}


if __name__ == "__main__":
    MEASUREMENTS.write_text(json.dumps(measure(), indent=2) + "\n")
    print(MEASUREMENTS.read_text(), end="")
