"""Which of the processor's instruction sets Inductor may use: tried once, not in every process.

Before its first kernel torch compiles a small file for each instruction set that the processor has. It keeps
these files, but loads each of them in every process again, one after the other, in a Python of its own that
imports torch. With AVX-512 these are six, and took 10 s of every process that compiles on two cores, however
much of its own code was kept (torch 2.10). Here what could be loaded is noted beside the file, which torch
names by the compiler, its flags and torch's release. Those that are new are tried at once, and loaded with no
more of torch than its library, 0.2 s in place of 1.4, as torch itself does from 2.15 on.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)

NOTE = ".loaded"  # in place of the source's ending
LOAD = """
from ctypes import RTLD_GLOBAL, CDLL, cdll
try:
    CDLL({torchs!r}, RTLD_GLOBAL)
    cdll.LoadLibrary("__lib_path__")
except OSError:  # some builds of torch find their other libraries while they are imported
    import torch
    cdll.LoadLibrary("__lib_path__")
"""


def try_once() -> None:
    """From now on, in this process; twice is once.

    Where torch's functions are not as they are known, all stays as it is.
    """
    try:
        from torch._inductor import cpu_vec_isa as theirs
        from torch._inductor.codecache import write

        alone, all_of_them = theirs.VecISA.check_build, theirs.valid_vec_isa_list
        fingerprint, flags_here = theirs._get_isa_dry_compile_fingerprint, theirs.x86_isa_checker
        sets = list(theirs.supported_vec_isa_list)
        known = (
            list(signature(alone).parameters) == ["self", "code"] and not signature(all_of_them).parameters
        )
    except (ImportError, AttributeError, TypeError, ValueError):
        known = False
    if not known:
        log.debug("torch asks in every process what the processor can do: this release has other functions")
        return
    if alone.__module__ == __name__:
        return
    torchs_load: str = getattr(theirs.VecISA, "_avx_py_load", "")
    library = Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"
    if library.is_file() and torchs_load.startswith("\nimport torch\n"):
        theirs.VecISA._avx_py_load = LOAD.format(torchs=str(library))

    def check_build(self: Any, code: str) -> bool:
        _, source = write(code, "cpp", extra=fingerprint(self._arch_flags))
        note = Path(source).with_suffix(NOTE)
        if note.exists():
            return True
        works = bool(alone(self, code))
        ours = getattr(theirs.VecISA, "_avx_py_load", "") != torchs_load
        if not works and ours and Path(source).with_suffix(".so").exists():
            theirs.VecISA._avx_py_load = torchs_load  # whatever it is that ours lacks here
            works = bool(alone(self, code))
        if works:
            with suppress(OSError):  # it is tried again
                note.touch()
        return works

    @cache
    def valid_vec_isa_list() -> Any:
        here = flags_here()
        with ThreadPoolExecutor() as pool:
            list(pool.map(bool, (each for each in sets if all(flag in here for flag in str(each).split()))))
        return all_of_them()

    check_build.torchs = alone  # type: ignore[attr-defined]
    valid_vec_isa_list.torchs = all_of_them  # type: ignore[attr-defined]
    theirs.VecISA.check_build = check_build  # type: ignore[method-assign,unused-ignore]
    theirs.valid_vec_isa_list = valid_vec_isa_list
