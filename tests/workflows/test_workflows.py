"""Every job is one nox command and bears its name; none that runs a stranger's code may write."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PIN = re.compile(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40}$")


def read(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    found["on"] = found.pop(True)  # YAML 1.1 reads the key `on` as a boolean
    return dict(found)


def jobs() -> list[Any]:
    return [
        pytest.param(path, job, id=f"{path.stem}-{name}")
        for path in FILES
        for name, job in read(path)["jobs"].items()
    ]


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


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
    if job["name"] == f"all {path.stem}":  # green when the others are
        assert commands(job) == []
        return
    (command,) = commands(job)
    words = shlex.split(command)
    assert words[:3] == ["uvx", "nox", "-s"]
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
    assert "secrets." not in text
    assert "github.token" not in text
    for job in workflow["jobs"].values():
        assert "write" not in job.get("permissions", {}).values()
        assert job.get("permissions") != "write-all"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_may_write_checks_out_main_only(path: Path) -> None:
    for job in read(path)["jobs"].values():
        if "write" not in job.get("permissions", {}).values():
            continue
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"].get("ref") == "${{ github.event.repository.default_branch }}"
            if step.get("uses", "").startswith("astral-sh/setup-uv@"):
                assert step["with"]["enable-cache"] is False, "a pull request's job may have filled it"


def test_the_guide_says_when_github_stops_each_job() -> None:
    guide = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    table = guide.partition("## What it costs")[2].partition("##")[0]
    for path in FILES:
        (row,) = (line for line in table.splitlines() if line.startswith(f"| `{path.name}`"))
        for name, job in read(path)["jobs"].items():
            if name == "all":
                continue
            found = re.search(rf"\b{name} (?:\d+ \S )?(\d+)", row)
            assert found, f"{path.name}: {name} is not in the table"
            assert int(found[1]) == job["timeout-minutes"]
