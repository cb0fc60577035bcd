"""`python -m bench [NAME ...]`: measures, prints, and keeps what it finds in `docs/benchmarks`.

The exit code is 1 when something does not hold or could not be measured, 2 when it is not asked rightly, 130 after
Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.machine import ENVIRONMENTS, Environment
from bench.measurements import PLACES, measurement_of
from bench.page import write_pages
from bench.plots import draw
from bench.results import Figure, Measurement
from bench.sheets import DIRECTORY, Sheet, Sheets, begin, fill

INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Measure what is named, or everything."""
    asked = _parser().parse_args(arguments)
    unknown = [name for name in asked.names if name not in PLACES]
    if unknown:
        print(f"There is no bench {unknown[0]!r}; there are {', '.join(PLACES)}", file=sys.stderr)
        return 2
    if asked.list:
        return _list()
    if os.environ.get("BENCH_RUNS") and asked.into.resolve() == DIRECTORY:
        print("BENCH_RUNS is set: keep a try with other sizes elsewhere, with --into DIRECTORY", file=sys.stderr)
        return 2
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    return _measure_all(asked.names or list(PLACES), Sheets(asked.into))


def _parser() -> ArgumentParser:
    parser = ArgumentParser("python -m bench", description="Measure, and keep what is found in docs/benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; everything when nothing is named")
    parser.add_argument("--list", action="store_true", help="tell the names, and measure nothing")
    parser.add_argument("--into", type=Path, default=DIRECTORY, help="another directory, the page beside it: for a try")
    return parser


def _measure_all(names: Iterable[str], sheets: Sheets) -> int:
    code = 0
    for name in names:
        code = max(code, measure(name, sheets))
        if code == INTERRUPTED:
            break
    return code


def _list() -> int:
    for name in PLACES:
        print(f"{name:22} {measurement_of(name).title}")
    return 0


def measure(name: str, sheets: Sheets) -> int:
    """Measure what has this name, whatever comes of it; the exit code of this measurement."""
    try:
        measurement = measurement_of(name)
        print(f"{measurement.title} ({name})", flush=True)
        return tell_lacking(measurement.needs) or keep(name, measurement, sheets)
    except KeyboardInterrupt:
        print("  interrupted before anything was measured\n", flush=True)
        return INTERRUPTED
    except Exception as error:
        print(f"  not measured: {type(error).__name__}: {error}\n", flush=True)
        return 1


def tell_lacking(needs: Iterable[str], environments: Mapping[str, Environment] = ENVIRONMENTS) -> int:
    """1 when something that is needed is not installed, after having said how that is done."""
    lacking = [need for need in needs if not environments[need].is_there()]
    for need in lacking:
        print(f"  not measured: {need} is not installed; `{environments[need].command}` does it\n", flush=True)
    return 1 if lacking else 0


def keep(name: str, measurement: Measurement, sheets: Sheets) -> int:
    """Measure, print each figure, keep everything, and write the pages anew; the exit code of this measurement."""
    sheet = begin(name, measurement)
    try:
        fill(sheet, measurement, sheets, _tell)
    except KeyboardInterrupt:
        print(f"  interrupted; {_kept(sheet, sheets)}\n", flush=True)
        return INTERRUPTED
    except Exception as error:
        print(f"  not measured to its end: {type(error).__name__}: {error}; {_kept(sheet, sheets)}\n", flush=True)
        return 1
    finally:
        if sheet.figures or sheet.curves:
            draw(sheet, sheets.directory)
            write_pages(sheets)
    print(f"  {sheet.seconds:.0f} s; {_kept(sheet, sheets)}\n", flush=True)
    return 1 if sheet.broken() else 0


def _tell(figure: Figure) -> None:
    promised = f"  ({figure.promise}: {'holds' if figure.holds else 'DOES NOT HOLD'})" if figure.promise else ""
    print(f"  {figure.agent:26} {figure.quantity:60} {figure}{promised}", flush=True)


def _kept(sheet: Sheet, sheets: Sheets) -> str:
    if not sheet.figures and not sheet.curves:
        return "nothing was known, what was kept before stays"
    return f"kept in {sheets.directory / sheet.name}.json: figures {len(sheet.figures)}, curves {len(sheet.curves)}"


if __name__ == "__main__":
    # What is being measured is ended, and its directory removed, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
