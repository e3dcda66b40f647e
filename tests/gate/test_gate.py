"""The gate from end to end on real git and real processes; only torch is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.gate import caveats, channel
from benchmarks.gate.cases import choose
from benchmarks.gate.channel import Worker
from benchmarks.gate.sides import Side, check_out, resolve
from benchmarks.repository import PACKAGE, ROOT

from .conftest import PYPROJECT, Repository, Run

Gate = Callable[..., Run]


def test_no_change_is_green(repository: Repository, run_gate: Gate) -> None:
    repository.commit()
    done = run_gate()
    assert done.code == 0
    assert done.report["headline"] == "No regression: of 3 cases 3 same"
    assert done.report["distance"] == 1
    assert repository.left_behind() == set()


def test_the_same_subject_is_green_at_once(repository: Repository, run_gate: Gate) -> None:
    repository.git("commit", "-q", "--allow-empty", "-m", "docs only")
    done = run_gate()
    assert done.code == 0
    assert done.markdown.startswith("**No regression: the subject's code is the same on both sides")
    assert done.report["times"] == []
    assert "launch" not in done.said


def test_comments_and_docstrings_are_no_other_code(repository: Repository, run_gate: Gate) -> None:
    module = repository.root / PACKAGE / "__init__.py"
    code = module.read_text()
    module.write_text(f'"""A docstring."""\n# A comment.\n{code}\n\ndef name(): "x"\n')
    assert run_gate("--base", "HEAD").report["same_subject"] is False, "a function more"
    module.write_text(f'"""A docstring."""\n# A comment.\n\n{code}')
    done = run_gate("--base", "HEAD")
    assert (done.code, done.report["same_subject"], done.report["times"]) == (0, True, [])
    (module.parent / "py.typed").write_text("partial\n")
    assert run_gate("--base", "HEAD").report["same_subject"] is False, "what is no Python counts as it is"


def test_times_that_are_not_asked_for_are_not_vouched_for(repository: Repository, run_gate: Gate) -> None:
    repository.commit(seconds=9.9)
    done = run_gate("--no-times")
    assert (done.code, done.report["times"], done.report["untimed"]) == (0, [], True)
    assert done.markdown.startswith("**No regression in results and counters; times were not measured**")
    assert "launches" not in done.report["about"]
    counted = "of aloha-inference, tiny-training, tiny-inference"
    assert run_gate("--no-times", named=False).report["about"]["results and counters"] == counted
    repository.commit(counts={"ops": 271})
    assert run_gate("--base", "main", "--no-times").code == 1


TICK = "pusht-tick_ensemble"


def test_auto_s_tick_is_timed_where_an_engine_runs_it_on_both_sides(
    repository: Repository, run_gate: Gate
) -> None:
    repository.commit(seconds=0.12)
    done = run_gate("--workloads", TICK)
    assert done.code == 1
    assert [(time["name"], time["verdict"]["kind"]) for time in done.report["times"]] == [
        (f"{TICK}-auto-fp32-cpu", "slower")
    ]
    assert f"counts {TICK}" not in done.asked, "the default mode is not asked about"
    assert "auto" not in done.report["about"]
    repository.commit(auto={"auto_by_torch": 1})
    repository.commit(seconds=0.2, auto={"auto_by_torch": 1})
    done = run_gate("--base", "HEAD^", "--workloads", TICK)
    assert (done.code, done.report["times"]) == (3, [])
    assert done.markdown.startswith("**Inconclusive: auto was not timed**")
    assert "engine on both sides; install the extra cpu" in done.report["about"]["auto"]
    assert "**`auto` was not timed**: that needs an engine" in done.markdown
    assert run_gate("--base", "HEAD^", "--workloads", TICK, "--undecided", "pass").code == 0
    done = run_gate("--base", "HEAD^", "--workloads", TICK, "pusht-training")
    assert done.report["headline"].startswith("Regression: 2 of 3 cases slower")
    repository.commit(seconds=0.2, auto={"auto_by_torch": 1})
    done = run_gate("--base", "HEAD^", "--workloads", TICK, "pusht-training")
    assert (done.code, done.report["headline"]) == (
        3,
        "Inconclusive: auto was not timed; of 3 cases 3 same",
    )


ANOTHER_TORCH = PYPROJECT.replace('"torch"', '"torch>=2"')
AN_ENGINE = PYPROJECT + '[project.optional-dependencies]\ncpu = ["onnxruntime"]\nother = ["rich"]\n'


@pytest.mark.parametrize("declared", [ANOTHER_TORCH, AN_ENGINE])
def test_other_dependencies_are_another_subject(declared: str, repository: Repository) -> None:
    (repository.root / "pyproject.toml").write_text(declared)
    repository.git("commit", "-qam", "head")
    base, head = resolve("HEAD^", "HEAD", repository.root)
    sides = [check_out(source, repository.root / source.side, repository.root) for source in (base, head)]
    assert sides[0].blobs == sides[1].blobs
    assert not sides[0].same_as(sides[1])
    assert "rich" not in sides[1].dependencies


def test_a_slower_commit_is_red_and_the_cause_stands_beside_it(
    repository: Repository, run_gate: Gate
) -> None:
    repository.commit(seconds=0.11, counts={"kernels": 99})
    done = run_gate()
    assert done.code == 1
    assert done.markdown.startswith("**Regression: 2 of 3 cases slower")
    assert "Inductor kernels 90 → 99" in done.markdown
    compiled, eager = (
        next(t for t in done.report["times"] if v in t["name"]) for v in ("-compiled-", "-eager-")
    )
    assert compiled["counters"] == ["Inductor kernels 90 → 99"]
    assert eager["counters"] == [], "kernels do not explain an eager step"
    # A change that no counter explains gets one more batch of launches before it is called.
    assert eager["verdict"]["launches"] > done.report["plan"]["looks"][0]


def test_a_faster_commit_is_green(repository: Repository, run_gate: Gate) -> None:
    repository.commit(seconds=0.09)
    done = run_gate()
    assert (done.code, done.report["headline"]) == (0, "No regression: of 3 cases 2 faster, 1 same")


def test_a_regression_that_is_meant_is_accepted_with_its_reason(
    repository: Repository, run_gate: Gate
) -> None:
    trailers = "Perf-Accept: inférence no case\nPerf-Accept: pusht-inference dropout is needed | <here>"
    message = f"slower\n\n{trailers}\n"
    repository.commit(message, seconds=0.11, counts={"ops": 300})
    done = run_gate()
    assert done.code == 0
    assert done.report["headline"] == "No regression: of 3 cases 1 same, 2 slower and accepted"
    assert r"accepted: dropout is needed \| &lt;here&gt;" in done.markdown
    assert set(done.report["accepted"]) == {"pusht-inference"}, "no name that the schema does not know"


def test_a_graph_break_or_a_wrong_result_cannot_be_accepted(repository: Repository, run_gate: Gate) -> None:
    repository.commit("x\n\nPerf-Accept: pusht-inference on purpose\n", eager_actions=[9.0, 9.0])
    assert run_gate().code == 1


def test_too_noisy_ends_undecided(repository: Repository, run_gate: Gate) -> None:
    repository.commit(noise=2.0)
    done = run_gate()
    assert done.code == 3
    assert done.report["headline"].startswith("Inconclusive: 2 of 3 cases undecided")
    steps = [t for t in done.report["times"] if "-compile-" not in t["name"]]
    assert all(t["verdict"]["launches"] == done.report["plan"]["looks"][-1] for t in steps)
    # One launch decides nothing: of several, chance could find one slower.
    assert run_gate("--undecided", "pass", "--minutes", "0.0001").code == 0


def test_a_slower_compile_is_red(repository: Repository, run_gate: Gate) -> None:
    repository.commit(compile=6.5)
    done = run_gate()
    assert done.code == 1
    assert "1 of 3 cases slower, most pusht-inference-compile-fp32-cpu" in done.report["headline"]


def test_the_budget_ends_a_run(repository: Repository, run_gate: Gate) -> None:
    repository.commit(noise=2.0)
    done = run_gate("--minutes", "0.0001")
    assert done.code == 3
    assert {t["verdict"]["launches"] for t in done.report["times"]} == {1}


def test_uncommitted_changes_are_head(repository: Repository, run_gate: Gate) -> None:
    repository.commit()
    repository.write(counts={"ops": 999})
    done = run_gate()
    assert done.code == 1
    assert done.report["head"]["name"].endswith("and uncommitted changes")


def test_base_may_be_a_tag_and_the_report_says_how_far(repository: Repository, run_gate: Gate) -> None:
    repository.git("tag", "v1.0")
    for _ in range(3):
        repository.commit()
    done = run_gate("--base", "v1.0")
    assert done.code == 0
    assert "(v1.0, 3 commits back)" in done.markdown


def test_a_push_is_compared_with_what_was_before_it_all_of_it(repository: Repository, run_gate: Gate) -> None:
    """A workflow on main gives the event's ``before``; the parent would have the slower code already."""
    repository.git("checkout", "-q", "main")
    before = repository.git("rev-parse", "HEAD")
    for _ in range(3):
        repository.commit(counts={"ops": 271})
    done = run_gate("--base", before, "--no-times")
    assert (done.code, done.report["distance"], done.report["base"]["commit"]) == (1, 3, before)
    assert run_gate("--no-times").code == 0, "without it main is compared with its last commit alone"


