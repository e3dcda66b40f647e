"""What became worse or better in the history, from which commit on, and what else changed there. No torch.

The steps are those of ``changes``; here they are put beside commits and installed packages, for an issue and
for ``nox -s history -- --list``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..files import read_if_there
from ..markdown import render
from ..repository import git
from . import changes
from .installed import differing, recorded

MOST_COMMITS = 20  # listed; a range can be long where commits were not measured one by one
MOST_REGRESSIONS = 50
CASE = re.compile(r"(?P<owner>(?:inference|training|rollout)\.\w+)\.\w+\('(?P<workload>\w+)'")
PHASES = {
    "rollout.TemporalEnsembling": "rollout_ensemble",
    "rollout.Tick": "tick",
    "rollout.EnsembledTick": "tick_ensemble",
}
TEMPLATE = Path(__file__).parent / "templates" / "issue.md.jinja"


@dataclass(frozen=True)
class Step:
    """A change between two measured commits.

    Attributes:
        benchmark: with its parameters, as asv names it.
        machine: where it was measured.
        before, after: values, less is better.
        good, bad: the measured commits on either side of the step.
        commits: short hash and first line of each commit after ``good`` up to ``bad``, newest first.
        packages: what was installed before and after, by name, where it differs; and the machine's kernel,
            processor, GPU and driver likewise. None: not known.
        lasts: whether the newest values are nearer to ``after`` than to ``before``.
    """

    benchmark: str
    machine: str
    before: float
    after: float
    good: str
    bad: str
    commits: tuple[str, ...]
    packages: dict[str, tuple[str, str]] | None
    lasts: bool = True

    @property
    def factor(self) -> str:
        """``1.20x``, or the difference where there was nothing before."""
        return f"{self.after / self.before:.2f}x" if self.before else f"+{self.after:g}"

    @property
    def gate_options(self) -> str:
        """What makes the gate measure this case; empty where its name does not say."""
        case = CASE.match(self.benchmark)
        if not case:
            return ""
        phase = PHASES.get(case["owner"], case["owner"].partition(".")[0])
        device = " --device cuda" if "'cuda'" in self.benchmark else ""
        return f" --workloads {case['workload']}-{phase}{device}"

    @property
    def is_worse(self) -> bool:
        return self.after > self.before


@dataclass(frozen=True)
class History:
    """What asv published.

    Attributes:
        newest: the last commit that is in it.
        regressions: steps for the worse that still last, after the baseline; the newest commit's first.
        baseline: the commit up to which everything was accepted; None: nothing was.
        damaged: what could not be read and is missing here, a line for each share.
    """

    newest: str
    regressions: tuple[Step, ...]
    baseline: str | None = None
    damaged: tuple[str, ...] = ()


def read_history(html: Path, home: Path, baseline: str | None, root: Path) -> History:
    """Steps for the worse after the baseline that the newest results still show.

    Args:
        html: what ``asv publish`` wrote.
        home: holds ``versions``.
        baseline: the commit up to which everything was accepted; None: nothing was.

    Raises:
        DamagedFileError: a page that asv always writes is missing or cut short.
        ValueError: nothing was published.
    """
    revisions = _revisions(html)
    accepted = revisions.get(baseline or "", -1)
    worse = [step for step in all_steps(html, home, root) if step.is_worse and step.lasts]
    after = tuple(step for step in worse if revisions[step.bad] > accepted)
    return History(max(revisions, key=revisions.__getitem__), after, baseline)


def all_steps(html: Path, home: Path, root: Path) -> list[Step]:
    """Every step of the history, the newest commit's first, of one commit the largest first.

    Raises:
        DamagedFileError, ValueError: as ``read_history`` does.
    """
    revisions = _revisions(html)
    hashes = {revision: commit for commit, revision in revisions.items()}
    found = []
    for series in changes.read(html):
        steps = series.changes()
        found += [_step(series, change, steps[-1].after, hashes, home, root) for change in steps]
    return sorted(found, key=lambda step: (-revisions[step.bad], -abs(step.after - step.before) / step.after))


def _revisions(html: Path) -> dict[str, int]:
    """asv's number of each commit."""
    commits: dict[str, str] = read_if_there(html / "index.json").get("revision_to_hash", {})
    if not commits:
        raise ValueError(f"asv published nothing in {html}; run nox -s history first")
    return {commit: int(revision) for revision, commit in commits.items()}


def _step(
    series: changes.Series, change: changes.Change, now: float, hashes: dict[int, str], home: Path, root: Path
) -> Step:
    at, was, became = change.at, change.before, change.after
    good, bad = (hashes[series.revisions[index]] for index in (at - 1, at))
    listed = git("log", f"-n{MOST_COMMITS}", "--format=%h %s", f"{good}..{bad}", root=root).splitlines()
    before, after = (recorded(commit, series.machine, home) for commit in (good, bad))
    packages = differing(before, after) if before and after else None
    lasts = abs(now - became) < abs(now - was)
    return Step(series.name, series.machine, was, became, good, bad, tuple(listed), packages, lasts)


def listed(steps: Iterable[Step]) -> str:
    """Steps as text, by the commit that they begin at."""
    lines: list[str] = []
    last = None
    for step in steps:
        if (step.bad, step.machine) != last:
            last = step.bad, step.machine
            what = step.commits[0].partition(" ")[2] if step.commits else ""
            more = f" (or {len(step.commits) - 1} before it)" if len(step.commits) > 1 else ""
            lines += ["", f"{step.bad[:8]} {what}{more}, on {step.machine}"]
            if step.packages:
                changed = (f"{name} {old} to {new}" for name, (old, new) in step.packages.items())
                lines.append(f"  changed too: {', '.join(changed)}")
        word = "worse " if step.is_worse else "better"
        lines.append(f"  {word} {step.factor:>7}  {step.before:.4g} to {step.after:.4g}  {step.benchmark}")
    return (
        "\n".join(lines[1:])
        or "no step: every figure differs by chance only, or too few commits are measured"
    )


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
