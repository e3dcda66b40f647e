"""The report: Markdown for a pull request, JSON for machines, SVG for the eye. No torch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import plots
from ..files import write_whole
from ..markdown import cell, render
from ..plots import NEUTRAL
from .comparison import COUNTERS, Finding, describe
from .result import CaseTime, Result
from .verdict import FASTER, INCONCLUSIVE, SAME, SLOWER

SCHEMA = 1  # of report.json; raised when a reader of the old one would misread the new one
LONGEST_TEXT = 1000  # characters, in report.schema.json; torch's reason for a graph break can be longer
ORDER = {SLOWER: 0, INCONCLUSIVE: 1, FASTER: 2, SAME: 3}
# As readable as NEUTRAL.
COLOURS = {SLOWER: "#d1454d", FASTER: "#2f8f4e", SAME: NEUTRAL, INCONCLUSIVE: "#b58407"}
TEMPLATE = Path(__file__).parent / "templates" / "report.md.jinja"
FILES = ("report.md", "report.svg", "report.json")


def milliseconds(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def worst_first(result: Result) -> list[CaseTime]:
    """What needs somebody's eye first; an accepted slow-down after those that are open."""

    def key(time: CaseTime) -> tuple[float, float]:
        accepted = time.verdict.kind == SLOWER and result.reason(time.name) is not None
        return (1.5 if accepted else ORDER[time.verdict.kind], -time.verdict.ratio)

    return sorted(result.times, key=key)


def _row(time: CaseTime, result: Result) -> dict[str, Any]:
    verdict = time.verdict
    reason = result.reason(time.name) if verdict.kind == SLOWER else None
    word = verdict.wording()
    if verdict.kind == INCONCLUSIVE and time.unconfirmed:
        word = f"inconclusive ({time.unconfirmed} once, no counter moved)"
    if time.min_effect is not None and time.min_effect != result.plan.min_effect:
        word += f" (minimum effect {time.min_effect:.0%})"
    return {
        "case": time.name,
        "verdict": f"**{word}**" if verdict.kind == SLOWER and reason is None else word,
        "accepted": cell(reason) if reason else "",
        "interval": _interval(verdict.low, verdict.high),
        "base": milliseconds(time.base_seconds),
        "launches": verdict.launches,
        "noise": "" if math.isnan(verdict.noise) else f"{verdict.noise:.1%}",
        "cause": cell("; ".join(time.counters)) if time.counters else "none moved",
        "grown": cell("; ".join(time.grown)),
    }


def _interval(low: float, high: float) -> str:
    return "unknown" if not math.isfinite(high) or low <= 0 else f"{low:.3f} to {high:.3f}"


def finding_rows(result: Result) -> list[dict[str, str]]:
    """Counters that moved and outputs that differ, red ones first."""
    order = list(COUNTERS.values())

    def key(finding: Finding) -> tuple[bool, int, str]:
        place = order.index(finding.what) if finding.what in order else -1
        return (not finding.red, place, finding.case)

    found = []
    for finding in sorted(result.findings, key=key):
        accepted = result.finding_accepted(finding) if finding.red else None
        word = "improved" if not finding.red else f"accepted: {cell(accepted)}" if accepted else "**worse**"
        found.append({"case": finding.case, "what": cell(describe(finding)), "verdict": word})
    return found


def markdown(result: Result) -> str:
    """The report as a comment on a pull request; the verdict is its first line."""
    rows = [_row(time, result) for time in worst_first(result)]
    return render(TEMPLATE, result=result, rows=rows, findings=finding_rows(result))


def as_json(result: Result) -> str:
    """The report for machines: ``schema``, ``exit_code``, ``headline``, and all there is."""
    document = {
        "schema": SCHEMA,
        "exit_code": result.exit_code,
        "headline": result.headline,
        **asdict(result),
        "plan": asdict(result.plan),
    }
    return json.dumps(_storable(document), indent=1, sort_keys=True, allow_nan=False) + "\n"


def _storable(value: Any) -> Any:
    """JSON knows no infinity and no NaN: null; text is one line, no longer than the schema takes."""
    if isinstance(value, str):
        return " ".join(value.split())[:LONGEST_TEXT]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(item) for item in value]
    return value


def as_svg(result: Result) -> str:
    """Every ratio with its 95% interval, as a picture that reads on a light and on a dark page."""
    from matplotlib.figure import Figure

    times = worst_first(result)[::-1]
    with plots.style("gate"):
        figure = Figure(figsize=(8, 0.8 + 0.36 * max(1, len(times))), layout="constrained")
        axes = figure.subplots()
        effect = result.plan.min_effect
        axes.axvspan(1 / (1 + effect), 1 + effect, color=NEUTRAL, alpha=0.18, linewidth=0)
        axes.axvline(1, color=NEUTRAL, linewidth=1)
        for place, time in enumerate(times):
            verdict = time.verdict
            colour = COLOURS[verdict.kind]
            if math.isfinite(verdict.high):
                axes.plot([verdict.low, verdict.high], [place, place], color=colour, linewidth=2)
            if math.isfinite(verdict.ratio):
                axes.plot([verdict.ratio], [place], "o", color=colour, markersize=6)
        axes.set_yticks(range(len(times)), [time.name for time in times])
        axes.set_xlabel(f"time of head over base (band: ±{effect:.0%}, the minimum effect)")
        axes.set_ylim(-0.6, max(0.4, len(times) - 0.4))
        return plots.as_svg(figure)


def write(result: Result, directory: Path) -> list[Path]:
    """Write FILES in the place of an earlier run's: all three, or none. A killed gate leaves no report.json.

    Raises:
        OSError: the directory cannot be written to.
    """
    content = (markdown(result), as_svg(result), as_json(result))
    paths = [directory / name for name in FILES]
    remove(directory)
    try:
        for path, text in zip(paths, content, strict=True):
            # A lone surrogate in a message has no UTF-8.
            write_whole(path, text.encode(errors="replace"))
    except BaseException:
        remove(directory)
        raise
    return paths


def remove(directory: Path) -> None:
    """Take an earlier run's report away.

    Raises:
        OSError: it cannot be removed.
    """
    for name in FILES:
        (directory / name).unlink(missing_ok=True)
