"""The README's table: what its figures are made of, and where they go."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import benchmarks.pages.__main__ as pages
from benchmarks.files import LARGEST
from benchmarks.markdown import between_markers, markers, write_between_markers
from benchmarks.pages import ratios, records
from benchmarks.pages.rows import Row, peak_memory, speed_up
from benchmarks.suite import answers
from benchmarks.suite.workloads import Case

from .conftest import ENVIRONMENT

INFERENCE = Case("aloha", "inference", "compiled")


def test_a_ratio_that_misses_its_target_is_said_to() -> None:
    def compiling(**answers: tuple[float, int]) -> tuple[dict[str, Any], dict[str, Any]]:
        def ask(_: str, cases: list[Case], __: str) -> dict[str, Any]:
            seconds, kernels = answers[cases[0].variant]
            return {"cases": {str(cases[0]): {"seconds": seconds, "kernels": kernels}}}

        return ratios.cold_compile(ask, [INFERENCE.as_variant("stock"), INFERENCE], 1)

    less, more = (10.0, 90), (40.0, 600)
    share, kernels = Row("share of a cold compile", INFERENCE, 0.5), Row("kernels", INFERENCE, 1 / 3)
    cold, counts = compiling(stock=more, compiled=less)
    assert share.line(cold).met
    assert "0.25; 10 s against 40 s" in share.line(cold).figure
    assert kernels.line(counts) == (
        "aloha inference: Inductor kernels",
        "90 of stock's 600",
        "≤ 0.33 of stock's",
        True,
    )
    longer, counted = compiling(stock=less, compiled=more)
    assert not share.line(longer).met
    assert not kernels.line(counted).met
    operations = Row("operations", INFERENCE, 275)
    assert operations.line({"ours": 275, "stock": 875}).met
    assert operations.line({"ours": 276, "stock": 875}).met is False


def test_memory_may_not_grow() -> None:
    row, stock = Row("peak memory", INFERENCE, 1), Case("aloha", "inference", "stock")

    def ask(*_: Any, **__: Any) -> dict[str, Any]:
        return {"bytes": {str(stock): 1000 * 2**20, str(INFERENCE): ours}}

    ours = 1000 * 2**20
    assert row.line(peak_memory(ask, [stock, INFERENCE]))[1:] == ("1; 1000 MiB", "≤ 1", True)
    ours += 2**20
    assert row.line(peak_memory(ask, [stock, INFERENCE])).met is False


def test_speed_ups_are_medians_over_launches() -> None:
    launches = [
        {"stock": [2.0, 9.0, 2.0], "eager": [2.0, 2.0, 2.0], "compiled": [1.0, 1.0, 1.0]},
        {"stock": [3.0], "eager": [4.0], "compiled": [1.0]},
        {"stock": [2.2], "eager": [2.0], "compiled": [1.0]},
    ]
    assert records.spread(speed_up(launches, "eager")) == "1.00 (0.75 to 1.10)"
    found = {"times_as_fast": speed_up(launches, "compiled")}
    assert Row("speed-up", INFERENCE, 1.25).line(found) == (
        "aloha inference: compiled, times as fast as stock eager",
        "2.20 (2.00 to 3.00)x",
        "≥ 1.25x",
        True,
    )
    assert Row("speed-up", INFERENCE, 2.25).line(found).met is False
    assert Row("speed-up", INFERENCE).line(found)[2:] == ("", None)


def test_neighbours_in_time_are_compared() -> None:
    seconds = {"stock": [1.0, 2.0, 30.0], "compiled": [0.5, 1.0, 15.0]}
    assert speed_up([seconds], "compiled")["median"] == 2.0
    seconds["compiled"] = [0.5, 4.0, 15.0]  # one disturbed step
    assert speed_up([seconds], "compiled")["median"] == 2.0


def test_a_difference_says_how_it_was_taken() -> None:
    row, found = Row("difference", INFERENCE, 1e-5), {"difference": 1.4e-6, "about": ENVIRONMENT}
    assert row.line(found)[1:] == ("1.4e-06", "≤ 1e-05", True)
    assert "in strict fp32" in row.line(found).what
    assert row.line({"difference": 1.1e-5}).met is False


def test_the_table_goes_between_its_markers_and_nowhere_else(tmp_path: Path) -> None:
    page, places = tmp_path / "README.md", markers("ratios")
    page.write_text(f"before\n{places[0]}\nold\n{places[1]}\nafter\n")
    write_between_markers("new", page, *places)
    assert page.read_text() == f"before\n{places[0]}\nnew\n{places[1]}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(ValueError, match=r"README.md has no place for these figures"):
        write_between_markers("new", page, *places)


@pytest.fixture
def asked(root: Path, launches: Callable[[Any], None]) -> list[str]:  # noqa: ARG001
    """What launches are asked for; they measure nothing. Everything has been measured once."""
    found: list[str] = []

    def answers(request: dict[str, Any], *, inductor_cache: Path) -> dict[str, Any]:
        names = [str(Case(**case)) for case in request["cases"]]
        if request["do"] == "first_call":
            assert inductor_cache not in caches, "each has an empty cache"
            caches.add(inductor_cache)
        found.append(request["do"])
        return {
            "environment": ENVIRONMENT,
            "traces": {name: {"ops": next(calls)} for name in names},
            "seconds": {name: [1.0] for name in names},
            "cases": {name: {"seconds": 2.0, "kernels": 7} for name in names},
            "bytes": dict.fromkeys(names, 2**20),
            "difference": dict.fromkeys(names, 1e-7),
        }

    caches: set[Path] = set()
    calls = itertools.count()
    launches(answers)
    assert pages.main(["ratios", "--launches", "2"]) == 0
    found.clear()
    return found


def test_every_row_is_measured_and_drawn(asked: list[str], root: Path) -> None:
    text = between_markers(root / "README.md", *markers("ratios"))
    lines = ratios.lines(records.read("ratios"))
    assert len({line.what for line in lines}) == len(lines) == 2 + 4 + 3 * len(ratios.STEPS) + 2
    assert all(f"| {line.what} | {line.figure} | {line.target} | " in text for line in lines)
    assert "the subject as of abc. Medians over 2 fresh launches of 40 s" in text
    (root / "README.md").write_text((root / "README.md").read_text().replace(text, "edited"))
    assert pages.main(["ratios", "--launches", "1", "--print"]) == 0
    assert asked.count("first_call") == 4
    assert between_markers(root / "README.md", *markers("ratios")) == "edited"


def test_cold_compiles_are_kept_for_the_same_subject_and_machine_only(
    asked: list[str], root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {(each["row"], each["case"]): each for each in records.read("ratios")}
    assert pages.main(["ratios", "--keep-cold", "--launches", "2"]) == 0
    assert "first_call" not in asked
    after = {(each["row"], each["case"]): each for each in records.read("ratios")}
    assert list(after) == list(before)
    for key, each in after.items():
        assert (each == before[key]) == (key[0] != "operations"), "only they count launches here"
    asked.clear()
    page = (root / "README.md").read_bytes()
    for wrong in (["--launches", "5"], ["--launches", "2"]):
        assert pages.main(["ratios", "--keep-cold", *wrong]) == 2
        assert set(asked) == {"traced"}, "nothing is timed"
        said = "ratios: the recorded cold compiles are another commit's or machine's; leave out --keep-cold"
        assert capsys.readouterr().err.splitlines()[-1] == said
        monkeypatch.setattr(records, "subject", lambda _: "def")
    assert (root / "README.md").read_bytes() == page
    records.keep("ratios", [], lambda record: record["row"] not in ratios.COLD)
    monkeypatch.setattr(records, "subject", lambda _: "abc")
    assert pages.main(["ratios", "--keep-cold", "--launches", "2"]) == 2


def test_a_measurement_replaces_the_whole_table(asked: list[str]) -> None:
    other = [
        {**each, "about": {**each["about"], "cpu": "AVX2"}} for each in records.read("ratios")
    ]  # another machine's would be a second table above no sentence of its own
    records.keep("ratios", other, lambda _: False)
    assert pages.main(["ratios", "--launches", "1"]) == 0
    assert {each["about"]["cpu"] for each in records.read("ratios")} == {"AVX512"}
    assert asked


@pytest.mark.usefixtures("asked")
def test_records_that_upstream_made_are_taken_if_they_are_of_this_subject(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, readme = tmp_path / "made.jsonl", root / "README.md"
    found = [each | {"about": each["about"] | {"torch": "2.99.0"}} for each in records.read("ratios")]

    def write(records: list[dict[str, Any]]) -> None:
        made.write_text("".join(json.dumps(each) + "\n" for each in records))

    write(found)
    assert pages.main(["ratios", "--from", str(made), "--print"]) == 0
    assert "torch 2.99.0" not in readme.read_text()
    assert pages.main(["ratios", "--from", str(made)]) == 0
    assert "torch 2.99.0" in readme.read_text()
    page = readme.read_text()
    other = found[1] | {"about": found[1]["about"] | {"subject": "abc with uncommitted changes"}}
    wrongs: list[list[Any]] = [[found[0], other], [], [{"row": "x"}], [found[0] | {"row": "x"}], [[]]]
    for wrong in wrongs:
        write(wrong)
        assert pages.main(["ratios", "--from", str(made)]) == 2
        assert "holds no ratios of the subject as of abc; measure them again" in capsys.readouterr().err
    assert pages.main(["ratios", "--from", str(tmp_path / "none.jsonl")]) == 2
    assert readme.read_text() == page


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda _: "| a table |\n", "is cut short, or no JSON"),
        (lambda _: "[" * 100_000 + "]" * 100_000 + "\n", "is nested deeper than 32"),
        (lambda found: found + " " * LARGEST, f"is larger than {LARGEST} bytes"),
        (lambda found: found.replace('"AVX512"', '"[AVX512](https://example.org)"'), "holds no ratios"),
        (
            lambda found: re.sub('("row": "kernels".*"stock": )', r'\1"<img>", "x": ', found),
            "holds no ratios",
        ),
        (None, "is a link"),
    ],
)
def test_records_of_another_job_are_read_within_limits_and_hold_no_markdown(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: Callable[[str], str] | None,
    said: str,
) -> None:
    """They are an artifact of the job that runs LeRobot's newest code."""
    made, readme = tmp_path / "made.jsonl", root / "README.md"
    page, found = readme.read_text(), records.path_of("ratios").read_text()
    if content:
        made.write_text(content(found))
        assert made.read_text() != found
    else:
        made.symlink_to(records.path_of("ratios"))
    assert pages.main(["ratios", "--from", str(made)]) == 2
    assert said in capsys.readouterr().err
    assert readme.read_text() == page


def test_variants_take_turns_and_none_always_follows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [Case("tiny", "inference", variant) for variant in ("stock", "eager", "compiled")]
    order: list[str] = []
    now = 0.0

    class Fake:
        def __init__(self, case: Case) -> None:
            self.case = case

    def timed(step: Fake) -> float:
        nonlocal now
        now += 1.0
        order.append(step.case.variant)
        return now

    monkeypatch.setattr(answers, "warmed_up", Fake)
    monkeypatch.setattr(answers, "timed", timed)
    monkeypatch.setattr(answers, "time", SimpleNamespace(monotonic=lambda: now))
    found = answers.alternate(cases, seconds=27.0)["seconds"]
    assert order[:9] == [
        "stock",
        "eager",
        "compiled",
        "eager",
        "compiled",
        "stock",
        "compiled",
        "stock",
        "eager",
    ]
    assert {len(seconds) for seconds in found.values()} == {10}, "until the seconds are over"
    assert len(answers.alternate(cases, seconds=0.0)["seconds"][str(cases[0])]) == answers.LEAST_ROUNDS
