"""What a package says to Python: its code without comments, layout and docstrings. No torch."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from pathlib import Path

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def meanings(package: Path, blobs: Mapping[str, str]) -> dict[str, str]:
    """A hash of what each file of the package means, by its path in the package.

    Args:
        package: where the files lie.
        blobs: git's hash of each of them, which stands for what is no Python.
    """
    return {name: _meaning(package / name) or blob for name, blob in blobs.items()}


def _meaning(path: Path) -> str | None:
    """Hash of a module's syntax tree, which has no comments and no places; None where there is none."""
    if path.suffix != ".py":
        return None
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the worker says it in Python's words
        return None
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
