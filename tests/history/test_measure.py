"""Which commits are measured, and what is said when none can be; git is real, asv is not run."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Task, TaskID
from rich.text import Text

from benchmarks.history import asv_command, installed, measure
from benchmarks.history.measure import PERCENT, SUBJECT, commits_to_measure, share_of, told_apart
from benchmarks.repository import MeasurementError, git


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, list[str]]:
    """Four commits on main; the subject comes with the second."""
    git("init", "-q", "-b", "main", root=tmp_path)
    commits = []
    for number in range(4):
        if number == 1:
            (tmp_path / SUBJECT).parent.mkdir(parents=True)
            (tmp_path / SUBJECT).touch()
        (tmp_path / "number").write_text(str(number))
        git("add", "-A", root=tmp_path)
        git("commit", "-q", "-m", str(number), root=tmp_path)
        commits.append(git("rev-parse", "HEAD", root=tmp_path))
    return tmp_path, commits


def test_default_is_head_and_its_parent(repository: tuple[Path, list[str]]) -> None:
    root, commits = repository
    assert commits_to_measure(None, root) == commits[2:]


def test_a_range_is_oldest_first_and_leaves_out_commits_without_the_subject(
    repository: tuple[Path, list[str]],
) -> None:
    root, commits = repository
    assert commits_to_measure(f"{commits[0]}..HEAD", root) == commits[1:]
    git("checkout", "-q", "-b", "before", commits[0], root=root)
    with pytest.raises(MeasurementError, match="none of the 1 commits asked for has src/"):
        commits_to_measure(None, root)


def test_a_number_is_that_many_of_the_newest(repository: tuple[Path, list[str]]) -> None:
    root, commits = repository
    assert commits_to_measure("3", root) == commits[1:]
    assert commits_to_measure("100", root) == commits[1:], "there are no more"


def test_commits_with_one_subject_are_measured_once(repository: tuple[Path, list[str]]) -> None:
    root, (_, first, second, third) = repository
    assert told_apart([first, second, third], root) == ([first], {second: first, third: first})
    for name, text in ((SUBJECT, "1"), ("pyproject.toml", "2")):
        (root / name).write_text(text)
        git("add", "-A", root=root)
        git("commit", "-q", "-m", name, root=root)
    commits = commits_to_measure("100", root)
    assert told_apart(commits, root)[0] == [first, *commits[3:]], "other code, and other requirements"


@pytest.mark.parametrize("repeat", [False, True])
def test_a_commit_that_is_not_measured_again_is_named(
    repository: tuple[Path, list[str]],
    repeat: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, (*_, parent, head) = repository
    asked: list[list[str]] = []

    def lines(args: list[str], _root: Path, _environment: object = None) -> Iterator[str]:
        listed = [each.partition(":")[2] for each in args if each.startswith("HASHFILE:")]
        asked.extend(Path(each).read_text().split() for each in listed)
        yield from ()

    monkeypatch.setattr(asv_command, "lines", lines)
    (root / "asv.conf.json").write_text('{"benchmark_dir": "", "env_dir": ""}')
    (root / ".asv" / "html").mkdir(parents=True)
    assert measure.main(["--repeat"] if repeat else [], root=root) == 0
    assert asked == [[parent, head] if repeat else [parent]]
    said = f"{head[:8]} has the code of {parent[:8]}"
    assert (said in capsys.readouterr().out) != repeat
    page = (root / ".asv" / "html" / "overview.html").read_text()
    assert (f"<code>{head[:8]}</code> has the code of <code>{parent[:8]}</code>" in page) != repeat


def test_what_was_measured_is_drawn_although_a_benchmark_failed(
    repository: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, (*_, head) = repository
    done: list[str] = []

    def lines(args: list[str], *_: object) -> Iterator[str]:
        done.append(args[0])
        yield from ()
        if args[0] == "run":
            raise MeasurementError("asv run ended with exit code 2: time_x timed out")

    monkeypatch.setattr(asv_command, "lines", lines)
    monkeypatch.setattr(installed, "record", lambda commits, *_: done.extend(commits))
    (root / "asv.conf.json").write_text('{"benchmark_dir": "", "env_dir": ""}')
    (root / ".asv" / "html").mkdir(parents=True)
    assert measure.main([head], root=root) == 2
    assert done == ["machine", "run", head, "publish"]
    seen = capsys.readouterr()
    assert "published: file:" in seen.out
    assert "time_x timed out; what timed out may have shared the machine" in seen.err


def test_quick_leaves_other_cases_figures_as_they_are() -> None:
    """asv takes these as expressions over a benchmark's name with its parameters."""
    names = [
        f"{owner}.track_graphs('{workload}', 'cpu')"
        for owner in ("inference.InferenceCounts", "training.TrainingCounts", "inference.Inference")
        for workload in ("aloha", "aloha_3cam", "pusht", "libero")
    ]
    chosen = [name for name in names if any(re.search(each, name) for each in measure.quick_benchmarks())]
    assert chosen == [
        "inference.InferenceCounts.track_graphs('aloha', 'cpu')",
        "inference.InferenceCounts.track_graphs('pusht', 'cpu')",
        "training.TrainingCounts.track_graphs('pusht', 'cpu')",
    ]


