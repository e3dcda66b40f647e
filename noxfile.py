# /// script
# dependencies = ["nox>=2025.2.9"]
# ///
"""Everything that is run in this project: ``nox -l`` is the manual, ``nox -s NAME -- ...`` passes on."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True  # or a session that did not run is green
nox.options.sessions = ["tests"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
LEROBOT = "https://github.com/huggingface/lerobot"
# uv leaves byte-code to the first import; here every launch is a first import: 13 s instead of 5.
COMPILE_BYTECODE = {"UV_COMPILE_BYTECODE": "1"}

# The newest LeRobot needs Python 3.12; where nox has an older one, these sessions look for it.
NEWEST_LEROBOT = None if sys.version_info >= (3, 12) else "3.12"

CONSTRAINTS = pathlib.Path("tests", "constraints")
# Python, LeRobot and torch: each release with the oldest and the newest torch it allows (0.4.4 by its
# torchvision), and the newest LeRobot with a torch that it does not allow yet.
BEYOND = "2.15.0"
COMPAT = [
    ("3.10", "0.4.4", "2.6.0"),
    ("3.10", "0.4.4", "2.10.0"),
    ("3.11", "0.4.4", "2.6.0"),
    ("3.11", "0.4.4", "2.10.0"),
    ("3.12", "0.5.1", "2.7.0"),
    ("3.12", "0.5.1", "2.10.0"),
    ("3.12", "0.6.1", "2.7.0"),
    ("3.12", "0.6.1", "2.11.0"),
    ("3.13", "0.6.1", "2.11.0"),
    ("3.12", "0.6.1", BEYOND),
]


def _environment(python: str, lerobot: str, torch: str) -> str:
    return f"py{python}-lerobot{lerobot}-torch{torch}"


def _overrides(session: nox.Session, torch: str) -> list[str]:
    """What lets a torch in that LeRobot does not allow."""
    if torch != BEYOND:
        return []
    file = pathlib.Path(session.create_tmp()).resolve() / "overrides.txt"
    file.write_text(f"torch=={torch}\ntorchvision\n", encoding="utf-8")
    return ["--override", str(file)]


def _install(session: nox.Session, group: str) -> None:
    session.install("-e", ".", *nox.project.dependency_groups(PYPROJECT, group), env=COMPILE_BYTECODE)


def _pytest(session: nox.Session, *args: str) -> None:
    _install(session, "test")
    session.run("python", "-m", "pytest", *args, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Every test that this machine can run (15 minutes on two cores; GPU tests where there is one)."""
    _pytest(session)


@nox.session(default=False)
def consistency(session: nox.Session) -> None:
    """Same actions, losses, gradients and updates as stock LeRobot, eager and compiled."""
    _pytest(session, "-m", "consistency")


@nox.session(default=False)
def graph_breaks(session: nox.Session) -> None:
    """Zero graph breaks and no needless recompile, with the place and reason of any."""
    _pytest(session, "-m", "graph_breaks")


@nox.session(default=False, venv_backend="uv")
@nox.parametrize("python, lerobot, torch", COMPAT, ids=[_environment(*each) for each in COMPAT])
def compat(session: nox.Session, lerobot: str, torch: str) -> None:
    """Policy and counters with each LeRobot and torch; its row of docs/compatibility.md."""
    name = _environment(str(session.python), lerobot, torch)
    pins = CONSTRAINTS / f"{name}.txt"
    if not pins.exists():
        session.error(f"{pins} is missing; `nox -s pins` writes it")
    groups = nox.project.dependency_groups(PYPROJECT, "test")
    options = ["--constraint", str(pins), *_overrides(session, torch)]
    session.install("-e", ".", *groups, *options, env=COMPILE_BYTECODE)
    session.run("python", "-m", "benchmarks.releases.compat", name, *session.posargs)


