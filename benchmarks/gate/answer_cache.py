"""Answers of the exact tiers, kept from one run to the next by what determines them. No torch.

A pull request is gated again and again against one base: its counters are the same each time, and
half of what the exact tiers cost. An answer is kept under a hash of everything it depends on: the
side's code, the ruler's, every package installed, the processor. Times are never kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .sides import Side, blob_hash

MOST = 50  # files of some 100 kB; the oldest go first
Answers = dict[str, dict[str, Any]]


class AnswerCache:
    """What is known of one side already.

    Args:
        home: directory that holds what is kept.
        side: whose code gives the answers.
        hello: what its worker said of itself: versions, threads, processor.
    """

    def __init__(self, home: Path, side: Side, hello: Mapping[str, Any]) -> None:
        self.key = _key(side, hello)
        self._path = home / f"{self.key}.json"

    def answers(self) -> Answers:
        """By ``do case``; none where nothing, or something unreadable, is kept."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        whole = isinstance(found, dict) and all(isinstance(answer, dict) for answer in found.values())
        return found if whole else {}

    def keep(self, answers: Answers) -> None:
        """Add ``answers``; without a word where the disk does not take them."""
        partial = self._path.with_suffix(".partial")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_text(json.dumps({**self.answers(), **answers}), encoding="utf-8")
                partial.replace(self._path)
            finally:
                partial.unlink(missing_ok=True)
            files = sorted(self._path.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for old in files[:-MOST]:
                old.unlink()


def _key(side: Side, hello: Mapping[str, Any]) -> str:
    """A hash of all that an answer depends on."""
    package = Path(__file__).resolve().parents[1]
    ruler = {
        path.relative_to(package).as_posix(): blob_hash(path.read_bytes())
        for path in sorted(package.rglob("*.py"))
    }
    known = [
        dict(side.blobs),
        side.dependencies,
        ruler,
        hello["environment"],
        hello["devices"],
        hello["installed"],
    ]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]
