"""How much faster does torch.compile make ACT on this machine?

One command makes one table of three variants: stock LeRobot eager, the same policy made
compile-friendly, and that policy compiled. They take turns in one process. Nothing is downloaded.
Compiling takes from ten seconds to some minutes. On CUDA steps are timed with the flags that
lerobot-train sets, which means TF32. Actions are compared without TF32, for which the policy is
compiled once more.

    python examples/benchmark_act_compile.py                        # aloha, inference, CPU
    python examples/benchmark_act_compile.py --device cuda --precision bf16
    python examples/benchmark_act_compile.py --phase training --workload pusht
    python examples/benchmark_act_compile.py --policy-path outputs/train/.../pretrained_model
    python examples/benchmark_act_compile.py --phase tick --hz 50       # would it keep up with the robot?
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or it says ERROR where a CUDA build finds no driver
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/ is not installed

from rich.console import Console
from rich.table import Table

from benchmarks.files import write_whole
from benchmarks.markdown import table
from benchmarks.pages.compare import (
    VariantTimes,
    from_checkpoint,
    from_workload,
    pays_off,
    speed_up,
    time_by_turns,
)
from benchmarks.plots import NEUTRAL, OURS, style
from benchmarks.records import described
from benchmarks.suite.environment import environment
from benchmarks.suite.precision import AS_LEROBOT_TRAIN, STRICT, has_tf32
from benchmarks.suite.workloads import DEVICES, PRECISIONS, WORKLOADS

MODES = (
    *("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),  # torch's
    *("frozen", "openvino", "onnxruntime", "captured", "auto"),  # and ours
)
PHASES = ("inference", "training", "rollout", "tick")
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_argument_group("what is measured").add_mutually_exclusive_group()
    add = what.add_argument
    add(
        "--workload",
        default="aloha",
        choices=list(WORKLOADS),
        help="a preset with random weights (default aloha: one camera of 480 x 640)",
    )
    add(
        "--policy-path",
        type=Path,
        metavar="DIR",
        help="a checkpoint saved by LeRobot: the directory with config.json and model.safetensors",
    )
    add("--config", type=Path, metavar="FILE", help="only a checkpoint's config.json; the weights are random")
    add = parser.add_argument
    add(
        "--phase",
        default="inference",
        choices=PHASES,
        help="what a step is; inference (default): predict one action chunk; training: forward, backward and "
        "optimizer; rollout: n_action_steps calls of select_action, of which the first predicts; tick: the "
        "same with LeRobot's preparation and processors, from cameras' bytes to numbers for the motors",
    )
    add("--device", default="cpu", choices=DEVICES, help="default cpu")
    add(
        "--precision",
        default="fp32",
        choices=PRECISIONS,
        help="bf16: autocast in our variants, which changes their actions; stock stays fp32",
    )
    add(
        "--compile-mode",
        default="auto",
        choices=MODES,
        help="auto (default): the fastest mode for the device; TORCH_COMPILE_ACT.md explains all modes",
    )
    add("--batch-size", type=int, metavar="N", help="default 1, in training 8")
    add("--num-runs", type=int, default=50, metavar="N", help="steps of each variant (default 50)")
    add(
        "--hz",
        type=float,
        metavar="RATE",
        help="a robot's control rate: report the share of its ticks that would find no action ready; with "
        "--phase inference each action needs a prediction, with rollout and tick each chunk does",
    )
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="write result.md, result.json, latency.svg and latency.png to this directory",
    )
    args = parser.parse_args(argv)
    for name in ("batch_size", "num_runs", "hz"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            parser.error(f"--{name.replace('_', '-')} is {value}; it must be greater than 0")
    if args.num_runs < 2:
        parser.error("--num-runs is 1; a spread needs at least 2")
    return args


def rows(
    found: Sequence[VariantTimes], hz: float | None, batch_size: int
) -> tuple[list[str], list[list[str]]]:
    """The table: a heading and one line a variant."""
    stock, per_step = found[0], found[0].per_step
    is_rollout = bool(stock.ticks)
    heading = ["", "median", "p95", "p99", "spread", "speed-up (95%)", "samples/s", "Hz"]
    heading += ["longest tick"] if is_rollout else []
    heading += [f"missed at {hz:g} Hz"] if hz else []
    heading += ["first call", "pays off after", "peak memory", "graph breaks", "kernels", "difference"]
    lines = []
    for variant in found:
        times, low, high = speed_up(stock, variant)
        seconds = (variant.median, variant.percentile(95), variant.percentile(99))
        line = [variant.name, *(f"{1e3 * second:.2f} ms" for second in seconds)]
        line += [
            f"{variant.spread:.0%}",
            "" if variant is stock else f"{times:.2f}x ({low:.2f} to {high:.2f})",
        ]
        rate = per_step / variant.median
        line += [f"{batch_size * rate:.1f}", f"{rate:.1f}"]
        line += [f"{1e3 * median(variant.longest):.2f} ms"] if is_rollout else []
        line += [f"{variant.missed(hz):.1%}"] if hz else []
        steps = pays_off(stock, variant)
        if variant.first_call is None:
            line += ["", ""]
        else:
            line += [f"{variant.first_call:.1f} s", f"{steps:,} steps" if steps else "never"]
        line += [f"{variant.peak_memory / 2**20:.0f} MiB" if variant.peak_memory is not None else "unknown"]
        line += ["" if value is None else str(value) for value in (variant.graph_breaks, variant.kernels)]
        line += ["" if variant.difference is None or variant is stock else f"{variant.difference:.0e}"]
        lines.append(line)
    return heading, lines


def markdown(title: str, about: str, heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return f"# {title}\n\n{about}\n\n{table(heading, lines)}\n"


def draw(found: Sequence[VariantTimes], title: str, hz: float | None, directory: Path) -> None:
    """Latency distributions side by side, the deadline drawn in; readable on light and dark pages."""
    from matplotlib.figure import Figure

    colours = (NEUTRAL, "#4c78a8", OURS)
    with style("latency"):
        figure = Figure(figsize=(8, 0.9 + 0.8 * len(found)), layout="constrained")
        axes = figure.add_subplot()
        for at, (variant, colour) in enumerate(zip(reversed(found), reversed(colours), strict=True)):
            milliseconds = [1e3 * second for second in variant.longest]
            heights = [
                at + 0.25 * (i * 0.618 % 1 - 0.5) for i in range(len(milliseconds))
            ]  # apart, not random
            axes.scatter(milliseconds, heights, s=10, alpha=0.6, color=colour, linewidths=0)
            middle = median(milliseconds)
            axes.plot([middle, middle], [at - 0.3, at + 0.3], color=colour, linewidth=2.5)
            text = {"color": colour, "ha": "center", "va": "bottom", "fontsize": 9}
            axes.annotate(f"{middle:.1f} ms", (middle, at + 0.32), **text)
        if hz:
            axes.axvline(1e3 / hz, color="#d62728", linestyle="--", linewidth=1)
            text = {"color": "#d62728", "va": "top", "fontsize": 9, "textcoords": "offset points"}
            axes.annotate(f"{hz:g} Hz", (1e3 / hz, len(found) - 0.45), xytext=(3, 0), **text)
        axes.set_yticks(range(len(found)), [variant.name for variant in reversed(found)])
        axes.set_ylim(-0.5, len(found) - 0.35)
        axes.set_xlim(left=0)
        n = found[0].per_step
        axes.set_xlabel(f"longest of a chunk's {n} ticks, ms" if n > 1 else "one step, ms")
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        for suffix in ("svg", "png"):
            drawn = io.BytesIO()
            figure.savefig(drawn, format=suffix, transparent=True, dpi=150)
            write_whole(directory / f"latency.{suffix}", drawn.getvalue())


def run(args: argparse.Namespace, console: Console) -> None:
    path = args.policy_path or args.config
    source = from_checkpoint(path) if path else from_workload(args.workload, args.phase)
    batch_size = args.batch_size or (8 if args.phase == "training" else 1)
    how = f"{args.precision}, batch {batch_size}, {args.compile_mode}"
    title = f"{source.name} {args.phase} on {args.device}, {how}"
    with console.status(title) as status:
        found = time_by_turns(
            source,
            args.phase,
            device=args.device,
            precision=args.precision,
            batch_size=batch_size,
            runs=args.num_runs,
            mode=args.compile_mode,
            progress=lambda text: status.update(f"{title}: {text}"),
        )
    here = environment()
    about = f"{described(here)}; {args.num_runs} steps each, by turns in one process"
    if has_tf32(args.device):
        about += f"; timed {AS_LEROBOT_TRAIN}; differences in {STRICT}"
    if found[0].ticks:
        about += f"; a step is {found[0].per_step} ticks: a chunk is predicted and its actions are taken"
    heading, lines = rows(found, args.hz, batch_size)
    shown = Table("", *(line[0] for line in lines), title=title, caption=about)
    for at, name in enumerate(heading[1:], start=1):
        shown.add_row(name, *(line[at] for line in lines))
    Console().print(shown)
    if args.output is not None:
        write_whole(args.output / "result.md", markdown(title, about, heading, lines))
        document: dict[str, Any] = {
            "title": title,
            "about": here | ({"flags": [AS_LEROBOT_TRAIN, STRICT]} if has_tf32(args.device) else {}),
            "variants": [asdict(variant) for variant in found],
        }
        write_whole(args.output / "result.json", json.dumps(document, indent=1) + "\n")
        draw(found, title, args.hz, args.output)
        console.print(f"written to {args.output}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: measured; 2: could not, and one line says why."""
    args = arguments(argv)
    console = Console(stderr=True)
    try:
        run(args, console)
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
            text = f"not enough memory; try a smaller --batch-size ({text[:150]})"
        print(f"benchmark_act_compile: {text[:500]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
