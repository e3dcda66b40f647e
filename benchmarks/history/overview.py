"""One page beside asv's graphs: each machine's speed-ups now and over time, with the limit. No torch.

asv's own pages show one benchmark at a time, and need scripts and a server. This one is a single file
without scripts, readable on a phone and in the dark.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from .. import plots
from ..files import read_if_whole, write_whole
from ..markdown import render
from .changes import steps
from .installed import GPU, PROCESSOR, recorded
from .result_files import RESULTS, results_on

PAGE = "overview.html"
RATIO, LIMIT, AUTO = "track_compiled_over_eager", "track_limit_over_eager", "track_auto_over_stock"
SPREAD = "_spread"
NOISY = 1.5  # a spread above which no figure is shown: beside other work auto was 25x, a limit 34x
TIMES = {
    "inference": "inference.Inference.time_predict_action_chunk",
    "training": "training.Training.time_training_step",
}
NAMED_PACKAGES = ("lerobot", "torch")  # whose versions the page names
TEMPLATE = Path(__file__).parent / "templates" / "overview.html.jinja"
LEAST_DIFFERENCES = 4  # between neighbours, before they say how much is chance
FOREGROUND = "#010203"  # drawn with, then replaced by the page's own colour, light or dark

SeriesKey = tuple[str, str, str]  # device, phase, workload


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step.

    Attributes:
        quartiles: of its samples; None where there is one, or asv does not say.
        is_single: whether there is one sample, as with ``--quick``.
    """

    median: float
    quartiles: tuple[float, float] | None
    is_single: bool


@dataclass(frozen=True)
class Point:
    """One case at one commit.

    Attributes:
        commit: its first eight digits.
        speed_up: eager over compiled time, steps by turns, over several processes.
        limit: of the speed-up.
        eager, compiled: of a step, each in processes of its own.
        auto: stock LeRobot's time over that of ``auto``, likewise; of inference.
        spread, auto_spread: of the two, the upper end of the 95% interval over the lower; None: not measured
            then.
    """

    commit: str
    speed_up: float
    limit: float | None
    eager: StepTime | None
    compiled: StepTime | None
    auto: float | None = None
    spread: float | None = None
    auto_spread: float | None = None

    @property
    def is_noisy(self) -> bool:
        """Whether the speed-up says nothing, and so the limit, which is a share of the same eager step."""
        return (self.spread or 0) > NOISY

    @property
    def auto_is_noisy(self) -> bool:
        return (self.auto_spread or 0) > NOISY


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

    @property
    def quiet(self) -> Series:
        """Without the points whose speed-up says nothing."""
        return replace(self, points=tuple(point for point in self.points if not point.is_noisy))

    @property
    def quiet_auto(self) -> Series:
        """Only the points where ``auto`` was measured, and says something."""
        points = (point for point in self.points if point.auto and not point.auto_is_noisy)
        return replace(self, points=tuple(points))

    @property
    def noise(self) -> float | None:
        """The median difference of the speed-up between neighbours, as a share; None: they are too few.

        Most commits change no speed, so this is what chance alone does.
        """
        ups = [point.speed_up for point in self.quiet.points]
        differences = [abs(after / before - 1) for before, after in itertools.pairwise(ups)]
        return median(differences) if len(differences) >= LEAST_DIFFERENCES else None


@dataclass(frozen=True)
class MachineHistory:
    name: str
    about: str
    series: tuple[Series, ...]
    newest: str = ""  # commit

    @property
    def is_quick(self) -> bool:
        """Whether the newest have no times, or a time that is a single sample."""
        return not self.has_times or any(time.is_single for time in self._newest_times())

    @property
    def has_times(self) -> bool:
        return bool(self._newest_times())

    def _newest_times(self) -> list[StepTime]:
        newest = (time for each in self.series for time in (each.latest.eager, each.latest.compiled))
        return [time for time in newest if time is not None]


def numbers(
    file: Mapping[str, Any], benchmark: str, column: str = "result"
) -> Iterator[tuple[tuple[str, ...], float]]:
    """Parameters and value of each positive number that ``benchmark`` has in one of asv's files."""
    result, columns = file["results"].get(benchmark), file["result_columns"]
    at = columns.index(column) if column in columns else len(columns)
    if not isinstance(result, list) or len(result) <= max(at, 1) or not isinstance(result[at], list):
        return
    names = [[text.strip("'\"") for text in values] for values in result[1]]
    for parameters, value in zip(itertools.product(*names), result[at], strict=False):
        if isinstance(value, (int, float)) and math.isfinite(value) and value > 0:
            yield parameters, float(value)


def read_machines(home: Path) -> list[MachineHistory]:
    """What asv measured below ``home``, by machine; files that are cut short are left out."""
    found = []
    for place in sorted(path for path in (home / RESULTS).glob("*") if path.is_dir()):
        points: dict[SeriesKey, dict[str, Point]] = {}
        newest = ""
        for file in sorted(results_on(place.name, home), key=lambda file: file.get("date", 0)):
            newest = str(file.get("commit_hash", ""))[:8]
            for key, point in _points(file):
                points.setdefault(key, {})[newest] = point  # of two environments the later one counts
        if points:
            series = tuple(Series(*key, tuple(each.values())) for key, each in sorted(points.items()))
            found.append(MachineHistory(place.name, _about(home, place, newest), series, newest))
    return found


