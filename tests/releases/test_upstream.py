"""What is asked of a new LeRobot, on small test suites of its kind, and the issue that is made of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pages import ratios
from benchmarks.records import read
from benchmarks.releases import upstream, upstream_issue
from benchmarks.repository import ROOT, MeasurementError, git

from ..github_api import GitHub
from ..workflows.github_actions import WORKFLOWS, Run

TESTS = """
import pytest
from lerobot.policies.act.modeling_act import ACTPolicy

def patched():
    return ACTPolicy.forward.__module__.startswith("lerobot_policy_act_compiled")

def test_that_passes():
    pass

def test_that_the_patch_breaks():
    assert not patched()

def test_that_never_passed():
    assert False

def test_that_needs_the_hub():
    pytest.skip("offline")
"""


@pytest.fixture
def lerobot(tmp_path: Path) -> Path:
    """A repository with tests of ACT, and one file that is about something else."""
    folder = tmp_path / "lerobot" / "tests" / "policies"
    folder.mkdir(parents=True)
    (folder / "test_policies.py").write_text(TESTS)
    (folder / "test_others.py").write_text("def test_of_diffusion():\n    raise SystemExit('not asked')\n")
    git("init", "-q", root=tmp_path / "lerobot")
    git("add", "-A", root=tmp_path / "lerobot")
    return tmp_path / "lerobot"


def test_what_passes_without_the_patch_must_pass_with_it(lerobot: Path) -> None:
    check = upstream.check_lerobots_tests(lerobot)
    assert check.asked == 2
    assert check.wrong == ("tests.policies.test_policies::test_that_the_patch_breaks",)


def test_nothing_that_passes_is_nothing_to_compare_with(
    lerobot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "run_tests", lambda *_args, **_options: {"test_act": "failed"})
    with pytest.raises(MeasurementError, match="none of LeRobot's tests of ACT passes without the patch"):
        upstream.check_lerobots_tests(lerobot)


def test_a_file_of_any_name_is_asked(lerobot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git puts such a name into quotes, and pytest knows no file of that name."""
    (lerobot / "tests" / "policies" / "test_\u00e9 \u00e8.py").write_text(TESTS)
    git("add", "-A", root=lerobot)
    asked: list[str] = []

    def run_tests(paths: list[str], *_: Any, **__: Any) -> dict[str, str]:
        asked.extend(paths)
        return {"test_act": "passed"}

    monkeypatch.setattr(upstream, "run_tests", run_tests)
    assert upstream.check_lerobots_tests(lerobot).wrong == ()
    assert len(asked) == 4
    assert all((lerobot / path).exists() for path in asked)


