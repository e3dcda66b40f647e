"""A history in three shares by three runners: measured with asv, merged, published, and judged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.history import measure, publish, result_files, site_scripts
from benchmarks.history.measure import SUBJECT
from benchmarks.history.regressions import History, issue_text
from benchmarks.history.result_files import BRANCH
from benchmarks.repository import MeasurementError, git

ROOT = Path(__file__).resolve().parents[2]
KERNELS = (90, 90, 90, 95, 95, 95)  # of six commits; the fourth is the culprit
BENCHMARK = """
import lerobot_policy_act_compiled as subject


class Counts:
    def track_inductor_kernels(self):
        return subject.KERNELS
"""
PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "lerobot_policy_act_compiled"
version = "1"
[tool.hatch.build.targets.wheel]
packages = ["src/lerobot_policy_act_compiled"]
"""


class Project:
    """A repository on a server, and runners with fresh clones of it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.server, work = directory, directory / "server.git", directory / "work"
        self.work = work
        git("init", "-q", "--bare", "-b", "main", str(self.server), root=directory)
        git("clone", "-q", str(self.server), str(work), root=directory)
        config = json.loads((ROOT / "asv.conf.json").read_text())
        (work / "asv.conf.json").write_text(json.dumps({**config, "matrix": {"req": {"uv": []}}}))
        (work / "pyproject.toml").write_text(PYPROJECT)
        (work / ".gitignore").write_text(".asv/\n")
        (work / "benchmarks" / "suite").mkdir(parents=True)
        (work / "benchmarks" / "suite" / "__init__.py").touch()
        (work / "benchmarks" / "suite" / "counts.py").write_text(BENCHMARK)
        self.commits = [self.commit(*numbered) for numbered in enumerate(KERNELS)]

    def commit(self, number: int, kernels: int) -> str:
        subject = self.work / SUBJECT
        subject.parent.mkdir(parents=True, exist_ok=True)
        subject.write_text(f"KERNELS = {kernels}\nCOMMIT = {number}\n")
        git("add", "-A", root=self.work)
        git("commit", "-q", "-m", f"{kernels} kernels | @you", root=self.work)
        git("push", "-q", "origin", "HEAD:main", root=self.work)
        return git("rev-parse", "HEAD", root=self.work)

    def runner(self, name: str) -> Path:
        """A fresh clone; asv's environment and scripts are shared, to save the time of making them."""
        clone = self.directory / name
        shutil.rmtree(clone, ignore_errors=True)
        git("clone", "-q", str(self.server), str(clone), root=self.directory)
        (clone / ".asv").mkdir()
        for shared in ("env", site_scripts.FOLDER):
            (self.directory / shared).mkdir(exist_ok=True)
            (clone / ".asv" / shared).symlink_to(self.directory / shared)
        return clone

    def measure(self, commits: str, share: str, artifacts: Path) -> None:
        """A measuring job: the session, then its artifact."""
        clone = self.runner(f"runner-{share[0]}")
        arguments = [commits, "--missing", "--machine", "runner", "--shard", share]
        assert measure.main(arguments, root=clone) == 0
        for name in (result_files.RESULTS, result_files.VERSIONS):
            if (clone / ".asv" / name).exists():
                shutil.copytree(clone / ".asv" / name, artifacts / f"history-cpu-{share[0]}" / name)

    def publish(self, artifacts: Path, *, accept: bool = False) -> History:
        """The publishing job."""
        return publish.publish([artifacts], push=True, accept=accept, root=self.runner("publisher"))

    def on_branch(self, path: str) -> str:
        return git("show", f"{BRANCH}:{path}", root=self.server)

    def measured(self) -> set[str]:
        """Commits with results on the branch."""
        names = git("ls-tree", "--name-only", f"{BRANCH}:results/runner", root=self.server).splitlines()
        return {name.split("-")[0] for name in names if name != "machine.json"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("HOME", str(tmp_path))  # asv keeps its machines there
    return Project(tmp_path)


@pytest.mark.timeout(900)
def test_six_commits_in_three_shards(project: Project, tmp_path: Path) -> None:
    short = [commit[:8] for commit in project.commits]
    artifacts = tmp_path / "artifacts"
    for share in ("1/3", "2/3", "3/3"):
        project.measure("6", share, artifacts)
    # The second runner dies while its results are sent: half a file.
    for path in (artifacts / "history-cpu-2" / "results" / "runner").glob("*-*.json"):
        path.write_text(path.read_text()[:200])
    (damaged,) = project.publish(artifacts).damaged
    first = min(short[1], short[4])  # files stand in the order of their names: of hashes, not of commits
    assert damaged.startswith(f"history-cpu-2: results/runner/{first}-")
    assert damaged.endswith("is cut short, or no JSON, and 1 more")
    assert result_files.BASELINE not in git("ls-tree", "--name-only", BRANCH, root=project.server)
    assert project.measured() == {short[0], short[2], short[3], short[5]}

    # It is run again, alone.
    shutil.rmtree(artifacts)
    project.measure("6", "2/3", artifacts)
    found = project.publish(artifacts)
    assert project.measured() == set(short)
    assert json.loads(project.on_branch(f"versions/runner/{short[1]}.json"))["uv"]

    machine = json.loads(project.on_branch("results/runner/machine.json"))
    assert (machine["os"], machine["cpu"], machine["ram"]) == ("any",) * 3, (
        "or each runner had graphs of its own"
    )

    # The change is found, with its commit, and the baseline stays where it was.
    (regression,) = found.regressions
    assert (regression.benchmark, regression.machine) == ("counts.Counts.track_inductor_kernels", "runner")
    assert (regression.before, regression.after) == (90, 95)
    assert [regression.good, regression.bad] == project.commits[2:4]
    assert found.baseline != found.newest
    text = issue_text(found)
    assert f"{short[2]}..{short[3]}" in text
    assert "| 90 | 95 | 1.06x |" in text
    assert "95 kernels \\| @\u200byou" in text
    assert "No installed package changed, and" in text
    assert "graphs" in git("ls-tree", "--name-only", publish.PAGES, root=project.server)

    # It is intended: the baseline moves on, and nothing is found any more.
    project.publish(artifacts, accept=True)
    assert json.loads(project.on_branch(result_files.BASELINE)) == {"commit": project.commits[-1]}
    found = project.publish(artifacts)
    assert (found.regressions, found.baseline) == ((), project.commits[-1])


def test_a_server_that_cannot_be_reached_is_no_empty_branch(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError), result_files.checked_out(BRANCH, str(tmp_path / "nowhere")):
        pass
