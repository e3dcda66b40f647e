"""Files that may be damaged, or written by others: read within limits, and written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from .repository import MeasurementError

LARGEST = 32 * 2**20  # bytes; asv's file of one commit has a few hundred thousand
DEEPEST = 32  # lists and objects inside one another; asv writes 6


class DamagedFileError(MeasurementError):
    """A file is missing, cut short, too large, or no file at all.

    Attributes:
        path: of the file.
        why: in words that follow its name.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.path, self.why = path, why


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """What a plain file holds; of a link, of a pipe and of a file above ``largest`` bytes nothing is read.

    Raises:
        DamagedFileError: it is none of these, or cannot be read.
    """
    try:
        # A pipe that nobody writes to would hold an opening that waits.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise DamagedFileError(path, "is missing") from None
    except OSError as error:
        why = "is a link" if path.is_symlink() else f"cannot be read ({error.strerror})"
        raise DamagedFileError(path, why) from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise DamagedFileError(path, "is no file")
    with open(file, "rb") as opened:  # noqa: PTH123  # pathlib opens no descriptor
        content = opened.read(largest + 1)
    if len(content) > largest:
        raise DamagedFileError(path, f"is larger than {largest} bytes")
    return content


def read_json(path: Path, largest: int = LARGEST) -> Any:
    """What a JSON file holds.

    Raises:
        DamagedFileError: there is no such file, or it is no JSON, or deeper than DEEPEST.
    """
    return json_of(path, read_bytes(path, largest))


def json_of(path: Path, content: bytes) -> Any:
    """The JSON that a file, or a line of it, holds; raises as ``read_json``."""
    if not content.strip(b"\0 \t\r\n"):  # a machine that lost its power leaves zeros
        raise DamagedFileError(path, "is empty")
    try:
        found = json.loads(content)
    except RecursionError:
        raise DamagedFileError(path, f"is nested deeper than {DEEPEST}") from None
    except ValueError:
        raise DamagedFileError(path, "is cut short, or no JSON") from None
    if _is_deeper(found, DEEPEST):
        raise DamagedFileError(path, f"is nested deeper than {DEEPEST}")
    return found


def read_object(path: Path, largest: int = LARGEST) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        DamagedFileError: there is no such file, or it holds none.
    """
    found = read_json(path, largest)
    if not isinstance(found, dict):
        raise DamagedFileError(path, "holds no JSON object")
    return found


def read_if_there(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds; empty where there is no such file.

    Raises:
        DamagedFileError: there is one, and it cannot be read.
    """
    return read_object(path) if os.path.lexists(path) else {}


def read_if_whole(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds; empty where it cannot be read, which somebody else has to say."""
    try:
        return read_object(path)
    except DamagedFileError:
        return {}


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file and the folders above it; whoever is stopped half-way leaves the file as it was.

    In place of a link comes a file: what the link leads to is left alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.unlink(missing_ok=True)
        with beside.open("xb") as file:  # "x" follows no link
            file.write(content.encode() if isinstance(content, str) else content)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _is_deeper(value: Any, limit: int) -> bool:
    """Whether lists and objects stand in one another more than ``limit`` times."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            child
            for each in level
            if isinstance(each, (dict, list))
            for child in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)
