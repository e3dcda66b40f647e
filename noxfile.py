# /// script
# dependencies = ["nox>=2025.2.9"]
# ///
"""Every task of this project is a nox session: ``nox -s NAME`` runs one, ``-- ...`` passes options on.

Start with the first five (tag ``start``): ``tests`` and ``lint`` check a change, ``compare`` shows how much
faster ACT is on this machine, ``history`` measures commits and draws graphs, and ``gate`` says whether a
change made ACT slower.

The others follow in groups, each with a tag: ``test`` (more tests), ``measure`` (more measurements),
``figures`` (the tables and the picture in the documents) and ``jobs`` (what GitHub's workflows run beside
these). ``nox -l -t figures`` marks one group. Times are for two CPU cores, without installing packages.
Only ``gate``, ``bisect`` and ``gpu`` keep their exit codes; of any other command's nox makes 0 or 1.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import sys

import nox

# Nox passes Ctrl-C on to what a session runs, and leaves it running when SIGTERM ends nox itself.
signal.signal(signal.SIGTERM, signal.default_int_handler)

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True  # otherwise a session that did not run would be green
nox.options.sessions = ["tests"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
LEROBOT = "https://github.com/huggingface/lerobot"
# Without this uv leaves compiling byte-code to the first import, which then takes 13 s instead of 5.
COMPILE_BYTECODE = {"UV_COMPILE_BYTECODE": "1"}

# The newest LeRobot needs Python 3.12. Where nox itself runs on an older one, these sessions look for 3.12.
NEWEST_LEROBOT = None if sys.version_info >= (3, 12) else "3.12"

CONSTRAINTS = pathlib.Path("tests", "constraints")
LOCKED = ".github/locked/{}.txt"
LOCKED_GROUPS = ("nox", "comment", "publish", "release", "audit")
# Python, LeRobot and torch: each LeRobot with the oldest and the newest torch that it allows (0.4.4 limits
# torch through torchvision), and the newest LeRobot with a torch that it does not allow yet.
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
    """Options of uv that allow a torch which LeRobot does not allow yet."""
    if torch != BEYOND:
        return []
    file = pathlib.Path(session.create_tmp()).resolve() / "overrides.txt"
    file.write_text(f"torch=={torch}\ntorchvision\n", encoding="utf-8")
    return ["--override", str(file)]


def _install(session: nox.Session, group: str, *options: str, extra: str = "[cpu]") -> None:
    groups = nox.project.dependency_groups(PYPROJECT, group)
    session.install("-e", f".{extra}", *groups, *options, env=COMPILE_BYTECODE)


def _install_locked(session: nox.Session, group: str) -> None:
    """For a job that may write: known files only, by their hashes, and no code runs to build one."""
    session.install("--require-hashes", "--only-binary", ":all:", "-r", LOCKED.format(group))


def _pytest(session: nox.Session, *args: str) -> None:
    _install(session, "test")
    session.run("python", "-m", "pytest", *args, *session.posargs)


def _page(session: nox.Session, *name: str, extra: str = "[cpu]") -> None:
    _install(session, "gate", extra=extra)
    session.run("python", "-m", "benchmarks.pages", *name, *session.posargs)


def _become(session: nox.Session, module: str, group: str = "gate") -> None:
    """Become ``python -m MODULE``: session.run and nox turn every failure into 1, which is a regression."""
    try:
        _install(session, group)
        sys.stdout.flush()
        command = [f"{session.bin}/python", "-m", module, *session.posargs]
        environment = {**os.environ, **session.env}  # None: take the variable out
        os.execve(command[0], command, {k: v for k, v in environment.items() if v is not None})  # noqa: S606
    except Exception as error:  # nox ends with 1 for it
        print(f"{module}: could not start: {error}", file=sys.stderr)
        sys.exit(2)


# Start here. Each group has its tag, and nox lists sessions in the order of this file.
# gate, bisect and gpu replace the nox process, so no session can follow them.
@nox.session(tags=["start"])
def tests(session: nox.Session) -> None:
    """Run every test that this machine can run; GPU tests only with a GPU (9 minutes on two cores)."""
    # One file, one process: tests of a file share what they compile.
    _pytest(session, "--numprocesses=auto", "--dist=loadfile", "--no-loadscope-reorder")


@nox.session(default=False, tags=["start"])
def lint(session: nox.Session) -> None:
    """Check format, style and types of all Python files (a minute)."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"), env=COMPILE_BYTECODE)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(default=False, tags=["start"])