def test_another_ruler_is_said(repository: Repository, run_gate: Gate) -> None:
    files = [repository.root / name for name in ("noxfile.py", ".github/gate.yml", "benchmarks/gone.py")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("1")
    (repository.root / "README.md").write_text("1")
    repository.commit()
    base = repository.git("rev-parse", "HEAD")
    (repository.root / "README.md").write_text("2")
    repository.commit()
    assert "ruler" not in run_gate("--base", base, "--no-times").report["about"]
    files[0].write_text("2")
    files[2].unlink()
    (repository.root / "pyproject.toml").write_text(PYPROJECT + 'readme = "README.md"\n')
    repository.commit()
    files[1].write_text("2")
    (repository.root / "benchmarks" / "new.py").write_text("")
    done = run_gate("--base", base, "--no-times")
    said = "in 5 files: .github/gate.yml, benchmarks/gone.py, benchmarks/new.py and 2 more"
    assert done.report["about"]["ruler"] == f"differs from base {said}"
    assert f"the ruler differs from base {said}" in done.said
    assert done.markdown.splitlines()[2].startswith("**Review what measures first**")
    (repository.root / PACKAGE / "__init__.py").write_text("")
    repository.git("checkout", "-q", base, "--", PACKAGE)
    assert "ruler" in run_gate("--base", base).report["about"], "where nothing is run, too"


def test_packages_that_differ_between_the_sides_are_named_first(
    repository: Repository, run_gate: Gate
) -> None:
    repository.commit(counts={"ops": 271}, packages={"onnxruntime": "1.24.0", "onnx_ir": "0.1"})
    done = run_gate("--no-times")
    assert done.code == 1
    assert done.markdown.splitlines()[2].startswith(
        r"**The sides' packages differ**: onnx\_ir none → 0.1, onnxruntime 1.23.2 → 1.24.0. "
    )
    assert done.report["about"]["head's environment"].endswith("onnxruntime 1.24.0")
    repository.commit(packages={"onnxruntime": "1.24.0", "onnx_ir": "0.1"})
    assert "packages" not in run_gate("--base", "HEAD^", "--no-times").report["about"]
    few = {f"a{number}": "1" for number in range(20)}
    assert caveats.packages_apart({}, few).endswith("a15 none → 1 and 12 more")


def test_a_file_that_no_case_runs_is_named_first(repository: Repository, run_gate: Gate) -> None:
    assert {file for files in caveats.UNSEEN.values() for file in files} < {
        path.name for path in (ROOT / PACKAGE).iterdir()
    }
    for name in ("twin.py", "export.py", "capture.py", "layers.py"):
        (repository.root / PACKAGE / name).write_text("1")
    done = run_gate("--no-times")
    assert done.code == 0
    assert done.markdown.splitlines()[2] == (
        "**No case runs** capture.py and twin.py: run nox -s gpu; export.py: run nox -s tests."
    )
    assert "no case runs capture.py" in done.said
    repository.git("add", "-A")
    repository.commit()
    repository.commit()
    assert "No case runs" not in run_gate("--base", "HEAD^", "--no-times").markdown
    on_cuda = choose(["pusht-tick_ensemble"], "cuda")
    assert caveats.unseen({"capture.py": "a"}, {"capture.py": "b"}, on_cuda) == ""


def test_what_computes_at_once_does_not_spin(
    repository: Repository, run_gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training step at once takes eight times as long where it does."""
    started: list[tuple[str, str]] = []

    class Spy(Worker):
        def __init__(self, side: Side, *args: Any, **kwargs: Any) -> None:
            super().__init__(side, *args, **kwargs)
            started.append((side.source.side, kwargs["environment"].get("OMP_WAIT_POLICY", "")))

    monkeypatch.setattr(channel, "Worker", Spy)
    repository.commit()
    assert run_gate().code == 0
    assert sorted(started[:2]) == [("base", "passive"), ("head", "passive")]
    started.clear()
    repository.commit(counts={"kernels": 91})  # so that only head is asked, by two workers of it
    assert run_gate("--base", "HEAD^").code == 1
    assert sorted(started[:3]) == [("base", "passive"), ("head", "passive"), ("head", "passive")]
