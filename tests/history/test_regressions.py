"""What is said of a regression: which commits, which packages, and nothing that is known already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import publish
from benchmarks.history.regressions import (
    History,
    Step,
    all_steps,
    issue_text,
    issue_title,
    listed,
    read_history,
)
from benchmarks.repository import git

from ..github_api import GitHub

GRAPH = "graphs/arch-x86_64/branch-HEAD/cpu-any/machine-{}/num_cpu-2/{}.json"
TIME = "inference.Inference.time_predict_action_chunk"
NAME = f"{TIME}('aloha')"
SAME = (1.0, 1.01, 0.99, 1.0, 1.02)
SLOWER = (1.2, 1.21, 1.19, 1.2)


class Published:
    """A repository of twelve commits, and what asv makes of results of some of them."""

    def __init__(self, root: Path) -> None:
        self.root, self.home, self.html = root, root / ".asv", root / ".asv" / "html"
        git("init", "-q", "-b", "main", root=root)
        self.commits = []
        for number in range(12):
            git("commit", "-q", "--allow-empty", "-m", f"change {number} of <b>", root=root)
            self.commits.append(git("rev-parse", "HEAD", root=root))
        self.html.mkdir(parents=True)

    def write(
        self,
        *values: float | None,
        name: str = TIME,
        machine: str = "vm",
        measured: Any = None,
        path: str = GRAPH,
    ) -> None:
        """One figure's values at the first commits, or at those named by ``measured``."""
        at = list(range(len(values)) if measured is None else measured)
        revisions = {str(number): commit for number, commit in enumerate(self.commits) if number in at}
        index = {"revision_to_hash": revisions, "benchmarks": {name: {"params": [["'aloha'", "'pusht'"]]}}}
        (self.html / "index.json").write_text(json.dumps(index))
        graph = self.html / path.format(machine, name)
        graph.parent.mkdir(parents=True, exist_ok=True)
        graph.write_text(json.dumps([[n, [value, None]] for n, value in zip(at, values, strict=True)]))

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
    published.write(*SAME, *SLOWER, measured=(0, 1, 2, 3, 4, 7, 8, 9, 10))
    (step,) = published.read().regressions
    assert (step.good, step.bad) == (published.commits[4], published.commits[7])
    assert (step.benchmark, step.machine) == (NAME, "vm")
    assert [line.partition(" ")[2] for line in step.commits] == [f"change {n} of <b>" for n in (7, 6, 5)]
    assert (step.before, step.after, step.factor) == (1.0, 1.2, "1.20x")


def test_a_step_under_one_torch_release_names_it(published: Published) -> None:
    # Only there: torch brought it.
    of_one_release = GRAPH.replace("/{}.json", "/env-TORCH-2.7.0/{}.json")
    published.write(*SAME, *SLOWER, path=of_one_release)
    (step,) = published.read().regressions
    assert (step.benchmark, step.machine) == (f"{NAME}, torch 2.7.0", "vm")


def test_what_became_better_again_or_is_accepted_is_no_regression(published: Published) -> None:
    published.write(*SAME, *SLOWER, 1.0, 1.01, 0.99)
    assert published.read().regressions == ()
    published.write(*SAME, *SLOWER)
    for baseline, count in ((4, 1), (5, 0), (8, 0)):
        assert len(published.read(published.commits[baseline]).regressions) == count
    assert published.read().newest == published.commits[8]


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("inference.InferenceCounts.track_graph_breaks", True),
        ("inference.InferenceCounts.track_peak_memory_eager", True),
        ("inference.InferenceCounts.track_compiled_over_eager", False),
        ("inference.InferenceCounts.track_auto_over_stock", False),
        ("compilation.Compilation.track_cold_compile", False),
        ("training.Training.time_training_step", False),
    ],
)
def test_a_count_needs_no_second_commit(published: Published, name: str, exact: bool) -> None:
    published.write(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, name=name)
    assert len(published.read().regressions) == exact
    published.write(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, name=name)
    assert len(published.read().regressions) == 1


def test_the_limit_and_the_spread_are_the_machines(published: Published) -> None:
    for name in ("track_limit_over_eager", "track_auto_over_stock_spread"):
        published.write(*SAME, *SLOWER, name=f"inference.InferenceCounts.{name}")
        assert published.read().regressions == ()


def test_packages_that_changed_stand_beside_the_commits(published: Published) -> None:
    published.write(*SAME, *SLOWER)
    text = issue_text(published.read())
    assert "What was installed there is not known." in text
    published.installed(4, torch="2.10.0", numpy="2.3.5", gone="1")
    published.installed(5, torch="2.11.0", numpy="2.3.5", new="2")
    text = issue_text(published.read())
    assert "Changed besides: gone 1 → none, new none → 2, torch 2.10.0 → 2.11.0." in text
    published.installed(4, torch="2.11.0", numpy="2.3.5", new="2")
    assert "No installed package changed, and" in issue_text(published.read())


