"""Whether what measures is base's own: a pull request brings the ruler that judges it. No torch."""

from __future__ import annotations

from pathlib import Path

from ..repository import git_files

RULER = ("benchmarks", ".github", "noxfile.py", "pyproject.toml")  # the last names its packages
NAMED, LONGEST_NAME = 3, 80  # files that a report names, and characters of each


def changed(base: str, root: Path) -> list[str]:
    """Files of the ruler that are others in the working tree, which runs, than in commit ``base``; sorted.

    Raises:
        MeasurementError: git failed.
    """
    edited = git_files("diff", "-z", "--name-only", "--no-renames", base, "--", *RULER, root=root)
    new = git_files("ls-files", "-z", "--others", "--exclude-standard", "--", *RULER, root=root)
    return sorted({*edited, *new})


def in_words(files: list[str]) -> str:
    """``differs from base in 4 files: a, b, c and 1 more``."""
    names = [name.encode(errors="replace").decode()[:LONGEST_NAME] for name in files[:NAMED]]
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return f"differs from base in {len(files)} file{'s'[: len(files) > 1]}: {', '.join(names)}{more}"
