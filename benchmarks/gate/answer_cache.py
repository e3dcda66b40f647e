"""Answers of the exact tiers, kept from one run to the next by what determines them. No torch.

A pull request is gated again and again against one base: its counters are the same each time, and
half of what the exact tiers cost. An answer is kept under a hash of everything it depends on: the
side's code, the ruler's, every package installed, the processor. Times are never kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
            found = json.loads(_content(self._path))
        except (OSError, ValueError, RecursionError):
            return {}
        whole = isinstance(found, dict) and all(
            well_formed(key.partition(" ")[0], answer) for key, answer in found.items()
        )
        return found if whole else {}

    def keep(self, answers: Answers) -> None:
        """Add ``answers``; without a word where the disk does not take them."""
        partial = self._path.with_suffix(".partial")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                partial.unlink(missing_ok=True)
                with partial.open("x", encoding="utf-8") as file:  # "x" follows no link
                    file.write(json.dumps({**self.answers(), **answers}))
                partial.replace(self._path)
            finally:
                partial.unlink(missing_ok=True)
            files = sorted(self._path.parent.glob("*.json"), key=lambda path: path.lstat().st_mtime)
            for old in files[:-MOST]:
                old.unlink()


def _content(path: Path) -> bytes:
    """What a file holds.

    Raises:
        OSError: it is a link, no regular file (a pipe would be waited for), or larger than LARGEST.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
            raise OSError(f"{path} is no file of at most {LARGEST:,} bytes")
        return file.read(LARGEST)


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
