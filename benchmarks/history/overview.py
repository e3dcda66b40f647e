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
from datetime import datetime, timezone
from io import StringIO
from pathlib import Path
from typing import Any

import jinja2

from .result_files import RESULTS, VERSIONS, read

PAGE = "overview.html"
RATIO, LIMIT = "track_compiled_over_eager", "track_limit_over_eager"
TIMES = {
    "inference": "inference.Inference.time_predict_action_chunk",
    "training": "training.Training.time_training_step",
}
KEPT = ("lerobot", "torch")  # packages whose versions the page names
FOREGROUND = "#010203"  # drawn with, then replaced by the page's own colour, light or dark


@dataclass(frozen=True)
class Point:
    """One case at one commit; a speed-up is eager over compiled time, in one process, by turns."""

    commit: str
    when: datetime
    speed_up: float
    limit: float | None
    eager: float | None
    compiled: float | None


@dataclass(frozen=True)
class Series:
    """One case on one machine, oldest first."""

    phase: str
    workload: str
    device: str
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


def entries(file: Mapping[str, Any], benchmark: str) -> Iterator[tuple[tuple[str, ...], float]]:
    """Parameters and value of each result of ``benchmark`` in one of asv's files that is a number."""
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
        points: dict[tuple[str, str, str], list[Point]] = {}
        for path in place.glob("*-*.json"):
            file = read(path)
            if file.get("env_vars"):  # of one torch release
                continue
            for key, point in _points(file):
                points.setdefault(key, []).append(point)
        series = [
            Series(*key, tuple(sorted(each, key=lambda point: point.when))) for key, each in points.items()
        ]
        if series:
            ordered = tuple(sorted(series, key=lambda each: (each.device, each.phase, each.workload)))
            found.append(MachineHistory(place.name, _about(home, place, ordered), ordered))
    return found


def _points(file: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str], Point]]:
    when = datetime.fromtimestamp(file.get("date", 0) / 1000, tz=timezone.utc)
    for phase, timed in TIMES.items():
        counts = f"{phase}.{phase.capitalize()}Counts"
        limits = dict(entries(file, f"{counts}.{LIMIT}"))
        times = dict(entries(file, timed))
        for (workload, device), ratio in entries(file, f"{counts}.{RATIO}"):
            limit = limits.get((workload, device))
            yield (
                (phase, workload, device),
                Point(
                    str(file.get("commit_hash", ""))[:8],
                    when,
                    1 / ratio,
                    1 / limit if limit else None,
                    *(times.get((workload, "fp32", device, variant)) for variant in ("eager", "compiled")),
                ),
            )


def _about(home: Path, place: Path, series: tuple[Series, ...]) -> str:
    """What the machine is and has installed, as far as asv and we wrote it down."""
    machine = read(place / "machine.json")
    newest = max((each.latest for each in series), key=lambda point: point.when)
    versions = read(home / VERSIONS / place.name / f"{newest.commit}.json")
    parts = [machine.get("cpu"), f"{machine['num_cpu']} cores" if machine.get("num_cpu") else None]
    installed = [f"{name} {versions[name]}" for name in KEPT if name in versions]
    return ", ".join([str(part) for part in parts if part and part != "any"] + installed)


def plot(series: Series) -> str:
    """SVG of the speed-up over commits, in the colour of the text around it, the limit dashed."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": series.name,
        "font.family": "sans-serif",
        "font.size": 11,
        **dict.fromkeys(("text.color", "axes.edgecolor", "xtick.color", "ytick.color"), FOREGROUND),
    }
    with mpl.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(5, 1.9), layout="constrained")
        at = range(len(series.points))
        values = [point.speed_up for point in series.points]
        axes.plot(at, values, color="#3b82d0", marker="o", markersize=4)
        limits = [(x, point.limit) for x, point in zip(at, series.points, strict=True) if point.limit]
        if limits:
            axes.plot(*zip(*limits, strict=True), color="#d07a1f", linestyle="--", marker="_", markersize=8)
        axes.axhline(1, color=FOREGROUND, linewidth=0.7, alpha=0.5)
        shown = sorted({0, len(values) - 1})
        axes.set_xticks(shown, [series.points[x].commit for x in shown])
        axes.yaxis.set_major_formatter("{x:.2f}x")
        axes.spines[["top", "right"]].set_visible(False)
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        buffer = StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(FOREGROUND, "currentColor")
    label = html.escape(f"speed-up of {series.name}, commit by commit", quote=True)
    return drawn.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def write(home: Path, directory: Path) -> Path:
    """The page, beside what ``asv publish`` wrote into ``directory``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = directory / PAGE
    text = environment.get_template("overview.html.jinja").render(machines=read_machines(home), plot=plot)
    page.write_text(text, encoding="utf-8")
    return page
