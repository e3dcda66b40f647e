"""Records of what was measured: JSON objects, one a line, in files that git keeps. No torch."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .files import json_of, read_bytes, write_whole

Record = dict[str, Any]


def read(path: Path) -> list[Record]:
    """Every record; none where there is no file. A last line that was cut short is left out.

    Raises:
        ValueError: a line is no JSON.
    """
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def read_of_others(path: Path) -> list[Any]:
    """As ``read``, of a file that another job left: a plain file within the limits of ``files``.

    Raises:
        DamagedFileError: there is none, or a line is no JSON, or too deep.
    """
    whole, _, _ = read_bytes(path).rpartition(b"\n")
    return [json_of(path, line) for line in whole.splitlines()]


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one record, in the place of one that was cut short."""
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        whole, newline, _ = path.read_bytes().rpartition(b"\n")
        os.truncate(path, len(whole + newline))
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(record))


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Put these in place of all that ``path`` holds, whole or not at all."""
    write_whole(path, "".join(map(_line, records)))


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True) + "\n"


def today() -> str:
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def described(environment: Mapping[str, Any]) -> str:
    """Machine and versions in words: what belongs beside every figure.

    Args:
        environment: as ``suite.environment`` gives it, and ``cores`` where they are known.
    """
    cores = f"{environment['cores']} cores, " if "cores" in environment else ""
    return (
        f"{cores}{environment['cpu']}, {environment['threads']} threads, torch {environment['torch']}, "
        f"LeRobot {environment['lerobot']}, Python {environment['python']}"
    )
