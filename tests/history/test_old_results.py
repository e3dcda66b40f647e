"""A history that began under an older layout of the suite goes on: asv's names are all that it lies under."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.history import overview, result_files
from benchmarks.history.publish import publish
from benchmarks.repository import ROOT, git

from ..asv_results import PUBLISHED, machine_of, of_one_case, results

MACHINE = "github-cpu"
OLD, NEW = 6, 2  # commits
KERNELS = "inference.InferenceCounts.track_inductor_kernels"
RATIO = f"inference.InferenceCounts.{overview.RATIO}"
STEP_TIME = overview.TIMES["inference"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository, with results of its first commits beside it in ``old``, and of the others in ``new``."""
    monkeypatch.setenv("HOME", str(tmp_path))  # asv keeps its machines there
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(ROOT / "asv.conf.json", root)
    git("init", "-q", "-b", "main", root=root)
    git("add", "-A", root=root)
    for number in range(OLD + NEW):
        when = 1_790_000_000 + 86_400 * number
        environment = {"GIT_AUTHOR_DATE": f"{when} +0000", "GIT_COMMITTER_DATE": f"{when} +0000"}
        git("commit", "-q", "--allow-empty", "-m", f"change {number}", root=root, env=environment)
        commit = git("rev-parse", "HEAD", root=root)
        # The compiled step of aloha becomes faster and faster, and has more kernels when the suite has moved.
        compiled = 0.2 - 0.01 * number
        values = {name: of_one_case(name, tuple(first(name)), 1.0) for name in PUBLISHED}
        values[KERNELS] = of_one_case(KERNELS, ("aloha", "cpu"), 90 if number < OLD else 95)
        values[RATIO] = of_one_case(RATIO, ("aloha", "cpu"), compiled / 0.25)
        values[STEP_TIME] = of_one_case(STEP_TIME, ("aloha", "fp32", "cpu", "compiled"), compiled)
        place = tmp_path / ("old" if number < OLD else "new") / result_files.RESULTS
        (place / MACHINE).mkdir(parents=True, exist_ok=True)
        (place / MACHINE / "machine.json").write_text(json.dumps({**machine_of(MACHINE), "version": 1}))
        layout = {"code": "# of the old layout", "setup_cache_key": "inference:26"} if number < OLD else {}
        benchmarks = {name: {**benchmark, **layout} for name, benchmark in PUBLISHED.items()}
        (place / "benchmarks.json").write_text(json.dumps({**benchmarks, "version": 2}))
        file = results(commit, when, MACHINE, values)
        (place / MACHINE / f"{commit[:8]}-virtualenv-py3.12.json").write_text(json.dumps(file))
    return root


def first(name: str) -> list[str]:
    return [values[0].strip("'") for values in PUBLISHED[name]["params"]]


def test_old_and_new_results_are_one_history(root: Path, tmp_path: Path) -> None:
    history = publish([tmp_path / "old", tmp_path / "new"], push=False, accept=False, root=root)

    html = root / ".asv" / "html"
    assert set(json.loads((html / "index.json").read_text())["benchmarks"]) == set(PUBLISHED)
    (graph,) = html.glob(f"graphs/**/machine-{MACHINE}/**/{STEP_TIME}.json")
    assert len(json.loads(graph.read_text())) == OLD + NEW, "one graph over all commits"

    (machine,) = overview.read_machines(root / ".asv")
    assert machine.name == MACHINE
    aloha = next(series for series in machine.series if series.name == "aloha inference")
    assert [point.compiled and point.compiled.median for point in aloha.points] == pytest.approx(
        [0.2 - 0.01 * number for number in range(OLD + NEW)]
    )
    assert f"{0.25 / (0.2 - 0.01 * (OLD + NEW - 1)):.2f}x" in (html / overview.PAGE).read_text()

    (regression,) = history.regressions
    assert regression.benchmark.startswith(KERNELS)
    assert (regression.before, regression.after) == (90, 95), "old results are what it is compared with"


def test_what_is_measured_is_not_measured_again(root: Path, tmp_path: Path) -> None:
    result_files.merge(tmp_path / "old", root / ".asv")
    commits = git("rev-list", "--reverse", "HEAD", root=root).split()
    measured = [result_files.is_measured(commit, MACHINE, root / ".asv") for commit in commits]
    assert measured == [True] * OLD + [False] * NEW
