"""One page beside asv's graphs: each machine's speed-ups now and over time, with the limit. No torch.

asv's own pages load their scripts from the network and show one benchmark at a time. This one is a
single file without scripts, readable on a phone and in the dark.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ..files import read_if_whole, write_whole
from ..markdown import render
from .installed import recorded
from .result_files import RESULTS, results_on

PAGE = "overview.html"
RATIO, LIMIT = "track_compiled_over_eager", "track_limit_over_eager"
TIMES = {
    "inference": "inference.Inference.time_predict_action_chunk",
    "training": "training.Training.time_training_step",
}
NAMED_PACKAGES = ("lerobot", "torch")  # whose versions the page names
TEMPLATE = Path(__file__).parent / "templates" / "overview.html.jinja"
FOREGROUND = "#010203"  # drawn with, then replaced by the page's own colour, light or dark

SeriesKey = tuple[str, str, str]  # device, phase, workload


@dataclass(frozen=True)
class Point:
    """One case at one commit.

    Attributes:
        commit: its first eight digits.
        speed_up: eager over compiled time, steps in turns in one process.
        limit: of the speed-up.
        eager, compiled: seconds of a step, each in a process of its own.
    """

    commit: str
    speed_up: float
    limit: float | None
    eager: float | None
    compiled: float | None


@dataclass(frozen=True)
class Series:
    """One case on one machine, oldest first."""

    device: str
    phase: str
    workload: str
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        return f"{self.workload} {self.phase}" + ("" if self.device == "cpu" else f", {self.device}")

    @property
    def latest(self) -> Point:
        return self.points[-1]


@dataclass(frozen=True)
class MachineHistory:
    name: str
    about: str
    series: tuple[Series, ...]


def numbers(file: Mapping[str, Any], benchmark: str) -> Iterator[tuple[tuple[str, ...], float]]:
    """Parameters and value of each positive number that ``benchmark`` has in one of asv's files."""
    result = file.get("results", {}).get(benchmark)
    if not isinstance(result, list) or len(result) < 2 or not isinstance(result[0], list):
        return
    names = [[text.strip("'\"") for text in values] for values in result[1]]
    for parameters, value in zip(itertools.product(*names), result[0], strict=False):
        if isinstance(value, (int, float)) and math.isfinite(value) and value > 0:
            yield parameters, float(value)


def read_machines(home: Path) -> list[MachineHistory]:
    """What asv measured below ``home``, by machine; files that are cut short are left out."""
    found = []
    for place in sorted(path for path in (home / RESULTS).glob("*") if path.is_dir()):
        points: dict[SeriesKey, list[Point]] = {}
        newest = ""
        for file in sorted(results_on(place.name, home), key=lambda file: file.get("date", 0)):
            for key, point in _points(file):
                points.setdefault(key, []).append(point)
                newest = point.commit
        if points:
            series = tuple(Series(*key, tuple(each)) for key, each in sorted(points.items()))
            found.append(MachineHistory(place.name, _about(home, place, newest), series))
    return found


def _points(file: Mapping[str, Any]) -> Iterator[tuple[SeriesKey, Point]]:
    commit = str(file.get("commit_hash", ""))[:8]
    for phase, step_time in TIMES.items():
        counts = f"{phase}.{phase.capitalize()}Counts"
        limits = dict(numbers(file, f"{counts}.{LIMIT}"))
        times = dict(numbers(file, step_time))
        for (workload, device), ratio in numbers(file, f"{counts}.{RATIO}"):
            limit = limits.get((workload, device))
            eager, compiled = (times.get((workload, "fp32", device, each)) for each in ("eager", "compiled"))
            point = Point(commit, 1 / ratio, 1 / limit if limit else None, eager, compiled)
            yield (device, phase, workload), point


def _about(home: Path, place: Path, commit: str) -> str:
    """What the machine is and had installed for ``commit``, as far as asv and we wrote it down."""
    machine = read_if_whole(place / "machine.json")
    versions = recorded(commit, place.name, home)
    parts = [machine.get("cpu"), f"{machine['num_cpu']} cores" if machine.get("num_cpu") else None]
    installed = [f"{name} {versions[name]}" for name in NAMED_PACKAGES if name in versions]
    return ", ".join([str(part) for part in parts if part and part != "any"] + installed)


def plot(series: Series) -> str:
    """SVG of the speed-up over commits, in the colour of the text around it, the limit dashed."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": series.name,
        "font.family": "sans-serif",
        "font.size": 11,
        **dict.fromkeys(("text.color", "axes.edgecolor", "xtick.color", "ytick.color"), FOREGROUND),
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(5, 1.9), layout="constrained")
        axes = figure.subplots()
        axes.plot([point.speed_up for point in series.points], color="#3b82d0", marker="o", markersize=4)
        limits = [(x, point.limit) for x, point in enumerate(series.points) if point.limit]
        if limits:
            axes.plot(*zip(*limits, strict=True), color="#d07a1f", linestyle="--", marker="_", markersize=8)
        axes.axhline(1, color=FOREGROUND, linewidth=0.7, alpha=0.5)
        shown = sorted({0, len(series.points) - 1})
        axes.set_xticks(shown, [series.points[x].commit for x in shown])
        axes.yaxis.set_major_formatter("{x:.2f}x")
        axes.spines[["top", "right"]].set_visible(False)
        buffer = StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(FOREGROUND, "currentColor")
    label = html.escape(f"speed-up of {series.name}, commit by commit", quote=True)
    return drawn.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def write(home: Path, directory: Path) -> Path:
    """The page, beside what ``asv publish`` wrote into ``directory``."""
    page = directory / PAGE
    write_whole(page, render(TEMPLATE, machines=read_machines(home), plot=plot))
    return page
