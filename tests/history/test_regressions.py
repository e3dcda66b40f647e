"""What is said of a regression: which commits, which packages, and nothing that is known already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import asv_command, publish
from benchmarks.history.regressions import History, Regression, issue_text, issue_title, read_history
from benchmarks.repository import git

from ..github_api import GitHub

GRAPH = "graphs/arch-x86_64/branch-HEAD/cpu-any/machine-{}/num_cpu-2/inference.Inference.time_x.json"
NAME = "inference.Inference.time_x('aloha')"


class Published:
    """A repository of four commits, and what asv makes of results of some of them."""

    def __init__(self, root: Path) -> None:
        self.root, self.home, self.html = root, root / ".asv", root / ".asv" / "html"
        git("init", "-q", "-b", "main", root=root)
        self.commits = []
        for number in range(4):
            git("commit", "-q", "--allow-empty", "-m", f"change {number} of <b>", root=root)
            self.commits.append(git("rev-parse", "HEAD", root=root))
        self.html.mkdir(parents=True)

    def write(self, *jumps: Any, machine: str = "vm", measured: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        revisions = {str(number): self.commits[number] for number in measured}
        (self.html / "index.json").write_text(json.dumps({"revision_to_hash": revisions}))
        entry = [NAME, GRAPH.format(machine), {}, 0, 1.2, 1.0, list(jumps)]
        found = {"regressions": [entry] if jumps else []}
        graph = self.html / GRAPH.format(machine)
        graph.parent.mkdir(parents=True, exist_ok=True)
        graph.write_text(json.dumps([[number, [1.2, None]] for number in measured]))
        (self.html / "regressions.json").write_text(json.dumps(found))

    def installed(self, number: int, **packages: str) -> None:
        path = self.home / "versions" / "vm" / f"{self.commits[number][:8]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(packages))

    def read(self, baseline: str | None = None) -> History:
        return read_history(self.html, self.home, baseline, self.root)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path)


def test_a_step_between_two_measured_commits_names_both_and_what_lies_between(published: Published) -> None:
    published.write([0, 2, 1.0, 1.2], measured=(0, 2, 3))
    (regression,) = published.read().regressions
    assert (regression.good, regression.bad) == (published.commits[0], published.commits[2])
    assert regression.machine == "vm"
    assert [line.partition(" ")[2] for line in regression.commits] == [f"change {n} of <b>" for n in (2, 1)]
    assert regression.factor == "1.20x"


def test_a_step_under_one_torch_release_names_it(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only there: torch brought it.
    of_one_release = GRAPH.replace("/inference", "/env-TORCH-2.7.0/inference")
    monkeypatch.setitem(globals(), "GRAPH", of_one_release)
    published.write([0, 1, 1.0, 1.1], [1, 2, 1.1, 1.2], measured=(0, 1, 2, 3))
    for regression in published.read().regressions:
        assert regression.benchmark == "inference.Inference.time_x('aloha'), torch 2.7.0"
        assert regression.machine == "vm"
    assert len(published.read().regressions) == 2


def test_a_step_of_one_commit_has_the_one_measured_before_it(published: Published) -> None:
    published.write([None, 2, 1.0, 1.2], measured=(0, 1, 2, 3))
    (regression,) = published.read().regressions
    assert (regression.good, regression.bad) == tuple(published.commits[1:3])
    assert len(regression.commits) == 1


def test_one_slow_night_is_no_regression_until_the_next_commit(published: Published) -> None:
    published.write([None, 3, 1.0, 1.2])
    found = published.read()
    assert (found.regressions, found.unconfirmed) == ((), 1)
    for measured, count in (((0, 1, 2), 0), ((0, 1, 2, 3), 1)):
        published.write([None, 2, 1.0, 1.2], measured=measured)
        assert len(published.read().regressions) == count


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("inference.InferenceCounts.track_graph_breaks('aloha')", True),
        ("inference.InferenceCounts.track_peak_memory_eager('aloha')", True),
        ("inference.InferenceCounts.track_compiled_over_eager('aloha')", False),
        ("inference.InferenceCounts.track_auto_over_stock('aloha')", False),
        ("compilation.Compilation.track_cold_compile('aloha inference')", False),
        ("training.Training.time_training_step('pusht')", False),
    ],
)
def test_a_count_needs_no_second_commit(
    published: Published, name: str, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "NAME", name)
    published.write([None, 3, 1.0, 2.0])
    assert len(published.read().regressions) == exact
    assert published.read().unconfirmed == (not exact)


def test_what_may_be_worse_leaves_the_issue_as_it_is(published: Published, github: GitHub) -> None:
    published.write([None, 3, 1.0, 1.2])
    gh = github.with_issues({"number": 3}, label=publish.LABEL)
    said = publish.update_issue(published.read(), "o/r", accepted=False)
    assert said.startswith("the issue stays as it is")
    assert gh.sent == []


@pytest.mark.parametrize("unconfirmed", [0, 1])
def test_the_baseline_stays_where_something_may_be_worse(
    published: Published, monkeypatch: pytest.MonkeyPatch, unconfirmed: int
) -> None:
    monkeypatch.setattr(asv_command, "draw", lambda *_: [])
    monkeypatch.setattr(publish, "read_history", lambda *_: History("c" * 40, (), unconfirmed))
    publish.publish([], push=False, accept=False, root=published.root)
    assert (published.home / "baseline.json").exists() == (unconfirmed == 0)


@pytest.mark.parametrize(("baseline", "count"), [(None, 1), (1, 1), (2, 0), (3, 0)])
def test_what_lies_before_the_baseline_is_known(
    published: Published, baseline: int | None, count: int
) -> None:
    published.write([None, 2, 1.0, 1.2])
    commit = None if baseline is None else published.commits[baseline]
    found = published.read(commit)
    assert len(found.regressions) == count
    assert found.newest == published.commits[3]


def test_packages_that_changed_stand_beside_the_commits(published: Published) -> None:
    published.write([None, 2, 1.0, 1.2])
    text = issue_text(published.read())
    assert "What was installed there is not known." in text
    published.installed(1, torch="2.10.0", numpy="2.3.5", gone="1")
    published.installed(2, torch="2.11.0", numpy="2.3.5", new="2")
    text = issue_text(published.read())
    assert "Packages changed: gone 1 → none, new none → 2, torch 2.10.0 → 2.11.0." in text
    published.installed(1, torch="2.11.0", numpy="2.3.5", new="2")
    assert "No installed package changed." in issue_text(published.read())


def test_the_issue_says_how_much_since_when_and_what_to_do(published: Published) -> None:
    published.write([None, 2, 1.0, 1.2])
    history = published.read(published.commits[0])
    assert issue_title(history) == f"Performance: 1 benchmark worse since {published.commits[2][:8]}"
    text = issue_text(history)
    assert f"after {published.commits[0][:8]}, the last commit known to be good" in text
    good, bad = (commit[:8] for commit in published.commits[1:3])
    assert rf"| inference.Inference.time\_x('aloha') | vm | 1 | 1.2 | 1.20x | {good}..{bad} |" in text
    assert f"nox -s gate -- --base {good} --head {bad}" in text
    assert "change 2 of &lt;b&gt;" in text, "a commit message is text"


def test_many_regressions_do_not_make_an_endless_issue() -> None:
    regression = Regression("x", "vm", 1, 2, "a" * 40, "b" * 40, ("b change",), None)
    text = issue_text(History("c" * 40, (regression,) * 80))
    assert text.count("| x |") == 50
    assert "And 30 more" in text
    assert text.count("### ") == 1, "one range is told once"


def test_nothing_published_is_no_clean_history(published: Published) -> None:
    with pytest.raises(ValueError, match="run nox -s history first"):
        published.read()


@pytest.mark.parametrize("is_open", [False, True])
def test_one_issue_is_opened_and_then_brought_up_to_date(
    published: Published, github: GitHub, is_open: bool
) -> None:
    published.write([None, 2, 1.0, 1.2])
    gh = github.with_issues(*[{"number": 3}] * is_open, label=publish.LABEL)
    done = publish.update_issue(published.read(), "o/r", accepted=False)
    ((method, where, body),) = gh.sent
    expected = ("PATCH", "repos/o/r/issues/3") if is_open else ("POST", "repos/o/r/issues")
    assert (method, where) == expected
    assert body["title"].startswith("Performance: 1 benchmark worse")
    assert body.get("labels") == (None if is_open else [publish.LABEL])
    assert "issue brought up to date" in done if is_open else "issue opened" in done


@pytest.mark.parametrize("accepted", [False, True])
def test_a_clean_run_or_a_word_closes_it(published: Published, github: GitHub, accepted: bool) -> None:
    published.write(*([[None, 2, 1.0, 1.2]] if accepted else []))
    gh = github.with_issues({"number": 3}, label=publish.LABEL)
    publish.update_issue(published.read(), "o/r", accepted=accepted)
    assert [method for method, _, _ in gh.sent] == ["POST", "PATCH"]
    assert gh.sent[-1][2] == {"state": "closed"}
    nothing = github.with_issues()
    publish.update_issue(published.read(), "o/r", accepted=accepted)
    assert nothing.sent == []
