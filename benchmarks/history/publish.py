"""Put the shares of a history together and publish them: ``nox -s publish -- [DIRECTORY ...] [--push]``.

Each DIRECTORY is what one shard measured (``results`` and ``versions``), or holds several of them.
With ``--push`` the results go to branch benchmark-results and the pages to gh-pages of ``origin``; on
GitHub, a regression opens an issue or brings the open one up to date. Exit codes: 0 published,
2 could not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ..command import exit_code
from ..github import close_issue, open_or_update_issue
from ..repository import ROOT, git
from . import overview, result_files
from .measure import run_asv
from .regressions import History, issue_text, issue_title, read_history
from .result_files import BASELINE, BRANCH

PAGES = "gh-pages"
LABEL = "performance-history"


def shares(directory: Path) -> list[Path]:
    """What shards left in ``directory``; nothing where every one of them died."""
    if (directory / result_files.RESULTS).is_dir():
        return [directory]
    return sorted(path.parent for path in directory.glob(f"*/{result_files.RESULTS}"))


def publish(directories: Sequence[Path], *, push: bool, accept: bool, root: Path = ROOT) -> History:
    """Merge, draw and look for regressions since the baseline.

    The baseline moves on to the newest commit where nothing became worse or may have, or with ``accept``.

    Raises:
        MeasurementError: asv fails, or the branches cannot be pushed to.
        ValueError: there are no results.
    """
    home, html = root / ".asv", root / ".asv" / "html"
    remote = git("remote", "get-url", "origin", root=root) if push else ""
    for directory in directories:
        for share in shares(directory):
            result_files.merge(share, home)
    if push:
        with result_files.checked_out(BRANCH, remote) as place:
            result_files.merge(place, home)
            (home / BASELINE).unlink(missing_ok=True)
            if (place / BASELINE).exists():
                shutil.copyfile(place / BASELINE, home / BASELINE)
    run_asv("publish", root=root)
    overview.write(home, html)
    history = read_history(html, home, result_files.read_json(home / BASELINE).get("commit"), root)
    if accept or not (history.regressions or history.unconfirmed):
        (home / BASELINE).write_text(json.dumps({"commit": history.newest}) + "\n", encoding="utf-8")
    if push:
        result_files.push_results(home, BRANCH, remote, f"Results up to {history.newest[:8]}")
        result_files.force_push_pages(html, PAGES, remote, f"History up to {history.newest[:8]}")
    return history


def update_issue(history: History, repository: str, *, accepted: bool) -> str:
    """Open the issue, bring it up to date, or close it; what was done.

    Raises:
        MeasurementError: gh failed.
    """
    if accepted:
        why = "accepted as the new baseline"
    elif history.regressions:
        return open_or_update_issue(repository, LABEL, issue_title(history), issue_text(history))
    elif history.unconfirmed:
        return "the issue stays as it is: the next commit confirms or clears what is timed worse"
    else:
        why = f"nothing is worse any more at {history.newest[:8]}"
    return close_issue(repository, LABEL, why) or "nothing became worse"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="nox -s publish --", description=__doc__)
    parser.add_argument(
        "directory", nargs="*", type=Path, help="what the shards measured (default: what is below .asv)"
    )
    parser.add_argument("--push", action="store_true", help=f"to branches {BRANCH} and {PAGES} of origin")
    parser.add_argument(
        "--accept", action="store_true", help="what became worse is intended: it is the new baseline"
    )
    args = parser.parse_args(argv)
    return exit_code("publish", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    history = publish(args.directory, push=args.push, accept=args.accept)
    if history.regressions:
        (ROOT / ".asv" / "issue.md").write_text(issue_text(history), encoding="utf-8")
        print(f"{issue_title(history)}: see .asv/issue.md")
    if history.unconfirmed:
        print(f"timed worse at the newest measured commit only: {history.unconfirmed}; the next commit tells")
    repository = os.environ.get("GITHUB_REPOSITORY")
    if args.push and repository:
        print(update_issue(history, repository, accepted=args.accept))
    print(f"published up to {history.newest[:8]}: .asv/html/index.html")


if __name__ == "__main__":
    sys.exit(main())
