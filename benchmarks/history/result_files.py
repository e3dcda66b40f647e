"""asv's results as files: shares of them put together, and a branch that keeps them. No torch.

asv writes one file per machine, commit and environment, so shards that measured other commits never
touch one file; where two did measure one commit, each benchmark keeps the newer of its results.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..repository import MeasurementError, git

BRANCH = "benchmark-results"  # of the repository on GitHub: results of all machines
RESULTS, VERSIONS = "results", "versions"  # directories of the branch, and below .asv
BASELINE = "baseline.json"  # the commit up to which the history was found clean
ATTEMPTS = 5  # pushes; another job's push in between costs one
AUTHOR = ("-c", "user.name=history", "-c", "user.email=history@users.noreply.github.com")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing or cut short, as a runner that died leaves it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def results_on(machine: str, home: Path, commit: str = "*") -> Iterator[dict[str, Any]]:
    """The files that asv wrote of a machine, but for those of one torch release (see ``torch_releases``).

    Args:
        home: holds ``results``.
        commit: its first eight digits; default: every commit.
    """
    for path in sorted((home / RESULTS / machine).glob(f"{commit}-*.json")):
        file = read_json(path)
        if not file.get("env_vars"):
            yield file


def is_measured(commit: str, machine: str, home: Path) -> bool:
    """Whether every benchmark has a result of ``commit`` on ``machine``, and none failed.

    Args:
        home: holds ``results``.
    """
    names = read_json(home / RESULTS / "benchmarks.json").keys() - {"version"}
    return bool(names) and any(
        all(_succeeded(file.get("results", {}).get(name)) for name in names)
        for file in results_on(machine, home, commit[:8])
    )


def _succeeded(result: Any) -> bool:
    """asv writes null for what failed, and NaN for what a machine cannot measure."""
    values = result[0] if isinstance(result, list) and result else None
    return isinstance(values, list) and None not in values


def merge(source: Path, into: Path) -> None:
    """Add the results and versions below ``source`` to those below ``into``.

    Files that cannot be read are left out: what a shard lost is measured again.
    """
    for directory in (RESULTS, VERSIONS):
        for path in sorted((source / directory).rglob("*.json")):
            new, target = read_json(path), into / path.relative_to(source)
            if not new:
                continue
            old = read_json(target)
            merged = _newer_results(old, new) if "results" in new else {**old, **new}
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(merged, sort_keys=True) + "\n", encoding="utf-8")


def _newer_results(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Two files of one commit as one: of each benchmark the newer result that did not fail."""
    if not old or old.get("result_columns") != new.get("result_columns"):
        return dict(new)
    started = list(new["result_columns"]).index("started_at")

    def rank(result: list[Any]) -> tuple[bool, float]:
        when = result[started] if len(result) > started else None
        return _succeeded(result), float(when or 0)

    results = dict(old["results"])
    for name, result in new["results"].items():
        if name not in results or rank(result) >= rank(results[name]):
            results[name] = result
    return {**old, **new, "results": results}


@contextmanager
def checked_out(branch: str, remote: str) -> Iterator[Path]:
    """A repository with the newest commit of ``branch``, or an empty one where there is no such branch.

    Yields:
        its directory, which is gone afterwards.

    Raises:
        MeasurementError: the remote cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="history-") as directory:
        place, name = Path(directory), f"refs/heads/{branch}"
        git("init", "-q", "-b", branch, root=place)
        if _git_on_remote("ls-remote", remote, name, root=place):
            _git_on_remote("fetch", "-q", "--depth", "1", remote, name, root=place)
            git("reset", "-q", "--hard", "FETCH_HEAD", root=place)
        yield place


def push_results(home: Path, branch: str, remote: str, message: str) -> None:
    """Commit what is new below ``home`` to ``branch`` of ``remote``, with what others put there meanwhile.

    Raises:
        MeasurementError: the branch was never free for a push, or cannot be pushed to.
    """
    refused = ""
    for _ in range(ATTEMPTS):
        with checked_out(branch, remote) as place:
            merge(home, place)
            if (home / BASELINE).exists():
                shutil.copyfile(home / BASELINE, place / BASELINE)
            git("add", "-A", root=place)
            if git("status", "--porcelain", root=place) == "":
                return
            git(*AUTHOR, "commit", "-q", "-m", message, root=place)
            try:
                _git_on_remote("push", "-q", remote, f"HEAD:refs/heads/{branch}", root=place)
            except MeasurementError as error:
                refused = str(error)
            else:
                return
    raise MeasurementError(f"branch {branch} took none of {ATTEMPTS} pushes ({refused}); run this job again")


def force_push_pages(content: Path, branch: str, remote: str, message: str) -> None:
    """Make ``branch`` one commit that holds ``content`` and nothing else: generated pages need no history.

    Raises:
        MeasurementError: it cannot be pushed to.
    """
    with tempfile.TemporaryDirectory(prefix="pages-") as directory:
        place = Path(directory) / "pages"
        shutil.copytree(content, place)
        (place / ".nojekyll").touch()
        git("init", "-q", "-b", branch, root=place)
        git("add", "-A", root=place)
        git(*AUTHOR, "commit", "-q", "-m", message, root=place)
        _git_on_remote("push", "-q", "--force", remote, f"HEAD:refs/heads/{branch}", root=place)


def _git_on_remote(*args: str, root: Path) -> str:
    """Git with the job's token, through gh; never as part of an address or a command line."""
    environment = {}
    if "GH_TOKEN" in os.environ:
        environment = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "credential.helper",
            "GIT_CONFIG_VALUE_0": "!gh auth git-credential",
        }
    return git(*args, root=root, env=environment)
