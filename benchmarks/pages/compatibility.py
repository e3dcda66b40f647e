"""The table of docs/compatibility.md, a row an environment; ``nox -s compat`` records them. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from ..markdown import table
from ..records import Record

NAME, DOCUMENT = "compat", "docs/compatibility.md"
INSTALLED = ("python", "lerobot", "torch", "torchvision")
COUNTS = ("passed", "failed", "skipped")
HEADER = ("environment", "Python", "LeRobot", "torch", "torchvision", *COUNTS, "minutes")


def cells(record: Record) -> list[str]:
    """An environment's line."""
    installed = [record["about"][name] for name in INSTALLED]
    counts = [str(record[name]) for name in COUNTS]
    return [record["row"], *installed, *counts, f"{record['minutes']:.0f}"]


def tables(records: Sequence[Record]) -> dict[str, str]:
    """The table, ordered by LeRobot, torch and Python."""
    return {NAME: table(HEADER, map(cells, sorted(records, key=_order)))}


def _order(record: Record) -> list[list[int]]:
    versions = (record["about"][name] for name in ("lerobot", "torch", "python"))
    return [[int(part) for part in version.split("+")[0].split(".")] for version in versions]
