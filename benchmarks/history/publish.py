"""Put the shares of a history together and publish them: ``nox -s publish -- [DIRECTORY ...] [--push]``.

Each DIRECTORY is what one shard measured (``results`` and ``versions``), or holds several of them.
With ``--push`` the results go to branch benchmark-results and the pages to gh-pages of ``origin``; on
GitHub, a change for the worse opens an issue or brings the open one up to date. Exit codes: 0 published,
2 could not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..github import close_issue, keep_issue
from ..repository import ROOT, MeasurementError, git
from . import overview, result_files
from .measure import BRANCH, asv_lines
from .regressions import History, issue_text, read_history, title

PAGES = "gh-pages"
LABEL = "performance-history"


def shares(directory: Path) -> list[Path]:
    """What shards left in ``directory``; nothing where every one of them died."""
    if (directory / result_files.RESULTS).is_dir():
        return [directory]
    return sorted(path.parent for path in directory.glob(f"*/{result_files.RESULTS}"))


def publish(
    directories: Sequence[Path], *, push: bool, accept: bool, root: Path = ROOT
) -> tuple[History, str | None]:
    """Merge, draw and look for changes; the history, and the baseline it was compared with.

    The baseline moves on to the newest commit where nothing became worse or may have, or with ``accept``.

    Raises:
        MeasurementError: asv fails, or the branches cannot be pushed to.
        ValueError: there are no results.
    """
    home, html = root / ".asv", root / ".asv" / "html"
    remote = git("remote", "get-url", "origin", root=root) if push else None
    for directory in directories:
        for share in shares(directory):
            result_files.merge(share, home)
    if remote is not None:
        with result_files.checked_out(BRANCH, remote) as (place, _):
            result_files.merge(place, home)
            (home / result_files.BASELINE).unlink(missing_ok=True)
            if (place / result_files.BASELINE).exists():
                (home / result_files.BASELINE).write_bytes((place / result_files.BASELINE).read_bytes())
    for _ in asv_lines(["publish"], root):
        pass
    overview.write(home, html)
    baseline = result_files.read(home / result_files.BASELINE).get("commit")
    history = read_history(html, home, baseline, root)
    if accept or not (history.changes or history.unconfirmed):
        text = json.dumps({"commit": history.newest}) + "\n"
        (home / result_files.BASELINE).write_text(text, encoding="utf-8")
    if remote is not None:
        result_files.keep(home, BRANCH, remote, f"Results up to {history.newest[:8]}")
        result_files.replace(html, PAGES, remote, f"History up to {history.newest[:8]}")
    return history, baseline


def report(history: History, baseline: str | None, repository: str, *, accepted: bool) -> str:
    """Open the issue, bring it up to date, or close it; what was done.

    Raises:
        MeasurementError: gh failed.
    """
    if history.unconfirmed and not (accepted or history.changes):
        return f"{history.unconfirmed} timings are worse at one commit only: the next one tells"
    if accepted or not history.changes:
        why = (
            "taken over as the new baseline"
            if accepted
            else f"nothing is worse any more at {history.newest[:8]}"
        )
        return close_issue(repository, LABEL, why) or "nothing became worse"
    return keep_issue(repository, LABEL, title(history), issue_text(history, baseline))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="nox -s publish --", description=__doc__)
    parser.add_argument(
        "directory", nargs="*", type=Path, help="what the shards measured; - none: what is here"
    )
    parser.add_argument("--push", action="store_true", help=f"to branches {BRANCH} and {PAGES} of origin")
    parser.add_argument("--accept", action="store_true", help="what became worse is meant: a new baseline")
    args = parser.parse_args(argv)
    try:
        history, baseline = publish(args.directory, push=args.push, accept=args.accept)
        if history.changes:
            (ROOT / ".asv" / "issue.md").write_text(issue_text(history, baseline), encoding="utf-8")
            print(f"{title(history)}: see .asv/issue.md")
        if history.unconfirmed:
            print(f"{history.unconfirmed} timings are worse at one commit only: the next one tells")
        repository = os.environ.get("GITHUB_REPOSITORY")
        if args.push and repository:
            print(report(history, baseline, repository, accepted=args.accept))
    except (MeasurementError, OSError, ValueError) as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    print(f"published up to {history.newest[:8]}: .asv/html/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
