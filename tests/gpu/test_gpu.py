"""``python -m benchmarks.gpu`` without a GPU: what is left to do, what is recorded, what the page says."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.gpu import gated, page, run, steps, subject, targets, tested
from benchmarks.markdown import markers
from benchmarks.records import append, read
from benchmarks.repository import ROOT, MeasurementError, git
from benchmarks.suite.gpu_steps import _percentiles

ABOUT = {"torch": "2", "lerobot": "0.6.1", "python": "3.12", "threads": 2, "device": "a GPU"}
READY = {"first_call": 5.0, "first_calls": 6.0, "held": 7, "about": ABOUT}
SIDE = {"ms": 2.0, "p95": 2.0, "p99": 2.5, "busy": 1.6, "kernels": 9.0, "peak": 3 << 20}
TIMES = {"stock": {**SIDE, "ms": 8.0}, "auto": SIDE, "speed_up": 4.0}
FIRST, *OTHERS = steps.names("cpu")


class Process:
    """As a fresh process; each request is an entry of ``asked``."""

    asked: list[str]
    fails: str  # the name of the step that has no times

    def __init__(self, name: str) -> None:
        self.name = name

    def send(self, do: str, **_: Any) -> None:
        self.asked.append(f"{do} {self.name}")

    def receive(self, timeout: float) -> dict[str, Any]:  # noqa: ARG002
        return READY

    def ask(self, do: str, *, timeout: float, **_: Any) -> dict[str, Any]:  # noqa: ARG002
        self.asked.append(f"{do} {self.name}")
        if do == "times" and self.name == self.fails:
            raise MeasurementError(f"{self.name} failed: it broke")
        return TIMES if do == "times" else READY


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    Process.asked, Process.fails = [], ""

    @contextmanager
    def process(name: str, *_: Any) -> Iterator[Process]:
        yield Process(name)

    @contextmanager
    def running(names: Sequence[str], *_: Any) -> Iterator[tested.Results]:
        Process.asked.extend(names)
        yield lambda _: ((tested.PART if "/" in n else gated.PART, n, verdict(n)) for n in names)

    def verdict(name: str) -> dict[str, Any]:
        return {"passed": 3} if "/" in name else {"exit_code": 0, "seconds": 9.0}

    monkeypatch.setattr(steps, "_process", process)
    monkeypatch.setattr(tested, "running", running)
    monkeypatch.setattr(gated, "running", running)
    return Process.asked


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., int]:
    def measured(*options: str) -> int:
        given = ["--device", "cpu", "--records", str(tmp_path / "gpu.jsonl"), *options]
        return run.measure(run.parser().parse_args(given), Console(file=io.StringIO()), ROOT)

    return measured


def test_everything_compiles_before_anything_is_timed(
    asked: list[str], measure: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure() == 0
    assert asked[: len(tested.files(ROOT))] == tested.files(ROOT)
    of_steps = [each for each in asked if each.startswith(("ready", "times"))]
    assert of_steps == [
        *(f"ready {name}" for name in (FIRST, *OTHERS)),
        *(f"times {name}" for name in (FIRST, *OTHERS)),
        f"ready {steps.FIRST_CALL}",
    ]
    printed = capsys.readouterr().out
    assert f"| {FIRST} | 8.00 ms | 2.000 ms | 2.500 | 1.600 (1.25x) | 9 | 4.00x | 3 MiB (1.00x) |" in printed
    assert "3 passed" in printed


def test_what_is_recorded_of_this_code_is_not_measured_again(
    asked: list[str], measure: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measure() == 0
    asked.clear()
    assert measure() == 0
    assert asked == []
    assert measure("--anew", "--parts", "steps", "--only", FIRST) == 0
    assert asked == [f"ready {FIRST}", f"times {FIRST}"]
    asked.clear()
    monkeypatch.setattr(run, "digest", lambda _: "other code")
    measure("--parts", "steps")
    assert len(asked) == 2 * len(steps.names("cpu"))
    assert {record["subject"] for record in read(tmp_path / "gpu.jsonl")} >= {"other code"}


def test_a_run_that_was_cut_off_keeps_what_it_had(
    asked: list[str], measure: Callable[..., int], tmp_path: Path
) -> None:
    Process.fails = OTHERS[0]
    with pytest.raises(MeasurementError, match=f"not measured: {OTHERS[0]}; the same command goes on"):
        measure("--parts", "steps")
    names = [(record["part"], record["name"]) for record in read(tmp_path / "gpu.jsonl")]
    assert names == [("steps", FIRST), ("failures", OTHERS[0])]
    asked.clear()
    Process.fails = ""
    assert measure("--parts", "steps") == 0, "what failed has been measured since"
    assert asked == [f"ready {OTHERS[0]}", f"times {OTHERS[0]}"]


def test_a_failure_is_exit_code_1_and_no_device_is_2(
    asked: list[str],  # noqa: ARG001
    measure: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @contextmanager
    def running(names: Sequence[str], *_: Any) -> Iterator[tested.Results]:
        yield lambda _: ((tested.PART, name, {"failed": "test_it"}) for name in names)

    monkeypatch.setattr(tested, "running", running)
    assert measure("--parts", "tests") == 1
    import torch

    if not torch.cuda.is_available():
        assert run.main(["--device", "cuda"]) == 2
        assert "device 'cuda' was asked for" in capsys.readouterr().err


def test_the_tests_are_those_marked_gpu(tmp_path: Path) -> None:
    assert "tests/subject/test_cuda.py" in tested.files(ROOT)
    folder = tmp_path / "tests"
    folder.mkdir()
    # In two parts, or this file would be taken for one of them.
    marked = "import pytest\n\n@pytest.mark." + "gpu\ndef test_it() -> None:\n    assert {}\n"
    (folder / "test_right.py").write_text(marked.format("True"))
    (folder / "test_wrong.py").write_text(marked.format("1 == 2"))
    (folder / "test_other.py").write_text("def test_it() -> None:\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: x\n")
    names = tested.files(tmp_path)
    assert names == ["tests/test_right.py", "tests/test_wrong.py"]
    with tested.running(names, tmp_path, tmp_path / "place") as results:
        assert list(results(0.0)) == [], "no end yet: nothing is recorded, and the next run goes on"
        (_, _, right), (part, _, wrong) = results(60)
    assert part == "tests"
    assert right.pop("seconds") < 60, "of the four minutes that all may take together"
    assert right == {"passed": 1}
    assert "FAILED tests/test_wrong.py::test_it" in wrong["failed"]
    assert "assert 1 == 2" in wrong["failed"], "why, and not only which"


@pytest.mark.parametrize(
    ("code", "said", "right"),
    [(1, "Regression: FLOPs 5 to 6", True), (1, "Regression: graph breaks", False), (0, "FLOPs", False)],
)
def test_a_verdict_is_right_by_exit_code_and_cause(code: int, said: str, right: bool) -> None:
    mutant = gated.EVERY["the encoder run twice"]
    assert ("failed" not in gated._verdict(mutant, code, said)) is right


def test_the_gate_is_tried_on_a_repository_with_the_edit_uncommitted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("old")
    (root / ".gitignore").touch()
    (root / ".git").write_text("of another one")

    class Edit:
        def apply(self, root: Path) -> None:
            (root / "src" / "a.py").write_text("new")

    mutant: Any = type("Edited", (), {"name": "an edit", "edit": Edit()})()
    copy = gated._edited(mutant, root, tmp_path)
    assert git("status", "--porcelain", root=copy) == "M src/a.py"
    assert git("show", "HEAD:src/a.py", root=copy) == "old"
    assert (root / "src" / "a.py").read_text() == "old"


def test_the_digest_is_of_what_is_measured(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    file = tmp_path / "src" / "a.py"
    file.write_text("1")
    before = subject.digest(tmp_path)
    (tmp_path / "docs.md").write_text("1")
    assert subject.digest(tmp_path) == before
    file.write_text("2")
    assert subject.digest(tmp_path) != before


def test_percentiles_are_of_ms() -> None:
    found = _percentiles([value / 1e3 for value in range(1, 101)])
    assert found == {"ms": 50.5, "p95": 96.0, "p99": 100.0}


def test_the_document_holds_what_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    begin, end = markers("gpu")
    document.write_text(f"a\n{begin}\n{end}\nb\n")
    monkeypatch.setattr(page, "DOCUMENT", document)
    page.write(read(run.RECORDED))
    assert document.read_text().split(begin)[1].split(end)[0] in (ROOT / "TORCH_COMPILE_ACT.md").read_text()


def test_a_target_is_met_or_not_or_not_measured() -> None:
    longest = [["void a_kernel_of_attention", 6.0, 400.0]]
    auto = {**SIDE, "ms": 1.0, "busy": 0.95, "p99": 1.2, "longest": longest}
    of_step = {"part": "steps", "name": "aloha inference fp32", "stock": {**SIDE, "ms": 12.0}, "auto": auto}
    first = {"part": "first call", "name": steps.FIRST_CALL, "first_call": 12.5}
    table = targets.table([{**of_step, "speed_up": 12.0}, first])
    rows = [line.split(" | ") for line in table.splitlines() if " | " in line]
    said = {(row[0].strip("| "), row[1]): row[2:] for row in rows}
    assert said["aloha inference fp32", "≥ 11x stock eager"][:2] == [
        "12.00x; 12.63x if nothing but the GPU's work took time",
        "met",
    ]
    assert said["aloha inference fp32", "≤ 1.1x GPU busy"][:2] == ["1.05x", "met"]
    assert said["aloha inference fp32", "≤ 1.1x median at p99"] == [
        "1.20x",
        "**not met**",
        "a\\_kernel\\_of\\_attention… 0.40 |",
    ]
    assert said[f"first call, {steps.FIRST_CALL}", "≤ 12 s"][:2] == ["12.5 s", "**not met**"]
    assert said["aloha training bf16", ""][0] == "not measured"
    assert targets.TARGETS.keys() <= set(steps.names("cuda")), "or it never is"


def test_the_newest_record_counts_and_a_failed_test_is_told(tmp_path: Path) -> None:
    file = tmp_path / "gpu.jsonl"
    for ms in (4.0, 2.0):
        new = {
            **READY,
            **TIMES,
            "auto": {**SIDE, "ms": ms},
            "part": "steps",
            "name": "a",
            "on": "cuda",
            "subject": "c",
        }
        append(file, new)
    append(file, {"part": "tests", "name": "t.py", "on": "cuda", "failed": "x|y"})
    newest = page.newest(read(file))
    text = page.section(newest)
    assert "| a | 8.00 ms | 2.000 ms |" in text
    assert "4.000 ms" not in text
    assert "- Tests, t.py: FAILED: x\\|y" in text
    with pytest.raises(ValueError, match="nothing of a GPU is recorded"):
        page.newest([json.loads('{"on": "cpu", "part": "steps", "name": "a"}')])
