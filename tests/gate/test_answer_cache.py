"""What is kept of a side: by what determines it, whole or not at all, and not without end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gate import answer_cache
from benchmarks.gate.answer_cache import AnswerCache
from benchmarks.gate.answer_shapes import OF_COUNTS
from benchmarks.gate.comparison import OF_AUTO
from benchmarks.gate.sides import Side, Source

SOURCE = Source("base", "main", "0" * 40, False, "v1", "first")
SIDE = Side(SOURCE, Path(), {"__init__.py": "abc"}, ("torch",))
HELLO = {"environment": {"torch": "2.11.0"}, "devices": [], "installed": "abc"}
COUNTS = {"graph_breaks": [], **dict.fromkeys(OF_COUNTS, 270)}
AUTO = dict.fromkeys(OF_AUTO, 1)
ACTIONS = {"a write": {"eager": [0.5], "auto": [0.5]}}
ANSWERS = {"counts aloha-inference": COUNTS, "auto tiny-inference": {"counts": AUTO, "values": ACTIONS}}


@pytest.mark.parametrize(
    ("side", "hello"),
    [
        (replace(SIDE, blobs={"__init__.py": "abd"}), HELLO),
        (replace(SIDE, blobs={"patch.py": "abc"}), HELLO),
        (replace(SIDE, dependencies=("torch>=2",)), HELLO),
        (SIDE, {**HELLO, "environment": {"torch": "2.12.0"}}),
        (SIDE, {**HELLO, "devices": ["NVIDIA H200"]}),
        (SIDE, {**HELLO, "installed": "abd"}),
    ],
)
def test_whatever_an_answer_depends_on_is_in_its_key(
    side: Side, hello: dict[str, Any], tmp_path: Path
) -> None:
    AnswerCache(tmp_path, SIDE, HELLO).keep(ANSWERS)
    assert AnswerCache(tmp_path, SIDE, HELLO).answers() == ANSWERS
    assert AnswerCache(tmp_path, side, hello).answers() == {}


def test_so_is_the_ruler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = AnswerCache(tmp_path, SIDE, HELLO).key
    monkeypatch.setattr(answer_cache, "blob_hash", lambda _: "other")
    assert AnswerCache(tmp_path, SIDE, HELLO).key != before


def test_the_same_code_is_known_whatever_it_is_called(tmp_path: Path) -> None:
    AnswerCache(tmp_path, SIDE, HELLO).keep(ANSWERS)
    head = replace(SIDE, source=replace(SOURCE, side="head", commit="1" * 40), path=Path("elsewhere"))
    assert AnswerCache(tmp_path, head, HELLO).answers() == ANSWERS


def test_answers_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    side = AnswerCache(tmp_path, SIDE, HELLO)
    side.keep(ANSWERS)
    side.keep({"counts pusht-training": COUNTS})
    assert side.answers() == {**ANSWERS, "counts pusht-training": COUNTS}


def link_to_answers(path: Path) -> None:
    answers = path.with_name("elsewhere")
    answers.write_text(json.dumps(ANSWERS))
    path.symlink_to(answers)


@pytest.mark.timeout(10)  # a pipe would be waited for
@pytest.mark.parametrize(
    "put",
    [
        *(
            lambda path, text=text: path.write_text(text)
            for text in (
                *("", "{", "[]", "\0", "[" * 200_000),
                '{"counts aloha-inference": 5}',
                '{"counts aloha-inference": {"graph_breaks": []}}',
                '{"walk aloha-inference": {}}',
                json.dumps({"counts aloha-inference": {**COUNTS, "ops": float("nan")}}),
                json.dumps({"auto tiny-inference": {"counts": AUTO, "values": {}}}),
                json.dumps({"auto tiny-inference": {"counts": {"auto_made": 1}, "values": ACTIONS}}),
                json.dumps({"auto tiny-inference": {"counts": {}, "values": ACTIONS}}),
                " " * answer_cache.LARGEST + json.dumps(ANSWERS),
            )
        ),
        link_to_answers,
        os.mkfifo,
        Path.mkdir,
    ],
)
def test_what_cannot_be_read_is_not_known(put: Callable[[Path], Any], tmp_path: Path) -> None:
    side = AnswerCache(tmp_path, SIDE, HELLO)
    put(tmp_path / f"{side.key}.json")
    assert side.answers() == {}


def test_what_is_kept_does_not_go_through_a_link(tmp_path: Path) -> None:
    side, victim = AnswerCache(tmp_path, SIDE, HELLO), tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f"{side.key}.json").symlink_to(victim)
    side.keep(ANSWERS)
    assert (victim.read_text(), side.answers()) == ("mine", ANSWERS)


def test_a_full_disk_keeps_nothing_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    side = AnswerCache(tmp_path / "file", SIDE, HELLO)
    side.keep(ANSWERS)
    assert side.answers() == {}


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_cache, "MOST", 3)
    for number in range(5):
        AnswerCache(tmp_path, SIDE, {**HELLO, "installed": str(number)}).keep(ANSWERS)
    assert len(list(tmp_path.iterdir())) == 3
    assert AnswerCache(tmp_path, SIDE, {**HELLO, "installed": "4"}).answers() == ANSWERS