def test_the_tests_are_those_of_the_release_that_is_installed(
    lerobot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("commit", "-q", "-m", "release", root=lerobot)
    git("tag", f"v{version('lerobot')}", root=lerobot)
    (lerobot / "later").touch()
    git("add", "-A", root=lerobot)
    git("commit", "-q", "-m", "later", root=lerobot)
    monkeypatch.setattr(upstream, "REPOSITORY", lerobot.as_uri())
    (tmp_path / "place").mkdir()
    clone = upstream.checkout(tmp_path / "place")
    assert (clone / "tests").is_dir()
    assert not (clone / "later").exists()


def test_tests_that_cannot_be_collected_are_no_answer(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import no_such_module\n")
    with pytest.raises(MeasurementError, match="pytest ended with exit code 2"):
        upstream.run_tests(["test_it.py"], tmp_path)


HANGING = """
import pathlib, subprocess, sys, time

def test_that_hangs():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    pathlib.Path("child").write_text(str(child.pid))
    time.sleep(600)
"""


def test_tests_that_hang_are_stopped_with_what_they_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_it.py").write_text(HANGING)
    monkeypatch.setattr(upstream, "TIMEOUT", 2)  # pytest starts in 0.3 s
    with pytest.raises(MeasurementError, match=f"the tests of {tmp_path.name} took longer than 2 s"):
        upstream.run_tests(["test_it.py"], tmp_path)
    child = int((tmp_path / "child").read_text())
    for _ in range(50):  # until its new parent has heard of its end
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 0)
            time.sleep(0.1)
            continue
        return
    pytest.fail("what the tests started is still running")


def test_a_gain_that_shrank_is_named_with_its_target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    about = {"device": "cpu"}
    times = {"aloha-inference-compiled": 1.1, "aloha-inference-eager": 1.04, "libero-inference-compiled": 1.0}
    measured = [
        {"row": "speed-up", "case": f"{case}-fp32-cpu", "times_as_fast": {"median": found}, "about": about}
        for case, found in times.items()
    ]
    monkeypatch.setattr(ratios, "measured", lambda *_: measured)
    wrong = "aloha inference: compiled, times as fast as stock eager: 1.10x (target ≥ 1.25x)"
    assert upstream.check_ratios(1, tmp_path) == upstream.Check("ratios to stock LeRobot", 2, (wrong,))
    assert read(tmp_path / upstream.RATIOS) == measured


@pytest.mark.parametrize(("wrong", "code"), [((), 0), (("x",), 1), (None, 2)])
def test_the_exit_code_says_how_it_went(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: tuple[str, ...] | None, code: int
) -> None:
    def ask(*_: Any) -> upstream.Check:
        if wrong is None:
            raise MeasurementError("no such tag")
        return upstream.Check("tests", 3, wrong)

    for name in ("check_our_tests", "check_lerobots_tests", "check_ratios"):
        monkeypatch.setattr(upstream, name, ask)
    report = tmp_path / "release"
    assert upstream.main(["--report", str(report), "--source", str(tmp_path)]) == code
    found = upstream_issue.read_report(report / upstream_issue.NAME)
    assert upstream_issue.is_well(found) == (code == 0)
    assert len(found["findings"]) == (0 if wrong is None else 3)
    assert ("error" in found) == (code == 2)


def test_no_launch_is_told_before_hours_of_tests(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        upstream.main(["--launches", "0"])
    assert ended.value.code == 2
    assert "--launches: takes at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (subprocess.TimeoutExpired(["python"], 600), "a fresh process took longer than 600 s"),
        (KeyError("no such key"), "KeyError: 'no such key' at "),
        (MeasurementError("no such\ntag"), "no such tag"),
    ],
)
def test_a_check_that_fails_takes_no_finding_of_the_others_along(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    said: str,
) -> None:
    def fail(*_: Any) -> upstream.Check:
        raise error

    wrong = upstream.Check("tests of this repository", 800, ("tests::test_x",))
    monkeypatch.setattr(upstream, "check_our_tests", lambda: wrong)
    monkeypatch.setattr(upstream, "check_lerobots_tests", fail)
    monkeypatch.setattr(upstream, "check_ratios", lambda *_: upstream.Check("ratios", 5, ()))
    assert upstream.main(["--report", str(tmp_path), "--source", str(tmp_path)]) == 2
    found = upstream_issue.read_report(tmp_path / upstream_issue.NAME)
    assert [finding["asked"] for finding in found["findings"]] == [800, 5]
    assert found["error"].startswith(said)
    assert capsys.readouterr().err == f"upstream: {found['error']}\n"


def test_a_job_that_is_stopped_leaves_what_it_had_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopped(*_: Any) -> upstream.Check:
        raise KeyboardInterrupt

    wrong = upstream.Check("tests of this repository", 800, ("tests::test_x",))
    monkeypatch.setattr(upstream, "check_our_tests", lambda: wrong)
    monkeypatch.setattr(upstream, "check_lerobots_tests", stopped)
    assert upstream.main(["--report", str(tmp_path), "--source", str(tmp_path)]) == 2
    found = upstream_issue.read_report(tmp_path / upstream_issue.NAME)
    assert [finding["wrong"] for finding in found["findings"]] == [["tests::test_x"]]
    assert found["error"] == "stopped before 2 more checks were made", "never well"


@pytest.mark.parametrize("report", ["", "<testsuites>", "<a>" * 100_000])
def test_a_report_that_is_none_is_no_answer(tmp_path: Path, report: str) -> None:
    (tmp_path / "report.xml").write_text(report)
    with pytest.raises(MeasurementError, match="no report that can be read"):
        upstream.outcomes(tmp_path / "report.xml")


@pytest.fixture(autouse=True)
def _on_github(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "o/r")


def write(directory: Path, name: str, **fields: Any) -> None:
    (directory / name).mkdir(parents=True)
    report = {"lerobot": "0.7.0", "torch": "2.12.0", "findings": [], **fields}
    (directory / name / upstream_issue.NAME).write_text(json.dumps(report))


BROKEN = [{"what": "tests of this repository", "asked": 800, "wrong": ["tests::test_<b> @you"]}]


def test_what_broke_is_told_and_a_strangers_text_is_text(github: GitHub, tmp_path: Path) -> None:
    gh = github.with_issues()
    write(tmp_path, "upstream-release")
    write(tmp_path, "upstream-main", findings=BROKEN)
    assert upstream_issue.main([str(tmp_path)]) == 0
    ((method, where, body),) = gh.sent
    assert (method, where) == ("POST", "repos/o/r/issues")
    assert body["title"] == "LeRobot 0.7.0 with torch 2.12.0: 1 of 800 tests of this repository"
    assert "1 of 800 failed" in body["body"]
    assert "<b>" not in body["body"]
    assert "@you" not in body["body"]