@nox.session(default=False)
def pins(session: nox.Session) -> None:
    """Take the newest of everything into tests/constraints, one file for each environment of compat."""
    session.install("uv>=0.8")
    for python, lerobot, torch in COMPAT:
        wanted = pathlib.Path(session.create_tmp(), "wanted.txt")
        wanted.write_text(f"lerobot=={lerobot}\ntorch=={torch}\n", encoding="utf-8")
        # No hosts: whoever installs takes their own registry.
        quiet = ("--quiet", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links")
        session.run(
            *("uv", "pip", "compile", "pyproject.toml", "--group", "test", "--upgrade", *quiet),
            *("--python-version", python, "--constraint", str(wanted), *_overrides(session, torch)),
            *("--output-file", str(CONSTRAINTS / f"{_environment(python, lerobot, torch)}.txt")),
            silent=True,
        )


@nox.session(default=False, python=NEWEST_LEROBOT)
def lerobot_e2e(session: nox.Session) -> None:
    """LeRobot's commands, stock against ours: in gym-aloha, on a robot, as a server (half an hour; -- FILE).

    tests/end_to_end/test_rollout.py and test_server.py need no rendering, and half of that.
    """
    groups = nox.project.dependency_groups(PYPROJECT, "test")
    lerobot = "lerobot[aloha,async,training,evaluation]>=0.6.1"
    session.install("-e", ".", lerobot, *groups, env=COMPILE_BYTECODE)
    asked = any("tests/end_to_end" in argument for argument in session.posargs)
    files = () if asked else ("tests/end_to_end",)
    session.run("python", "-m", "pytest", "-m", "end_to_end", *files, *session.posargs)


@nox.session(default=False)
def site(session: nox.Session) -> None:
    """The published history in a real browser; needs Chromium or Chrome, and npm for asv's scripts."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "publish"), "pytest>=8", "pytest-timeout>=2.3")
    # Without tests/conftest.py, which needs torch and LeRobot.
    fixtures = ("--noconftest", "-p", "tests.site.conftest")
    session.run("python", "-m", "pytest", *fixtures, "tests/site", "-m", "browser", *session.posargs)


@nox.session(default=False)
def lint(session: nox.Session) -> None:
    """Format, lint and types of src, benchmarks, tests and this file."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"), env=COMPILE_BYTECODE)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Stock, eager and compiled steps side by side; -- --workload pusht --phase training --device cuda."""
    _install(session, "bench")
    session.run("python", "-m", "pytest", "tests/performance", "-m", "performance", *session.posargs)


@nox.session(default=False)
def compare(session: nox.Session) -> None:
    """Stock, patched and compiled in one table, by examples/benchmark_act_compile.py; -- --help."""
    _install(session, "gate")
    session.run("python", "examples/benchmark_act_compile.py", *session.posargs)


def _page(session: nox.Session, *name: str) -> None:
    _install(session, "gate")
    session.run("python", "-m", "benchmarks.pages", *name, *session.posargs)


@nox.session(default=False)
def ratios(session: nox.Session) -> None:
    """Ratios to stock LeRobot, each taken in one run, written into README.md (about 45 minutes)."""
    _page(session, "ratios")


@nox.session(default=False)
def limits(session: nox.Session) -> None:
    """How fast compile_mode="auto" is and how fast the machine lets it be, into TORCH_COMPILE_ACT.md."""
    _page(session, "limits")


@nox.session(default=False)
def breakdown(session: nox.Session) -> None:
    """Where the fastest mode's time goes, step by step and in compiling, into TORCH_COMPILE_ACT.md."""
    _page(session, "breakdown")


@nox.session(default=False)
def effects(session: nox.Session) -> None:
    """What each optimisation is worth by itself, into TORCH_COMPILE_ACT.md (45 minutes; --only WORDS)."""
    _page(session, "effects")


@nox.session(default=False)
def picture(session: nox.Session) -> None:
    """Draw README.md's picture from what ratios and limits recorded."""
    _page(session, "picture")


@nox.session(default=False)
def pages(session: nox.Session) -> None:
    """Draw every table of measured figures and the picture anew from benchmarks/pages/recorded (seconds)."""
    _page(session)


@nox.session(default=False)
def asv(session: nox.Session) -> None:
    """Run asv with the arguments given, for example -- run HEAD^!"""
    session.install(*nox.project.dependency_groups(PYPROJECT, "history"))
    session.run("asv", "machine", "--yes", silent=True)
    session.run("asv", *session.posargs)


