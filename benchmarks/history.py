"""Measure commits with asv and publish the graphs: ``nox -s history -- [RANGE] [--quick]``.

Exit codes: 0 measured and published, 2 could not (an unknown commit, none with the subject, a
benchmark that failed).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .repository import PACKAGE, ROOT, MeasurementError, git

SUBJECT = f"{PACKAGE}/__init__.py"
PERCENT = re.compile(r"^\[\s*(\d+(?:\.\d+)?)%\]\s*(.*)")
QUICK_SHARE = 0.5  # asv counts two processes a benchmark; with --quick it starts one and ends at half


def commits_to_measure(commit_range: str | None, root: Path = ROOT) -> list[str]:
    """Those commits of ``commit_range`` that have the subject, oldest first; default: HEAD and its parent.

    Raises:
        MeasurementError: the range is unknown or empty, or no commit of it has the subject.
    """
    if commit_range is None:
        found = git("rev-list", "--first-parent", "-n", "2", "HEAD", root=root).split()
    else:
        if ".." not in commit_range and not commit_range.endswith("^!"):
            commit_range += "^!"  # one commit, not all before it
        try:
            found = git("rev-list", "--first-parent", commit_range, "--", root=root).split()
        except MeasurementError as error:
            raise MeasurementError(f"{error}; `git log --oneline` shows the commits there are") from None
        if not found:
            raise MeasurementError(f"no commit in {commit_range}; give a range as in HEAD~3..HEAD")
    with_subject = [commit for commit in reversed(found) if _has_subject(commit, root)]
    if not with_subject:
        raise MeasurementError(f"none of the {len(found)} commits asked for has {SUBJECT}; choose later ones")
    return with_subject


def _has_subject(commit: str, root: Path) -> bool:
    command = ["git", "cat-file", "-e", f"{commit}:{SUBJECT}"]
    return subprocess.run(command, cwd=root, capture_output=True, check=False).returncode == 0


def asv_lines(args: Sequence[str], root: Path) -> Iterator[str]:
    """Lines that ``asv ARGS`` prints, as it prints them.

    Raises:
        MeasurementError: asv's exit code is not 0; its last lines are the message.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "asv", *args],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    last: list[str] = []
    try:
        for line in process.stdout:
            last = [*last[-30:], line.rstrip()]
            yield line.rstrip()
    finally:
        if process.poll() is None and sys.exc_info()[0] is not None:
            process.terminate()
        process.wait()
    if process.returncode != 0:
        failed = [line for line in last if "failed" in line.lower()] or last[-3:]
        raise MeasurementError(
            f"asv {args[0]} ended with exit code {process.returncode}: {' | '.join(failed)}"
        )


def measure(commits: Sequence[str], extra: Sequence[str], console: Console, root: Path = ROOT) -> None:
    """Run asv over ``commits``, rounds interleaved, and show how far it is.

    Raises:
        MeasurementError: asv or one of its benchmarks failed.
    """
    for _ in asv_lines(["machine", "--yes"], root):
        pass
    listed = root / ".asv" / "commits.txt"
    listed.parent.mkdir(exist_ok=True)
    listed.write_text("\n".join(commits) + "\n")
    quick = "--quick" in extra
    rounds = [] if quick else ["--interleave-rounds"]
    share = QUICK_SHARE if quick else 1.0
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task(f"{len(commits)} commits", total=100)
        for line in asv_lines(["run", f"HASHFILE:{listed}", *rounds, *extra], root):
            found = PERCENT.match(line)
            if found:
                progress.update(task, completed=min(100.0, float(found[1]) / share))
            if line.strip():
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        progress.update(task, completed=100)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="nox -s history --",
        description=__doc__,
        epilog="Other arguments go to `asv run`, for example --bench inference.",
    )
    parser.add_argument("range", nargs="?", help="commits as git names them: HEAD~3..HEAD, v1.0..main, HEAD")
    parser.add_argument(
        "--quick", action="store_true", help="one sample of each benchmark: minutes, and noisy"
    )
    args, extra = parser.parse_known_args(argv)
    console = Console()
    try:
        commits = commits_to_measure(args.range)
        if git("status", "--porcelain", "--", "src", root=ROOT):
            console.print("note: asv measures commits; uncommitted changes in src/ are not in them")
        console.print(
            f"measuring {', '.join(commit[:8] for commit in commits)}; the first run installs torch"
        )
        measure(commits, [*(["--quick"] if args.quick else []), *extra], console)
        for _ in asv_lines(["publish"], ROOT):
            pass
    except MeasurementError as error:
        Console(stderr=True).print(f"history: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    console.print(f"published: open {ROOT / '.asv' / 'html' / 'index.html'} by `nox -s asv -- preview`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