def compare(session: nox.Session) -> None:
    """Compare stock, patched and compiled ACT in one table; -- --help lists the options."""
    _install(session, "gate")
    session.run("python", "examples/benchmark_act_compile.py", *session.posargs)


@nox.session(default=False, tags=["start"])
def history(session: nox.Session) -> None:
    """Measure HEAD and its parent with asv and draw graphs; -- A..B: other commits; --quick: 10 minutes."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "history"))
    # A history that is stopped stops asv and all of its processes; nox would wait 0.2 s for that.
    session.run("python", "-m", "benchmarks.history.measure", *session.posargs, terminate_timeout=30)


@nox.session(default=False, tags=["start"])
def gate(session: nox.Session) -> None:
    """Did a change make ACT slower? Exit code 0: no, 1: yes, 2: not measured, 3: undecided (10 minutes)."""
    _become(session, "benchmarks.gate")


# test: more tests.
@nox.session(default=False, tags=["test"])
def consistency(session: nox.Session) -> None:
    """Test that actions, losses, gradients and updates equal stock LeRobot's, eager and compiled."""
    _pytest(session, "-m", "consistency")


@nox.session(default=False, tags=["test"])
def graph_breaks(session: nox.Session) -> None:
    """Test that nothing breaks a graph or recompiles without need; a failure names the place."""
    _pytest(session, "-m", "graph_breaks")


@nox.session(default=False, tags=["test"])
def openvino(session: nox.Session) -> None:
    """Test the policy with OpenVINO, which mode auto takes on a CPU with AVX-512 (9 minutes)."""
    _install(session, "test", extra="[openvino]")
    parallel = ("--numprocesses=auto", "--dist=loadfile", "--no-loadscope-reorder")
    session.run("python", "-m", "pytest", *parallel, "tests/subject", "tests/test_extra.py", *session.posargs)


@nox.session(default=False, python=NEWEST_LEROBOT, tags=["test"])
def lerobot_e2e(session: nox.Session) -> None:
    """Test LeRobot's own commands in gym-aloha, on a simulated robot and as a server (30 minutes).

    tests/end_to_end/test_rollout.py and tests/end_to_end/test_server.py render nothing and take half as long.
    """
    _install(session, "test", "lerobot[aloha,async,training,evaluation]>=0.6.1")
    files = () if any("tests/end_to_end" in each for each in session.posargs) else ("tests/end_to_end",)
    session.run("python", "-m", "pytest", "-m", "end_to_end", *files, *session.posargs)


@nox.session(default=False, tags=["test"])
def site(session: nox.Session) -> None:
    """Test the published pages in a browser; needs Chromium or Chrome, and npm."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "publish"), "pytest>=8", "pytest-timeout>=2.3")
    # Leave out tests/conftest.py, which needs torch and LeRobot.
    fixtures = ("--noconftest", "-p", "tests.site.conftest")
    session.run("python", "-m", "pytest", *fixtures, "tests/site", "-m", "browser", *session.posargs)


@nox.session(default=False, tags=["test"])
def workflows(session: nox.Session) -> None:
    """Check .github: actionlint, zizmor at its strictest, GitHub's schemas."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "workflows"))
    files = sorted(str(path) for path in pathlib.Path(".github/workflows").glob("*.yml"))
    session.run("actionlint", *files)
    dependabot = ".github/dependabot.yml"
    session.run("zizmor", "--offline", "--persona=auditor", *files, dependabot)
    config = ".github/ISSUE_TEMPLATE/config.yml"
    forms = {str(path) for path in pathlib.Path(config).parent.glob("*.yml")} - {config}
    for schema, checked in (
        ("github-workflows", files),
        ("dependabot", [dependabot]),
        ("github-issue-config", [config]),
        ("github-issue-forms", sorted(forms)),
    ):
        session.run("check-jsonschema", f"--builtin-schema=vendor.{schema}", *checked)


