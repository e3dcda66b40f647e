"""What a verdict does not vouch for: another ruler, other packages, files that no case runs. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..repository import git_files
from ..suite.workloads import Case

RULER = ("benchmarks", ".github", "noxfile.py", "pyproject.toml")  # the last names its packages
NAMED, LONGEST_NAME = 3, 80  # files that a report names, and characters of each
PACKAGES_NAMED = 8

# Files of the subject, by what runs them instead.
UNSEEN = {
    "nox -s gpu": ("capture.py", "cuda_graph.py", "gradients.py", "samples_by_triton.py", "twin.py"),
    "nox -s tests": (
        *("artifact.py", "command.py", "export.py", "export_command.py", "loaded_artifact.py"),
        "warm_start.py",
    ),
}


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


def unseen(base: Mapping[str, str], head: Mapping[str, str], cases: Sequence[Case]) -> str:
    """``capture.py and twin.py: run nox -s gpu`` of files that differ and that no case runs; "" of none.

    Args:
        base, head: git's hash of each file.
    """
    found = []
    for command, files in UNSEEN.items():
        apart = [file for file in files if base.get(file) != head.get(file)]
        by_cases = command == "nox -s gpu" and any((c.variant, c.device) == ("auto", "cuda") for c in cases)
        if apart and not by_cases:
            found.append(f"{' and '.join(apart)}: run {command}")
    return "; ".join(found)


def packages_apart(base: Mapping[str, str], head: Mapping[str, str]) -> str:
    """``onnxruntime 1.23.2 → 1.24.0`` of each package whose versions differ; "" of none."""
    apart = [name for name in sorted({*base, *head}) if base.get(name) != head.get(name)]
    named = [f"{name} {base.get(name, 'none')} → {head.get(name, 'none')}" for name in apart[:PACKAGES_NAMED]]
    more = f" and {len(apart) - PACKAGES_NAMED} more" if len(apart) > PACKAGES_NAMED else ""
    return ", ".join(named) + more
