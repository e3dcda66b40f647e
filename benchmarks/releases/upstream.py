"""Is all well with the LeRobot and torch that are installed: ``nox -s upstream [-- --lerobot main]``.

Three checks, weekly, of the newest releases or of LeRobot's main: our tests pass; LeRobot's own tests of
ACT that pass without the patch pass with it; the ratios to stock meet their targets. The results are in
upstream.json, which ``upstream_issue`` makes an issue of, and the records of all ratios are in ratios.jsonl,
which ``nox -s ratios -- --from`` takes. Exit codes (through nox 0 or 1): 0 all is well, 1 something
broke or a ratio misses its target, 2 could not tell.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from .. import records
from ..command import exit_code, reason, say
from ..files import read_bytes, write_whole
from ..one_run import sigterm_interrupts, stop
from ..pages import ratios
from ..pages.asking import at_least
from ..repository import ROOT, MeasurementError, git, git_files
from . import upstream_issue

REPOSITORY = "https://github.com/huggingface/lerobot"
NAME, RATIOS = upstream_issue.NAME, "ratios.jsonl"
ACT = r"ACTPolicy|ACTConfig|\bact\b"  # what a file of LeRobot's tests that is about ACT says
FOLDERS = ("tests/policies", "tests/processor")
# No weights, no data sets: what needs them fails without the patch too.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
TIMEOUT = 3600  # s for one run of tests


@dataclass(frozen=True)
class Check:
    """What came out of one check.

    Attributes:
        what: was checked, as the issue's heading says it.
        asked: how many tests or figures that is.
        wrong: names of those that failed.
    """

    what: str
    asked: int
    wrong: tuple[str, ...]


def run_tests(
    paths: Sequence[str], root: Path, *options: str, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """``passed``, ``failed``, ``error`` or ``skipped`` of every test in ``paths``.

    Raises:
        MeasurementError: pytest did not get as far as a report, or took longer than TIMEOUT s.
    """
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *paths]
        with subprocess.Popen(
            [*command, f"--junitxml={report}"],
            cwd=root,
            env={**os.environ, **(environment or {})},
            stdout=sys.stderr,
            start_new_session=True,  # Ctrl-C reaches it once, through `stop`
        ) as process:
            try:
                code = process.wait(TIMEOUT)
            except BaseException as error:
                stop(process)  # and what the tests have started
                if isinstance(error, subprocess.TimeoutExpired):
                    why = f"the tests of {root.name} took longer than {TIMEOUT} s"
                    raise MeasurementError(why) from None
                raise
        if code not in (0, 1) or not report.exists():
            raise MeasurementError(f"pytest ended with exit code {code} on the tests of {root.name}")
        return outcomes(report)


def outcomes(report: Path) -> dict[str, str]:
    """Outcome of each test in a JUnit report.

    Raises:
        MeasurementError: it is no such report; the tests of another repository had it in their hands.
    """
    try:
        # expat limits what entities may grow to since 2.4.1.
        root = ElementTree.fromstring(read_bytes(report))  # noqa: S314
    except ElementTree.ParseError as error:
        raise MeasurementError(f"pytest left no report that can be read ({error})") from None
    found = {}
    for case in root.iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        outcome = {"failure": "failed"}.get(kinds[0], kinds[0]) if kinds else "passed"
        found[f"{case.get('classname')}::{case.get('name')}"] = outcome
    return found


def check_our_tests() -> Check:
    """Every test of this repository that the machine can run."""
    found = run_tests(["tests"], ROOT)
    wrong = tuple(name for name, outcome in found.items() if outcome in ("failed", "error"))
    return Check("tests of this repository", len(found), wrong)


def check_lerobots_tests(source: Path) -> Check:
    """LeRobot's tests of ACT, without the patch and with it: what passed must pass.

    Args:
        source: a checkout of the LeRobot that is installed.

    Raises:
        MeasurementError: there are no such tests, or none passes without the patch.
    """
    places = (f"{folder}/*.py" for folder in FOLDERS)
    files = git_files("grep", "-z", "-lE", ACT, "--", *places, root=source)
    options = ("-o", "addopts=", "-p", "no:randomly")
    stock = run_tests(files, source, *options, environment=OFFLINE)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with_patch = (*options, "-p", "benchmarks.releases.patched")
    patched = run_tests(files, source, *with_patch, environment={**OFFLINE, "PYTHONPATH": path})
    passed = [name for name, outcome in stock.items() if outcome == "passed"]
    if not passed:
        raise MeasurementError(
            "none of LeRobot's tests of ACT passes without the patch: nothing to compare with"
        )
    wrong = tuple(name for name in passed if patched.get(name) != "passed")
    return Check("LeRobot's own tests of ACT, patched", len(passed), wrong)


def check_ratios(launches: int, report: Path) -> Check:
    """The README's ratios to stock, measured anew; wrong is what misses its target.

    Args:
        launches: fresh processes per ratio.
        report: where to put the records.
    """
    measured = ratios.measured(launches, "cpu")
    records.write(report / RATIOS, measured)
    lines = ratios.lines(measured)
    wrong = tuple(f"{line.what}: {line.figure} (target {line.target})" for line in lines if line.met is False)
    return Check("ratios to stock LeRobot", sum(line.met is not None for line in lines), wrong)


def checkout(directory: Path) -> Path:
    """A clone of the LeRobot release that is installed, without its large files."""
    tag, clone = f"v{version('lerobot')}", directory / "lerobot"
    command = ("clone", "-q", "--depth", "1", "--branch", tag, REPOSITORY, str(clone))
    git(*command, root=directory, env={"GIT_LFS_SKIP_SMUDGE": "1"})
    return clone


def run_checks(source: Path | None, launches: int, report: Path) -> Iterator[dict[str, Any]]:
    """After each check what is installed and what was found until then; the last is the whole answer.

    ``error`` is why some checks could not be made; before the last one it says that there is more to come.
    """
    found: dict[str, Any] = {"lerobot": version("lerobot"), "torch": version("torch"), "findings": []}
    errors: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        checks: tuple[Callable[[], Check], ...] = (
            check_our_tests,
            lambda: check_lerobots_tests(source or checkout(place)),
            lambda: check_ratios(launches, report),
        )
        for left, check in zip(range(len(checks) - 1, -1, -1), checks, strict=True):
            try:
                found["findings"].append(asdict(check()))
            except Exception as error:  # whatever a check comes to, the others' findings stand
                errors.append(reason(error))
            unfinished = [f"stopped before {left} more checks were made"] if left else []
            said = "; ".join([*errors, *unfinished])
            yield {**found, "error": said} if said else found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="nox -s upstream --", description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", type=Path, help="a checkout of the installed LeRobot (the release's tag)")
    parser.add_argument("--launches", type=at_least(1), default=3, help="fresh processes per ratio (3)")
    parser.add_argument(
        "--report", type=Path, default=Path("upstream"), help=f"where to put {NAME} and {RATIOS}"
    )
    args = parser.parse_args(argv)
    with sigterm_interrupts():
        return exit_code("upstream", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    args.report.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    # Written after each check: a job that GitHub stops at its time limit leaves what it had found.
    for report in run_checks(args.source, args.launches, args.report):
        write_whole(args.report / NAME, json.dumps(report, indent=1))
    say(upstream_issue.body([report]))
    if "error" in report:
        raise MeasurementError(report["error"])
    return int(any(finding["wrong"] for finding in report["findings"]))


if __name__ == "__main__":
    sys.exit(main())
