"""Every mutant and every harmless edit still applies to the subject as it stands, and still parses."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from benchmarks.gate.proof.mutants import HARMLESS, MUTANTS, Edit
from benchmarks.repository import PACKAGE

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("edit", [*MUTANTS, *HARMLESS], ids=lambda edit: edit.name)
def test_an_edit_applies(edit: Edit, tmp_path: Path) -> None:
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE)
    before = (tmp_path / PACKAGE / edit.file).read_text()
    edit.apply(tmp_path)
    after = (tmp_path / PACKAGE / edit.file).read_text()
    assert after != before
    ast.parse(after)
    with pytest.raises(ValueError, match="its text stands"):
        Edit("gone", "no such text", "", "").apply(tmp_path)


def test_there_are_enough_of_them() -> None:
    names = [edit.name for edit in (*MUTANTS, *HARMLESS)]
    assert len(set(names)) == len(names)
    assert len(MUTANTS) >= 12
    assert len(HARMLESS) >= 6
