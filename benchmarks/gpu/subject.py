"""Which code was measured: a GPU at hand for minutes may have the files and no repository."""

from __future__ import annotations

import hashlib
from pathlib import Path

MEASURED = ("src", "benchmarks/suite", "benchmarks/gate", "tests/subject")


def digest(root: Path) -> str:
    """Of all Python files of the subject and of what measures it, 12 hexadecimal digits."""
    found = hashlib.sha256()
    for folder in MEASURED:
        for file in sorted((root / folder).rglob("*.py")):
            found.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:12]
