"""What the processor can do: torch's own answer, asked once and not in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch._inductor import cpu_vec_isa

from lerobot_policy_act_compiled import instruction_sets

from ..child_process import ENDS_AT_ONCE
from .compiled_policies import each_way_to_our_policies

needs_sets = pytest.mark.skipif(
    not cpu_vec_isa.x86_isa_checker(), reason="torch tries instruction sets on x86-64 only"
)
TORCHS_LOAD = """
import torch
from ctypes import cdll
cdll.LoadLibrary("__lib_path__")
"""
loads_after_importing_torch = "except" not in cpu_vec_isa.VecISA._avx_py_load or (
    cpu_vec_isa.VecISA._avx_py_load.startswith(instruction_sets.LOAD.partition("(")[0])
)


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Commands that torch ran to try what it had compiled; its functions and its cache are as new."""
    instruction_sets.try_once()
    ours = cpu_vec_isa.valid_vec_isa_list
    monkeypatch.setattr(cpu_vec_isa, "valid_vec_isa_list", getattr(ours, "torchs", ours))
    check_build = cpu_vec_isa.VecISA.check_build
    monkeypatch.setattr(cpu_vec_isa.VecISA, "check_build", getattr(check_build, "torchs", check_build))
    if loads_after_importing_torch:
        monkeypatch.setattr(cpu_vec_isa.VecISA, "_avx_py_load", TORCHS_LOAD)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    found: list[Any] = []

    def noted(run: Callable[..., Any], command: Any, *args: Any, **options: Any) -> Any:
        if "LoadLibrary" in str(command):
            found.append(command)
        return run(command, *args, **options)

    for name in ("check_call", "run"):  # before torch 2.15, and since
        monkeypatch.setattr(subprocess, name, partial(noted, getattr(subprocess, name)))
    return found


@needs_sets
@pytest.mark.skipif(not loads_after_importing_torch, reason="a process of torch 2.15 loads it once")
def test_what_has_been_loaded_is_not_loaded_again(tried: list[Any]) -> None:
    avx2, code = cpu_vec_isa.VecAVX2(), cpu_vec_isa.VecISA._avx_code
    assert avx2.check_build(code)
    assert avx2.check_build(code)
    assert len(tried) == 2, "torch loads it each time"
    tried.clear()
    instruction_sets.try_once()
    instruction_sets.try_once()
    for _ in range(2):
        assert avx2.check_build(code)
    assert len(tried) == 1
    assert avx2.check_build(f"// other\n{code}")
    assert len(tried) == 2, "other code is another question"


@needs_sets
def test_what_could_not_be_loaded_is_tried_again(tried: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    avx2, code = cpu_vec_isa.VecAVX2(), cpu_vec_isa.VecISA._avx_code
    instruction_sets.try_once()
    with monkeypatch.context() as broken:

        def fails(run: Callable[..., Any], command: Any, *args: Any, **options: Any) -> Any:
            if "LoadLibrary" in str(command):
                raise subprocess.CalledProcessError(1, "python")
            return run(command, *args, **options)

        for name in ("check_call", "run"):
            broken.setattr(subprocess, name, partial(fails, getattr(subprocess, name)))
        for _ in range(2):
            assert not avx2.check_build(code)
    assert avx2.check_build(code)
    assert len(tried) == 1


def said_by(script: str) -> tuple[int, str]:
    """Exit code and output of a process that runs this script."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip()


IMPORTED = "import sys; print('torch' in sys.modules)"


@needs_sets
@pytest.mark.skipif(
    not (loads_after_importing_torch and sys.platform == "linux"),
    reason="torch 2.15 loads this way by itself; where there is no Linux, torch's way stays",
)
def test_to_load_what_needs_torchs_library_takes_no_import_of_torch(
    tried: list[Any],
) -> None:
    avx2, code = cpu_vec_isa.VecAVX2(), cpu_vec_isa.VecISA._avx_code
    instruction_sets.try_once()
    assert avx2.check_build(code)
    ((*_, load),) = tried
    assert said_by(load + IMPORTED) == (0, "False")
    library = load.rpartition('LoadLibrary("')[2].partition('"')[0]
    elsewhere = instruction_sets.LOAD.format(torchs="/nowhere.so").replace("__lib_path__", library)
    assert said_by(elsewhere + IMPORTED) == (0, "True"), "it is imported where that library alone is no help"
    assert said_by(load.replace(library, "/nowhere.so")) == (1, "")


@needs_sets
def test_what_our_way_cannot_load_is_loaded_as_torch_does(
    tried: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instruction_sets, "LOAD", "raise SystemExit(1)  # LoadLibrary, {torchs}")
    instruction_sets.try_once()
    asked = len(tried)
    assert cpu_vec_isa.VecAVX2().check_build(cpu_vec_isa.VecISA._avx_code)
    assert len(tried) - asked == (2 if loads_after_importing_torch and sys.platform == "linux" else 1)


@needs_sets
@pytest.mark.usefixtures("tried")
def test_the_answer_is_torchs() -> None:
    listed = cpu_vec_isa.valid_vec_isa_list
    expected = [str(each) for each in listed()]
    instruction_sets.try_once()
    assert cpu_vec_isa.valid_vec_isa_list is not listed
    assert [str(each) for each in cpu_vec_isa.valid_vec_isa_list()] == expected


@pytest.mark.usefixtures("tried")
def test_a_release_with_other_functions_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    other, listed = Path.touch, cpu_vec_isa.valid_vec_isa_list
    monkeypatch.setattr(cpu_vec_isa.VecISA, "check_build", other)
    instruction_sets.try_once()
    assert cpu_vec_isa.VecISA.check_build is other
    assert cpu_vec_isa.valid_vec_isa_list is listed


@needs_sets
@pytest.mark.usefixtures("tried")
@each_way_to_our_policies
def test_whoever_makes_a_policy_has_it(make: Callable[[Any], Any], tiny_policy: Callable[[], Any]) -> None:
    policy = tiny_policy()
    make(policy)
    assert cpu_vec_isa.VecISA.check_build.__module__ == instruction_sets.__name__


SCRIPT = """
import subprocess, sys
import torch
from lerobot_policy_act_compiled import patch_lerobot

started, run = [], subprocess.Popen.__init__

def noted(self, *arguments, **options):
    started.append((arguments, options))
    run(self, *arguments, **options)

subprocess.Popen.__init__ = noted
patch_lerobot()
torch.compile(lambda x: x.sin() + 1)(torch.zeros(64))
print(sum("cdll.LoadLibrary" in str(each) for each in started))
"""


@needs_sets
def test_the_second_process_tries_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    # Users do not set it, and with it torch 2.7 tries nothing.
    del environment["TORCHINDUCTOR_VEC_ISA_OK"]
    command = (sys.executable, "-c", ENDS_AT_ONCE + SCRIPT)
    first, second = (
        int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
        for _ in range(2)
    )
    assert first > 0
    assert second == 0
