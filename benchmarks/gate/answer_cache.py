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

from ..files import DamagedFileError, read_object, write_whole
from .answer_shapes import well_formed
from .sides import Side, blob_hash

MOST = 50  # files of some 100 kB; the oldest go first
LARGEST = 5_000_000  # bytes of a file that is read
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
        """By ``do case``; none where nothing is kept, or something that is not whole or no file of ours."""
        try:
            found = read_object(self._path, LARGEST)
        except DamagedFileError:
            return {}
        whole = all(well_formed(key.partition(" ")[0], answer) for key, answer in found.items())
        return found if whole else {}

    def keep(self, answers: Answers) -> None:
        """Add ``answers``; without a word where the disk does not take them."""
        with contextlib.suppress(OSError):
            write_whole(self._path, json.dumps({**self.answers(), **answers}))
            files = sorted(self._path.parent.glob("*.json"), key=lambda path: path.lstat().st_mtime)
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
