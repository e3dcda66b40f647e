"""asv's results as files: shares of them put together, and a branch that keeps them. No torch.

asv writes one file per machine, commit and environment, so shards that measured other commits never
touch one file; where two did measure one commit, each benchmark keeps the newer of its results.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..files import DamagedFileError, read_if_there, read_if_whole, read_object, write_whole
from ..repository import MeasurementError, git

BRANCH = "benchmark-results"  # of the repository on GitHub: results of all machines
RESULTS, VERSIONS = "results", "versions"  # directories of the branch, and below .asv
BASELINE = "baseline.json"  # the commit up to which the history was found clean
ATTEMPTS = 5  # pushes; another job's push in between costs one
AUTHOR = ("-c", "user.name=history", "-c", "user.email=history@users.noreply.github.com")


def results_on(machine: str, home: Path, commit: str = "*") -> Iterator[dict[str, Any]]:
    """The files that asv wrote of a machine, but for those of one torch release (see ``torch_releases``).

    Args:
        home: holds ``results``.
        commit: its first eight digits; default: every commit.
    """
    for path in sorted((home / RESULTS / machine).glob(f"{commit}-*.json")):
        file = _whole_result(path)
        if file and not file.get("env_vars"):
            yield file


def is_measured(commit: str, machine: str, home: Path) -> bool:
    """Whether every benchmark has a result of ``commit`` on ``machine``, and none failed.

    Args:
        home: holds ``results``.
    """
    names = read_if_whole(home / RESULTS / "benchmarks.json").keys() - {"version"}
    return bool(names) and any(
        all(_succeeded(file.get("results", {}).get(name)) for name in names)
        for file in results_on(machine, home, commit[:8])
    )


def failed(commit: str, home: Path) -> list[str]:
    """Benchmarks that failed at ``commit``, on any machine: what is worse there cannot be known."""
    return [
        f"{name} failed on {place.name}"
        for place in sorted((home / RESULTS).glob("*/"))
        for file in results_on(place.name, home, commit[:8])
        for name, result in sorted(file.get("results", {}).items())
        if not _succeeded(result)
    ]


def _succeeded(result: Any) -> bool:
    """asv writes null for what failed, and NaN for what a machine cannot measure."""
    values = result[0] if isinstance(result, list) and result else None
    return isinstance(values, list) and None not in values


def merge(source: Path, into: Path) -> list[str]:
    """Add the results and versions below ``source`` to those below ``into``.

    Returns:
        the files that cannot be read, each with the reason: they are left out.
    """
    damaged = []
    for path in _files(source):
        name = path.relative_to(source)
        try:
            new = _read(path, source)
        except DamagedFileError as error:
            damaged.append(f"{name} {error.why}")
            continue
        target = into / name
        is_result = _is_result(path, source)
        old = _whole_result(target) if is_result else read_if_whole(target)
        merged = _newer_results(old, new) if is_result else {**old, **new}
        write_whole(target, json.dumps(merged, sort_keys=True) + "\n")
    return damaged


def damaged_files(home: Path) -> list[str]:
    """Files below ``home`` that cannot be read, each with the reason; asv leaves them out and goes on."""
    found = (_damage(path, home) for path in _files(home))
    return list(dict.fromkeys(each for each in found if each))


def _damage(path: Path, home: Path) -> str | None:
    try:
        _read(path, home)
        if _is_result(path, home):
            read_object(path.parent / "machine.json")  # without it asv leaves out all of the machine
    except DamagedFileError as error:
        return f"{error.path.relative_to(home)} {error.why}"
    return None


def _files(home: Path) -> list[Path]:
    return [path for directory in (RESULTS, VERSIONS) for path in sorted((home / directory).rglob("*.json"))]


def _is_result(path: Path, home: Path) -> bool:
    """Whether it is a file of one commit: ``results/MACHINE/COMMIT-ENVIRONMENT.json``."""
    parts = path.relative_to(home).parts
    return parts[0] == RESULTS and len(parts) == 3 and path.name != "machine.json"


def _read(path: Path, home: Path) -> dict[str, Any]:
    return read_result(path) if _is_result(path, home) else read_object(path)


def read_result(path: Path) -> dict[str, Any]:
    """A file of one commit, in the form that asv writes.

    Raises:
        DamagedFileError: it is missing, cut short, or of another form.
    """
    file = read_object(path)
    columns, results = file.get("result_columns"), file.get("results")
    if not (
        isinstance(file.get("commit_hash"), str)
        and isinstance(file.get("date"), (int, float))
        and isinstance(columns, list)
        and "started_at" in columns
        and isinstance(results, dict)
        and all(_is_row(row, columns.index("started_at")) for row in results.values())
    ):
        raise DamagedFileError(path, "is no file of asv's results")
    return file


def _is_row(row: Any, started: int) -> bool:
    """Values, the names of parameters, and more, of which what lacks at the end is null."""
    if not isinstance(row, list) or not all(isinstance(each, (list, type(None))) for each in row[:2]):
        return False
    parameters = row[1] if len(row) > 1 and row[1] else []
    when = row[started] if len(row) > started else None
    return isinstance(when, (int, float, type(None))) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in parameters
    )


def _whole_result(path: Path) -> dict[str, Any]:
    """A file of one commit; empty where it cannot be read."""
    try:
        return read_result(path)
    except DamagedFileError:
        return {}


def read_baseline(place: Path) -> str | None:
    """The commit up to which the history was found clean; None where none was yet.

    Raises:
        DamagedFileError: the file that names it cannot be read.
    """
    path = place / BASELINE
    commit = read_if_there(path).get("commit", "")
    if not isinstance(commit, str) or (os.path.lexists(path) and not re.fullmatch(r"[0-9a-f]{7,64}", commit)):
        raise DamagedFileError(path, "names no commit")
    return commit or None


def write_baseline(place: Path, commit: str) -> None:
    write_whole(place / BASELINE, json.dumps({"commit": commit}) + "\n")


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
        git("config", "core.symlinks", "false", root=place)  # a link becomes a file that holds an address
        if _git_on_remote("ls-remote", remote, name, root=place):
            _git_on_remote("fetch", "-q", "--depth", "1", remote, name, root=place)
            git("reset", "-q", "--hard", "FETCH_HEAD", root=place)
        yield place


def push_results(home: Path, baseline: str | None, branch: str, remote: str, message: str) -> None:
    """Commit what is new below ``home`` to ``branch`` of ``remote``, with what others put there meanwhile.

    Args:
        baseline: the commit up to which the history was found clean; None leaves the branch's as it is.

    Raises:
        MeasurementError: the branch was never free for a push, or cannot be pushed to.
    """
    refused = ""
    for _ in range(ATTEMPTS):
        with checked_out(branch, remote) as place:
            merge(home, place)
            if baseline:
                write_baseline(place, baseline)
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