def test_shares_are_disjoint_and_make_the_whole() -> None:
    commits = list("abcdefg")
    shares = [share_of(commits, share, 3) for share in (1, 2, 3)]
    assert shares == [list("adg"), list("be"), list("cf")]
    assert share_of(commits[:2], 3, 3) == []


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_share_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        measure.main([f"--shard={text}"])
    assert ended.value.code == 2
    assert "write 2/5 for the second of five" in capsys.readouterr().err


def test_one_name_is_one_commit(repository: tuple[Path, list[str]]) -> None:
    root, commits = repository
    assert commits_to_measure("HEAD~1", root) == [commits[2]]


@pytest.mark.parametrize(
    ("commit_range", "message"),
    [("nowhere", "bad revision.*git log"), ("HEAD..HEAD", r"no commit in HEAD\.\.HEAD")],
)
def test_bad_ranges_are_one_line_and_exit_code_2(
    repository: tuple[Path, list[str]],
    commit_range: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, _ = repository
    with pytest.raises(MeasurementError, match=message):
        commits_to_measure(commit_range, root)

    assert measure.main([commit_range], root=root) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_failure_shows_its_reason_and_a_skipped_case_nothing() -> None:
    printed = [
        "[50.00%] ··· time_x    1/3 failed",
        "[50.00%] ···· For parameters: 'aloha', 'cuda'",
        "              asv: skipped: NotImplementedError('no cuda device')",
        "              For parameters: 'aloha', 'cpu'",
        "              asv: benchmark timed out (timeout 900s)",
        "              For parameters: 'pusht', 'cpu'",
    ]
    assert list(measure.without_skipped(printed)) == [printed[0], *printed[3:]]


@pytest.mark.parametrize(
    ("completed", "said"),
    [
        (0.0, ""),
        (9.9, ""),  # a fifth of 50: the first benchmark alone says nothing of the others
        (12.5, "about 9 min left"),
        (25.0, "about 3 min left"),
        (45.0, "less than a minute left"),
        (50.0, ""),
    ],
)
def test_how_long_is_left_goes_by_what_was_done(completed: float, said: str) -> None:
    task = Task(TaskID(0), "2 commits", total=50.0, completed=completed, _get_time=lambda: 180.0)
    task.start_time = 0.0
    assert measure.Left().render(task).plain == said


def test_the_line_says_how_long_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = ["[25.00%] ... inference", "[50.00%] ... training", "an hour on"]
    monkeypatch.setattr(asv_command, "lines", lambda *_: (line for line in printed))
    shown: list[float] = []

    def render(_: measure.Left, task: Task) -> Text:
        shown.append(task.percentage)
        return Text("so long")

    monkeypatch.setattr(measure.Left, "render", render)
    console = Console(file=io.StringIO(), force_terminal=True)
    measure.measure(["c" * 40], ["--quick"], console, tmp_path, tmp_path)
    assert shown[-1] == 100
    assert "so long" in console.file.getvalue()  # type: ignore[attr-defined]


def test_percent_is_read_from_asv_lines() -> None:
    found = PERCENT.match("[12.50%] ··· inference.Inference.time_predict_action_chunk   ok")
    assert found
    assert found[1] == "12.50"


def test_a_failing_asv_is_an_error_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "asv.py"
    fake.write_text(
        "print('[50.00%] ··· time_x   failed')\n"
        "for n in range(40): print('track', n, 'ok')\n"  # the last lines name no benchmark that failed
        "raise SystemExit(2)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MeasurementError, match=r"asv run ended with exit code 2: .*time_x   failed"):
        asv_command.run("run", root=tmp_path)


def test_what_is_no_text_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark's error may hold a file name, and uv's list a version, of any bytes."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = "import sys; sys.stdout.buffer.write({!r})"
    (tmp_path / "asv.py").write_text(said.format(b"caf\xe9"))
    assert asv_command.run("run", root=tmp_path) == ["caf\ufffd"]
    (tmp_path / "uv.py").write_text(said.format(b'[{"name": "x", "version": "\xe9"}]'))
    assert installed.packages(Path("python")) == {"x": "\ufffd"}


def test_what_is_recorded_is_of_the_environment_used_last_and_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, installed_at in (("stale", 1), ("used", 2), ("older", 0)):
        place = tmp_path / "env" / name
        (place / "bin").mkdir(parents=True)
        (place / "bin" / "python").touch()
        packages = place / "lib" / "python3.11" / "site-packages"
        packages.mkdir(parents=True)
        os.utime(packages, (installed_at, installed_at))
    monkeypatch.setattr(installed, "packages", lambda python: {"torch": python.parents[1].name})
    installed.record(["a" * 40], "vm", tmp_path)
    found = installed.recorded("a" * 40, "vm", tmp_path)
    assert found["torch"] == "used"
    assert found[installed.KERNEL].startswith("Linux ")
    assert found[installed.PROCESSOR]


def test_the_suite_is_well_formed_for_asv(tmp_path: Path) -> None:
    """``asv check`` imports every benchmark and compares its arguments with its parameters."""
    pytest.importorskip("asv")
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "asv", "check", "-E", f"existing:{sys.executable}"],
        cwd=root,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
