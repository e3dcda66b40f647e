"""The README's pictures, of the same records as the tables: beside stock, and beside other runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import plots
from ..files import write_whole
from ..plots import NEUTRAL, OURS
from ..records import Record
from .limits import rows
from .peers import COLUMNS, STEP, VARIANTS
from .records import by_machine, machine
from .rows import Row, with_records

FILE, BESIDE_RUNTIMES = Path("docs", "gain.svg"), Path("docs", "runtimes.svg")


def draw(ratios: Sequence[Record], limits: Sequence[Record], into: Path) -> None:
    """Two charts side by side; the speed-ups are those of the processor that the ratios are of.

    Raises:
        ValueError: they have not been measured; the message says how to.
    """
    compiles = [record for record in ratios if record["row"] == "share of a cold compile"]
    if not compiles:
        raise ValueError("no cold compile is recorded; run nox -s ratios first")
    here, about = machine(compiles[0]["about"]), compiles[0]["about"]
    steps = [row for row in rows(about["device"]) if row.kind == "step"]
    gains = with_records(steps, by_machine(limits).get(here, []))
    if not gains:
        raise ValueError(f"no speed-up is recorded of a machine with {here}; run nox -s limits on one first")

    from matplotlib.figure import Figure

    with plots.style("gain", **{"font.size": 9}):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(2, 3))
        _draw_first_calls(left, compiles)
        _draw_speed_ups(right, gains)
        for axes in (left, right):
            axes.invert_yaxis()
            axes.spines[["top", "right"]].set_visible(False)
        figure.supxlabel(f"a CPU with {about['cpu']}, {about['threads']} threads", fontsize=8)
        write_whole(into, plots.as_svg(figure))


BESIDE: Any = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}


def _draw_first_calls(axes: Any, compiles: Sequence[Record]) -> None:
    for at, record in enumerate(compiles):
        for shift, side, colour in ((-0.2, "stock", NEUTRAL), (0.2, "ours", OURS)):
            axes.barh(at + shift, record[side], 0.36, color=colour)
            axes.annotate(f"{record[side]:.0f} s {side}", (record[side], at + shift), **BESIDE)
    workloads = [record["case"].partition("-")[0] for record in compiles]
    axes.set_yticks(range(len(compiles)), [f"{name}\ninference" for name in workloads])
    axes.set_title("First call with an empty cache, s", fontsize=10)
    axes.set_xlim(0, 1.6 * max(record["stock"] for record in compiles))


def _draw_speed_ups(axes: Any, gains: Sequence[tuple[Row, Record]]) -> None:
    ends = []
    for at, (_, record) in enumerate(gains):
        times, limit = record["times_as_fast"], record["limit"]["times_as_fast"]
        around = [[times["median"] - times["least"]], [times["most"] - times["median"]]]
        axes.barh(
            at, times["median"], 0.55, color=OURS, xerr=around, error_kw={"ecolor": NEUTRAL, "capsize": 2}
        )
        axes.plot([limit] * 2, [at - 0.36, at + 0.36], color=NEUTRAL, linewidth=2)
        ends.append(max(times["most"], limit))
        axes.annotate(f"{times['median']:.2f}x, limit {limit:.2f}x", (ends[-1], at), **BESIDE)
    axes.axvline(1, color=NEUTRAL, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(gains)), [f"{row}" for row, _ in gains])
    axes.set_title("Times as fast as stock eager in fp32", fontsize=10)
    axes.set_xlim(0, 1.45 * max(ends))


def draw_runtimes(peers: Sequence[Record], into: Path) -> None:
    """``auto`` and the runtimes that a user could pick, on the CPU that was measured last.

    Raises:
        ValueError: none has been measured beside ``auto`` with each extra.
    """
    beside = [each for each in peers if each["row"] == STEP and set(VARIANTS) <= set(each["times_as_fast"])]
    if not beside:
        raise ValueError("no runtime is recorded beside auto; run nox -s peers first")
    found = [each for each in beside if machine(each["about"]) == machine(beside[-1]["about"])]

    from matplotlib.figure import Figure

    about, height = beside[-1]["about"], 0.8 / len(VARIANTS)
    with plots.style("runtimes", **{"font.size": 9}):
        figure = Figure(figsize=(9, 0.4 + 0.9 * len(found)), layout="constrained")
        axes = figure.subplots()
        for at, record in enumerate(found):
            for turn, name in enumerate(VARIANTS):
                times, ours = record["times_as_fast"][name], name.startswith("auto")
                around = [[times["median"] - times["least"]], [times["most"] - times["median"]]]
                axes.barh(
                    at + (turn - (len(VARIANTS) - 1) / 2) * height,
                    times["median"],
                    0.85 * height,
                    color=OURS if ours else NEUTRAL,
                    alpha=1 if name == "auto" or not ours else 0.6,
                    xerr=around,
                    error_kw={"ecolor": NEUTRAL, "capsize": 2},
                )
                axes.annotate(
                    f"{times['median']:.2f}x {COLUMNS[name].replace('`', '')}",
                    (times["most"], at + (turn - (len(VARIANTS) - 1) / 2) * height),
                    **BESIDE,
                )
        axes.axvline(1, color=NEUTRAL, linestyle=":", linewidth=1)
        axes.set_yticks(range(len(found)), [f"{each['case'].split('-')[0]}\ninference" for each in found])
        axes.set_title("Times as fast as stock eager, fp32", fontsize=10)
        axes.set_xlim(
            0, 1.35 * max(each["times_as_fast"][name]["most"] for each in found for name in VARIANTS)
        )
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(f"a CPU with {about['cpu']}, {about['threads']} threads", fontsize=8)
        write_whole(into, plots.as_svg(figure))
