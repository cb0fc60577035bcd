"""Curves as pictures: SVG files beside the sheets, by matplotlib, which the extra `bench` installs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.results import (
    ECS_AGENT,
    ECS_WORKER,
    KUBERNETES_AGENT,
    LINGERING_ZIP,
    ONE_PROCESS,
    PER_TICK,
    REAL_ZIP,
    Curve,
    Plot,
)
from bench.sheets import Sheet

INSTALL = "make .venv/.bench"
STYLES = {
    ONE_PROCESS: {"color": "#0b6e4f", "linestyle": "-"},
    PER_TICK: {"color": "#1f9e89", "linestyle": "--"},
    REAL_ZIP: {"color": "#7fb800", "linestyle": "-."},
    LINGERING_ZIP: {"color": "#4d7000", "linestyle": ":"},
    ECS_AGENT: {"color": "#d1495b", "linestyle": "-"},
    KUBERNETES_AGENT: {"color": "#8d3b72", "linestyle": "--"},
    ECS_WORKER: {"color": "#e08e29", "linestyle": "-."},
}
"""Ours are green, the peers are not; dashes tell them apart where colours do not."""

SETTINGS = {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
"""The same curves make the same file, with its words as words."""

INCHES = (8, 4)


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def pictures(sheet: Sheet, directory: Path) -> dict[str, Path]:
    """By title of plot, where the picture is or would be; of those plots that have curves."""
    drawn = {curve.plot for curve in sheet.curves}
    named = {plot.title: directory / f"{sheet.name}-{number}.svg" for number, plot in enumerate(sheet.plots, 1)}
    return {title: path for title, path in named.items() if title in drawn}


def draw(sheet: Sheet, directory: Path) -> None:
    """The pictures of a sheet, in place of older ones; without matplotlib there are none, rather than wrong ones."""
    for path in directory.glob(f"{sheet.name}-[0-9].svg"):
        path.unlink()
    if can_draw():
        plots = {plot.title: plot for plot in sheet.plots}
        for title, path in pictures(sheet, directory).items():
            _draw(plots[title], [curve for curve in sheet.curves if curve.plot == title], path)


def _draw(plot: Plot, curves: Sequence[Curve], path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(SETTINGS):
        canvas = Canvas(figsize=INCHES, layout="constrained")
        axes = canvas.add_subplot()
        for curve in curves:
            _add(axes, curve)
        axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
        if plot.is_logarithmic:
            axes.set(xscale="log", yscale="log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        canvas.savefig(path, format="svg", metadata={"Date": None})


def _add(axes: Any, curve: Curve) -> None:
    """Few points are measured one by one and marked; many are what happened one after the other, in steps."""
    x, y = zip(*curve.points, strict=True)
    style = STYLES.get(curve.agent, {})
    if len(curve.points) < 10:
        axes.plot(x, y, marker="o", label=curve.agent, **style)
    else:
        axes.step(x, y, where="post", label=curve.agent, **style)
