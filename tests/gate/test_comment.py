"""The comment on a pull request: made of a report that may be forged, sent to the right place, once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from benchmarks.gate import comment
from benchmarks.gate.comment import comment_text, main, read_report
from benchmarks.gate.report import as_json, markdown
from benchmarks.repository import ROOT, MeasurementError

from .. import github_api
from ..github_api import HEAD, GitHub, pull, workflow_run
from ..github_api import RUN_URL as URL
from .test_report import RESULT

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """A directory with a true report in it."""
    (tmp_path / "gate-cpu").mkdir()
    (tmp_path / "gate-cpu" / "report.json").write_text(as_json(RESULT), encoding="utf-8")
    return tmp_path


def forge(artifacts: Path, change: Change) -> Path:
    path = artifacts / "gate-cpu" / "report.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_what_the_gate_writes_is_of_the_schema_and_comes_back_the_same(artifacts: Path) -> None:
    schema = json.loads(comment.SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    path = artifacts / "gate-cpu" / "report.json"
    for result in (RESULT, replace(RESULT, findings=(), times=(), untimed=True)):
        path.write_text(as_json(result), encoding="utf-8")
        assert markdown(read_report(path)) == markdown(result)


def test_the_verdict_is_the_comments_first_line(artifacts: Path) -> None:
    text = comment_text(artifacts, "cpu", URL)
    assert text.startswith("**Regression: 1 of 5 cases slower")
    assert URL in text


def test_the_headline_is_not_the_reports(artifacts: Path) -> None:
    forge(artifacts, lambda d: d.update(headline="No regression at all", exit_code=0))
    assert "No regression at all" not in comment_text(artifacts, "cpu", URL)
    assert comment_text(artifacts, "cpu", URL).startswith("**Regression")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(schema=2),
        lambda d: d.pop("times"),
        lambda d: d.update(pull_request=17),
        lambda d: d["about"].update({"<img>": "x"}),
        lambda d: d["findings"].extend([d["findings"][0]] * 300),
        lambda d: d["findings"][0].update(detail="x" * 2000),
        lambda d: d["times"][0].update(name="[click](https://example.org)"),
        lambda d: d["times"][0]["verdict"].update(ratio="1.0"),
        lambda d: d["times"][0]["verdict"].update(kind="splendid"),
        lambda d: d["plan"].update(looks=[8, 4]),
        lambda d: d["times"][0]["verdict"].update(kind="faster", ratio=0),
        lambda d: d["times"][0]["verdict"].update(kind="faster", ratio=0.0),
        lambda d: d["times"][0]["verdict"].update(kind="slower", ratio=None),
        lambda d: d["times"][0].update(name="aloha-inference\n"),
        lambda d: d["findings"][0].update(case="aloha-inference\n"),
        lambda d: d["about"].update({"machine\n": "x"}),
        lambda d: d["accepted"].update({"aloha-inference\n": "x"}),
        lambda d: d["head"].update(commit="b" * 40 + "\n"),
    ],
)
def test_a_report_that_is_not_of_the_schema_is_refused(artifacts: Path, change: Change) -> None:
    path = forge(artifacts, change)
    with pytest.raises(MeasurementError):
        read_report(path)
    text = comment_text(artifacts, "cpu", URL)
    assert text.startswith("**Could not measure**: the report for cpu was not accepted")
    assert "splendid" not in text


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, '{"schema": NaN}', "\x00", "null"])
def test_what_is_no_json_is_refused(artifacts: Path, content: str) -> None:
    (artifacts / "gate-cpu" / "report.json").write_text(content)
    assert comment_text(artifacts, "cpu", URL).startswith("**Could not measure**")


def test_a_file_too_large_is_not_even_read(artifacts: Path) -> None:
    path = artifacts / "gate-cpu" / "report.json"
    path.write_text(path.read_text() + " " * comment.LARGEST)
    with pytest.raises(MeasurementError, match=r"^report\.json is larger than 1000000 bytes$"):
        read_report(path)


def test_a_link_is_not_followed(artifacts: Path, tmp_path: Path) -> None:
    path = artifacts / "gate-cpu" / "report.json"
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(MeasurementError, match=r"^report\.json is a link$"):
        read_report(path)


def test_texts_stay_texts(artifacts: Path) -> None:
    evil = "@everyone <script>x</script> [a](https://example.org) ![b](x.png) #1 `c` $x$ $`y`$ |\n# H\n/close"

    def change(document: dict[str, Any]) -> None:
        document["head"]["subject"] = evil
        document["findings"][0]["detail"] = evil
        document["times"][0]["counters"] = [evil]
        document["accepted"] = {"pusht-training": evil}
        document["about"]["machine"] = evil

    forge(artifacts, change)
    text = comment_text(artifacts, "cpu", "")
    for sign in ("@everyone", "<script", "https://example", "#1", "\n# H", "\n/close", "$x$", "$`"):
        assert sign not in text, sign
    assert not re.search(r"(?<!\\)\]\((?!\))", text), "a link"


def test_a_long_comment_is_cut(artifacts: Path) -> None:
    forge(artifacts, lambda d: d.update(findings=[{**d["findings"][0], "detail": "x" * 900}] * 200))
    text = comment_text(artifacts, "cpu", URL)
    assert len(text) < 65_536
    assert comment.MARKER.format(device="cpu") in text


def test_without_a_report_it_says_so(tmp_path: Path) -> None:
    assert comment_text(tmp_path, "cpu", URL).startswith(
        "**Could not measure**: the gate ended without a report."
    )


def test_the_first_report_is_a_new_comment(artifacts: Path, github: GitHub) -> None:
    forged = github_api.comment(1, comment.MARKER.format(device="cpu"), "somebody")
    github.holds(comments=[forged, github_api.comment(2, None, None)])
    assert main([str(artifacts)]) == 0
    assert github.comments()[:2] == [forged["body"], None]
    (ours,) = github.comments()[2:]
    assert ours.startswith("**Regression")
    assert github.comments(on=8) == [], "the event says whose commit it is, not the report"


def all_is_the_same(report: dict[str, Any]) -> None:
    report["findings"] = []
    for time in report["times"]:
        time["verdict"]["kind"] = "same"


@pytest.mark.parametrize("conclusion", ["success", "failure"])
def test_a_report_that_contradicts_the_check_is_no_verdict(
    artifacts: Path, github: GitHub, conclusion: str
) -> None:
    """A job that ended with 2 may have left a report, and no check is green beside a regression."""
    if conclusion == "failure":
        forge(artifacts, all_is_the_same)
    github.happens(workflow_run(conclusion=conclusion))
    assert main([str(artifacts)]) == 0
    said = f"report for cpu was not accepted (it contradicts the check, which is a {conclusion})"
    assert github.comments()[0].startswith(f"**Could not measure**: the {said}")


@pytest.mark.parametrize("conclusion", ["success", "failure"])
def test_an_undecided_gate_is_green_or_red_as_the_maintainer_chose(
    artifacts: Path, github: GitHub, conclusion: str
) -> None:
    forge(
        artifacts,
        lambda d: d.update(
            findings=[], times=[t for t in d["times"] if t["verdict"]["kind"] == "inconclusive"]
        ),
    )
    github.happens(workflow_run(conclusion=conclusion))
    assert main([str(artifacts)]) == 0
    assert github.comments()[0].startswith("**Inconclusive")


def file_of(name: str, was: str | None = None) -> dict[str, str]:
    """As GitHub lists it among the files of a pull request."""
    moved = {"previous_filename": was, "status": "renamed"} if was else {"status": "modified"}
    return {"filename": name, **moved}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["README.md", "src/benchmarks/x.py", "benchmarks.md"], ""),
        (["README.md", "noxfile.py", "benchmarks/`x`.py"], "it differs from base in 2 files: benchmarks/"),
        ([("src/moved.py", ".github/was.yml")], "it differs from base in 1 file: .github/was.yml."),
        ([f"src/{n}.py" for n in range(3000)], "it may differ from base: GitHub lists only 3000 of"),
    ],
)
def test_the_comment_asks_github_whose_ruler_it_was(
    artifacts: Path, github: GitHub, files: list[Any], said: str
) -> None:
    """A pull request that changes the gate can leave the line about that out, or put another in."""
    for of_the_report in ({"ruler": "is as it always was"}, {}):
        forge(artifacts, lambda d: d.update(about=of_the_report))  # noqa: B023
        github.holds(files=[file_of(*([each] if isinstance(each, str) else each)) for each in files])
        assert main([str(artifacts)]) == 0
        text = github.comments()[0]
        assert text.startswith("**Regression")
        assert "as it always was" not in text
        assert ("**Review what measures first**: " + said in text) is bool(said)


def test_a_later_report_replaces_it(artifacts: Path, github: GitHub) -> None:
    github.holds(comments=[github_api.comment(5, comment_text(artifacts, "cpu", "of an earlier run"))])
    assert main([str(artifacts)]) == 0
    (ours,) = github.comments()
    assert URL in ours


def test_a_report_of_one_device_leaves_the_others_alone(artifacts: Path, github: GitHub) -> None:
    of_cpu = comment_text(artifacts, "cpu", URL)
    github.holds(comments=[github_api.comment(5, of_cpu)])
    (artifacts / "gate-cpu").rename(artifacts / "gate-cuda")
    assert main([str(artifacts), "--device", "cuda"]) == 0
    assert main([str(artifacts), "--device", "cuda"]) == 0
    first, second = github.comments()
    assert first == of_cpu
    assert comment.MARKER.format(device="cuda") in second
    assert second.startswith("**Regression")


def test_a_commit_that_is_no_head_any_more_gets_no_comment(artifacts: Path, github: GitHub) -> None:
    github.holds(pulls=[pull(7, "d" * 40)])
    assert main([str(artifacts)]) == 0
    assert len(github.calls) == 1


def test_a_pull_request_whose_fork_is_deleted_has_its_comment(artifacts: Path, github: GitHub) -> None:
    event = workflow_run()
    event["workflow_run"]["head_repository"] = None
    github.happens(event)
    github.holds(pulls=[pull(8, "c" * 40), pull(7, HEAD, forked=False)])
    assert main([str(artifacts)]) == 0
    assert len(github.comments()) == 1


def test_a_run_by_hand_is_of_the_commit_that_it_names(artifacts: Path, github: GitHub) -> None:
    github.happens({"inputs": {"commit": HEAD}, "repository": github_api.REPOSITORY})
    github.holds(permissions={"pull-requests": "write", "statuses": "write"})
    assert main([str(artifacts), "--device", "cuda", "--status", "failure"]) == 0
    assert github["statuses"] == {HEAD: "failure"}
    assert URL in github.comments()[0]


@pytest.mark.parametrize("commit", ["main", HEAD[:8], HEAD + "\n", f"{HEAD}/../../x", HEAD.upper()])
def test_a_run_by_hand_names_its_commit_in_full(
    artifacts: Path, github: GitHub, commit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    github.happens({"inputs": {"commit": commit}, "repository": github_api.REPOSITORY})
    assert main([str(artifacts), "--device", "cuda", "--status", "success"]) == 2
    assert "write all 40 digits" in capsys.readouterr().err
    assert github.calls == []


def test_a_refusal_of_github_is_one_line(
    artifacts: Path, github: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    github.holds(fails=True)
    assert main([str(artifacts)]) == 2
    assert "HTTP 403" in capsys.readouterr().err


def test_outside_of_github_it_can_be_looked_at(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_EVENT_PATH", raising=False)
    assert main([str(artifacts), "--print"]) == 0
    assert capsys.readouterr().out.startswith("**Regression")
    assert main([str(artifacts)]) == 2
    assert "--print" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_comment_that_cannot_be_shown_is_exit_code_2(artifacts: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gate.comment", str(artifacts), "--print"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "comment: [Errno 28] No space left on device\n")


def test_it_needs_no_numpy_and_no_torch(artifacts: Path) -> None:
    """Fewer packages stand beside a token that may write; .github/locked/comment.txt has the others."""
    absent = ("packaging", "numpy", "scipy", "matplotlib", "torch", "rich", "lerobot")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
    code += f"from benchmarks.gate.comment import main; main([{str(artifacts)!r}, '--print'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("**Regression"), done.stderr
