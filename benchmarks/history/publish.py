"""Put the shares of a history together and publish them: ``nox -s publish -- [DIRECTORY ...] [--push]``.

Each DIRECTORY is what one shard measured (``results`` and ``versions``), or holds several of them.
With ``--push`` the results go to branch benchmark-results and the pages to gh-pages of ``origin``; on
GitHub, a regression opens an issue or brings the open one up to date. Exit codes (through nox 0 or 1):
0 published, 2 could not, or not all: a share that is missing or damaged and a job that failed are named, the
others are published, no issue is closed and the baseline stays where it is.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..command import exit_code, say
from ..files import DamagedFileError, write_whole
from ..github import close_issue, open_or_update_issue
from ..one_run import alone, sigterm_interrupts
from ..repository import ROOT, MeasurementError, git
from . import asv_command, overview, result_files, site_scripts
from .regressions import History, issue_text, issue_title, read_history
from .result_files import BASELINE, BRANCH, RESULTS, VERSIONS

PAGES = "gh-pages"
LABEL = "performance-history"


def shares(directory: Path) -> tuple[list[Path], list[str]]:
    """What shards left in ``directory``, and a line for each that left no results.

    A job that died before its upload leaves no folder at all: where there is nothing, every one has died.
    """
    if _holds_results(directory):  # GitHub puts a single artifact into the directory itself
        return [directory], []
    if not directory.is_dir():
        return [], [f"{directory} is missing: no shard left results"]
    folders = sorted(path for path in directory.iterdir() if path.is_dir() and not path.is_symlink())
    found = list(filter(_holds_results, folders))
    empty = [f"{path.name} holds no results" for path in folders if path not in found]
    return found, empty or ([] if found else [f"{directory} holds no results of any shard"])


def _holds_results(share: Path) -> bool:
    """Whether ``share`` has them; a link would lead out of it."""
    linked = any((share / name).is_symlink() for name in (RESULTS, VERSIONS))
    return (share / RESULTS).is_dir() and not linked


def merge_shares(directories: Sequence[Path], home: Path) -> list[str]:
    """Put what the shards measured together below ``home``; a line for each of them that is damaged."""
    damaged = []
    for directory in directories:
        found, lost = shares(directory)
        damaged += lost
        for share in found:
            damaged += _in_one_line(share.name, result_files.merge(share, home))
    return damaged


def failed_jobs(results: Sequence[str]) -> list[str]:
    """A line for each ``JOB=RESULT`` that is a job which did not measure all it should have.

    Its folder may be missing like that of a job which GitHub skipped, or hold results of earlier runs only.
    """
    ended = [each.partition("=") for each in results]
    return [
        f"job {job} ended with {result or 'no result'}: commits may lack results"
        for job, _, result in ended
        if result not in ("success", "skipped")
    ]


def _in_one_line(name: str, damaged: Sequence[str]) -> list[str]:
    more = f", and {len(damaged) - 1} more" if len(damaged) > 1 else ""
    return [f"{name}: {damaged[0]}{more}"] if damaged else []


def publish(
    directories: Sequence[Path], *, push: bool, accept: bool, results: Sequence[str] = (), root: Path = ROOT
) -> History:
    """Merge, draw and look for regressions since the baseline.

    What is damaged is left out and named in the answer. With ``accept`` the baseline moves on to the newest
    commit, where all is whole. It never moves by itself: a step is found commits after it came.

    Args:
        results: how the jobs ended that measured, see ``failed_jobs``.

    Raises:
        DamagedFileError: the baseline cannot be read, and is not to be replaced by ``accept``.
        MeasurementError: asv fails, or the branches cannot be pushed to.
        ValueError: there are no results.
    """
    home, html = root / ".asv", root / ".asv" / "html"
    remote = git("remote", "get-url", "origin", root=root) if push else ""
    damaged = failed_jobs(results) + merge_shares(directories, home)
    if push:
        with result_files.checked_out(BRANCH, remote) as place:
            damaged += _in_one_line(f"branch {BRANCH}", result_files.merge(place, home))
            baseline = _baseline(place, accept)
    else:
        baseline = _baseline(home, accept)
    damaged += _in_one_line(".asv", result_files.damaged_files(home))
    with tempfile.TemporaryDirectory(prefix="history-") as directory:
        left_out = asv_command.draw(root, Path(directory))
    damaged = damaged or _in_one_line("asv", left_out)
    overview.write(home, html)
    if why := site_scripts.put_beside(html, home / site_scripts.FOLDER):
        say(f"publish: note: {why}")
    history = read_history(html, home, baseline, root)
    damaged += _in_one_line(f"commit {history.newest[:8]}", result_files.failed(history.newest, home))
    history = replace(history, damaged=tuple(damaged))
    if accept and not damaged:
        baseline = history.newest
    if baseline:
        result_files.write_baseline(home, baseline)
    if push:
        result_files.push_results(home, baseline, BRANCH, remote, f"Results up to {history.newest[:8]}")
        result_files.force_push_pages(html, PAGES, remote, f"History up to {history.newest[:8]}")
    return history


def _baseline(place: Path, accept: bool) -> str | None:
    """The baseline that is in force."""
    try:
        return result_files.read_baseline(place)
    except DamagedFileError as error:
        if accept:
            return None
        why = f"{BASELINE} {error.why}: it is not known what is new; run with --accept to begin anew"
        raise MeasurementError(why) from None


def update_issue(history: History, repository: str, *, accepted: bool) -> str:
    """Open the issue, bring it up to date, or close it; what was done.

    Raises:
        MeasurementError: gh failed.
    """
    if history.damaged and (accepted or not history.regressions):
        return "the issue and the baseline stay as they are: not every result could be read"
    if accepted:
        why = "accepted as the new baseline"
    elif history.regressions:
        return open_or_update_issue(repository, LABEL, issue_title(history), issue_text(history))
    else:
        why = f"nothing is worse any more at {history.newest[:8]}"
    return close_issue(repository, LABEL, why) or "nothing became worse"


def main(argv: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="nox -s publish --", description=__doc__)
    parser.add_argument(
        "directory", nargs="*", type=Path, help="what the shards measured (default: what is below .asv)"
    )
    parser.add_argument("--push", action="store_true", help=f"to branches {BRANCH} and {PAGES} of origin")
    parser.add_argument(
        "--accept", action="store_true", help="what became worse is intended: it is the new baseline"
    )
    parser.add_argument(
        "--result", nargs="+", default=[], metavar="JOB=RESULT", help="how GitHub says that the jobs ended"
    )
    args = parser.parse_args(argv)
    with sigterm_interrupts():
        return exit_code("publish", lambda: _run(args, root))


def _run(args: argparse.Namespace, root: Path) -> None:
    with alone(root):
        history = publish(args.directory, push=args.push, accept=args.accept, results=args.result, root=root)
    for line in history.damaged:
        print(f"publish: damaged: {' '.join(line.split())}", file=sys.stderr)
    repository = os.environ.get("GITHUB_REPOSITORY")
    if args.push and repository:
        say(update_issue(history, repository, accepted=args.accept))
    if history.regressions:
        write_whole(root / ".asv" / "issue.md", issue_text(history))
        say(f"{issue_title(history)}: see .asv/issue.md")
    say(f"published up to {history.newest[:8]}: .asv/html/index.html")
    if history.damaged:
        raise MeasurementError(
            f"published without what is damaged ({len(history.damaged)} lines above), the baseline unmoved; "
            "measure those commits again"
        )


if __name__ == "__main__":
    sys.exit(main())
