"""asv as a command: started, watched, stopped with all that it started, and configured."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import write_whole
from ..one_run import stop
from ..repository import MeasurementError
from .result_files import RESULTS

# What asv says of a file that it leaves out before it goes on as if there were none, in asv/results.py.
LEFT_OUT = ("Skipping results:", "Error loading results", "Error parsing JSON", "could not load")
FAILED = re.compile(r"\bfailed\b|\btimed out\b", re.IGNORECASE)
MOST_FAILED = 10  # lines of the message; asv's own stand above it
BEFORE = re.compile(r"^(\[[^\]]*\])?[\s·]*")  # how far it is, and how deep


def lines(
    args: Sequence[str], root: Path, environment: Mapping[str, str] | None = None
) -> Generator[str, None, None]:
    """Lines that ``asv ARGS`` prints, as it prints them; close it, and asv and all it started are gone.

    Raises:
        MeasurementError: asv's exit code is not 0; its last lines are the message.
    """
    command = [sys.executable, "-m", "asv", *args]
    failed, last = [], [""]
    # A session of its own: Ctrl-C reaches asv once, through `stop`, and not in the middle of its cleaning up.
    with subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last = [*last[-2:], line.rstrip()]
                if FAILED.search(line):
                    failed.append(BEFORE.sub("", line.rstrip()))
                yield line.rstrip()
        except BaseException:
            stop(process)
            raise
    if process.returncode != 0:
        said = " | ".join(failed[:MOST_FAILED] or last)
        more = f" | and {len(failed) - MOST_FAILED} more" if len(failed) > MOST_FAILED else ""
        raise MeasurementError(f"asv {args[0]} ended with exit code {process.returncode}: {said}{more}")


def run(*args: str, root: Path) -> list[str]:
    """``asv ARGS``; what it printed.

    Raises:
        MeasurementError: as ``lines`` does.
    """
    with contextlib.closing(lines(args, root)) as printed:
        return list(printed)


def configuration(root: Path) -> dict[str, Any]:
    """asv's configuration with paths that hold wherever it lies: asv goes by that place."""
    base = json.loads((root / "asv.conf.json").read_text(encoding="utf-8"))
    home = root / ".asv"
    return {
        **base,
        "repo": str(root),
        "benchmark_dir": str(root / base["benchmark_dir"]),
        "env_dir": str(root / base["env_dir"]),
        "results_dir": str(home / RESULTS),
        "html_dir": str(home / "html"),
    }


def write_configuration(path: Path, config: Mapping[str, Any]) -> Path:
    write_whole(path, json.dumps(config, indent=1) + "\n")
    return path


def draw(root: Path, directory: Path) -> list[str]:
    """``asv publish``: graphs of what is below ``.asv``, with links to the commits where GitHub is known.

    Args:
        directory: takes the configuration of this run.

    Returns:
        what asv said of files that it left out.

    Raises:
        MeasurementError: as ``lines`` does.
    """
    config = configuration(root)
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
        config["show_commit_url"] = f"{server}/{repository}/commit/"
    path = write_configuration(directory / "asv-publish.json", config)
    printed = run("publish", "--config", str(path), root=root)
    return [BEFORE.sub("", line) for line in printed if any(each in line for each in LEFT_OUT)]
