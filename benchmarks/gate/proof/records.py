"""What the campaign recorded: ``recorded/NAME.jsonl``, one JSON object a line, kept in git. No torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..cases import StepTime, named

RECORDED = Path(__file__).with_name("recorded")
KINDS = ("same", "slower")  # A/A, and head slowed down by real extra work


def lines(name: str) -> list[dict[str, Any]]:
    """Everything recorded under ``name``; a half-written last line is left out."""
    path = RECORDED / f"{name}.jsonl"
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def append(name: str, line: dict[str, Any]) -> None:
    """Record one more line under ``name``, in the place of one that was cut short."""
    RECORDED.mkdir(exist_ok=True)
    path = RECORDED / f"{name}.jsonl"
    if path.exists():
        whole, newline, _ = path.read_bytes().rpartition(b"\n")
        os.truncate(path, len(whole + newline))
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")


def log_ratios(kind: str) -> dict[StepTime, list[float]]:
    """Recorded launches of a kind, by case."""
    found: dict[StepTime, list[float]] = {}
    for line in lines("launches"):
        if line["kind"] == kind:
            found.setdefault(named(line["case"]), []).append(line["log_ratio"])
    return found
