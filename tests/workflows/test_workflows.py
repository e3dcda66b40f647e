"""Every job is one nox command and bears its name; none that runs a stranger's code may write."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import nox
import pytest
from packaging.requirements import Requirement

from .github_actions import FILES, ROOT, WORKFLOWS, Run, read

LOCKED = ROOT / ".github" / "locked"
GUIDE = ROOT / "docs" / "ci.md"
# What the guide's words mean: the one job of a workflow that may write.
WRITES = {
    "nothing": set[str](),
    "pull requests": {"pull-requests"},
    "pull requests, statuses": {"pull-requests", "statuses"},
    "two branches, issues": {"contents", "issues"},
    "issues": {"issues"},
    "PyPI": {"id-token"},
    "its result at scorecard.dev": {"id-token"},
}
PIN = re.compile(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40}$")


def jobs() -> list[Any]:
    return [
        pytest.param(path, job, id=f"{path.stem}-{name}")
        for path in FILES
        for name, job in read(path)["jobs"].items()
    ]


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def may_write(job: dict[str, Any]) -> bool:
    return "write" in job.get("permissions", {}).values()


def knows_a_token(job: dict[str, Any]) -> bool:
    return any("token" in str(step.get("env", "")).lower() for step in job["steps"])


def is_self_hosted(job: dict[str, Any]) -> bool:
    return not re.fullmatch(r"ubuntu-\d\d\.\d\d", str(job["runs-on"]))


def required_checks() -> list[str]:
    """Names of the checks that docs/ci.md tells a maintainer to require."""
    line = re.search(r"require the checks (.*?)\.\n", GUIDE.read_text(encoding="utf-8"))
    assert line
    return re.findall(r"`([^`]+)`", line[1])


@pytest.fixture(scope="module")
def sessions() -> set[str]:
    command = [sys.executable, "-m", "nox", "-l"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^[*-] (([a-z_]+)\S*)", done.stdout, flags=re.MULTILINE)
    return {name for names in listed for name in names}


def test_there_are_workflows() -> None:
    assert {"tests", "gate", "comment"} <= {path.stem for path in FILES}


@pytest.mark.parametrize(("path", "job"), jobs())
def test_a_job_is_one_nox_command_and_bears_its_name(
    path: Path, job: dict[str, Any], sessions: set[str]
) -> None:
    if job["name"] == f"all {path.stem}" or path.stem == "scorecard":
        assert commands(job) == []  # the first is green when the others are; test_release.py has the other
        return
    *before, command = commands(job)
    words = shlex.split(command)
    if may_write(job) or knows_a_token(job):
        ((_, install),) = [each.strip().rsplit("\n", 1) for each in before]
        nox_of_it = [".locked/bin/nox", "-R", "-s"]
        assert install == f".locked/bin/nox -s {words[3]} --install-only"
    else:
        nox_of_it = ["uvx", "nox", "-s"]
        assert [line for line in before if "nox" in line] == []
        assert len(before) == (path.stem in ("gate", "gate-cuda")), "what base is, and what a commit is"
    assert words[:3] == nox_of_it
    session, _, environment = words[3].partition("(")
    assert session in sessions
    assert job["name"].startswith(f"nox -s {session}")
    if environment:
        assert environment == "$ENVIRONMENT)"
        assert {f"{session}({name})" for name in job["strategy"]["matrix"]["environment"]} <= sessions


@pytest.mark.parametrize(("path", "job"), jobs())
def test_every_job_ends_and_has_the_rights_it_names(path: Path, job: dict[str, Any]) -> None:
    assert read(path)["permissions"] == {}
    assert 0 < job["timeout-minutes"] <= 360
    assert "continue-on-error" not in job, "GitHub would show the run as a success"
    for step in job["steps"]:
        if "uses" not in step:
            continue
        assert PIN.match(step["uses"]), f"{step['uses']} is not pinned by commit"
        if step["uses"].startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_text_of_others_reaches_a_shell(path: Path) -> None:
    for job in read(path)["jobs"].values():
        assert not any("${{" in command for command in commands(job))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_runs_a_strangers_code_may_not_write_and_knows_no_secret(path: Path) -> None:
    workflow, text = read(path), path.read_text(encoding="utf-8")
    triggers = workflow["on"]
    assert "pull_request_target" not in triggers
    if "pull_request" not in triggers:
        return
    assert "github.token" not in text
    assert not any(map(may_write, workflow["jobs"].values()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_may_write_what_the_guide_says_and_knows_no_secret(path: Path) -> None:
    row = next(line for line in GUIDE.read_text("utf-8").splitlines() if line.startswith(f"| `{path.name}` "))
    found = [job.get("permissions", {}) for job in read(path)["jobs"].values()]
    granted = [{name for name, right in each.items() if right == "write"} for each in found]
    writes = WRITES[row.split(" | ")[-1].strip(" |")]
    assert [each for each in granted if each] == ([writes] if writes else [])
    read_only = {name for each in found for name, right in each.items() if right == "read"}
    assert read_only <= {"contents", "actions"}
    assert {right for each in found for right in each.values()} <= {"read", "write"}
    assert "secrets" not in str(read(path)), "the token that GitHub gives each job is enough"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_may_write_checks_out_main_only(path: Path) -> None:
    for job in read(path)["jobs"].values():
        if not may_write(job):
            continue
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"].get("ref") == "${{ github.event.repository.default_branch }}"
            if step.get("uses", "").startswith("astral-sh/setup-uv@"):
                assert step["with"]["enable-cache"] is False, "a pull request's job may have filled it"


def test_the_guide_says_when_github_stops_each_job() -> None:
    table = GUIDE.read_text(encoding="utf-8").partition("## What it costs")[2].partition("##")[0]
    for path in FILES:
        (row,) = (line for line in table.splitlines() if line.startswith(f"| `{path.name}`"))
        for name, job in read(path)["jobs"].items():
            if name == "all":
                continue
            found = re.search(rf"\b{name} (?:\d+ \S )?(\d+)", row)
            assert found, f"{path.name}: {name} is not in the table"
            assert int(found[1]) == job["timeout-minutes"]


@pytest.mark.parametrize(("path", "job"), jobs())
def test_no_self_hosted_runner_takes_what_a_pull_request_starts(path: Path, job: dict[str, Any]) -> None:
    """The file of the pull request is what runs; whoever opens one could remove any condition in it."""
    if not is_self_hosted(job):
        return
    assert set(read(path)["on"]) <= {"push", "schedule", "workflow_dispatch"}
    assert job["runs-on"]["group"] == "gpu", "a label can be named in any file; a group is given to files"
    assert {"self-hosted", "ephemeral"} <= set(job["runs-on"]["labels"])
    assert job["if"].startswith("github.ref == 'refs/heads/main'")
    assert not may_write(job)


@pytest.mark.parametrize(("path", "job"), jobs())
def test_no_other_workflow_reaches_the_caches_of_the_gate_and_the_tests(
    path: Path, job: dict[str, Any]
) -> None:
    """A job at main may fill main's caches unless it says otherwise, whatever packages it installed.

    OpenSSF reads scorecard.yml with a schema that does not know the key; test_release.py says what is in it.
    """
    if path.stem in ("gate", "tests", "scorecard"):
        assert "cache-mode" not in job
    else:
        assert job["cache-mode"] == "none"


def test_no_event_can_skip_a_required_check() -> None:
    """GitHub counts a skipped job as a success, and takes the newest run of a commit."""
    everywhere = [(path, job) for path in FILES for job in read(path)["jobs"].values()]
    required = required_checks()
    assert set(required) == {"all tests", "nox -s gate"}
    for name in required:
        ((path, job),) = [(path, job) for path, job in everywhere if job["name"] == name]
        assert job.get("if", "always()") == "always()"
        assert bool(job.get("needs")) == ("if" in job), "what waits for others is skipped when one fails"
        assert not any(step.get("continue-on-error") for step in job["steps"])
        trigger = read(path)["on"]["pull_request"]
        assert trigger is None, f"{path.name} would leave out pull requests: {trigger}"
        if "needs" in job:
            others = read(path)["jobs"]
            assert set(job["needs"]) == set(others) - {"all"}
            assert not any("if" in others[each] for each in job["needs"])


@pytest.mark.parametrize(("workflow", "job"), [("history", "publish"), ("upstream", "tell")])
def test_what_reports_runs_after_a_failure_and_not_after_a_stop(workflow: str, job: str) -> None:
    content = WORKFLOWS[workflow]["jobs"][job]
    for result in ("success", "failure"):
        results = dict.fromkeys(WORKFLOWS[workflow]["jobs"], result)
        assert Run("schedule", results=results).job_runs(content)
        assert not Run("schedule", results=results, cancelled=True).job_runs(content)
        assert not Run("workflow_dispatch", ref="refs/heads/work", results=results).job_runs(content)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_step_that_installs_has_a_token(path: Path) -> None:
    workflow = read(path)
    assert "token" not in str(workflow.get("env", "")).lower()
    for job in workflow["jobs"].values():
        assert "token" not in str(job.get("env", "")).lower()
        for step in job["steps"]:
            if "run" in step and "token" in str(step.get("env", "")).lower():
                assert step["run"].startswith(".locked/bin/nox -R "), "-R installs nothing"
                assert step is job["steps"][-1]


@pytest.mark.parametrize("job", [pytest.param(each.values[1], id=each.id) for each in jobs()])
def test_what_may_write_installs_locked_files_and_builds_none(job: dict[str, Any]) -> None:
    if not commands(job) or (not may_write(job) and not knows_a_token(job)):
        return
    assert job["cache-mode"] == "none"
    install, command = commands(job)
    tool = "uv pip sync --python .locked --require-hashes --only-binary :all: .github/locked/nox.txt"
    assert tool in install.splitlines()
    assert not any("uvx" in line for line in (install, command))
    (uv,) = [step["with"] for step in job["steps"] if step.get("uses", "").startswith("astral-sh/setup-uv@")]
    assert re.fullmatch(r"\d+\.\d+\.\d+", uv["version"]), "the pinned action knows the checksum"
    assert [step["uses"] for step in job["steps"] if "cache" in step.get("uses", "")] == []


@pytest.mark.parametrize("group", ["nox", "comment", "publish", "release", "audit"])
def test_a_lock_covers_its_group_and_has_a_hash_for_every_file(group: str) -> None:
    text = (LOCKED / f"{group}.txt").read_text(encoding="utf-8")
    entries = [entry for entry in text.replace("\\\n", " ").splitlines() if entry.strip()]
    names: dict[str, list[Any]] = {}
    for entry in entries:
        requirement, *hashes = entry.split(" --hash=")
        assert re.fullmatch(r"[a-z0-9-]+==[^ ;]+( ; [^@/:]+)?", requirement.strip()), entry
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64} *", each) for each in hashes), requirement
        pinned = Requirement(requirement)
        names.setdefault(pinned.name, []).append(pinned.specifier)
    project = nox.project.load_toml(ROOT / "pyproject.toml")
    for asked in map(Requirement, nox.project.dependency_groups(project, group)):
        versions = [str(pin).removeprefix("==") for pin in names[asked.name]]
        assert all(asked.specifier.contains(version) for version in versions), f"{asked}: run nox -s pins"


def test_the_job_that_comments_has_few_packages() -> None:
    text = (LOCKED / "comment.txt").read_text(encoding="utf-8")
    assert not re.search(r"^(numpy|scipy|matplotlib|torch)==", text, flags=re.MULTILINE)


def test_the_guide_says_who_can_do_what_and_which_test_holds_it() -> None:
    table = GUIDE.read_text(encoding="utf-8").partition("## Who can do what")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) >= 8
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert [name for name in named if f"def {name}(" not in tests] == [], row
