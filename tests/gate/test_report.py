"""The report of a known result: golden Markdown, JSON that anything can read, an SVG for both pages."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.gate import caveats
from benchmarks.gate.comparison import Finding
from benchmarks.gate.report import COLOURS, as_json, as_svg, markdown, write
from benchmarks.gate.result import CaseTime, Result
from benchmarks.gate.verdict import FASTER, INCONCLUSIVE, SAME, SLOWER, Plan, Verdict
from benchmarks.markdown import cell
from benchmarks.plots import NEUTRAL

GOLDEN = Path(__file__).with_name("golden.md")


def time_of(name: str, kind: str, ratio: float, **fields: object) -> CaseTime:
    verdict = Verdict(kind, ratio, ratio * 0.99, ratio * 1.01, 0.001, 8, 0.015, 0.0001)
    return CaseTime(name, verdict, base_seconds=0.25, log_ratios=(math.log(ratio),) * 8, **fields)  # type: ignore[arg-type]


RESULT = Result(
    base={"name": "aaaaaaaaaa", "ref": "v1.0", "described": "v1.0", "subject": "Release", "commit": "a" * 40},
    head={
        "name": "bbbbbbbbbb and uncommitted changes",
        "ref": "working tree",
        "described": "v1.0-3-gbbbbbbb",
        "subject": "Tokens | <b>faster</b> @everyone",
        "commit": "b" * 40,
    },
    distance=3,
    plan=Plan(),
    findings=[
        Finding("aloha-inference", "Inductor kernels", 91, 95, True),
        Finding("aloha-inference", "FLOPs", 34_900_000_000, 34_800_000_000, False),
        Finding("pusht-training", "ops dispatched in eager", 500, 600, True),
    ],
    times=[
        time_of("pusht-inference-eager-fp32-cpu", SAME, 1.001),
        time_of(
            "aloha-inference-compiled-fp32-cpu",
            SLOWER,
            1.06,
            counters=("Inductor kernels 91 → 95",),
            grown=("aten::mm 12.1 → 24.3 ms (61 → 122 calls)", "aten::sort 0 → 1.2 ms (0 → 1 calls)"),
        ),
        time_of("aloha-inference-eager-fp32-cpu", FASTER, 0.9),
        time_of(
            "pusht-training-eager-fp32-cpu", SLOWER, 1.2, counters=("ops dispatched in eager 500 → 600",)
        ),
        time_of("pusht-inference-compiled-fp32-cpu", INCONCLUSIVE, 1.02, unconfirmed=SLOWER),
    ],
    accepted={"pusht-training": "Dropout is back."},
    about={"machine": "2 cores, AVX2, 2 threads", "seeds": "weights and batch 0, order 0"},
)


def test_the_markdown_is_golden() -> None:
    """To change it on purpose: write ``markdown(RESULT)`` into golden.md and read the difference."""
    assert markdown(RESULT) == GOLDEN.read_text(encoding="utf-8")


def test_another_ruler_is_named_before_anything_else() -> None:
    said = caveats.in_words(["benchmarks/gate/`run`.py", "benchmarks/\udce9.py", "c" * 100, "d", "e"])
    text = markdown(replace(RESULT, about={"ruler": said}))
    headline, _, second, _, sides = text.splitlines()[:5]
    assert headline == markdown(RESULT).splitlines()[0]
    assert second.startswith("**Review what measures first**: it differs from base in 5 files: benchmarks/")
    assert r"\`run\`.py, benchmarks/?.py" in second
    assert f"{'c' * 80} and 2 more. Whoever" in second
    assert sides == markdown(RESULT).splitlines()[2]


def test_a_red_report_of_several_commits_says_how_to_find_the_one() -> None:
    committed = replace(RESULT, head={**RESULT.head, "name": "bbbbbbbbbb"})
    command = "`nox -s bisect -- aaaaaaaaaa..bbbbbbbbbb --case {}`"
    assert f"Which commit it was: {command.format('aloha-inference-compiled-fp32-cpu')}." in markdown(
        committed
    )
    of_counters = markdown(replace(committed, times=[]))
    assert command.format("aloha-inference") in of_counters
    on_cuda = replace(committed, times=[], about={"flags": ""})
    assert "--case aloha-inference --device cuda`" in markdown(on_cuda)
    for other in (RESULT, replace(committed, distance=1), replace(committed, findings=[], times=[])):
        assert "nox -s bisect" not in markdown(other)


def test_text_is_stored_as_the_schema_takes_it() -> None:
    long = Finding("a-b", "graph breaks", 0, 1, True, "line\none " + "x" * 2000)
    (found,) = json.loads(as_json(replace(RESULT, findings=[long])))["findings"]
    assert found["detail"] == ("line one " + "x" * 2000)[:1000]


def test_the_verdict_is_the_first_line() -> None:
    assert markdown(RESULT).splitlines()[0] == (
        "**Regression: 1 of 5 cases slower, most aloha-inference-compiled-fp32-cpu (1.06x slower); "
        "worse: Inductor kernels of aloha-inference**"
    )


@pytest.mark.parametrize(
    ("kinds", "code", "headline"),
    [
        ([SAME, SAME], 0, "No regression: of 2 cases 2 same"),
        ([SAME, FASTER], 0, "No regression: of 2 cases 1 faster, 1 same"),
        ([SAME, SLOWER], 1, "Regression: 1 of 2 cases slower, most case1 (1.10x slower)"),
        ([SLOWER, INCONCLUSIVE], 1, "Regression: 1 of 2 cases slower, most case0 (1.10x slower)"),
        (
            [SAME, INCONCLUSIVE],
            3,
            "Inconclusive: 1 of 2 cases undecided at the end of the budget (case1); run it again, as what "
            "was compiled and counted is kept, or with more --minutes",
        ),
        ([], 3, "Inconclusive: nothing was timed"),
    ],
)
def test_outcomes(kinds: list[str], code: int, headline: str) -> None:
    times = [time_of(f"case{i}", kind, 1.1 if kind == SLOWER else 1.0) for i, kind in enumerate(kinds)]
    result = replace(RESULT, findings=[], times=times)
    assert (result.exit_code, result.headline) == (code, headline)


def test_what_people_write_stays_text() -> None:
    assert cell("a|b\n<img src=x> `c` [d](e) & *f*") == (r"a\|b &lt;img src=x&gt; \`c\` \[d\](e) &amp; \*f\*")
    rendered = markdown(RESULT)
    assert "<b>" not in rendered
    assert "@everyone" not in rendered


@pytest.mark.parametrize(
    "text",
    ["@someone", "#12", "GH-12", "https://example.org", "HTTP://example.org", "www.example.org", "a@b.org"],
)
def test_nobody_is_mentioned_and_nothing_linked(text: str) -> None:
    assert text not in cell(f"see {text} there")
    assert cell(text).replace("\u200b", "") == text, "people read the same"


def test_characters_that_turn_text_round_are_left_out() -> None:
    assert cell("a\u202eb\x07c\u200bd") == "abcd"


def test_the_json_says_all_and_holds_no_infinity() -> None:
    unknown = Verdict(INCONCLUSIVE, math.nan, 0.0, math.inf, 1.0, 1, math.nan, 0.0)
    result = replace(RESULT, times=[*RESULT.times, CaseTime("one-launch", unknown)])
    document = json.loads(as_json(result), parse_constant=pytest.fail)
    assert document["schema"] == 1
    assert document["exit_code"] == 1
    assert document["times"][-1]["verdict"]["high"] is None
    assert document["times"][1]["counters"] == ["Inductor kernels 91 → 95"]
    assert document["plan"]["min_effect"] == 0.03
    assert markdown(result), "and the Markdown can say it too"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", ["#ffffff", "#0d1117"])
@pytest.mark.parametrize("colour", [*COLOURS.values(), NEUTRAL])
def test_colours_can_be_seen_on_a_light_and_a_dark_page(page: str, colour: str) -> None:
    bright, dark = sorted((luminance(page), luminance(colour)), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 3  # WCAG 2.1, 1.4.11: graphical objects


def test_the_svg_has_every_case_and_no_page_of_its_own() -> None:
    text = as_svg(RESULT)
    ElementTree.fromstring(text)  # noqa: S314  # our own
    for time in RESULT.times:
        assert time.name in text
        assert COLOURS[time.verdict.kind] in text
    assert not re.search(r"fill: #(ffffff|000000)", text), "a white page or black letters"


def test_a_report_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("somebody's")
    assert [path.name for path in write(RESULT, tmp_path)] == ["report.md", "report.svg", "report.json"]
    assert len(list(tmp_path.iterdir())) == 4

    renamed, real = [], Path.replace

    def full_at_the_second(path: Path, target: Path) -> Path:
        renamed.append(target.name)
        if len(renamed) == 2:
            raise OSError("full")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", full_at_the_second)
    with pytest.raises(OSError, match="full"):
        write(replace(RESULT, distance=99), tmp_path)
    assert renamed == ["report.md", "report.svg"]
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"], "of neither run"


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("aloha", "meant"),
        ("aloha-inference", "meant"),
        ("aloha-inference-eager-fp32-cpu", "meant"),
        ("aloha_3cam-inference-eager-fp32-cpu", None),
        ("alohas", None),
        ("pusht-inference", None),
    ],
)
def test_a_trailer_stands_for_what_begins_with_its_name_and_nothing_else(
    case: str, reason: str | None
) -> None:
    assert replace(RESULT, accepted={"aloha": "meant"}).reason(case) == reason
