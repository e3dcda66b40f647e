"""Every mutant and every harmless edit still applies to the subject as it stands, and still parses."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from benchmarks.edits import Edit
from benchmarks.gate.proof.mutants import HARMLESS, MUTANTS, Mutant
from benchmarks.gpu.gated import OF_CAPTURE
from benchmarks.repository import PACKAGE

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("mutant", [*MUTANTS, *HARMLESS, *OF_CAPTURE], ids=lambda mutant: mutant.name)
def test_an_edit_applies(mutant: Mutant, tmp_path: Path) -> None:
    edit = mutant.edit
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE)
    before = (tmp_path / PACKAGE / edit.file).read_text()
    edit.apply(tmp_path)
    after = (tmp_path / PACKAGE / edit.file).read_text()
    assert after != before
    ast.parse(after)
    with pytest.raises(ValueError, match="its text stands"):
        Edit("no such text", "").apply(tmp_path)


def test_there_are_enough_of_them() -> None:
    names = [mutant.name for mutant in (*MUTANTS, *HARMLESS)]
    assert len(set(names)) == len(names)
    assert len(MUTANTS) >= 24
    assert len(HARMLESS) >= 6
    assert all(mutant.cause for mutant in MUTANTS)
    assert not any(mutant.cause for mutant in HARMLESS)
