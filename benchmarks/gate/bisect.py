"""Which commit made ACT worse: ``nox -s bisect -- GOOD..BAD``, by the gate's own comparison with GOOD.

Results and counters first, which are exact and take a minute or two a commit, because GOOD's are kept; times
only where nothing of these is worse.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ..command import exit_code, say
from ..one_run import sigterm_interrupts
from ..repository import ROOT, MeasurementError, git
from ..suite.workloads import DEVICES
from .cases import choose, step_times
from .comparison import describe
from .exact_tiers import stops_here
from .result import UNDECIDED, Result
from .run import gate
from .run import parser as gate_parser
from .verdict import SLOWER

MEASURED = ("src", "pyproject.toml")  # no other commit can have changed the subject


@dataclass(frozen=True)
class Bisection:
    """What each comparison is made with; the fields are the command's arguments."""

    good: str
    case: str | None
    device: str
    minutes: float
    console: Console
    root: Path
    command: Sequence[str]

    def compare(self, commit: str, *, timed: bool) -> Result:
        """The gate's result on ``commit`` against ``good``."""
        asked = ["--base", self.good, "--head", commit, "--device", self.device]
        asked += ["--minutes", str(self.minutes), *(() if timed else ("--no-times",))]
        if self.case is not None:
            asked += ["--workloads", self._pair]
        args = gate_parser().parse_args(asked)
        return gate(args, self.console, self.root, self.command)

    @property
    def _pair(self) -> str:
        """``pusht-training``: the workload and phase that findings are about."""
        return "-".join((self.case or "").split("-")[:2])

    def worse(self, result: Result) -> dict[str, str]:
        """What is worse in head and concerns the case, each in words; an accepted regression is one.

        The gate asks for counters of ``tiny`` in any case: they are not the case's.
        """
        found = {
            f"{f.what} of {f.case}": f"{f.case}: {describe(f)}"
            for f in result.findings
            if f.red and (self.case is None or f"{f.case}-".startswith(f"{self._pair}-"))
        }
        found |= {
            time.name: f"{time.name}: {time.verdict.wording()}"
            for time in result.times
            if time.verdict.kind == SLOWER and (self.case is None or time.name.startswith(self.case))
        }
        return found

    @staticmethod
    def compared(result: Result) -> set[str]:
        """Names, as in ``worse``, that another commit may not be measured by: it has no engine, say."""
        return {*result.compared, *(time.name for time in result.times)}


def first_bad(asked: Bisection, commits: Sequence[str]) -> tuple[Sequence[str], str]:
    """The commits of which one is the first bad one, a single one where that is known; what is worse.

    Args:
        commits: oldest first; the last one is bad.

    Raises:
        MeasurementError: it is not.
    """
    timed, result = False, asked.compare(commits[-1], timed=False)
    if not (symptoms := asked.worse(result)):
        timed, result = True, asked.compare(commits[-1], timed=True)
        symptoms = asked.worse(result)
    if not symptoms and result.not_timed:
        why = f"{result.not_timed}; {result.about.get('auto', result.headline)}"
        raise MeasurementError(f"{commits[-1][:10]} is not known to be worse than {asked.good[:10]}: {why}")
    if not symptoms:
        raise MeasurementError(f"nothing is worse than in {asked.good[:10]}: {result.headline}")
    measured = asked.compared(result)
    low, high = 0, len(commits) - 1  # the first bad one is one of these and those between
    why = "; ".join(symptoms.values())
    while low < high:
        middle = (low + high) // 2
        left = commits[low : high + 1]
        asked.console.print(f"{len(left)} commits left; {commits[middle][:10]} is next", highlight=False)
        try:
            result = asked.compare(commits[middle], timed=timed)
        except MeasurementError as error:
            return left, f"{commits[middle][:10]} cannot be judged: {error}"
        found = asked.worse(result)
        lost = sorted((symptoms.keys() & measured) - asked.compared(result))
        if shared := symptoms.keys() & found.keys():
            high, symptoms = middle, {name: symptoms[name] for name in shared}
            why = "; ".join(found[name] for name in symptoms)
        elif stops_here(result.findings) or any(time.name in symptoms for time in result.open_times):
            return left, f"{commits[middle][:10]} cannot be judged: {result.headline}"
        elif lost and not result.same_subject:
            return left, f"{commits[middle][:10]} cannot be judged: {lost[0]} was not measured there"
        else:
            low = middle + 1
    return commits[low : high + 1], why


def commits_of(between: str, root: Path) -> tuple[str, list[str]]:
    """GOOD of ``GOOD..BAD``, and the commits after it that touch the subject, oldest first.

    Along first parents, so that a merged branch is one change.

    Raises:
        ValueError: it is no such range, or nothing of the subject has changed.
        MeasurementError: git does not know one of the two.
    """
    good, dots, bad = between.partition("..")
    if not (good and dots and bad) or bad.startswith("."):
        raise ValueError(f"{between!r} is no range of commits; write GOOD..BAD")
    known = [
        git("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}", root=root)
        for name in (good, bad)
    ]
    if git("merge-base", *known, root=root) != known[0]:
        raise ValueError(f"{good} is no ancestor of {bad}; name a commit before it")
    along = ("--reverse", "--first-parent", "--ancestry-path", "..".join(known))
    listed = git("rev-list", *along, "--", *MEASURED, root=root)
    if not listed:
        raise ValueError(f"no commit of {between} touches {' or '.join(MEASURED)}; nothing can have changed")
    return known[0], listed.split()


def check(case: str, device: str) -> None:
    """Refuse a case that the gate would not time on ``device``.

    Raises:
        ValueError: its name is none of a case, and does not begin one's.
    """
    times = [str(time) for time in step_times(choose(["-".join(case.split("-")[:2])], device))]
    if not any(f"{time}-".startswith(f"{case}-") for time in times):
        raise ValueError(f"unknown case {case!r} on {device}; choose one of {', '.join(times)}")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nox -s bisect --",
        description="Find the commit that made ACT worse. Exit code 0: found, 2: could not measure, or "
        "nothing is worse, 3: narrowed down only.",
    )
    parser.add_argument("between", metavar="GOOD..BAD")
    parser.add_argument(
        "--case",
        metavar="NAME",
        help="pusht-training, or a whole name from a report (default: the gate's set)",
    )
    parser.add_argument("--device", default="cpu", choices=DEVICES)
    parser.add_argument("--minutes", type=float, default=9.5, help="for one comparison that is timed (9.5)")
    return parser


def main(argv: Sequence[str] | None = None, *, root: Path = ROOT, command: Sequence[str] = ()) -> int:
    """Exit code: as ``parser`` says."""
    args = parser().parse_args(argv)

    def work() -> int:
        if args.case is not None:
            check(args.case, args.device)
        good, commits = commits_of(args.between, root)
        console = Console(stderr=True, soft_wrap=True)
        asked = Bisection(good, args.case, args.device, args.minutes, console, root, command)
        with sigterm_interrupts():
            left, why = first_bad(asked, commits)
        for commit in left:
            say(git("log", "-1", "--format=%h %as %an: %s", commit, root=root))
        say(why)
        return 0 if len(left) == 1 else UNDECIDED

    return exit_code("bisect: could not measure", work, interrupted="interrupted; nothing is left running")


if __name__ == "__main__":
    sys.exit(main())
