"""Measure commits with asv and publish the graphs: ``nox -s history -- [RANGE] [--quick]``.

Many commits are spread over machines by ``--shard K/N``; ``nox -s publish`` puts the shares together.

``--list`` measures nothing and lists what became worse and better so far, by commit.

Exit codes (through nox 0 or 1): 0 measured and published, 2 could not (an unknown commit, none with the
subject), or published without a benchmark that failed or a file that is damaged.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task, TimeElapsedColumn
from rich.text import Text

from ..command import exit_code, say
from ..one_run import alone, sigterm_interrupts
from ..repository import PACKAGE, ROOT, MeasurementError, git
from ..suite.asv_cases import QUICK, QUICKLY
from . import asv_command, installed, overview, regressions, site_scripts, torch_releases
from .result_files import BRANCH, checked_out, damaged_files, is_measured, merge

SUBJECT = f"{PACKAGE}/__init__.py"
MEASURED = ("src", "pyproject.toml")  # of a commit: the code, and what is installed with it
PERCENT = re.compile(r"^\[\s*(\d+(?:\.\d+)?)%\]\s*(.*)")
QUICK_ENDS_AT = 50.0  # percent: asv counts two processes a benchmark, and with --quick it starts one
TELLS = 0.2  # of the way: before that benchmarks are too unlike to say how long the others take
INTERRUPTED = "interrupted; asv keeps what it had measured, and nothing is left running"


def commits_to_measure(commit_range: str | None, root: Path = ROOT) -> list[str]:
    """Those commits of ``commit_range`` that have the subject, oldest first.

    Args:
        commit_range: as git names it, or a number: that many of the newest. Default: HEAD and its parent.

    Raises:
        MeasurementError: the range is unknown or empty, or no commit of it has the subject.
    """
    if commit_range is None or re.fullmatch(r"\d{1,3}", commit_range):  # git takes four digits for a commit
        found = git("rev-list", "--first-parent", "-n", commit_range or "2", "HEAD", root=root).split()
    else:
        if ".." not in commit_range and not commit_range.endswith("^!"):
            commit_range += "^!"  # one commit, not all before it
        try:
            found = git("rev-list", "--first-parent", commit_range, "--", root=root).split()
        except MeasurementError as error:
            raise MeasurementError(f"{error}; `git log --oneline` shows the commits there are") from None
        if not found:
            raise MeasurementError(f"no commit in {commit_range}; give a range as in HEAD~3..HEAD")
    with_subject = [commit for commit in reversed(found) if git("ls-tree", commit, "--", SUBJECT, root=root)]
    if not with_subject:
        raise MeasurementError(f"none of the {len(found)} commits asked for has {SUBJECT}; choose later ones")
    return with_subject


def told_apart(commits: Sequence[str], root: Path = ROOT) -> tuple[list[str], dict[str, str]]:
    """Commits whose MEASURED differs from that of the one before; and for each other, the one it equals."""
    kept: list[str] = []
    twins: dict[str, str] = {}
    last = None
    for commit in commits:
        measured = git("ls-tree", commit, "--", *MEASURED, root=root)
        if measured == last:
            twins[commit] = kept[-1]
        else:
            kept.append(commit)
        last = measured
    return kept, twins


def shard(text: str) -> tuple[int, int]:
    """``2/5``: the second of five shares."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    share, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= share <= of:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; write 2/5 for the second of five")
    return share, of


def share_of(commits: Sequence[str], share: int, of: int) -> list[str]:
    """Every ``of``-th commit: where one runner is slower, that is noise in the graphs and no step."""
    return list(commits[share - 1 :: of])


def measure(
    commits: Sequence[str], extra: Sequence[str], console: Console, directory: Path, root: Path = ROOT
) -> None:
    """Run asv over ``commits``, rounds interleaved, and show how far it is.

    Args:
        directory: takes the files of this run.

    Raises:
        MeasurementError: asv or one of its benchmarks failed.
    """
    listed = directory / "commits.txt"
    listed.write_text("\n".join(commits) + "\n", encoding="utf-8")
    quick = "--quick" in extra
    rounds, ends_at = ([], QUICK_ENDS_AT) if quick else (["--interleave-rounds"], 100.0)
    environment = {**os.environ, QUICK: "1"} if quick else None
    columns = (*Progress.get_default_columns()[:3], TimeElapsedColumn(), Left())
    asked = ["run", f"HASHFILE:{listed}", "--show-stderr", *rounds, *extra]  # or a failure has no reason
    printed = asv_command.lines(asked, root, environment)
    with contextlib.closing(printed), Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{len(commits)} commits", total=ends_at)
        for line in without_skipped(printed):
            found = PERCENT.match(line)
            if found:
                progress.update(task, completed=min(ends_at, float(found[1])))
            if line.strip():
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        progress.update(task, completed=ends_at)


