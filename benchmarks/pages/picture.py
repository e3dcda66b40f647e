"""The README's picture, drawn from the figures that stand in the documents: ``nox -s picture``.

It measures nothing: ``nox -s ratios`` and ``nox -s limits`` do, and a test compares the picture with them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..repository import ROOT
from .limits import PAGE

FILE = Path("docs", "gain.svg")
COLD = re.compile(
    r"^\| (\w+) inference: cold compile, share of stock's \| .*; (\d+) s against (\d+) s \|", re.MULTILINE
)
SPEED_UP = re.compile(
    r"^\| (\w+ \w+, \w+) \| ([\d.]+) \(([\d.]+) to ([\d.]+)\)x: .*limit ([\d.]+)x ", re.MULTILINE
)
TABLE = re.compile(r"<!-- limits cpu ([^:]+): .*?-->\n(.*?)<!-- /limits", re.DOTALL)


@dataclass(frozen=True)
class SpeedUp:
    """Times as fast as stock LeRobot eager: median, least and most over launches; the machine's limit."""

    what: str
    median: float
    least: float
    most: float
    limit: float


def cold_compiles(readme: str) -> list[tuple[str, int, int]]:
    """Workload, our seconds, stock's.

    Raises:
        ValueError: the table of ratios is not there.
    """
    found = [(name, int(ours), int(stock)) for name, ours, stock in COLD.findall(readme)]
    if not found:
        raise ValueError("README.md has no cold compiles; run nox -s ratios first")
    return found


def speed_ups(page: str, processor: str) -> list[SpeedUp]:
    """The rows of a processor's table of limits.

    Raises:
        ValueError: there is no such table.
    """
    rows = SPEED_UP.findall(dict(TABLE.findall(page)).get(processor, ""))
    if not rows:
        raise ValueError(f"{PAGE} has no speed-ups of a CPU with {processor}; run nox -s limits on one first")
    return [SpeedUp(what, *map(float, figures)) for what, *figures in rows]


def processor_of(readme: str) -> str:
    """What the table of ratios was measured on: ``AVX512``."""
    found = re.search(r"^\d+ threads, ([^,]+), torch ", readme, re.MULTILINE)
    if not found:
        raise ValueError("README.md does not say what its ratios were measured on; run nox -s ratios first")
    return found[1]


def draw(
    compiles: Sequence[tuple[str, int, int]], gains: Sequence[SpeedUp], processor: str, into: Path
) -> None:
    """Two charts side by side, readable on light and dark pages."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    grey, ours = "#808080", "#e4572e"
    style: dict[Any, Any] = dict.fromkeys(
        ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), grey
    )
    style |= {"svg.fonttype": "none", "svg.hashsalt": "gain", "font.family": "sans-serif", "font.size": 9}
    beside: Any = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
    with rc_context(style):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(2, 3))
        for at, (_, our_seconds, stock_seconds) in enumerate(compiles):
            for shift, seconds, colour, name in (
                (-0.2, stock_seconds, grey, "stock"),
                (0.2, our_seconds, ours, "ours"),
            ):
                left.barh(at + shift, seconds, 0.36, color=colour)
                left.annotate(f"{seconds} s {name}", (seconds, at + shift), **beside)
        left.set_yticks(range(len(compiles)), [f"{name}\ninference" for name, *_ in compiles])
        left.set_title("First call with an empty cache, s", fontsize=10)
        left.set_xlim(0, 1.6 * max(stock for *_, stock in compiles))
        for at, gain in enumerate(gains):
            around = [[gain.median - gain.least], [gain.most - gain.median]]
            right.barh(
                at, gain.median, 0.55, color=ours, xerr=around, error_kw={"ecolor": grey, "capsize": 2}
            )
            right.plot([gain.limit] * 2, [at - 0.36, at + 0.36], color=grey, linewidth=2)
            end = max(gain.most, gain.limit)
            right.annotate(f"{gain.median:.2f}x, limit {gain.limit:.2f}x", (end, at), **beside)
        right.axvline(1, color=grey, linestyle=":", linewidth=1)
        right.set_yticks(range(len(gains)), [gain.what for gain in gains])
        right.set_title("Times as fast as stock eager in fp32", fontsize=10)
        right.set_xlim(0, 1.45 * max(max(gain.most, gain.limit) for gain in gains))
        for axes in (left, right):
            axes.invert_yaxis()
            axes.spines[["top", "right"]].set_visible(False)
        figure.supxlabel(f"a CPU with {processor}, 2 threads", fontsize=8)
        figure.savefig(into, transparent=True, metadata={"Date": None})


def main() -> int:
    """Exit code 0: drawn; 2: the documents lack the figures."""
    try:
        readme = (ROOT / "README.md").read_text("utf-8")
        processor = processor_of(readme)
        gains = speed_ups((ROOT / PAGE).read_text("utf-8"), processor)
        draw(cold_compiles(readme), gains, processor, ROOT / FILE)
    except ValueError as error:
        print(f"picture: {error}", file=sys.stderr)
        return 2
    print(f"{FILE}: {len(gains)} speed-ups on {processor}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