def test_a_report_that_is_missing_or_broken_is_not_well(github: GitHub, tmp_path: Path) -> None:
    gh = github.with_issues({"number": 3})
    write(tmp_path, "upstream-main", findings=[{"what": "x"}])
    assert upstream_issue.main([str(tmp_path), "--expect", "upstream-release", "upstream-main"]) == 0
    ((method, where, body),) = gh.sent
    assert (method, where) == ("PATCH", "repos/o/r/issues/3")
    assert "upstream-release left no report" in body["body"]
    assert "upstream-main left no report that can be read" in body["body"]


@pytest.mark.parametrize("damage", ["a link", "deep", "large"])
def test_a_report_is_read_within_limits(github: GitHub, tmp_path: Path, damage: str) -> None:
    gh = github.with_issues()
    write(tmp_path, "upstream-release", findings=[{**BROKEN[0], "wrong": []}])
    path = tmp_path / "upstream-release" / upstream_issue.NAME
    if damage == "a link":
        path.rename(tmp_path / "whole.json")
        path.symlink_to(tmp_path / "whole.json")
    elif damage == "deep":
        path.write_text("[" * 100_000 + "]" * 100_000)
    else:
        path.write_text(path.read_text() + " " * upstream_issue.LARGEST)
    assert upstream_issue.main([str(tmp_path)]) == 0
    assert "upstream-release left no report that can be read" in gh.sent[0][2]["body"]


@pytest.mark.parametrize("output", ["PYTHONIOENCODING=ascii", ">&-", "PYTHONIOENCODING=utf-8", ">/dev/full"])
def test_an_issue_needs_no_output_that_takes_it(tmp_path: Path, github: GitHub, output: str) -> None:
    """A test's name may be of any letters, and of half a pair of them."""
    write(
        tmp_path,
        "upstream-main",
        findings=[{**BROKEN[0], "wrong": ["tests::test_\u20ac_\ud800_end"]}],
        torch="\ud800",
    )
    command = [sys.executable, "-m", "benchmarks.releases.upstream_issue", str(tmp_path)]
    line = f'{output} "$@"' if "=" in output else f'exec "$@" {output}'
    github.with_issues()
    done = subprocess.run(
        ["bash", "-c", line, "", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == (2 if "full" in output else 0), done.stderr
    (issue,) = github["issues"]
    assert issue["title"] == "LeRobot 0.7.0 with torch ?: 1 of 800 tests of this repository"
    assert "\u20ac\\_\\_end" in issue["body"]


def test_all_well_closes_it(github: GitHub, tmp_path: Path) -> None:
    gh = github.with_issues({"number": 3})
    write(tmp_path, "upstream-release", findings=[{**BROKEN[0], "wrong": []}])
    assert upstream_issue.main([str(tmp_path)]) == 0
    assert gh.sent[-1][2] == {"state": "closed"}


def test_no_report_at_all_is_no_good_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upstream_issue.main([str(tmp_path)]) == 2
    assert "there is no report" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("left", "missing"),
    [
        (["upstream-release", "upstream-main"], []),
        (["upstream-main"], ["upstream-release"]),
        (["upstream-release"], ["upstream-main"]),
        ([], ["upstream-release", "upstream-main"]),
    ],
)
def test_reports_are_found_where_github_puts_them(
    github: GitHub, tmp_path: Path, left: list[str], missing: list[str]
) -> None:
    """The steps of upstream.yml's last job, with both artifacts, one and none."""
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    for name in left:
        write(artifacts, name)
    run, job = Run("schedule", results={"ask": "success"}), WORKFLOWS["upstream"]["jobs"]["tell"]
    assert run.job_runs(job)
    for step in job["steps"]:
        if "download-artifact" in step.get("uses", ""):
            assert run.download(step, artifacts, tmp_path) or step["continue-on-error"]
    directory, *options = run.arguments(WORKFLOWS["upstream"], job, job["steps"][-1])
    gh = github.with_issues()
    gh.change(permissions=job["permissions"])
    assert upstream_issue.main([str(tmp_path / directory), *options]) == 0
    told = "".join(body["body"] for _, _, body in gh.sent)
    assert [name for name in (*left, *missing) if f"{name} left no report" in told] == missing


def test_reports_of_an_earlier_attempt_close_nothing(github: GitHub, tmp_path: Path) -> None:
    gh = github.with_issues({"number": 3})
    write(tmp_path, "upstream-main")
    assert upstream_issue.main([str(tmp_path), "--result", "failure"]) == 0
    ((method, _, body),) = gh.sent
    assert method == "PATCH"
    assert "the jobs ended with failure" in body["body"]