@nox.session(default=False, venv_backend="uv", tags=["test"])
@nox.parametrize("python, lerobot, torch", COMPAT, ids=[_environment(*each) for each in COMPAT])
def compat(session: nox.Session, lerobot: str, torch: str) -> None:
    """Test one pair of LeRobot and torch and write its row of docs/compatibility.md (6 to 14 minutes)."""
    name = _environment(str(session.python), lerobot, torch)
    pins = CONSTRAINTS / f"{name}.txt"
    if not pins.exists():
        session.error(f"{pins} is missing; `nox -s pins` writes it")
    # Without the extra: here `auto` is torch's, and tests/constraints names every package.
    _install(session, "test", "--constraint", str(pins), *_overrides(session, torch), extra="")
    session.run("python", "-m", "benchmarks.releases.compat", name, *session.posargs)


@nox.session(default=False, tags=["test"])
def pins(session: nox.Session) -> None:
    """Update the pinned packages: tests/constraints for compat, .github/locked for jobs that may write."""
    session.install("uv>=0.8")
    wanted = pathlib.Path(session.create_tmp(), "wanted.txt")
    # No hosts in these files: each user installs from the package index of their choice.
    no_hosts = ("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links")
    command = ("uv", "pip", "compile", "--upgrade", "--quiet", *no_hosts, "--output-file")
    for group in LOCKED_GROUPS:
        wanted.write_text("\n".join(nox.project.dependency_groups(PYPROJECT, group)), encoding="utf-8")
        options = ("--generate-hashes", "--only-binary", ":all:", "--universal", "--python-version", "3.10")
        session.run(*command, LOCKED.format(group), *options, str(wanted), silent=True)
    for python, lerobot, torch in COMPAT:
        wanted.write_text(f"lerobot=={lerobot}\ntorch=={torch}\n", encoding="utf-8")
        output = str(CONSTRAINTS / f"{_environment(python, lerobot, torch)}.txt")
        options = ("--python-version", python, "--constraint", str(wanted), *_overrides(session, torch))
        session.run(*command, output, *options, "pyproject.toml", "--group", "test", silent=True)


# measure: more measurements.
@nox.session(default=False, tags=["measure"])
def bench(session: nox.Session) -> None:
    """Time stock, eager and compiled steps; -- --workload pusht --phase training --device cuda."""
    _install(session, "bench")
    session.run("python", "-m", "pytest", "tests/performance", "-m", "performance", *session.posargs)


@nox.session(default=False, tags=["measure"])
def asv(session: nox.Session) -> None:
    """Run asv with the arguments given; -- preview shows the graphs, -- run HEAD^! measures a commit."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "history"))
    session.run("asv", "machine", "--yes", silent=True)
    session.run("asv", *session.posargs)


@nox.session(default=False, tags=["measure"])
def campaign(session: nox.Session) -> None:
    """Measure the gate's own error rates; -- record, mutants, runs, pace or write (hours)."""
    _install(session, "gate")
    session.run("python", "-m", "benchmarks.gate.proof.campaign", *session.posargs)


@nox.session(default=False, tags=["measure"])
def bisect(session: nox.Session) -> None:
    """Find the commit that made ACT worse; -- GOOD..BAD, --help: the options (2 to 10 minutes a commit)."""
    _become(session, "benchmarks.gate.bisect")


@nox.session(default=False, tags=["measure"])
def gpu(session: nox.Session) -> None:
    """Test and time everything on the GPU at hand (at most 8 minutes); -- write: draw its page."""
    _become(session, "benchmarks.gpu", "test")


# figures: the tables and the picture in the documents.
@nox.session(default=False, tags=["figures"])
def ratios(session: nox.Session) -> None:
    """Measure the ratios to stock LeRobot for README.md (45 minutes)."""
    _page(session, "ratios")


@nox.session(default=False, tags=["figures"])
def limits(session: nox.Session) -> None:
    """Measure compile_mode="auto" beside the machine's limit for TORCH_COMPILE_ACT.md."""
    _page(session, "limits")


@nox.session(default=False, tags=["figures"])
def peers(session: nox.Session) -> None:
    """Measure ACT on a CPU beside ONNX Runtime and OpenVINO for TORCH_COMPILE_ACT.md (40 minutes)."""
    _page(session, "peers", extra="[openvino]")


