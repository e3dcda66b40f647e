"""What the campaign recorded: ``recorded/NAME.jsonl``, one JSON object a line, kept in git. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ... import records
from ..cases import StepTime, named

RECORDED = Path(__file__).with_name("recorded")
KINDS = ("same", "slower")  # A/A, and head slowed down by real extra work


def lines(name: str) -> list[dict[str, Any]]:
    """Everything recorded under ``name``; a half-written last line is left out."""
    return records.read(RECORDED / f"{name}.jsonl")


def append(name: str, line: dict[str, Any]) -> None:
    """Record one more line under ``name``, in the place of one that was cut short."""
    records.append(RECORDED / f"{name}.jsonl", line)


def log_ratios(kind: str) -> dict[StepTime, list[float]]:
    """Recorded launches of a kind, by case."""
    found: dict[StepTime, list[float]] = {}
    for line in lines("launches"):
        if line["kind"] == kind:
            found.setdefault(named(line["case"]), []).append(line["log_ratio"])
    return found
