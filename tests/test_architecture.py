"""The import law: the ruler may use the subject, never the other way round, and only by its front door."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lerobot_policy_act_compiled

ROOT = Path(__file__).resolve().parents[1]
SUBJECT = "lerobot_policy_act_compiled"
SUBJECT_FILES = sorted((ROOT / "src" / SUBJECT).rglob("*.py"))
RULER_FILES = sorted((ROOT / "benchmarks").rglob("*.py"))
# The adapters to torch's private API, one on either side.
PRIVATE_TORCH = ROOT / "benchmarks" / "counters.py"
PRIVATE_TORCH_OF_THE_SUBJECT = ROOT / "src" / SUBJECT / "inductor.py"


def imports(file: Path) -> set[str]:
    """Every name that ``file`` imports at any depth of it, dotted; from a module also what is taken."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # Relative ones stay in their own package: src and benchmarks never share one.
            module = "." * node.level + (node.module or "")
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def private_torch(file: Path) -> set[str]:
    """Private modules of torch that ``file`` imports or names, as ``torch._dynamo``."""
    named = {
        f"torch.{node.attr}"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch"
    }
    return {
        name
        for name in imports(file) | named
        if name.startswith("torch.")
        and any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
    }


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names if not name.startswith(".")}


def imported_at_once(file: Path) -> set[str]:
    """What importing ``file`` imports, top-level names; not what its functions import when called."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names)


@pytest.mark.parametrize("file", RULER_FILES, ids=lambda file: str(file.relative_to(ROOT / "benchmarks")))
def test_asv_can_import_every_module_of_the_ruler(file: Path) -> None:
    """Its environment has what asv.conf.json names, torch, LeRobot, and what these two need."""
    named = set(json.loads((ROOT / "asv.conf.json").read_text())["matrix"]["req"])
    of_torch_and_lerobot = {"torch", "numpy", "filelock", "jinja2", "packaging"}
    assert imported_at_once(file) <= named | of_torch_and_lerobot


def test_there_are_files_to_check() -> None:
    assert len(SUBJECT_FILES) > 4
    assert PRIVATE_TORCH in RULER_FILES
    for file in (PRIVATE_TORCH, PRIVATE_TORCH_OF_THE_SUBJECT):
        assert private_torch(file), "the check below sees private names"


@pytest.mark.parametrize("file", SUBJECT_FILES, ids=lambda file: file.name)
def test_the_subject_imports_no_ruler(file: Path) -> None:
    allowed = {"draccus", "filelock", "lerobot", "numpy", "packaging", "torch", "torchvision"}
    standard = {"__future__", "argparse", "collections", "contextlib", "copy", "dataclasses", "functools"}
    standard |= {"hashlib", "importlib", "json", "logging", "pathlib", "re", "runpy", "sys", "tempfile"}
    standard |= {"threading", "time", "types", "typing", "weakref"}
    assert top(imports(file)) <= allowed | standard


@pytest.mark.parametrize("file", SUBJECT_FILES + RULER_FILES, ids=lambda file: file.name)
def test_only_the_adapters_touch_private_torch(file: Path) -> None:
    if file not in (PRIVATE_TORCH, PRIVATE_TORCH_OF_THE_SUBJECT):
        assert private_torch(file) == set()


@pytest.mark.parametrize("file", RULER_FILES, ids=lambda file: file.name)
def test_the_ruler_uses_public_names_of_the_subject(file: Path) -> None:
    public = {f"{SUBJECT}.{name}" for name in lerobot_policy_act_compiled.__all__}
    used = {name for name in imports(file) if name.split(".")[0] == SUBJECT}
    assert used <= public | {SUBJECT}


@pytest.mark.parametrize(
    "name", ["__main__", "verdict", "exact", "result", "report", "timing", "tiers", "sides"]
)
def test_the_gate_decides_without_torch(name: str) -> None:
    """A report can be made, and a verdict tested, on a machine that has no torch."""
    command = f"import benchmarks.gate.{name}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=False).returncode == 0


def test_the_counters_know_no_policy() -> None:
    assert not top(imports(PRIVATE_TORCH)) & {SUBJECT, "lerobot", "benchmarks"}


@pytest.mark.parametrize("name", lerobot_policy_act_compiled.__all__)
def test_public_names_are_there(name: str) -> None:
    assert hasattr(importlib.import_module(SUBJECT), name)


def test_the_public_names_are_the_contract() -> None:
    assert sorted(lerobot_policy_act_compiled.__all__) == [
        "ACTCompiledConfig",
        "ACTCompiledPolicy",
        "load_artifact",
        "patch_lerobot",
        "patch_policy",
        "save_artifact",
        "unpatch_lerobot",
    ]
