"""The import law: the ruler may use the subject, never the other way round, and only by its front door."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import lerobot_policy_act_compiled

ROOT = Path(__file__).resolve().parents[1]
SUBJECT = "lerobot_policy_act_compiled"
SUBJECT_FILES = sorted((ROOT / "src" / SUBJECT).rglob("*.py"))
RULER = ROOT / "benchmarks"
RULER_FILES = sorted(RULER.rglob("*.py"))
SUITE = RULER / "suite"
# Rooms of the ruler stand beside each other on the suite and on the floor, the files of benchmarks/ itself.
FLOOR = "floor"
MAY_IMPORT = {
    FLOOR: {FLOOR, "suite"},
    "suite": {"suite"},
    "pages": {"pages", "suite", FLOOR},
    "history": {"history", "suite", FLOOR},
    "releases": {"releases", "suite", FLOOR},
    "gate": {"gate", "suite", FLOOR},
    "gpu": {"gpu", "suite", FLOOR},
    "gate/proof": {"gate/proof", "gate", "suite", FLOOR},
}
# Every other arrow, with its reason in docs/architecture.md.
EXCEPTIONS = {
    ("gpu/gated.py", "gate/proof"),
    ("pages/effects.py", "gate"),
    ("releases/compat.py", "pages"),
    ("releases/upstream.py", "pages"),
}
# The adapters to torch's private API, on either side.
PRIVATE_TORCH = {SUITE / "compile_counters.py", SUITE / "step_counters.py"}
PRIVATE_TORCH_OF_THE_SUBJECT = {
    ROOT / "src" / SUBJECT / name
    for name in ("index_strides.py", "inductor.py", "instruction_sets.py", "kernel_files.py", "products.py")
}


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


def named(file: Path) -> str:
    return file.relative_to(RULER).as_posix()


def room_of(file: Path) -> str:
    return file.parent.relative_to(RULER).as_posix().replace(".", FLOOR)


def modules_of_the_ruler(file: Path) -> set[Path]:
    """Files of the ruler that ``file`` imports, at any depth of it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            found.update([package, *(package / alias.name for alias in node.names)])
    return {path for place in found if (path := place.with_suffix(".py")) in RULER_FILES}


@pytest.mark.parametrize("file", RULER_FILES, ids=named)
def test_rooms_of_the_ruler_import_the_floor_and_not_each_other(file: Path) -> None:
    room = room_of(file)
    others = {room_of(other) for other in modules_of_the_ruler(file)} - MAY_IMPORT[room]
    assert {(named(file), other) for other in others} <= EXCEPTIONS


def test_every_exception_is_one_and_has_its_reason() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for name, room in EXCEPTIONS:
        assert room in {room_of(other) for other in modules_of_the_ruler(RULER / name)}
        assert f"`{name}`" in page


