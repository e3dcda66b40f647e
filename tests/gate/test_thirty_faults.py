"""Whatever goes wrong, the exit code says what it was and nothing is left behind: a table of faults.

A row: what goes wrong, the exit code, what the gate says of it. Nothing of a worker, a checkout or a
half-written file is left in any row, and a report only where there is a verdict. 1 is a regression and
nothing else.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks.gate import channel, exact_tiers, pairing, report
from benchmarks.gate import run as gate_run
from benchmarks.repository import PACKAGE

from .conftest import FAKE, RULER, Repository, Run, workers_alive
from .fake_worker import COUNTS
from .fault_injection import (
    Arrange,
    Patch,
    a_directory_for_the_lock,
    a_file_for_a_directory,
    bad_project,
    base,
    file_names,
    full,
    head,
    hung,
    kept,
    latin_1_subject,
    link,
    locked,
    no_main,
    no_subject,
    odd_project,
    old_report,
    on_main,
    on_mains_first_commit,
    raising,
    shallow,
    shallow_with_main,
)

NOWHERE = "5" * 40  # a commit that a force-push removed
ZEROS = "0" * 40


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    Attributes:
        what: goes wrong.
        code: what the gate must exit with.
        says: a pattern of its line, or of the headline.
        arrange: makes it go wrong; by default there is nothing but a commit.
        args: what the gate is given.
        times: it happens where steps are timed, so they are.
    """

    what: str
    code: int
    says: str
    arrange: Arrange = lambda _, __: None
    args: tuple[str, ...] = ()
    times: bool = False


NO_COUNTS = json.dumps({"graph_breaks": []})
NO_COUNTS_OF_AUTO = json.dumps({"counts": {}, "values": {"a write": {"eager": [1], "auto": [1]}}})
NO_KERNELS = json.dumps({**COUNTS, "kernels": None})
NO_ACTIONS = json.dumps({"values": {"eager": [], "compiled": []}, "state_dict": {}})
NO_LOSS = json.dumps({"values": {"eager": {}, "compiled": {}}})
KEPT = json.dumps({"counts pusht-inference": {"graph_breaks": []}})
NEVER_ENDS = "[" * 200_000
KERNELS = r"Regression: worse: Inductor kernels"
UNKNOWN = "is no commit that git knows here; fetch it"
MALFORMED = "head gave a malformed answer"
MISTAKE = (
    r"(KeyError|AttributeError): .*x.* at \w+\.py:\d+ \(this is a mistake in the ruler; please report it\)$"
)
FULL = r"No space left on device; is the disk full"

