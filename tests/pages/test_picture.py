"""The README's picture shows the figures that stand in the documents, and no others."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.pages import picture
from benchmarks.pages.limits import PAGE
from benchmarks.repository import ROOT

README = (
    "2 threads, AVX512, torch 2.11.0\n"
    "| aloha inference: cold compile, share of stock's | 0.44 (0.38 to 0.48); 37 s against 82 s | ≤ 0.50 |\n"
)
LIMITS = (
    "<!-- limits cpu AVX512: written by nox -s limits -->\n"
    "| aloha inference, fp32 | 1.34 (1.30 to 1.36)x: 192.8 of 259.0 ms; limit 1.46x (177.4 ms) | ≥ 1.38x |\n"
    "<!-- /limits cpu AVX512 -->\n"
)


def texts(svg: Path) -> list[str]:
    nodes = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314  # our own
    return ["".join(node.itertext()) for node in nodes]


def test_the_picture_shows_what_the_documents_say() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    shown = texts(ROOT / picture.FILE)
    assert str(picture.FILE.as_posix()) in readme
    processor = picture.processor_of(readme)
    for _, ours, stock in picture.cold_compiles(readme):
        assert {f"{ours} s ours", f"{stock} s stock"} <= set(shown), "run nox -s picture"
    gains = picture.speed_ups((ROOT / PAGE).read_text("utf-8"), processor)
    drawn = [text for text in shown if ", limit " in text]
    assert drawn == [f"{gain.median:.2f}x, limit {gain.limit:.2f}x" for gain in gains]
    assert any(processor in text for text in shown)


def test_figures_are_read_and_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(README)
    (tmp_path / PAGE).write_text(LIMITS)
    monkeypatch.setattr(picture, "ROOT", tmp_path)
    assert picture.speed_ups(LIMITS, "AVX512") == [
        picture.SpeedUp("aloha inference, fp32", 1.34, 1.30, 1.36, 1.46)
    ]
    assert picture.main() == 0
    shown = texts(tmp_path / picture.FILE)
    assert {"37 s ours", "82 s stock", "1.34x, limit 1.46x", "aloha inference, fp32"} <= set(shown)
    first = (tmp_path / picture.FILE).read_bytes()
    assert picture.main() == 0
    assert (tmp_path / picture.FILE).read_bytes() == first, "the same figures are the same file"


@pytest.mark.parametrize(
    ("readme", "limits", "words"),
    [
        ("", LIMITS, "does not say what its ratios were measured on"),
        (README.splitlines()[0], LIMITS, "no cold compiles"),
        (README, LIMITS.replace("cpu AVX512", "cpu AVX2"), "no speed-ups of a CPU with AVX512"),
    ],
)
def test_figures_that_are_not_there_are_exit_code_2(
    readme: str,
    limits: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "README.md").write_text(readme)
    (tmp_path / PAGE).write_text(limits)
    monkeypatch.setattr(picture, "ROOT", tmp_path)
    assert picture.main() == 2
    assert words in capsys.readouterr().err