class Left(ProgressColumn):
    """How long it takes still, as long as what is done took; rich's own goes by the last half minute."""

    def render(self, task: Task) -> Text:
        share = task.percentage / 100
        if task.elapsed is None or not TELLS <= share < 1:
            return Text("")
        minutes = task.elapsed * (1 - share) / share / 60
        return Text(f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left")


def quick_benchmarks() -> list[str]:
    """For asv: the cases that ``--quick`` measures alone, or figures of the others would be overwritten."""
    return [f"{phase.capitalize()}Counts.*'({'|'.join(names)})'" for phase, names in QUICKLY.items()]


def without_skipped(lines: Iterable[str]) -> Iterator[str]:
    """What asv prints, less the cases that another machine measures: each is n/a in its table already."""
    held: list[str] = []
    for line in lines:
        if "asv: skipped:" in line:
            held = []
            continue
        yield from held
        held = [line] if "For parameters:" in line else []
        if not held:
            yield line
    yield from held


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nox -s history --",
        description=__doc__,
        epilog="Other arguments go to `asv run`, after the range.",
    )
    parser.add_argument(
        "range", nargs="?", help="commits as git names them, HEAD~3..HEAD, v1.0..main; 5: the newest five"
    )
    parser.add_argument(
        "--quick", action="store_true", help="counts and speed-ups of three cases, each taken once: minutes"
    )
    parser.add_argument(
        "--list", action="store_true", help="what became worse and better so far, by commit; measures nothing"
    )
    parser.add_argument(
        "--repeat", action="store_true", help="also measure commits whose code is that of the one before"
    )
    parser.add_argument("--shard", type=shard, default=(1, 1), metavar="K/N", help="the K-th of N shares")
    parser.add_argument(
        "--bench", action="append", default=[], metavar="REGEX", help="benchmarks to run (default: all)"
    )
    parser.add_argument(
        "--torch",
        type=torch_releases.releases,
        default=[],
        metavar="A,B",
        help="these torch releases, a graph each, instead of the newest that LeRobot allows",
    )
    parser.add_argument("--machine", metavar="NAME", help="of this machine (default: its host name)")
    parser.add_argument(
        "--missing",
        action="store_true",
        help=f"leave out commits that branch {BRANCH} has results of, and draw nothing",
    )
    return parser


def main(argv: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    parser = _parser()
    args, extra = parser.parse_known_args(argv)
    if args.torch and args.missing:
        parser.error("--missing knows no torch releases; leave out one of --torch and --missing")
    with sigterm_interrupts():
        return exit_code("history", lambda: _run(args, extra, root), interrupted=INTERRUPTED)


def _run(args: argparse.Namespace, extra: Sequence[str], root: Path) -> None:
    with alone(root), tempfile.TemporaryDirectory(prefix="history-") as directory:
        if args.list:
            asv_command.draw(root, Path(directory))
            say(regressions.listed(regressions.all_steps(root / ".asv" / "html", root / ".asv", root)))
        else:
            _measure_and_draw(args, extra, Path(directory), root)


def _measure_and_draw(args: argparse.Namespace, extra: Sequence[str], directory: Path, root: Path) -> None:
    console, home, machine = Console(), root / ".asv", args.machine or platform.node()
    # A share is the same whatever is measured already, so one that failed can be run again alone.
    commits = commits_to_measure(args.range, root)
    commits, twins = (commits, {}) if args.repeat else told_apart(commits, root)
    for commit, twin in twins.items():
        console.print(
            f"{commit[:8]} has the code of {twin[:8]} and is not measured again; --repeat measures it"
        )
    commits = share_of(commits, *args.shard)
    if args.missing:
        with checked_out(BRANCH, git("remote", "get-url", "origin", root=root)) as place:
            damaged = merge(place, home)
        for each in damaged:
            console.print(f"note: branch {BRANCH}: {each}; what it held counts as not measured", markup=False)
        commits = [commit for commit in commits if not is_measured(commit, machine, home)]
    if not commits:
        console.print("nothing to measure: every commit of this share has its results")
        return
    if git("status", "--porcelain", "--", "src", root=root):
        console.print("note: asv measures commits; uncommitted changes in src/ are not in them")
    console.print(f"measuring {', '.join(commit[:8] for commit in commits)}; the first run installs torch")
    named = ["--machine", args.machine] if args.machine else []
    # A named machine may be another runner each day: asv would draw each processor and kernel as a graph.
    anonymous = ["--os", "any", "--cpu", "any", "--ram", "any"] if args.machine else []
    asv_command.run("machine", "--yes", *named, *anonymous, root=root)
    chosen = [f"--bench={regex}" for regex in args.bench or (quick_benchmarks() if args.quick else [])]
    options = [*(["--quick"] if args.quick else []), *named, *chosen, *extra]
    failures = []  # told at the end: what was measured is drawn
    for release in args.torch:
        config = torch_releases.configuration(release, root, directory)
        try:
            measure(commits, [*options, "--config", str(config)], console, directory, root)
        except MeasurementError as error:
            failures.append(str(error))
        torch_releases.assert_installed(release, root)
    if not args.torch:
        try:
            measure(commits, options, console, directory, root)
        except MeasurementError as error:
            failures.append(str(error))
    try:
        if not args.torch:
            installed.record(commits, machine, home)
        if args.missing:  # a share of a history that others measure too: nox -s publish draws all of it
            console.print(f"measured: {home / 'results'}; nox -s publish puts the shares together")
        else:
            _draw(console, home, directory, twins, root)
    except MeasurementError:
        if not failures:  # these come of those
            raise
    if failures:
        timed_out = any("timed out" in each for each in failures)
        remedy = "; what timed out may have shared the machine: measure again when it is quiet"
        raise MeasurementError(f"{'; '.join(failures)}{remedy if timed_out else ''}")


def _draw(console: Console, home: Path, directory: Path, twins: Mapping[str, str], root: Path) -> None:
    left_out = asv_command.draw(root, directory)
    page = overview.write(home, home / "html", twins)
    if why := site_scripts.put_beside(home / "html", home / site_scripts.FOLDER):
        console.print(f"note: {why}", markup=False, soft_wrap=True)
    # As an address that a terminal opens, on one line however long it is.
    console.print(f"published: {page.resolve().as_uri()}", markup=False, soft_wrap=True)
    console.print("every graph of asv's: nox -s asv -- preview")
    if damaged := damaged_files(home) or left_out:
        raise MeasurementError(
            f"the pages lack what cannot be read; delete it and measure anew: {damaged[0]}"
        )


if __name__ == "__main__":
    sys.exit(main())
