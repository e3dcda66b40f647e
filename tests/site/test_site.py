"""The published history in a real browser: ``nox -s site``; SITE_SCREENSHOTS=DIRECTORY keeps pictures."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.history.overview import PAGE, TIMES

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Look = Callable[..., str]


def test_asvs_front_page_lists_the_benchmarks(address: str, look: Look) -> None:
    page = look(f"{address}/index.html", "front")
    assert "time_predict_action_chunk" in page
    assert "track_compiled_over_eager" in page


def test_one_graph_has_eager_and_compiled_on_two_machines(address: str, look: Look) -> None:
    page = look(f"{address}/index.html#{TIMES['inference']}?machine=vm-one&machine=vm-two", "graph")
    assert page.count("<canvas") >= 2, "flot has drawn the graph and its overview"
    legend = re.findall(r'class="legendLabel">(.*?)</td>', page)
    for machine in ("vm-one", "vm-two"):
        for variant in ("eager", "compiled"):
            assert any(machine in entry and variant in entry for entry in legend), legend


def test_the_regressions_page_names_the_step(address: str, look: Look) -> None:
    page = look(f"{address}/index.html#/regressions", "regressions")
    rows = [row for row in re.findall(r"<tr.*?</tr>", page, flags=re.DOTALL) if "1.25x" in row]
    assert rows
    assert all("vm-two" in row for row in rows)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1000, 500], ids=["desk", "phone"])
def test_the_overview_needs_no_network_and_no_script(
    published: Path, look: Look, width: int, dark: bool
) -> None:
    text = (published / PAGE).read_text(encoding="utf-8")
    assert "<script" not in text
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    page = look((published / PAGE).as_uri(), f"overview-{width}-{dark}", width=width, dark=dark)
    for machine, speed_up in (("vm-one", "1.56x"), ("vm-two", "1.00x")):
        part = page.partition(f"<h2>{machine}</h2>")[2].partition("</section>")[0]
        assert speed_up in part
        assert "1.67x" in part, "the limit"
        assert part.count("<svg") == 1


def test_the_overviews_tables_fit_a_phone(published: Path, look: Look, tmp_path: Path) -> None:
    """360 CSS pixels in a frame: a headless window is never narrower than 500. Times of a slow machine."""
    text = (published / PAGE).read_text(encoding="utf-8").replace("aloha inference", "aloha_3cam inference")
    text = text.replace(">250.0<", ">12345.6<small>11234.5 to 13456.7</small><")
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"""<!doctype html><iframe width="360" height="1300" srcdoc="{html.escape(text)}"></iframe><script>
        onload = () => {{
          const tables = [...document.querySelector("iframe").contentDocument.querySelectorAll(".wide")];
          document.title = "beyond: " + tables.map((table) => table.scrollWidth - table.clientWidth);
        }};
        </script>""",
        encoding="utf-8",
    )
    assert "<title>beyond: 0,0</title>" in look(frame.as_uri(), "phone")
