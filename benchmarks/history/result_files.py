"""asv's results as files: shares of them put together, and a branch that keeps them. No torch.

asv writes one file per machine, commit and environment, so shards that measured other commits never
touch one file; where two did measure one commit, each benchmark keeps the newer of its results.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..repository import MeasurementError, git

RESULTS, VERSIONS = "results", "versions"  # directories of the branch, and below .asv
BASELINE = "baseline.json"  # the commit up to which the history was found clean
ATTEMPTS = 5  # pushes; another job's push in between costs one
AUTHOR = ("-c", "user.name=history", "-c", "user.email=history@users.noreply.github.com")


def read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing or cut short, as a runner that died leaves it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_measured(commit: str, machine: str, home: Path) -> bool:
    """Whether every benchmark has a result of ``commit`` on ``machine``, and none failed.

    Args:
        home: holds ``results``, as asv writes them.
    """
    names = read(home / RESULTS / "benchmarks.json").keys() - {"version"}
    for path in (home / RESULTS / machine).glob(f"{commit[:8]}-*.json"):
        file = read(path)
        if file.get("env_vars"):  # of one torch release: see torch_releases
            continue
        found = file.get("results", {})
        if names and all(_succeeded(found.get(name)) for name in names):
            return True
    return False


def _succeeded(result: Any) -> bool:
    """asv writes null for what failed, and NaN for what a machine cannot measure."""
    values = result[0] if isinstance(result, list) and result else None
    return isinstance(values, list) and None not in values


def merge(source: Path, into: Path) -> int:
    """Add the results and versions below ``source`` to those below ``into``; how many files changed.

    Files that cannot be read are left out: what a shard lost is measured again.
    """
    changed = 0
    for directory in (RESULTS, VERSIONS):
        for path in sorted((source / directory).rglob("*.json")):
            new, target = read(path), into / path.relative_to(source)
            if not new:
                continue
            old = read(target)
            merged = _merged(old, new) if "results" in new else {**old, **new}
            if merged != old:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(json.dumps(merged, sort_keys=True) + "\n", encoding="utf-8")
                changed += 1
    return changed


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Two files of one commit: each benchmark's newer result that did not fail."""
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
def checked_out(branch: str, remote: str) -> Iterator[tuple[Path, bool]]:
    """A clone that has only ``branch``, or an empty one where there is no such branch; gone afterwards.

    Yields:
        its directory, and whether the branch exists.

    Raises:
        MeasurementError: the remote cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="history-") as directory:
        place = Path(directory) / "clone"
        exists = git("ls-remote", "--heads", remote, branch, root=Path(directory), env=_credentials()) != ""
        if exists:
            command = (
                "clone",
                "-q",
                "--depth",
                "1",
                "--single-branch",
                "--branch",
                branch,
                remote,
                str(place),
            )
            git(*command, root=Path(directory), env=_credentials())
        else:
            git("init", "-q", "-b", branch, str(place), root=Path(directory))
            git("remote", "add", "origin", remote, root=place)
        yield place, exists


def keep(home: Path, branch: str, remote: str, message: str) -> bool:
    """Commit what lies below ``home`` to ``branch`` of ``remote``, with what others put there meanwhile.

    Returns:
        whether there was anything new.

    Raises:
        MeasurementError: the branch was never free for a push, or cannot be pushed to.
    """
    refused = ""
    for _ in range(ATTEMPTS):
        with checked_out(branch, remote) as (place, _exists):
            merge(home, place)
            if (home / BASELINE).exists():
                shutil.copyfile(home / BASELINE, place / BASELINE)
            git("add", "-A", root=place)
            if git("status", "--porcelain", root=place) == "":
                return False
            git(*AUTHOR, "commit", "-q", "-m", message, root=place)
            try:
                git("push", "-q", "origin", f"HEAD:refs/heads/{branch}", root=place, env=_credentials())
            except MeasurementError as error:
                refused = str(error)
                continue
            return True
    raise MeasurementError(f"branch {branch} took none of {ATTEMPTS} pushes ({refused}); run this job again")


def replace(content: Path, branch: str, remote: str, message: str) -> None:
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
        git("push", "-q", "--force", remote, f"HEAD:refs/heads/{branch}", root=place, env=_credentials())


def _credentials() -> dict[str, str]:
    """The job's token for git, through gh; never as part of an address or a command line."""
    if "GH_TOKEN" not in os.environ:
        return {}
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "credential.helper",
        "GIT_CONFIG_VALUE_0": "!gh auth git-credential",
    }


def installed(python: Path) -> dict[str, str]:
    """Versions of the packages in an environment, by name.

    Raises:
        MeasurementError: uv cannot list them.
    """
    uv = [sys.executable, "-m", "uv", "pip", "list"]
    command = [*uv, "--format", "json", "--python", str(python)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MeasurementError(f"uv pip list of {python} failed: {error}") from None
    return {package["name"]: package["version"] for package in json.loads(done.stdout)}