@nox.session(default=False)
def history(session: nox.Session) -> None:
    """Measure commits with asv and publish the graphs; -- A..B, or this commit and its parent."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "history"))
    session.run("python", "-m", "benchmarks.history.measure", *session.posargs)


@nox.session(default=False)
def publish(session: nox.Session) -> None:
    """Put together what shards of a history measured; -- DIRECTORY --push keeps it on its branch."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "publish"))
    session.run("python", "-m", "benchmarks.history.publish", *session.posargs)


@nox.session(default=False)
def gate(session: nox.Session) -> None:
    """Did this change make ACT slower? -- --base REF; exit code 0: no, 1: yes, 2: unknown, 3: undecided."""
    _install(session, "gate")
    sys.stdout.flush()
    # Not session.run, which makes 1 of every exit code: this process becomes the gate.
    command = [f"{session.bin}/python", "-m", "benchmarks.gate", *session.posargs]
    environment = {**os.environ, **session.env}  # None stands for a variable that is to be taken out
    os.execve(command[0], command, {k: v for k, v in environment.items() if v is not None})  # noqa: S606


@nox.session(default=False, python=NEWEST_LEROBOT)
def upstream(session: nox.Session) -> None:
    """Newest torch and LeRobot, or -- --lerobot main: our tests, LeRobot's own of ACT, the ratios."""
    arguments, lerobot = list(session.posargs), "lerobot[dataset,test]"
    if "--lerobot" in arguments:
        at = arguments.index("--lerobot")
        which = arguments[at + 1] if at + 1 < len(arguments) else ""
        del arguments[at : at + 2]
        if which not in ("release", "main"):
            session.error(f"--lerobot is release or main, not {which!r}")
        if which == "main":
            clone = pathlib.Path(session.create_tmp()).resolve() / "lerobot"
            shutil.rmtree(clone, ignore_errors=True)
            command = ("git", "clone", "-q", "--depth", "1", LEROBOT, str(clone))
            session.run(*command, external=True, env={"GIT_LFS_SKIP_SMUDGE": "1"})
            lerobot = f"lerobot[dataset,test] @ {clone.as_uri()}"
            arguments += ["--source", str(clone)]
    groups = nox.project.dependency_groups(PYPROJECT, "test", "history")
    # LeRobot's main names an index of torch's CUDA builds for itself: the runner's choice of builds counts.
    env = {**COMPILE_BYTECODE, "UV_NO_SOURCES": "1"}
    session.install("--upgrade", lerobot, "torch", "torchvision", "-e", ".", *groups, env=env)
    session.run("python", "-m", "benchmarks.releases.upstream", *arguments)


@nox.session(default=False)
def upstream_issue(session: nox.Session) -> None:
    """Make an issue of what upstream found; run by upstream.yml, -- DIRECTORY with the reports."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "comment"))
    session.run("python", "-m", "benchmarks.releases.upstream_issue", *session.posargs)


@nox.session(default=False)
def comment(session: nox.Session) -> None:
    """Put the gate's report on its pull request; run by comment.yml, -- DIRECTORY --print shows it only."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "comment"))
    session.run("python", "-m", "benchmarks.gate.comment", *session.posargs)


@nox.session(default=False)
def workflows(session: nox.Session) -> None:
    """Check .github/workflows: actionlint, zizmor at its strictest, GitHub's schema; and tests/workflows."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "workflows"))
    files = sorted(str(path) for path in pathlib.Path(".github/workflows").glob("*.yml"))
    session.run("actionlint", *files)
    session.run("zizmor", "--offline", "--persona=auditor", *files)
    session.run("check-jsonschema", "--builtin-schema=vendor.github-workflows", *files)


@nox.session(default=False)
def campaign(session: nox.Session) -> None:
    """The gate's own error rates, measured: -- record, pairing, mutants, runs, write (hours; it resumes)."""
    _install(session, "gate")
    session.run("python", "-m", "benchmarks.gate.proof.campaign", *session.posargs)
