"""Files that may be damaged: nothing of them is taken for an answer, and none of ours is half written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.files import (
    DEEPEST,
    DamagedFileError,
    read_bytes,
    read_if_there,
    read_if_whole,
    read_json,
    read_object,
    write_whole,
)
from benchmarks.repository import ROOT

LIMIT = 1000  # bytes


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def holding(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def link(path: Path) -> None:
    whole = path.with_name("whole.json")
    whole.write_text("{}")
    path.symlink_to(whole)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda _: None, "is missing"),
    "empty": (holding(b""), "is empty"),
    "zeros": (holding(bytes(512)), "is empty"),
    "cut": (holding(b'{"a": [1, 2'), "is cut short, or no JSON"),
    "not text": (holding(b'{"a": "\xff\xfe"}'), "is cut short, or no JSON"),
    "two": (holding(b"{} {}"), "is cut short, or no JSON"),
    "a list": (holding(b"[]"), "holds no JSON object"),
    "large": (holding(b'{"a": "' + b"x" * LIMIT + b'"}'), "is larger than 1000 bytes"),
    "deep": (holding(nested(DEEPEST + 1)), f"is nested deeper than {DEEPEST}"),
    "a link": (link, "is a link"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "is a link"),
    "a folder": (lambda path: path.mkdir(), "is no file"),
    "a pipe": (lambda path: os.mkfifo(path), "is no file"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.timeout(20)  # a pipe that nobody writes to
def test_a_damaged_file_is_said_to_be(tmp_path: Path, damage: str) -> None:
    make, why = DAMAGE[damage]
    path = tmp_path / "it.json"
    make(path)
    with pytest.raises(DamagedFileError) as raised:
        read_object(path, LIMIT)
    assert (raised.value.path, raised.value.why) == (path, why)
    assert str(raised.value) == f"{path} {why}"
    if damage != "large":
        assert read_if_whole(path) == {}
        if damage == "missing":
            assert read_if_there(path) == {}
        else:
            with pytest.raises(DamagedFileError):
                read_if_there(path)


def test_what_is_far_too_deep_is_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    path.write_bytes(b"[" * 200_000 + b"]" * 200_000)
    with pytest.raises(DamagedFileError, match="is nested deeper"):
        read_json(path)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    path.write_bytes(nested(DEEPEST))
    assert read_object(path) == read_if_there(path) == read_if_whole(path) == json.loads(nested(DEEPEST))
    path.write_text("[1, NaN]")
    assert read_json(path)[0] == 1
    assert read_bytes(path, 8) == b"[1, NaN]"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "it.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            write_whole(path, "new")
    assert path.read_text() == "old"
    write_whole(path, b"\x89PNG\r\n")
    assert path.read_bytes() == b"\x89PNG\r\n"
    assert list(path.parent.iterdir()) == [path], "nothing is left beside it"


# What they write lies in a directory of the run alone, which is gone when it is stopped.
IN_PASSING = ("benchmarks/edits.py", "gate/sides.py", "gate/proof/slowdown.py", "history/measure.py")


def test_what_stays_is_written_whole() -> None:
    places = [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    half = [
        path
        for path in places
        if re.search(r"\.(write_(text|bytes)|savefig)\((?!drawn,)", path.read_text("utf-8"))
    ]
    assert [path for path in half if not path.as_posix().endswith(IN_PASSING)] == []
    assert len(half) == len(IN_PASSING)


def test_what_a_link_leads_to_is_left_alone(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "it.json"
    target.write_text("another's")
    for link in (path, tmp_path / f".it.json.{os.getpid()}"):  # and where the new one is written first
        link.symlink_to(target)
    write_whole(path, "ours")
    assert (path.read_text(), target.read_text()) == ("ours", "another's")
    assert not path.is_symlink()