FAULTS = (
    # What it is given.
    Fault("no end of minutes", 2, "inf minutes cannot be kept to", args=("--minutes", "inf")),
    Fault("minutes that are no number", 2, "nan minutes cannot be kept to", args=("--minutes", "nan")),
    Fault("no minutes", 2, "0 minutes cannot be kept to", args=("--minutes", "0")),
    Fault("minutes below zero", 2, "-1 minutes cannot be kept to", args=("--minutes=-1",)),
    Fault("more minutes than a float holds", 2, "minutes cannot be kept to", args=("--minutes", "1e308")),
    Fault("an effect of nothing", 2, "a minimum effect of 0%", args=("--min-effect", "0%")),
    Fault("an effect that is no number", 2, "a minimum effect of nan%", args=("--min-effect", "nan")),
    Fault("an unknown workload", 2, "unknown workload 'walking'", args=("--workloads", "walking")),
    Fault("an unknown phase", 2, "unknown phase 'x'", args=("--workloads", "pusht-x")),
    Fault("no such device", 2, "torch sees none", head(), ("--device", "cuda")),
    Fault("an earlier run's report", 2, "no commit that git knows", old_report, ("--base", "nowhere")),
    Fault("a report in a file's place", 2, "exists|Not a directory", args=("--report", "pyproject.toml")),
    # What it is compared with.
    Fault("an unknown base", 2, f"base 'nowhere' {UNKNOWN}", args=("--base", "nowhere")),
    Fault("an unknown head", 2, f"head 'nowhere' {UNKNOWN}", args=("--head", "nowhere")),
    Fault("an empty base", 2, f"base '' {UNKNOWN}", args=("--base", "")),
    Fault("a base that a force-push removed", 2, f"base '{NOWHERE}' {UNKNOWN}", args=("--base", NOWHERE)),
    Fault("a new branch", 0, "No regression", head(), ("--base", ZEROS)),
    Fault("a new main", 2, "nothing was before this push; name a", on_main, ("--base", ZEROS)),
    Fault("main is not known", 2, "neither origin/main nor main is known here; fetch it", no_main),
    Fault("a shallow clone without main", 2, "neither origin/main nor main is known here", shallow),
    Fault("a shallow clone with main", 2, "no commit in common here; in a shallow clone", shallow_with_main),
    Fault("main's first commit", 2, "has no parent commit here", on_mains_first_commit),
    Fault("a head without the subject", 2, f"head .* has no {PACKAGE}", no_subject),
    Fault("a pyproject.toml that is no TOML", 2, "head .* cannot be checked out", bad_project),
    Fault("a pyproject.toml of another shape", 2, "head .* cannot be checked out", odd_project),
    Fault("a commit's subject in Latin-1", 0, "No regression", latin_1_subject),
    Fault("file names beyond ASCII", 0, "No regression", file_names),
    Fault("a trailer without a reason", 2, "gives no reason", args=("--head", "trailer")),
    # The sides' code and processes.
    Fault("base's code raises", 2, "base failed.*choose another base", base(fails={"counts": "shapes"})),
    Fault("head's code raises", 1, "Regression: worse: counts fails", head(fails={"counts": "shapes"})),
    Fault(
        "head's code raises, and a trailer accepts it",
        1,
        "Regression: worse: counts fails",
        head("head\n\nPerf-Accept: pusht-inference on purpose", fails={"counts": "shapes"}),
    ),
    Fault("a killed worker", 2, "head's worker was killed", head(fails={"counts": "kill"})),
    Fault("a worker that ends", 2, "head's worker ended with exit code 3", head(fails={"hello": "exit"})),
    Fault("a worker out of memory", 2, "head ran out of memory", head(fails={"counts": "memory"})),
    Fault("a hung worker", 2, "within 1 s", hung(exact_tiers, "TIMEOUT", fails={"counts": "hang"})),
    Fault(
        "a hung step",
        2,
        "within 1 s",
        hung(pairing, "STEP_TIMEOUT", fails={"sample": "hang"}),
        times=True,
    ),
    Fault(
        "a grandchild that holds the pipe",
        2,
        "within 1 s",
        hung(exact_tiers, "TIMEOUT", fails={"counts": "daemon"}),
    ),
    Fault("another module than the side's", 2, "not its own checkout", head(imported="/usr/lib/x.py")),
    Fault("no answer in JSON", 2, f"{MALFORMED} .JSONDecodeError", head(says={"hello": "torch says hello"})),
    Fault("an answer that is a list", 2, f"{MALFORMED} .a list", head(says={"hello": "[]"})),
    Fault("a hello of nothing", 2, f"{MALFORMED} .to hello", head(says={"hello": "{}"})),
    Fault("an endless answer", 2, f"{MALFORMED} .RecursionError", head(says={"counts": NEVER_ENDS})),
    Fault("a cut answer", 2, "head's worker ended with exit code 0", head(fails={"counts": "cut"})),
    Fault("counters that are missing", 2, f"{MALFORMED} .to counts", head(says={"counts": NO_COUNTS})),
    Fault("kernels that are missing", 2, f"{MALFORMED} .to counts", head(says={"counts": NO_KERNELS})),
    Fault("actions that are missing", 2, f"{MALFORMED} .to outputs", head(says={"outputs": NO_ACTIONS})),
    Fault("a counter that is no number", 2, f"{MALFORMED} .to counts", head(counts={"ops": float("nan")})),
    Fault("outputs of another shape", 2, f"{MALFORMED} .to outputs", head(says={"outputs": '{"values": 1}'})),
    Fault("what auto counts is missing", 2, f"{MALFORMED} .to auto", head(says={"auto": NO_COUNTS_OF_AUTO})),
    Fault("a loss that is missing", 2, f"{MALFORMED} .to learning", head(says={"learning": NO_LOSS})),
    Fault("a step's time that is NaN", 2, "head reported a time of nan", head(time=float("nan")), times=True),
    Fault("a step's time in words", 2, f"{MALFORMED} .to sample", head(time="fast"), times=True),
    # The machine.
    Fault(
        "a full disk at the checkout",
        2,
        "cannot be checked out: .*No space left",
        full(zipfile.ZipFile, "extractall"),
    ),
    Fault("a full disk at the report", 2, FULL, full(report, "as_svg")),
    Fault("a full disk half-way through the report", 2, FULL, full(Path, "replace")),
    Fault(".gate is a file", 2, "Not a directory", a_file_for_a_directory),
    Fault(".gate is read-only", 2, "Is a directory|denied", a_directory_for_the_lock),
    Fault("another gate holds the lock", 2, "already being measured in this checkout", locked),
    Fault("kept answers that are no JSON", 1, KERNELS, kept(lambda path: path.write_bytes(b"\xff{"))),
    Fault("kept answers without end", 1, KERNELS, kept(lambda path: path.write_text(NEVER_ENDS))),
    Fault("kept answers that are a link", 1, KERNELS, kept(link)),
    Fault("kept answers that are a pipe", 1, KERNELS, kept(os.mkfifo)),
    Fault("kept answers without counters", 1, KERNELS, kept(lambda path: path.write_text(KEPT))),
    # The gate itself.
    Fault("a mistake in the gate", 2, MISTAKE, raising(KeyError("x"), gate_run, "distance")),
    Fault("a mistake in the report", 2, MISTAKE, raising(AttributeError("x"), report, "markdown")),
    Fault(
        "out of memory in the gate",
        2,
        "out of memory; free some",
        raising(MemoryError(), gate_run, "accepted"),
    ),
    *(
        Fault(
            f"a library that ends the process by {code!r}",
            2,
            says,
            raising(SystemExit(code), gate_run, "write"),
        )
        for code, says in (
            (1, "nobody reads its output any more"),
            (0, r"a library ended it \(0\)"),
            ("gone", r"a library ended it \(gone\)"),
        )
    ),
    *(
        Fault(
            f"an interrupt in {name}",
            2,
            "interrupted",
            raising(KeyboardInterrupt(), module, name),
            times=True,
        )
        for module, name in (
            (gate_run, "resolve"),
            (gate_run, "check_out"),
            (gate_run, "python_for"),
            (channel.Worker, "check_hello"),
            (gate_run, "compare_exactly"),
            (gate_run, "launch_until_decided"),
            (gate_run, "write"),
            (FileLock, "acquire"),
        )
    ),
)


