"""The table of runtimes beside each other: what is asked, what is kept, how it reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import benchmarks.pages.__main__ as pages
from benchmarks.markdown import between_markers, markers
from benchmarks.pages import peers, records
from benchmarks.suite.openvino_operators import PARTS
from benchmarks.suite.peers import PEERS

from .conftest import ENVIRONMENT

MS = {
    "stock": 100.0,
    "auto": 50.0,
    "auto_cpu": 80.0,
    "frozen": 64.0,
    "onnxruntime": 51.0,
    "openvino": 55.0,
    "export": 25.0,
}
FIRST = {"cold-0": 8.0, "cold-1": 7.0}


@pytest.fixture
def answered(
    root: Path, launches: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, str]]:
    """Every peer is installed and every launch has its answer; what was asked, with which cache."""
    asked: list[tuple[str, str]] = []

    def answer(request: dict[str, Any], *, inductor_cache: Path) -> dict[str, Any]:
        cases = ["-".join(case.values()) for case in request["cases"]]
        cache, environment = inductor_cache.name, {"environment": ENVIRONMENT}
        known = ("first_call", cache) in asked
        asked.append((request["do"], cache))
        if request["do"] == "first_call":
            return {"cases": {cases[0]: {"seconds": 0.5 if known else FIRST[cache]}}, **environment}
        if request["do"] == "replaced":
            return {"seconds": 0.4, **environment}
        if request["do"] == "alternate":
            assert request["pause"] > 0
            assert request["seconds"] == 3
            times = {case: [MS[case.split("-")[2]] / 1e3] * 7 for case in cases}
            return {"seconds": times, **environment}
        if request["do"] == "openvino_operators":
            assert [case["variant"] for case in request["cases"]] == ["auto", "openvino"]
            of_step = {"takes": 0.01, "parts": dict.fromkeys(PARTS, 0.0025)}
            return {"operators": dict.fromkeys(peers.INSIDE, of_step), **environment}
        return environment

    monkeypatch.setattr(peers, "installed", lambda: PEERS)
    monkeypatch.setattr(peers, "_releases", lambda: {"onnxruntime": "1.32.0", "openvino": "2026.4.1"})
    monkeypatch.setattr(peers, "ROOT", root)
    launches(answer)
    return asked


def test_what_is_measured_is_kept_and_drawn(root: Path, answered: list[tuple[str, str]]) -> None:
    assert (
        pages.main(
            ["peers", "--launches", "2", "--seconds", "3", "--workloads", "aloha", "aloha_3cam", "pusht"]
        )
        == 0
    )
    table = between_markers(root / peers.DOCUMENT, *markers("peers cpu AVX512"))
    assert "onnxruntime 1.32.0, openvino 2026.4.1. Medians over 2 fresh launches of 3 s of steps" in table
    for line in (
        "| inference | `auto` | `auto`, extra `cpu` | `frozen` | ONNX Runtime by hand | OpenVINO by hand "
        "| target of `auto` |",
        "| pusht | **2.00 (2.00 to 2.00)x, 50.0 ms** | 1.25 (1.25 to 1.25)x, 80.0 ms "
        "| 1.56 (1.56 to 1.56)x, 64.0 ms "
        "| 1.96 (1.96 to 1.96)x, 51.0 ms | 1.82 (1.82 to 1.82)x, 55.0 ms | ≥ 2.4x: **not met** |",
        "| inference in bf16 | `auto` | OpenVINO by hand | target of `auto` |",
        "| pusht | **2.00 (2.00 to 2.00)x, 50.0 ms** | 1.82 (1.82 to 1.82)x, 55.0 ms | ≥ 5x: **not met** |",
        "| a tick | stock | `auto` | export |",
        "| aloha | 1.0 ms | **2.00 (2.00 to 2.00)x, 0.5 ms** | 4.00 (4.00 to 4.00)x, 0.2 ms |",
        "| first action of aloha by `auto` | takes |",
        "| nothing kept | 7.50 (7.00 to 8.00) s |",
        "| architecture known | 0.50 (0.50 to 0.50) s |",
        "| weights replaced | 0.40 (0.40 to 0.40) s |",
        "| means in ms | by | takes | convolutions | products | all else in OpenVINO | outside |",
        "| pusht bf16 | by hand, not bound to cores | 10.0 | 2.5 | 2.5 | 2.5 | 2.5 |",
    ):
        assert line in table.splitlines()
    ticks_last = sorted(records.read("peers"), key=lambda each: bool(each["row"] == peers.TICK))
    (turned,) = peers.tables(ticks_last).values()
    assert "| first action of aloha by `auto` | takes |" in turned, "whatever rows were kept before"
    assert [each for each in answered if each[0] == "first_call"] == [
        ("first_call", "cold-0"),
        ("first_call", "cold-1"),
        ("first_call", "cold-0"),
        ("first_call", "cold-0"),
    ]


def test_another_run_replaces_this_machines_rows_and_no_others(
    root: Path, answered: list[tuple[str, str]]
) -> None:
    arguments = ["peers", "--launches", "2", "--seconds", "3", "--workloads"]
    assert pages.main([*arguments, "aloha", "pusht"]) == 0
    elsewhere = [{**each, "about": {**each["about"], "cpu": "AVX2"}} for each in records.read("peers")]
    records.keep("peers", elsewhere)
    with (root / peers.DOCUMENT).open("a") as document:
        document.write("\n".join([*markers("peers cpu AVX2"), ""]))
    assert answered
    assert pages.main([*arguments, "aloha"]) == 0
    assert len(records.read("peers")) == len(elsewhere) + len(elsewhere) - 4
    assert "a tick" in between_markers(root / peers.DOCUMENT, *markers("peers cpu AVX2"))


def test_a_peer_that_is_missing_is_one_line(
    answered: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "installed", lambda: ("onnxruntime",))
    assert pages.main(["peers"]) == 2
    assert "openvino not installed; nox -s peers installs them" in capsys.readouterr().err
    assert answered == []
