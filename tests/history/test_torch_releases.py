"""asv's configuration for one torch release; asv itself is not run, which would install torch twice."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.history import asv_command, installed, measure, result_files, torch_releases
from benchmarks.repository import MeasurementError
from benchmarks.suite.asv_cases import QUICK

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("text", ["", "2.7", "newest", "2.7.0,", "2.7.0 2.8.0", "2.7.0;rm"])
def test_what_names_no_release_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"write 2\.7\.0,2\.11\.0"):
        torch_releases.releases(text)


def test_releases_are_taken_in_order() -> None:
    assert torch_releases.releases("2.7.0,2.11.0") == ["2.7.0", "2.11.0"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "asv.conf.json").write_text((ROOT / "asv.conf.json").read_text())
    return tmp_path


def test_each_release_is_installed_apart_and_by_name(root: Path) -> None:
    base = json.loads((root / "asv.conf.json").read_text())
    paths = [torch_releases.configuration(release, root, root / "run") for release in ("2.7.0", "2.11.0")]
    old, new = (json.loads(path.read_text()) for path in paths)
    assert old["env_dir"] != new["env_dir"]
    assert old["matrix"] == {**base["matrix"], "env": {"TORCH": ["2.7.0"]}}
    for command, usual in zip(old["install_command"], base["install_command"], strict=True):
        assert command == f"{usual} torch==2.7.0"
    assert old["results_dir"] == new["results_dir"] == str(root / ".asv" / "results")
    for key in ("repo", "benchmark_dir", "html_dir"):
        assert Path(old[key]).is_absolute(), "asv goes by where its configuration lies"


def environment(root: Path, release: str, monkeypatch: pytest.MonkeyPatch, torch: str) -> None:
    python = torch_releases.environments(release, root) / "abc" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setattr(installed, "packages", lambda _: {"torch": torch})


def test_another_torch_than_asked_for_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(root, "2.7.0", monkeypatch, "2.7.0+cpu")
    torch_releases.assert_installed("2.7.0", root)
    monkeypatch.setattr(installed, "packages", lambda _: {"torch": "2.8.0"})
    with pytest.raises(MeasurementError, match=r"torch 2\.7\.0 was asked for, and 2\.8\.0 was measured"):
        torch_releases.assert_installed("2.7.0", root)
    with pytest.raises(MeasurementError, match="and none was measured"):
        torch_releases.assert_installed("2.9.0", root)


def test_a_commit_of_one_torch_release_only_is_not_measured_yet(tmp_path: Path) -> None:
    place = tmp_path / result_files.RESULTS
    (place / "vm").mkdir(parents=True)
    (place / "benchmarks.json").write_text('{"version": 2, "time_x": {}}')
    columns = ["result", "params", "started_at"]
    found: dict[str, Any] = {
        "commit_hash": "12345678",
        "date": 0,
        "result_columns": columns,
        "results": {"time_x": [[1.0]]},
        "env_vars": {"TORCH": "2.7.0"},
    }
    file = place / "vm" / "12345678-env.json"
    file.write_text(json.dumps(found))
    assert not result_files.is_measured("12345678", "vm", tmp_path)
    file.write_text(json.dumps({**found, "env_vars": {}}))
    assert result_files.is_measured("12345678", "vm", tmp_path)


def test_missing_and_torch_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        measure.main(["--missing", "--torch", "2.7.0"])
    assert ended.value.code == 2
    assert "leave out one of --torch and --missing" in capsys.readouterr().err


def test_asv_runs_once_for_each_release_and_publishes_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[list[str]] = []

    def lines(args: Any, _root: Path, environment: Any = None) -> Any:
        calls.append(list(args))
        if args[0] == "run":
            assert QUICK in environment, "so the suite knows it too"
        yield from ()

    monkeypatch.setattr(asv_command, "lines", lines)
    monkeypatch.setattr(
        measure, "commits_to_measure", lambda commits, _: ["a" * 40] if commits == "HEAD^!" else []
    )
    monkeypatch.setattr(measure, "git", lambda *_, **__: "")
    asserted: list[str] = []
    monkeypatch.setattr(torch_releases, "assert_installed", lambda release, _: asserted.append(release))
    (root / ".asv" / "html").mkdir(parents=True)
    monkeypatch.setattr(measure, "platform", SimpleNamespace(node=lambda: "vm"))
    asked = ["--torch", "2.7.0,2.11.0", "--quick", "--bench", "time_x", "HEAD^!"]
    assert measure.main(asked, root=root) == 0
    address = (root / ".asv" / "html" / "overview.html").as_uri()
    assert f"published: {address}\n" in capsys.readouterr().out, "an address is on one line, however long"
    assert [call[0] for call in calls] == ["machine", "run", "run", "publish"]
    assert asserted == ["2.7.0", "2.11.0"]
    assert all("--bench=time_x" in call for call in calls[1:3])
    assert [Path(call[-1]).name for call in calls[1:3]] == ["torch-2.7.0.json", "torch-2.11.0.json"]
