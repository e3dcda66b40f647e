"""The noxfile: its sessions' order, what they start and install; the gate's exit code is its own."""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nox
import pytest
from packaging.requirements import Requirement

from benchmarks.one_run import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")  # nox refuses to register a session twice in one process
def noxfile() -> Any:
    spec = importlib.util.spec_from_file_location("noxfile_under_test", ROOT / "noxfile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the noxfile reads pyproject.toml where nox runs it
        spec.loader.exec_module(module)
    yield module
    signal.signal(signal.SIGTERM, handler)


def test_sessions_stand_in_groups_and_those_for_a_newcomer_first(noxfile: Any) -> None:
    """``nox -l`` lists them in the file's order, each with its tags."""
    tags = {name: each.tags for name, each in vars(noxfile).items() if hasattr(each, "tags")}
    assert [name for name, each in tags.items() if len(each) != 1] == []
    groups = [tag for tag, _ in itertools.groupby(tag for each in tags.values() for tag in each)]
    assert groups == ["start", "test", "measure", "figures", "jobs"]
    first = [name for name, each in tags.items() if each == ["start"]]
    assert first == ["tests", "lint", "compare", "history", "gate"]
    assert [name for name in (*groups, *first) if f"``{name}``" not in noxfile.__doc__] == []


def test_releases_are_tried_without_the_engine_and_the_newest_with_it(
    noxfile: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Pinned environments are those of a user without the extra; an export breaks first with a new torch."""
    monkeypatch.chdir(ROOT)
    installed: list[str] = []
    session = SimpleNamespace(
        python="3.12",
        posargs=[],
        install=lambda *packages, **_: installed.extend(packages),
        run=lambda *_, **__: None,
        create_tmp=lambda: str(tmp_path),
    )
    noxfile.compat.func(session, "0.6.1", "2.11.0")
    assert "." in installed
    assert ".[cpu]" not in installed
    installed.clear()
    noxfile.upstream.func(session)
    assert ".[cpu]" in installed


@pytest.mark.parametrize(
    ("name", "module"), [("gate", "benchmarks.gate"), ("bisect", "benchmarks.gate.bisect")]
)
def test_the_gate_starts_without_what_nox_wants_unset(
    name: str, module: str, noxfile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nox says None of a variable that is to be taken out (2026.10), and execve takes strings only."""
    started: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *args: started.append(args))
    monkeypatch.setenv("TO_BE_UNSET", "1")
    session = SimpleNamespace(
        bin="/env/bin",
        env={"TO_BE_UNSET": None, "KEPT": "2"},
        posargs=["--base", "main"],
        install=lambda *_, **__: None,
    )
    getattr(noxfile, name).func(session)
    ((program, command, environment),) = started
    assert (program, command[1:]) == ("/env/bin/python", ["-m", module, "--base", "main"])
    assert "TO_BE_UNSET" not in environment
    assert environment["KEPT"] == "2"


def test_a_history_that_is_stopped_has_time_to_stop_asv(noxfile: Any) -> None:
    """Nox dies of SIGTERM at once and leaves a session's command running, or kills it 0.5 s after Ctrl-C."""
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    ran: list[tuple[Any, Any]] = []
    session = SimpleNamespace(
        posargs=["HEAD^!"],
        install=lambda *_, **__: None,
        run=lambda *command, **options: ran.append((command, options)),
    )
    noxfile.history.func(session)
    ((command, options),) = ran
    assert command == ("python", "-m", "benchmarks.history.measure", "HEAD^!")
    assert options["terminate_timeout"] > 2 * PATIENCE


@pytest.mark.parametrize(
    ("fails", "error"),
    [
        ("install", nox.command.CommandFailed("no network")),
        ("install", ValueError("pyproject.toml has no group 'gate'")),
        ("execve", FileNotFoundError("no such file: /env/bin/python")),
        ("flush", BrokenPipeError("nobody reads")),
    ],
)
def test_a_gate_that_does_not_start_has_not_found_a_regression(
    noxfile: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fails: str,
    error: Exception,
) -> None:
    """nox itself would exit with 1."""

    def step(name: str) -> Any:
        def fail(*_: Any, **__: Any) -> None:
            if name == fails:
                raise error

        return fail

    monkeypatch.setattr(os, "execve", step("execve"))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(flush=step("flush")))
    with pytest.raises(SystemExit) as caught:
        noxfile.gate.func(SimpleNamespace(install=step("install"), bin="/env/bin", env={}, posargs=[]))
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"benchmarks.gate: could not start: {error}\n"