def section_of(file: Path) -> str:
    """Of the page: what it says of the subject, or of one room of the ruler; of the floor one paragraph."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    if file in SUBJECT_FILES:
        return page.partition("## The subject")[2].partition("\n## ")[0]
    if room_of(file) == FLOOR:
        return page.partition("The shared floor: ")[2].partition("\n\n")[0]
    (heading,) = [
        line for line in page.splitlines() if line.startswith("### ") and f"`{room_of(file)}/`" in line
    ]
    return page.partition(f"{heading}\n")[2].partition("\n### ")[0]


@pytest.mark.parametrize(
    "file", [each for each in (*SUBJECT_FILES, *RULER_FILES) if each.name != "__init__.py"], ids=str
)
def test_every_file_has_its_place_on_the_page(file: Path) -> None:
    assert {f"`{file.name}`", f"`{file.parent.name}/{file.name}`"} & set(
        re.findall("`[^`]+`", section_of(file))
    )


def test_there_are_no_circles() -> None:
    arrows = {named(file): set(map(named, modules_of_the_ruler(file))) for file in RULER_FILES}
    assert len(list(TopologicalSorter(arrows).static_order())) == len(RULER_FILES)


@pytest.mark.parametrize("file", [*SUBJECT_FILES, *RULER_FILES], ids=lambda file: file.name)
def test_no_file_is_long(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("file", sorted(SUITE.glob("*.py")), ids=named)
def test_asv_can_import_every_module_of_the_suite(file: Path) -> None:
    """Its environment has what asv.conf.json names, torch, LeRobot, and what these two need."""
    named = set(json.loads((ROOT / "asv.conf.json").read_text())["matrix"]["req"])
    of_torch_and_lerobot = {"torch", "numpy", "filelock", "jinja2", "packaging"}
    assert imported_at_once(file) <= named | of_torch_and_lerobot


def test_there_are_files_to_check() -> None:
    assert len(SUBJECT_FILES) > 4
    assert set(RULER_FILES) > PRIVATE_TORCH
    for file in (*PRIVATE_TORCH, *PRIVATE_TORCH_OF_THE_SUBJECT):
        assert private_torch(file), "the check below sees private names"


@pytest.mark.parametrize("file", SUBJECT_FILES, ids=lambda file: file.name)
def test_the_subject_imports_no_ruler(file: Path) -> None:
    allowed = {"draccus", "filelock", "lerobot", "numpy", "packaging", "torch", "torchvision"}
    standard = {"__future__", "argparse", "collections", "contextlib", "copy", "dataclasses", "functools"}
    standard |= {"hashlib", "importlib", "json", "logging", "pathlib", "re", "runpy", "sys", "tempfile"}
    standard |= {"concurrent", "inspect", "os", "threading", "time", "types", "typing", "warnings", "weakref"}
    standard |= {"abc", "ctypes", "gc", "itertools", "operator", "platform", "zlib"}
    of_the_extra = {"onnx", "onnx_ir", "onnxruntime", "onnxscript", "openvino", "platformdirs"}
    assert imported_at_once(file) & of_the_extra == set(), "without the extra cpu the package must import"
    of_a_gpu = {"triton"} if file.name == "samples_by_triton.py" else set()  # itself imported on CUDA only
    assert top(imports(file)) <= allowed | standard | of_the_extra | of_a_gpu


@pytest.mark.parametrize("file", SUBJECT_FILES + RULER_FILES, ids=lambda file: file.name)
def test_only_the_adapters_touch_private_torch(file: Path) -> None:
    if file not in {*PRIVATE_TORCH, *PRIVATE_TORCH_OF_THE_SUBJECT}:
        assert private_torch(file) == set()


# What tells one weight from another. samples_by_triton.py is a part of weights.py that only CUDA can import.
TELLS_WEIGHTS = {"_version", "data_ptr", "register_optimizer_step_post_hook"}


@pytest.mark.parametrize("file", SUBJECT_FILES, ids=lambda file: file.name)
def test_one_file_says_whether_these_are_still_the_weights(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & TELLS_WEIGHTS
    if file.name == "weights.py":
        assert used == TELLS_WEIGHTS - {"register_optimizer_step_post_hook"}, "the check sees these"
    elif file.name != "samples_by_triton.py":
        assert not used
        assert not any(name.rpartition(".")[2] in TELLS_WEIGHTS for name in imports(file))


@pytest.mark.parametrize("file", RULER_FILES, ids=lambda file: file.name)
def test_the_ruler_uses_public_names_of_the_subject(file: Path) -> None:
    public = {f"{SUBJECT}.{name}" for name in lerobot_policy_act_compiled.__all__}
    used = {name for name in imports(file) if name.split(".")[0] == SUBJECT}
    assert used <= public | {SUBJECT}


@pytest.mark.parametrize(
    "name", ["__main__", "run", "verdict", "comparison", "result", "report", "timing", "exact_tiers", "sides"]
)
def test_the_gate_decides_without_torch(name: str) -> None:
    """A report can be made, and a verdict tested, on a machine that has no torch."""
    command = f"import benchmarks.gate.{name}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("file", sorted(PRIVATE_TORCH), ids=named)
def test_the_counters_know_no_policy(file: Path) -> None:
    assert not top(imports(file)) & {SUBJECT, "lerobot", "benchmarks"}


@pytest.mark.parametrize("name", lerobot_policy_act_compiled.__all__)
def test_public_names_are_there(name: str) -> None:
    assert hasattr(importlib.import_module(SUBJECT), name)


def test_the_public_names_are_the_contract() -> None:
    assert sorted(lerobot_policy_act_compiled.__all__) == [
        "ACTCompiledConfig",
        "ACTCompiledPolicy",
        "export_policy",
        "load_artifact",
        "patch_lerobot",
        "patch_policy",
        "save_artifact",
        "unpatch_lerobot",
    ]