def _points(file: Mapping[str, Any]) -> Iterator[tuple[SeriesKey, Point]]:
    commit = str(file.get("commit_hash", ""))[:8]
    for phase, step_time in TIMES.items():
        counts = f"{phase}.{phase.capitalize()}Counts"
        limits, autos, spreads, auto_spreads = (
            dict(numbers(file, f"{counts}.{name}")) for name in (LIMIT, AUTO, RATIO + SPREAD, AUTO + SPREAD)
        )
        times = _step_times(file, step_time)
        for (workload, device), ratio in numbers(file, f"{counts}.{RATIO}"):
            case = workload, device
            limit, auto = (found.get(case) for found in (limits, autos))
            eager, compiled = (times.get((workload, "fp32", device, each)) for each in ("eager", "compiled"))
            inverse = [1 / share if share else None for share in (limit, auto)]
            ranges = spreads.get(case), auto_spreads.get(case)
            point = Point(commit, 1 / ratio, inverse[0], eager, compiled, inverse[1], *ranges)
            yield (device, phase, workload), point


def _step_times(file: Mapping[str, Any], benchmark: str) -> dict[tuple[str, ...], StepTime]:
    columns = ("stats_repeat", "stats_q_25", "stats_q_75")
    samples, low, high = (dict(numbers(file, benchmark, column)) for column in columns)
    found = {}
    for case, seconds in numbers(file, benchmark):
        is_single = samples.get(case) == 1
        known = case in samples and not is_single and case in low and case in high
        found[case] = StepTime(seconds, (low[case], high[case]) if known else None, is_single)
    return found


def _about(home: Path, place: Path, commit: str) -> str:
    """What the machine is and had installed for ``commit``, as far as asv and we wrote it down."""
    machine = read_if_whole(place / "machine.json")
    versions = recorded(commit, place.name, home)
    names = [versions.get(PROCESSOR) or machine.get("cpu"), versions.get(GPU)]
    parts = [*names, f"{machine['num_cpu']} cores" if machine.get("num_cpu") else None]
    installed = [f"{name} {versions[name]}" for name in NAMED_PACKAGES if name in versions]
    return ", ".join([str(part) for part in parts if part and part != "any"] + installed)


def plot(series: Series) -> str:
    """SVG of the speed-up over commits, in the colour of the text around it, the limit as dashes.

    Empty where no commit was measured on a quiet machine.
    """
    quiet = series.quiet
    limits = [(x, point.limit) for x, point in enumerate(quiet.points) if point.limit]
    return _drawn(f"speed-up of {series.name}", quiet, [point.speed_up for point in quiet.points], limits)


def plot_auto(series: Series) -> str:
    """The same of ``auto`` against stock LeRobot."""
    quiet = series.quiet_auto
    ups = [point.auto for point in quiet.points if point.auto]
    return _drawn(f"auto against stock, {series.name}", quiet, ups, [])


def _drawn(title: str, series: Series, ups: list[float], limits: list[tuple[int, float]]) -> str:
    """No line joins the dots and the axis begins at zero: otherwise noise looks like a change.

    A line across stands where ``changes`` finds a step.
    """
    from matplotlib.figure import Figure

    if not ups:
        return ""
    with plots.style(series.name, FOREGROUND, **{"font.size": 11}):
        figure = Figure(figsize=(5, 1.9), layout="constrained")
        axes = figure.subplots()
        at = range(len(ups))
        axes.scatter(at, ups, color="#3b82d0", s=22, zorder=3)
        for step in steps(ups):
            axes.axvline(step - 0.5, color="#d0453b", linewidth=1)
        if limits:
            xs, heights = zip(*limits, strict=True)
            axes.scatter(xs, heights, color="#d07a1f", marker="_", s=80)
        axes.axhline(1, color=FOREGROUND, linewidth=0.7, alpha=0.5)
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])  # a dot at the top is not cut in half
        shown = sorted({0, at[-1]})
        axes.set_xticks(shown, [series.points[x].commit for x in shown])
        axes.yaxis.set_major_formatter("{x:.2f}x")
        axes.spines[["top", "right"]].set_visible(False)
        drawn = plots.as_svg(figure)
    drawn = drawn[drawn.index("<svg") :].replace(FOREGROUND, "currentColor")
    label = html.escape(f"{title}, commit by commit", quote=True)
    return drawn.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def write(home: Path, directory: Path, twins: Mapping[str, str] | None = None) -> Path:
    """The page, beside what ``asv publish`` wrote into ``directory``.

    Args:
        twins: commits that were not measured, each with the one whose code it has.
    """
    page = directory / PAGE
    write_whole(
        page,
        render(
            TEMPLATE,
            machines=read_machines(home),
            plot=plot,
            plot_auto=plot_auto,
            noisy=NOISY,
            twins=twins or {},
        ),
    )
    return page
