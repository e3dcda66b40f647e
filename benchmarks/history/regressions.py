"""What became worse in the history, from which commit on, and what else changed there. No torch.

Steps are found by asv when it publishes (its step detection: an L1 fit of piecewise constants over
all commits); here they are put beside commits and installed packages, for an issue.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..files import read_if_there, read_json, read_object
from ..markdown import render
from ..repository import git
from . import torch_releases
from .installed import recorded

MACHINE = re.compile(r"/machine-([^/]+)/")
# Counts are the same on a busy machine. What is timed must be worse at a second commit too, or one night of a
# crowded runner would be an issue of two dozen benchmarks.
EXACT = re.compile(r"\.track_(?!auto_over|compiled_over|cold|warm|limit)")
CONFIRMED = 2  # measured commits at or after the step
MOST_COMMITS = 20  # listed; a range can be long where commits were not measured one by one
MOST_REGRESSIONS = 50
TEMPLATE = Path(__file__).parent / "templates" / "issue.md.jinja"


@dataclass(frozen=True)
class Regression:
    """A step for the worse that still lasts.

    Attributes:
        benchmark: with its parameters, as asv names it.
        machine: where it was measured.
        before, after: values, less is better.
        good, bad: the measured commits on either side of the step.
        commits: short hash and first line of each commit after ``good`` up to ``bad``, newest first.
        packages: what was installed before and after, by name, where it differs; None: not known.
    """

    benchmark: str
    machine: str
    before: float
    after: float
    good: str
    bad: str
    commits: tuple[str, ...]
    packages: dict[str, tuple[str, str]] | None

    @property
    def factor(self) -> str:
        """``1.20x``, or the difference where there was nothing before."""
        return f"{self.after / self.before:.2f}x" if self.before else f"+{self.after:g}"


@dataclass(frozen=True)
class History:
    """What asv published.

    Attributes:
        newest: the last commit that is in it.
        regressions: after the baseline.
        unconfirmed: how many more timings are worse, but at the newest measured commit only.
        baseline: the commit up to which it was known to be good; None: from its beginning.
        damaged: what could not be read and is missing here, a line for each share.
    """

    newest: str
    regressions: tuple[Regression, ...]
    unconfirmed: int = 0
    baseline: str | None = None
    damaged: tuple[str, ...] = ()


def read_history(html: Path, home: Path, baseline: str | None, root: Path) -> History:
    """Regressions that asv found and that the newest results still show.

    Args:
        html: what ``asv publish`` wrote.
        home: holds ``versions``.
        baseline: the commit up to which the history is known to be good; None: from its beginning.

    Raises:
        DamagedFileError: a page that asv always writes is missing or cut short.
        ValueError: nothing was published.
    """
    revisions: dict[str, str] = read_if_there(html / "index.json").get("revision_to_hash", {})
    if not revisions:
        raise ValueError(f"asv published nothing in {html}; run nox -s history first")
    hashes = {int(revision): commit for revision, commit in revisions.items()}
    known_good = max((revision for revision, commit in hashes.items() if commit == baseline), default=-1)
    found, unconfirmed = [], 0
    regressions = read_object(html / "regressions.json")["regressions"]
    for benchmark, graph, _, index, _, _, jumps in regressions:
        machine, torch = MACHINE.search(graph), torch_releases.GRAPH.search(graph)
        name = f"{benchmark}, torch {torch[1]}" if torch else benchmark
        for before, after, old, new in jumps:
            if after <= known_good:
                continue
            if not EXACT.search(name) and _measured_since(html / graph, index, after) < CONFIRMED:
                unconfirmed += 1
            else:
                good = max(r for r in hashes if r < after) if before is None else before
                where = machine[1] if machine else "unknown"
                found.append(_regression(name, where, old, new, hashes[good], hashes[after], home, root))
    return History(hashes[max(hashes)], tuple(found), unconfirmed, baseline)


def _measured_since(graph: Path, index: int | None, revision: int) -> int:
    """How many commits from ``revision`` on have a value in one of asv's graphs.

    Args:
        index: of the parameters' combination; None: the benchmark has none.

    Raises:
        DamagedFileError: the graph is missing or cut short.
    """
    points = read_json(graph)
    values = [
        value if index is None or value is None else value[index] for at, value in points if at >= revision
    ]
    return sum(value is not None for value in values)


def _regression(
    benchmark: str, machine: str, old: float, new: float, good: str, bad: str, home: Path, root: Path
) -> Regression:
    listed = git("log", f"-n{MOST_COMMITS}", "--format=%h %s", f"{good}..{bad}", root=root).splitlines()
    before, after = (recorded(commit, machine, home) for commit in (good, bad))
    packages = None
    if before and after:
        changed = sorted({package for package, _ in before.items() ^ after.items()})
        packages = {name: (before.get(name, "none"), after.get(name, "none")) for name in changed}
    return Regression(benchmark, machine, old, new, good, bad, tuple(listed), packages)


def issue_title(history: History) -> str:
    """How much became worse, and since when."""
    first = history.regressions[-1].bad[:8]
    count = len(history.regressions)
    return f"Performance: {count} benchmark{'' if count == 1 else 's'} worse since {first}"


def issue_text(history: History) -> str:
    """Markdown: a table, then each range of commits with what changed in it."""
    return render(
        TEMPLATE,
        history=history,
        regressions=history.regressions[:MOST_REGRESSIONS],
        more=max(0, len(history.regressions) - MOST_REGRESSIONS),
        ranges={(each.good, each.bad, each.machine): each for each in history.regressions},
        most_commits=MOST_COMMITS,
    )
