"""The session that becomes the gate: it is started without nox in between, so its exit code is its own."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_gate_starts_without_what_nox_wants_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nox says None of a variable that is to be taken out (2026.10), and execve takes strings only."""
    monkeypatch.chdir(ROOT)  # the noxfile reads pyproject.toml where nox runs it
    spec = importlib.util.spec_from_file_location("noxfile_under_test", ROOT / "noxfile.py")
    assert spec is not None
    assert spec.loader is not None
    noxfile = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(noxfile)
    started: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *args: started.append(args))
    monkeypatch.setenv("TO_BE_UNSET", "1")
    session = SimpleNamespace(
        bin="/env/bin",
        env={"TO_BE_UNSET": None, "KEPT": "2"},
        posargs=["--base", "main"],
        install=lambda *_, **__: None,
    )
    noxfile.gate.func(session)
    ((program, command, environment),) = started
    assert (program, command[1:]) == ("/env/bin/python", ["-m", "benchmarks.gate", "--base", "main"])
    assert "TO_BE_UNSET" not in environment
    assert environment["KEPT"] == "2"
