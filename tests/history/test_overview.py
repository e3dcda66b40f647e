"""The overview page from asv's files; `nox -s site` looks at it in a browser."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import overview
from benchmarks.history.overview import (
    AUTO,
    LIMIT,
    RATIO,
    TIMES,
    Point,
    Series,
    StepTime,
    plot,
    read_machines,
    write,
)

PARAMS = [["'aloha'", "'pusht'"], ["'cpu'", "'cuda'"]]
NAN = math.nan
COMMITS = ("1" * 40, "2" * 40)


def file(
    commit: str, day: int, ratios: list[Any], limits: list[Any] | None = None, samples: tuple[Any, ...] = ()
) -> dict[str, Any]:
    """One of asv's files; ``samples``: how many of each step time, and their quartiles."""
    counts = "inference.InferenceCounts"
    timed = [["'aloha'"], ["'fp32'", "'bf16'"], ["'cpu'"], ["'eager'", "'compiled'"]]
    return {
        "commit_hash": commit,
        "result_columns": ["result", "params", "started_at", "stats_repeat", "stats_q_25", "stats_q_75"],
        "date": 86_400_000 * day,
        "env_vars": {},
        "results": {
            f"{counts}.{RATIO}": [ratios, PARAMS],
            f"{counts}.{LIMIT}": [limits, PARAMS],
            f"{counts}.{AUTO}": [[0.625, NAN, NAN, NAN], PARAMS],
            TIMES["inference"]: [[0.25, 0.2, 0.1, 0.05], timed, 1, *([each] * 4 for each in samples)],
            f"{counts}.track_graphs": [[1, NAN, 1, NAN], PARAMS],
        },
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "results" / "vm"
    place.mkdir(parents=True)
    (tmp_path / "html").mkdir()
    (place / "machine.json").write_text(json.dumps({"machine": "vm", "cpu": "any", "num_cpu": "2"}))
    newer = file(COMMITS[1], 2, [0.8, NAN, 0.5, NAN], [0.75, NAN, None, NAN])
    older = file(COMMITS[0], 1, [0.9, NAN, None, NAN])
    for found in (newer, older):
        (place / f"{found['commit_hash'][:8]}-env.json").write_text(json.dumps(found))
    versions = tmp_path / "versions" / "vm"
    versions.mkdir(parents=True)
    (versions / f"{COMMITS[1][:8]}.json").write_text('{"torch": "2.11.0", "lerobot": "0.6.1", "numpy": "2"}')
    return tmp_path


def test_speed_ups_are_read_by_case_oldest_first(home: Path) -> None:
    (machine,) = read_machines(home)
    assert (machine.name, machine.about) == ("vm", "2 cores, lerobot 0.6.1, torch 2.11.0")
    aloha, pusht = machine.series
    assert [each.name for each in machine.series] == ["aloha inference", "pusht inference"]
    assert [point.commit for point in aloha.points] == [commit[:8] for commit in COMMITS]
    assert [point.speed_up for point in aloha.points] == pytest.approx([1 / 0.9, 1.25])
    assert aloha.latest.limit == pytest.approx(1 / 0.75)
    times = [StepTime(seconds, None, is_single=False) for seconds in (0.25, 0.2)]
    assert [aloha.latest.eager, aloha.latest.compiled] == times, "of fp32, not bf16"
    assert [point.speed_up for point in pusht.points] == [2.0], "a benchmark that failed is no point"
    assert pusht.latest.limit is None
    assert pusht.latest.eager is None


def test_one_torch_release_is_no_history_and_half_a_file_is_none(home: Path) -> None:
    place = home / "results" / "vm"
    other = {**file("3" * 40, 3, [0.1, NAN, 0.1, NAN]), "env_vars": {"TORCH": "2.7.0"}}
    (place / "33333333-env.json").write_text(json.dumps(other))
    (place / "44444444-env.json").write_text((place / "11111111-env.json").read_text()[:90])
    (machine,) = read_machines(home)
    assert len(machine.series[0].points) == 2


def test_the_page_says_what_there_is(home: Path) -> None:
    text = write(home, home / "html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr><td>(.*?)</tr>", text, flags=re.DOTALL)
    cells = [re.sub(r"<[^>]+>|\s+", " ", row).split() for row in rows]
    assert cells[0] == ["aloha", "inference", "1.60x", "1.25x", "1.33x", "250.0", "200.0", "22222222"]
    assert cells[1] == ["pusht", "inference", "\u2013", "2.00x", *"\u2013\u2013\u2013", "22222222"]
    assert text.count("<svg") == 3, "one of auto"
    assert "aloha inference: auto against stock" in text
    assert overview.FOREGROUND not in text, "drawn in the page's own colour"
    assert text == write(home, home / "html").read_text(encoding="utf-8"), "the same results, the same page"


@pytest.mark.parametrize("newest", [1, 7])
def test_times_have_a_spread_or_are_said_to_be_single(home: Path, newest: int) -> None:
    place = home / "results" / "vm"
    for commit, day, samples in ((COMMITS[0], 1, 8 - newest), (COMMITS[1], 2, newest)):
        found = file(commit, day, [0.8, NAN, NAN, NAN], samples=(samples, 0.1875, 0.3125))
        (place / f"{commit[:8]}-env.json").write_text(json.dumps(found))
    text = write(home, home / "html").read_text(encoding="utf-8")
    assert ("<small>187.5 to 312.5</small>" in text) == (newest == 7), "one sample has no quartiles"
    assert ("Measured with <code>--quick</code>" in text) == (newest == 1)


def test_without_times_there_are_no_columns_for_them(home: Path) -> None:
    assert "<th>eager (ms)</th>" in write(home, home / "html").read_text(encoding="utf-8")
    for each in (home / "results" / "vm").glob("*-env.json"):
        found = json.loads(each.read_text())
        found["results"] = {name: value for name, value in found["results"].items() if ".time_" not in name}
        each.write_text(json.dumps(found))
    text = write(home, home / "html").read_text(encoding="utf-8")
    assert "eager (ms)" not in text.partition("<dl>")[0]
    assert "Measured with <code>--quick</code>" in text
    rows = re.findall(r"<tr><td>(.*?)</tr>", text, flags=re.DOTALL)
    assert [row.count("<td>") + 1 for row in rows] == [5] * len(rows)


def of_speed_ups(*found: float) -> Series:
    return Series("cpu", "inference", "aloha", tuple(Point(f"{x}", x, None, None, None) for x in found))


def test_what_chance_does_is_told_from_enough_commits() -> None:
    assert of_speed_ups(1.0, 1.5, 1.0, 1.5).noise is None
    noisy = of_speed_ups(1.0, 1.25, 1.0, 1.25, 2.5)
    assert noisy.noise == pytest.approx(0.25), "one real step is not chance"


def test_the_highest_dot_is_drawn_whole() -> None:
    drawn = overview.plot(of_speed_ups(1.52))
    (top,) = {float(y) for y in re.findall(r'<clipPath[^>]*>\s*<rect [^>]*y="([\d.]+)"', drawn)}
    dots = drawn.partition('id="PathCollection_1"')[2].partition("</g>\n   </g>")[0]
    (at,) = (float(y) for y in re.findall(r'<use [^>]*y="([\d.]+)"', dots))
    assert at - top > 22**0.5 / 2, "its radius, in points"


def test_noise_is_not_drawn_as_change() -> None:
    drawn = overview.plot(of_speed_ups(1.18, 1.16))
    assert ">0.00x<" in drawn, "the axis begins at zero"
    dots = drawn.partition('id="PathCollection_1"')[2].partition("</g>\n   </g>")[0]
    assert dots.count("<use ") == 2
    joined = re.findall(r'<path d="[^"]*"[^>]*stroke: #3b82d0', drawn.replace(dots, ""))
    assert not joined, "no line joins the dots"


def test_names_are_escaped(home: Path) -> None:
    (home / "results" / "vm").rename(home / "results" / "<b>vm")
    assert "<h2>&lt;b&gt;vm</h2>" in write(home, home / "html").read_text(encoding="utf-8")


def test_no_results_are_said(tmp_path: Path) -> None:
    assert "Nothing is measured yet" in write(tmp_path, tmp_path).read_text(encoding="utf-8")


def test_the_page_says_what_chance_does(home: Path) -> None:
    results = home / "results" / "vm"
    for old in results.glob("*-env.json"):
        old.unlink()
    for day in range(1, 6):
        found = file(f"{day}" * 40, day, [0.8 if day % 2 else 1.0, NAN, NAN, NAN])
        (results / f"{day}-env.json").write_text(json.dumps(found))
    assert "neighbours differ by 22.5%" in write(home, home / "html").read_text(encoding="utf-8")


def with_spreads(home: Path, *spreads: float) -> str:
    """The page, where the ratios of both cases have these spreads."""
    path = home / "results" / "vm" / "22222222-env.json"
    found = json.loads(path.read_text())
    for name, spread in zip((RATIO, AUTO), spreads, strict=True):
        found["results"][f"inference.InferenceCounts.{name}_spread"] = [[spread, NAN, spread, NAN], PARAMS]
    path.write_text(json.dumps(found))
    return write(home, home / "html").read_text(encoding="utf-8")


def test_a_speed_up_stands_with_its_spread_and_not_at_all_where_it_is_noise(home: Path) -> None:
    text = with_spreads(home, 1.04, 3.0)
    assert "<strong>1.25x</strong><small>± 2%</small>" in text
    assert "too noisy" in text
    assert "1.60x" not in text, "what auto gains cannot be said of these samples"


def dots(text: str, title: str) -> int:
    """Of the graph with that title: how many commits it shows."""
    graph = text.partition(f"{title}, commit")[2].partition("</svg>")[0]
    return len(re.findall(r'<use [^>]*style="fill: #3b82d0', graph))


@pytest.mark.parametrize(
    ("of_compiled", "of_auto", "shown"),
    [(1.04, 1.04, (2, 2)), (1.04, 3.0, (2, 1)), (3.0, 1.04, (1, 2))],
    ids=["quiet", "auto noisy", "speed-up noisy"],
)
def test_a_graph_draws_what_the_table_shows(
    home: Path, of_compiled: float, of_auto: float, shown: tuple[int, int]
) -> None:
    text = with_spreads(home, of_compiled, of_auto)
    found = dots(text, "speed-up of aloha inference"), dots(text, "auto against stock, aloha inference")
    assert found == shown, "the older commit is quiet"
    is_quiet = of_compiled < overview.NOISY
    assert ("1.33x" in text) == is_quiet, "a limit is a share of the same eager step"


def test_where_nothing_is_quiet_no_graph_is_drawn(home: Path) -> None:
    (home / "results" / "vm" / "11111111-env.json").unlink()
    assert "<svg" not in with_spreads(home, 3.0, 3.0)


def test_what_the_newest_commit_lacks_is_said_to_be_of_another(home: Path) -> None:
    assert "not measured since" not in write(home, home / "html").read_text(encoding="utf-8")
    newest = file("3" * 40, 3, [0.7, NAN, None, NAN])
    (home / "results" / "vm" / "33333333-env.json").write_text(json.dumps(newest))
    text = write(home, home / "html").read_text(encoding="utf-8")
    assert re.search(r"pusht inference<small>of 22222222: not measured since</small>", text)
    assert not re.search(r"aloha inference<small>of", text)


def test_two_environments_of_one_commit_are_one_dot(home: Path) -> None:
    other = file(COMMITS[1], 2, [0.6, NAN, 0.5, NAN])
    (home / "results" / "vm" / "22222222-other.json").write_text(json.dumps(other))
    (machine,) = read_machines(home)
    assert [point.commit for point in machine.series[0].points] == ["11111111", "22222222"]


def test_a_step_is_drawn_where_one_is_found() -> None:
    ups = [1.0, 1.01, 0.99, 1.0, 1.02, 1.0, 1.3, 1.31, 1.29, 1.3]
    points = tuple(Point(str(at), up, None, None, None) for at, up in enumerate(ups))
    step = plot(Series("cpu", "inference", "aloha", points))
    flat = plot(Series("cpu", "inference", "aloha", points[:6]))
    assert ("#d0453b" in step, "#d0453b" in flat) == (True, False)