@nox.session(default=False, tags=["figures"])
def breakdown(session: nox.Session) -> None:
    """Profile where a step's and a compile's time goes for TORCH_COMPILE_ACT.md."""
    _page(session, "breakdown")


@nox.session(default=False, tags=["figures"])
def effects(session: nox.Session) -> None:
    """Measure each optimisation by itself for TORCH_COMPILE_ACT.md; -- --only WORDS (45 minutes)."""
    _page(session, "effects")


@nox.session(default=False, tags=["figures"])
def picture(session: nox.Session) -> None:
    """Draw README.md's pictures from what ratios, limits and peers recorded (seconds)."""
    _page(session, "picture")


@nox.session(default=False, tags=["figures"])
def pages(session: nox.Session) -> None:
    """Draw every table of figures and the pictures from benchmarks/pages/recorded (seconds)."""
    _page(session)


# jobs: what GitHub's workflows run beside the sessions above.
@nox.session(default=False, tags=["jobs"])
def publish(session: nox.Session) -> None:
    """Publish measured history; -- DIRECTORY takes the shards' results, --push sends them to GitHub."""
    _install_locked(session, "publish")
    session.run("python", "-m", "benchmarks.history.publish", *session.posargs)


@nox.session(default=False, tags=["jobs"])
def comment(session: nox.Session) -> None:
    """Put the gate's report on its pull request; -- DIRECTORY --print only shows it."""
    _install_locked(session, "comment")
    session.run("python", "-m", "benchmarks.gate.comment", *session.posargs)


@nox.session(default=False, python=NEWEST_LEROBOT, tags=["jobs"])
def upstream(session: nox.Session) -> None:
    """Test and measure with the newest LeRobot and torch; -- --lerobot main takes LeRobot's main."""
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
    # LeRobot's main names an index of torch's CUDA builds. Ignore it: the machine chooses its builds.
    env = {**COMPILE_BYTECODE, "UV_NO_SOURCES": "1"}
    session.install("--upgrade", lerobot, "torch", "torchvision", "-e", ".[cpu]", *groups, env=env)
    session.run("python", "-m", "benchmarks.releases.upstream", *arguments)


@nox.session(default=False, tags=["jobs"])
def upstream_issue(session: nox.Session) -> None:
    """Open, update or close the issue about what upstream found; -- DIRECTORY with its reports."""
    _install_locked(session, "comment")
    session.run("python", "-m", "benchmarks.releases.upstream_issue", *session.posargs)


@nox.session(default=False, tags=["jobs"])
def package(session: nox.Session) -> None:
    """Build dist/, the sdist and the wheel of a release, and check both; -- --tag v1.2 checks the version."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "package"))
    shutil.rmtree("dist", ignore_errors=True)
    session.run("uv", "build", "--quiet")
    session.run("twine", "check", "--strict", *_distributions())
    session.run("python", "-m", "benchmarks.releases.distributions", "dist", *session.posargs)


@nox.session(default=False, tags=["jobs"])
def release(session: nox.Session) -> None:
    """Sign what package built and publish both; works in its GitHub job only, which PyPI trusts."""
    _install_locked(session, "release")
    files = _distributions()
    session.run("python", "-m", "pypi_attestations", "sign", *files)
    # uv uploads the attestations that it is given, and looks for no others.
    attestations = [f"{file}.publish.attestation" for file in files]
    session.run("uv", "publish", "--trusted-publishing", "always", *files, *attestations)


def _distributions() -> list[str]:
    return sorted(str(path) for path in pathlib.Path("dist").glob("*") if path.suffix in (".whl", ".gz"))


@nox.session(default=False, tags=["jobs"])
def audit(session: nox.Session) -> None:
    """Ask GitHub about the actions in use: known vulnerabilities, pins that no tag has (needs GH_TOKEN)."""
    _install_locked(session, "audit")
    # Without a token zizmor would ask nobody and report that all is well.
    asked = "import os, sys; sys.exit(None if os.environ.get('GH_TOKEN') else 'audit needs GH_TOKEN')"
    session.run("python", "-c", asked)
    session.run("zizmor", "--persona=auditor", ".")