def left(repository: Repository) -> set[str]:
    """What should not be there any more."""
    beside = (*repository.root.rglob(".report.*"), *repository.root.glob(".gate/answers/.*"))
    half_written = {path.name for path in beside}
    return repository.left_behind() | half_written | set(workers_alive(repository))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault(
    fault: Fault, repository: Repository, run_gate: Callable[..., Run], monkeypatch: Patch
) -> None:
    repository.git("branch", "-q", "nothing")
    repository.commit("x\n\nPerf-Accept: pusht")
    repository.git("branch", "-q", "trailer")
    repository.git("reset", "-q", "--hard", "nothing")
    repository.commit("head")
    fault.arrange(repository, monkeypatch)
    tree = repository.git("status", "--porcelain")
    monkeypatch.chdir(repository.root)
    done = run_gate(*fault.args, *(() if fault.times else ("--no-times",)))
    monkeypatch.undo()
    assert done.code == fault.code, done.said
    assert "Traceback" not in done.said
    lines = [line for line in done.said.splitlines() if line.startswith("gate: could not measure: ")]
    assert len(lines) == (fault.code == 2), done.said
    assert re.search(fault.says, lines[0] if lines else done.report["headline"])
    assert left(repository) == set()
    assert repository.git("status", "--porcelain") == tree
    if fault.code == 2:
        assert done.report == {}, "a verdict that nobody may rely on"


GATE = (
    "import sys; from pathlib import Path; from benchmarks.gate.run import main; "
    "sys.exit(main(sys.argv[3:], root=Path(sys.argv[1]), command=[sys.argv[2]]))"
)
UNTIMED = ("--workloads", "pusht-inference", "--no-times")
# More cases than a headline names: it ends in "…".
MANY = ("--workloads", "pusht-inference", "pusht-training", "--minutes", "0.0001")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("output", "args", "code", "says"),
    [
        ("PYTHONIOENCODING=ascii", MANY, 3, r"(?m)^Inconclusive: 5 of 5 cases .*, \\u2026\); run it again"),
        (">/dev/full", UNTIMED, 2, "(?m)^gate: could not measure: .*No space left"),
        ("> >(true)", UNTIMED, 2, "(?m)^gate: could not measure: .*Broken pipe"),
        ("2> >(true)", UNTIMED, 2, "^$"),
        ("2>/dev/full", UNTIMED, 2, "^$"),
        (">&-", UNTIMED, 0, "report: "),
        ("2>&-", UNTIMED, 0, "^No regression"),
        ("GITHUB_STEP_SUMMARY=/dev/full", UNTIMED, 0, "report: "),
    ],
)
def test_an_output_that_takes_nothing(
    repository: Repository, output: str, args: tuple[str, ...], code: int, says: str
) -> None:
    repository.commit(noise=2.0)
    command = f'{output} "$@"' if "=" in output else f'exec "$@" {output}'
    gate = [sys.executable, "-c", GATE, str(repository.root), *FAKE, *args]
    done = subprocess.run(
        ["bash", "-c", command, "", *gate], cwd=RULER, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert re.search(says, done.stdout + done.stderr)
    assert "Traceback" not in done.stderr
    assert left(repository) == set()


def test_a_gate_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "scipy.py").write_text("raise RuntimeError('built for another numpy')")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gate"],
        cwd=RULER,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "gate: could not measure: RuntimeError: built for another numpy\n",
    )