def test_another_kernel_or_processor_stands_beside_the_commits(published: Published) -> None:
    published.write(*SAME, *SLOWER)
    published.installed(4, **{"the kernel": "Linux 6.1", "torch": "2.11.0"})
    published.installed(5, **{"the kernel": "Linux 6.8", "the processor": "new to us", "torch": "2.11.0"})
    assert "Changed besides: the kernel Linux 6.1 → Linux 6.8." in issue_text(published.read())


def test_the_issue_says_how_much_since_when_and_what_to_do(published: Published) -> None:
    published.write(*SAME, *SLOWER)
    history = published.read(published.commits[0])
    assert issue_title(history) == f"Performance: 1 benchmark worse since {published.commits[5][:8]}"
    text = issue_text(history)
    assert f"after {published.commits[0][:8]}, up to which all was accepted" in text
    good, bad = (commit[:8] for commit in published.commits[4:6])
    name = NAME.replace("_", r"\_")
    assert f"| {name} | vm | 1 | 1.2 | 1.20x | {good}..{bad} |" in text
    assert f"nox -s gate -- --base {good} --head {bad} --workloads aloha-inference`" in text
    assert "change 5 of &lt;b&gt;" in text, "a commit message is text"


@pytest.mark.parametrize("machines", [("a", "b"), ("b", "a")])
def test_since_when_is_the_oldest_of_several(published: Published, machines: tuple[str, str]) -> None:
    early, late = machines
    published.write(*SAME, *SLOWER, 1.2, 1.2, machine=early)
    published.write(*SAME, 1.0, 1.01, *SLOWER, machine=late)
    history = published.read()
    assert [step.machine for step in history.regressions] == [late, early], "the newest first"
    good, bad = (commit[:8] for commit in published.commits[4:6])
    assert issue_title(history) == f"Performance: 2 benchmarks worse since {bad}"
    assert f"nox -s gate -- --base {good} --head {bad} " in issue_text(history)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (NAME, " --workloads aloha-inference"),
        (
            "inference.Inference.time_predict_action_chunk('libero', 'fp32', 'cuda', 'eager')",
            " --workloads libero-inference --device cuda",
        ),
        ("rollout.EnsembledTick.time_x('pusht', 'cpu')", " --workloads pusht-tick_ensemble"),
        ("compilation.Compilation.track_cold_compile('aloha inference')", ""),
    ],
)
def test_the_gate_is_told_which_case(name: str, options: str) -> None:
    assert Step(name, "vm", 1, 2, "a", "b", (), None).gate_options == options


def test_many_regressions_do_not_make_an_endless_issue() -> None:
    step = Step("x", "vm", 1, 2, "a" * 40, "b" * 40, ("b change",), None)
    text = issue_text(History("c" * 40, (step,) * 80))
    assert text.count("| x |") == 50
    assert "And 30 more" in text
    assert text.count("### ") == 1, "one range is told once"


def test_the_list_has_what_became_worse_and_better_by_commit(published: Published) -> None:
    published.write(5, 5, 5, 7, 7, 6, name="inference.InferenceCounts.track_graphs")
    published.installed(2, torch="2.10.0")
    published.installed(3, torch="2.11.0")
    worse, better = (published.commits[at][:8] for at in (3, 5))
    name = "inference.InferenceCounts.track_graphs('aloha')"
    assert listed(all_steps(published.html, published.home, published.root)).splitlines() == [
        f"{better} change 5 of <b>, on vm",
        f"  better   0.86x  7 to 6  {name}",
        "",
        f"{worse} change 3 of <b>, on vm",
        "  changed too: torch 2.10.0 to 2.11.0",
        f"  worse    1.40x  5 to 7  {name}",
    ]
    assert listed([]).startswith("no step: ")


def test_nothing_published_is_no_clean_history(published: Published) -> None:
    with pytest.raises(ValueError, match="run nox -s history first"):
        published.read()


@pytest.mark.parametrize("is_open", [False, True])
def test_one_issue_is_opened_and_then_brought_up_to_date(
    published: Published, github: GitHub, is_open: bool
) -> None:
    published.write(*SAME, *SLOWER)
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
    published.write(*SAME, *(SLOWER if accepted else SAME))
    gh = github.with_issues({"number": 3}, label=publish.LABEL)
    publish.update_issue(published.read(), "o/r", accepted=accepted)
    assert [method for method, _, _ in gh.sent] == ["POST", "PATCH"]
    assert gh.sent[-1][2] == {"state": "closed"}
    nothing = github.with_issues()
    publish.update_issue(published.read(), "o/r", accepted=accepted)
    assert nothing.sent == []
