"""What was measured, as it is kept: one JSON file for each measurement, written anew with each item that becomes known.

A measurement that begins again replaces the sheet of the one before as soon as it knows something: a sheet never
mixes two runs. One that does not come to its end stays marked as incomplete; the older one is in the history of the
repository.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.machine import machine, versions
from bench.results import Curve, Figure, Measurement, Plot

DIRECTORY = Path(__file__).parents[1] / "docs" / "benchmarks"
POINTS = 200
"""How many of a curve are kept."""

CUT_OFF = "it was ended before it was done"


@dataclass
class Sheet:
    """What one measurement knows. `measured_at` is UTC; `reason` says why it is not complete."""

    name: str
    title: str
    about: str
    plots: list[Plot] = field(default_factory=list)
    measured_at: str = ""
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    complete: bool = False
    reason: str = CUT_OFF
    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    def add(self, item: Figure | Curve) -> None:
        """Take over what has become known; of a curve at most so many points as are kept."""
        if isinstance(item, Figure):
            self.figures.append(item)
        else:
            self.curves.append(Curve(item.plot, item.agent, thinned(item.points)))

    def broken(self) -> list[Figure]:
        """Those whose promise does not hold."""
        return [figure for figure in self.figures if not figure.holds]

    def find(self, quantity: str, agent: str) -> Figure | None:
        """This quantity of this agent, None when it was not measured."""
        return next((each for each in self.figures if (each.quantity, each.agent) == (quantity, agent)), None)


class Sheets:
    """The sheets of one directory."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.directory = directory

    def read(self) -> dict[str, Sheet]:
        """All there are, by name."""
        return {path.stem: sheet_of(json.loads(path.read_text())) for path in sorted(self.directory.glob("*.json"))}

    def save(self, sheet: Sheet) -> None:
        """Write it so that a reader finds the one before or this one, nothing between."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{sheet.name}.json"
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(text_of(sheet))
        unfinished.replace(path)


def begin(name: str, measurement: Measurement) -> Sheet:
    """The empty sheet of a measurement that begins now."""
    return Sheet(
        name,
        measurement.title,
        measurement.about,
        list(measurement.plots),
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine(),
        versions(measurement.needs),
    )


def fill(sheet: Sheet, measurement: Measurement, sheets: Sheets, tell: Callable[[Figure], object]) -> None:
    """Measure, save the sheet with each item and tell each figure.

    Raises what the measurement raises; the sheet then says so, and keeps what came before.
    """
    begun = time.monotonic()
    try:
        with _items(measurement) as items:
            for item in items:
                sheet.add(item)
                sheet.seconds = round(time.monotonic() - begun, 1)
                sheets.save(sheet)
                if isinstance(item, Figure):
                    tell(item)
    except BaseException as error:
        sheet.reason = "it was interrupted" if isinstance(error, KeyboardInterrupt) else _said(error)
        if sheet.figures or sheet.curves:
            sheets.save(sheet)
        raise
    sheet.complete, sheet.reason, sheet.seconds = True, "", round(time.monotonic() - begun, 1)
    sheets.save(sheet)


@contextmanager
def _items(measurement: Measurement) -> Iterator[Iterator[Figure | Curve]]:
    """What it yields; afterwards it has ended, and with it what it had started."""
    items = measurement.measure()
    try:
        yield items
    finally:
        if isinstance(items, Generator):
            items.close()


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """POINTS of them at most, the first and the last among them, at equal distances; to five digits."""
    last = len(points) - 1
    kept = {round(number * last / (POINTS - 1)) for number in range(POINTS)} if last >= POINTS else range(last + 1)
    return tuple((_short(points[number][0]), _short(points[number][1])) for number in sorted(kept))


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def text_of(sheet: Sheet) -> str:
    """JSON with a line for each figure and each curve, so that two runs can be compared line by line."""
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {_value(value)}" for key, value in asdict(sheet).items()) + "\n}\n"


def _value(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value, ensure_ascii=False)
    return "[\n" + ",\n".join(json.dumps(each, ensure_ascii=False) for each in value) + "\n]"


def sheet_of(kept: Mapping[str, Any]) -> Sheet:
    """A sheet as it was kept."""
    curves = [each | {"points": tuple((x, y) for x, y in each["points"])} for each in kept["curves"]]
    return Sheet(
        **{
            **kept,
            "plots": [Plot(**each) for each in kept["plots"]],
            "figures": [Figure(**each) for each in kept["figures"]],
            "curves": [Curve(**each) for each in curves],
        }
    )
