"""The documents and the picture show what is recorded, and no other figures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

import benchmarks.pages.__main__ as pages
from benchmarks.markdown import between_markers, markers
from benchmarks.one_run import alone
from benchmarks.pages import peers, picture, records
from benchmarks.repository import ROOT
from benchmarks.suite.peers import PEERS

DRAWN = list(pages.drawn())
RECORDED = {name: records.read(name) for name in ("ratios", "limits", "peers")}
NUMBER = re.compile(r"-?\d+\.?\d*")


def texts(svg: Path) -> list[str]:
    nodes = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314  # our own
    return ["".join(node.itertext()) for node in nodes]


def coordinates(svg: Path) -> list[float]:
    nodes = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}path")  # noqa: S314  # our own
    return [float(number) for node in nodes for number in NUMBER.findall(node.get("d", ""))]


@pytest.mark.parametrize(("document", "name", "text"), DRAWN, ids=[name for _, name, _ in DRAWN])
def test_a_document_shows_what_is_recorded(document: str, name: str, text: str) -> None:
    assert between_markers(ROOT / document, *markers(name)) == text, "run nox -s pages"


def test_every_table_is_drawn() -> None:
    """A marked table that no record is drawn into would keep figures of its own."""
    places = re.compile(r"<!-- ([^:<>]+): written by nox -s \w+ -->\n(?!<!--)")
    texts_of = {document: (ROOT / document).read_text("utf-8") for document, *_ in DRAWN}
    found = {name for text in texts_of.values() for name in places.findall(text)}
    assert found - {"gpu"} == {name for _, name, _ in DRAWN}, "tests/gpu looks at that one"
    for name in ("ratios", "effects", "compat", "limits cpu AVX512", "breakdown cpu AVX512 with AMX"):
        assert name in found


def test_every_record_stands_in_its_table() -> None:
    for _, name, text in DRAWN:
        table, _, machine = name.partition(" ")
        of_table = records.read(table)
        of_machine = records.by_machine(of_table)[machine] if machine else of_table
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        headings = sum(line.startswith("|--") for line in text.splitlines())
        lines = sum(len(record.get("operators", ["one"])) for record in of_machine)
        assert len(rows) - headings == lines > 0


def gain(into: Path) -> None:
    picture.draw(RECORDED["ratios"], RECORDED["limits"], into)


def runtimes(into: Path) -> None:
    picture.draw_runtimes(RECORDED["peers"], into)


PICTURES = [(gain, picture.FILE), (runtimes, picture.BESIDE_RUNTIMES)]
each_picture = pytest.mark.parametrize(("draw", "file"), PICTURES, ids=["gain", "runtimes"])


@each_picture
def test_a_picture_shows_what_is_recorded(draw: Callable[[Path], None], file: Path, tmp_path: Path) -> None:
    drawn, committed = tmp_path / file.name, ROOT / file
    draw(drawn)
    assert file.as_posix() in (ROOT / "README.md").read_text("utf-8")
    assert texts(drawn) == texts(committed), "run nox -s pages"
    if f"Matplotlib v{mpl.__version__}," in committed.read_text("utf-8"):  # another draws elsewhere
        assert coordinates(drawn) == pytest.approx(coordinates(committed), abs=0.5), "run nox -s pages"


@each_picture
def test_the_same_records_are_the_same_picture(
    draw: Callable[[Path], None], file: Path, tmp_path: Path
) -> None:
    found = []
    for turn in ("first", "second"):
        name = f"{turn}-{file.name}"
        draw(tmp_path / name)
        found.append((tmp_path / name).read_bytes())
    assert found[0] == found[1]


def test_records_become_tables_and_a_picture(root: Path) -> None:
    """From other records than those that are committed."""
    for name, found in RECORDED.items():
        kept = json.loads(json.dumps(found).replace('"AVX512 with AMX"', '"AVX512"'))
        kept = [each for each in kept if each["about"].get("cpu") != "AVX2"]  # no place for its table
        records.keep(name, kept)
        if name == "limits":
            slow = next(record for record in kept if record["row"] == "step")
    times = {"median": 0.5, "least": 0.25, "most": 7.5}
    records.keep("limits", [{**slow, "times_as_fast": times}])
    assert pages.main([]) == 0
    assert "| aloha inference, fp32 | 0.50 (0.25 to 7.50)x: " in (root / "TORCH_COMPILE_ACT.md").read_text()
    beside = next(each for each in kept if each["row"] == peers.STEP)["times_as_fast"]["auto"]["median"]
    assert f"{beside:.2f}x auto" in texts(root / picture.BESIDE_RUNTIMES)
    shown = texts(root / picture.FILE)
    assert any(text.startswith("0.50x, limit ") for text in shown)
    assert {"16 s ours", "36 s stock", "aloha inference, fp32", "a CPU with AVX512, 2 threads"} <= set(shown)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("ratios", "no cold compile is recorded; run nox -s ratios first"),
        ("limits", "no speed-up is recorded of a machine with cpu AVX512 with AMX; run nox -s limits on one"),
        ("peers", "no runtime is recorded beside auto; run nox -s peers first"),
    ],
)
@pytest.mark.parametrize("asked", [[], ["picture"]])
def test_a_picture_of_nothing_is_exit_code_2(
    asked: list[str],
    missing: str,
    words: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pages, "draw_tables", lambda: None)
    there = {**RECORDED, missing: []}
    monkeypatch.setattr(pages, "read", there.__getitem__)
    assert pages.main(asked) == 2
    assert words in capsys.readouterr().err
    unmade = picture.BESIDE_RUNTIMES if missing == "peers" else picture.FILE
    assert not (root / unmade).exists()


@pytest.mark.parametrize("page", ["ratios", "limits", "peers", "breakdown"])
def test_nothing_is_measured_beside_a_gate(
    root: Path,
    launches: Callable[[Any], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    page: str,
) -> None:
    launches(None)  # nobody is asked
    monkeypatch.setattr(peers, "installed", lambda: PEERS)
    with alone(root):
        assert pages.main([page]) == 2
    assert f"{page}: something is already being measured in this checkout" in capsys.readouterr().err


def test_a_document_without_a_place_is_exit_code_2(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_this_project = Path(records.__file__).with_name("recorded")
    (root / "recorded").symlink_to(of_this_project)
    assert pages.main([]) == 2
    assert (
        "has no place for these figures; put <!-- limits cpu AVX512 with AMX: written by"
        in capsys.readouterr().err
    )