@pytest.mark.parametrize(
    ("asked", "files"),
    [
        ([], ["tests/end_to_end"]),
        (["-k", "artifact"], ["tests/end_to_end"]),
        (["tests/end_to_end/test_server.py"], ["tests/end_to_end/test_server.py"]),
    ],
)
def test_the_end_to_end_session_runs_the_files_that_are_asked_for(
    noxfile: Any, asked: list[str], files: list[str]
) -> None:
    """Those of the robot and of the server need nothing that renders."""
    ran: list[tuple[str, ...]] = []
    session = SimpleNamespace(
        posargs=asked, install=lambda *_, **__: None, run=lambda *command: ran.append(command)
    )
    noxfile.lerobot_e2e.func(session)
    (command,) = ran
    assert command[:5] == ("python", "-m", "pytest", "-m", "end_to_end")
    assert [each for each in command if each.startswith("tests/")] == files


def test_a_release_uploads_its_signatures_too(
    noxfile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv uploads the files that it is given, and looks for no attestation beside them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dist").mkdir()
    for name in ("subject-1.tar.gz", "subject-1-py3-none-any.whl", "notes.txt"):
        (tmp_path / "dist" / name).touch()
    published: list[str] = []

    def run(*command: str) -> None:
        if command[:4] == ("python", "-m", "pypi_attestations", "sign"):
            for file in command[4:]:
                Path(f"{file}.publish.attestation").touch()
        else:
            assert command[:4] == ("uv", "publish", "--trusted-publishing", "always")
            published.extend(command[4:])

    noxfile.release.func(SimpleNamespace(install=lambda *_, **__: None, run=run))
    assert len(published) == 4
    assert sorted(published) == sorted(map(str, Path("dist").glob("subject-*")))


@pytest.mark.parametrize("token", [None, "", "of-the-job"])
def test_an_audit_without_a_token_is_no_audit(
    noxfile: Any, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    """zizmor would ask nobody, and find that all is well."""
    monkeypatch.delenv("GH_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("GH_TOKEN", token)
    audited: list[tuple[str, ...]] = []

    def run(program: str, *arguments: str) -> None:
        if program == "python":
            subprocess.run([sys.executable, *arguments], check=True)
        else:
            audited.append((program, *arguments))

    session = SimpleNamespace(install=lambda *_, **__: None, run=run)
    if token:
        noxfile.audit.func(session)
    else:
        with pytest.raises(subprocess.CalledProcessError):
            noxfile.audit.func(session)
    assert audited == ([("zizmor", "--persona=auditor", ".")] if token else [])


def test_every_file_of_github_has_its_schema(noxfile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    checked: dict[str, str] = {}

    def run(program: str, *arguments: str) -> None:
        if program == "check-jsonschema":
            schema, *files = arguments
            checked.update(dict.fromkeys(files, schema.removeprefix("--builtin-schema=vendor.")))

    noxfile.workflows.func(SimpleNamespace(install=lambda *_, **__: None, run=run))
    assert set(checked) == {str(path) for path in Path(".github").rglob("*.yml")}
    templates = {Path(file).name: schema for file, schema in checked.items() if "ISSUE_TEMPLATE" in file}
    assert templates.pop("config.yml") == "github-issue-config"
    assert set(templates.values()) == {"github-issue-forms"}


def test_a_session_without_its_python_fails() -> None:
    """Nox skips it otherwise, outside of CI, and says that all is well."""
    asked = ["-s", "lerobot_e2e", "--force-python", "3.99", "--download-python", "never"]
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    command = [sys.executable, "-m", "nox", *asked]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Python interpreter 3.99 not found" in done.stderr


@pytest.mark.parametrize("group", ["test", "bench"])
def test_a_session_of_pytest_installs_the_plugin_that_its_options_need(group: str) -> None:
    """``timeout`` is pytest-timeout's, and --strict-config makes an option that nobody knows an error."""
    project = nox.project.load_toml(ROOT / "pyproject.toml")
    options = project["tool"]["pytest"]["ini_options"]
    assert "timeout" in options
    assert "--strict-config" in options["addopts"]
    requirements = nox.project.dependency_groups(project, group)
    assert {"pytest", "pytest-timeout"} <= {Requirement(each).name for each in requirements}
