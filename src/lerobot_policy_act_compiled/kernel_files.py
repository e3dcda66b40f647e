"""Inductor's C++ kernels of one graph in a few files: most of a file's time goes to headers and linking.

torch gives each kernel a file, a compiler and a library of its own. The 118 files of pusht's training step
take 67 s on two cores (AVX2, torch 2.11, headers precompiled); the same kernels in two files, forward and
backward, take 11 s. The code of a kernel, its flags and its Python binding are torch's own.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

Kernel = tuple[tuple[str, ...], str]  # types of its arguments, and its source
LEAST = 8  # kernels in a file, where there are so many: a file takes 0.9 s, a kernel 0.1
ENTRY = "kernel"  # what Inductor calls the function of every file
# Lines that stand before all kernels of a file; Python's header reads the macro.
FIRST = re.compile(r"^[ \t]*#[ \t]*(?:include\b|define PY_SSIZE_T_CLEAN\b).*$", re.MULTILINE)


def few_files() -> None:
    """Compile kernels together from now on, in this process, whichever model they are of; twice is once.

    Not of our graphs alone: ``torch.compile(policy.forward)`` is the user's own call, and backward is
    compiled when it first runs. Where torch's parts are not as they are known, or compile with one thread,
    all stays as it is; where a file does not compile, each of its kernels is compiled by torch.
    """
    try:
        from torch._inductor.async_compile import AsyncCompile, get_compile_threads
        from torch._inductor.codecache import CppPythonBindingsCodeCache, LambdaFuture

        alone = AsyncCompile.cpp_pybinding
    except (ImportError, AttributeError) as error:
        log.debug("kernels are compiled one by one: %s", error)
        return

    if alone.__module__ == __name__:
        return

    def cpp_pybinding(
        self: Any, argtypes: Sequence[str], source_code: str, *args: Any, **options: Any
    ) -> Any:
        threads = get_compile_threads()
        if threads < 2 or args or options:  # with one, torch compiles at once and waits for nothing
            return alone(self, argtypes, source_code, *args, **options)
        together = self.__dict__.get("_together")
        if together is None:
            together = _Together(
                CppPythonBindingsCodeCache, AsyncCompile.submit, partial(alone, self), threads
            )
            self._together = together
        return LambdaFuture(together.add(tuple(argtypes), source_code))

    AsyncCompile.cpp_pybinding = cpp_pybinding  # type: ignore[method-assign,unused-ignore]


class _Together:
    """The kernels of one generated module, compiled when the first of them is asked for.

    Args:
        code_cache: torch's class that compiles a file and loads it as a module of Python.
        submit: runs a task in one of the compile threads.
        alone: compiles one kernel as torch does, and returns a future of it.
        most: files.
    """

    def __init__(
        self, code_cache: Any, submit: Callable[..., Any], alone: Callable[..., Any], most: int
    ) -> None:
        self._code_cache, self._submit, self._alone, self._most = code_cache, submit, alone, most
        self._kernels: dict[Kernel, None] = {}
        self._functions: dict[Kernel, Any] = {}
        self._lock = threading.Lock()

    def add(self, argtypes: tuple[str, ...], source: str) -> Callable[[], Any]:
        """What returns the kernel's function."""
        kernel = argtypes, source
        self._kernels[kernel] = None
        return lambda: self._function(kernel)

    def _function(self, kernel: Kernel) -> Any:
        with self._lock:
            if kernel not in self._functions:
                waiting = [each for each in self._kernels if each not in self._functions]
                try:
                    self._functions |= self._compiled(waiting)
                except Exception as error:
                    log.debug("%d kernels are compiled one by one: %s", len(waiting), error)
                    futures = [self._alone(list(argtypes), source) for argtypes, source in waiting]
                    self._functions |= {
                        each: future.result() for each, future in zip(waiting, futures, strict=True)
                    }
            return self._functions[kernel]

    def _compiled(self, kernels: Sequence[Kernel]) -> dict[Kernel, Any]:
        files = min(self._most, -(-len(kernels) // LEAST))
        by_length = sorted(kernels, key=lambda kernel: len(kernel[1]))
        parts = [by_length[number::files] for number in range(files)]  # as long as one another
        waiting = [self._code_cache.load_async(self._text(part), submit_fn=self._submit) for part in parts]
        functions = {}
        for part, loaded in zip(parts, waiting, strict=True):
            module = loaded()
            for number, kernel in enumerate(part):
                functions[kernel] = getattr(_module(module, _name(number)), _name(number))
        return functions

    def _text(self, kernels: Sequence[Kernel]) -> str:
        """One file of these kernels, each with its binding in a namespace of its own."""
        texts = [self._with_binding(kernel, _name(number)) for number, kernel in enumerate(kernels)]
        first = dict.fromkeys(line.strip() for text in texts for line in FIRST.findall(text))
        return "\n".join([*first, *(FIRST.sub("", text) for text in texts)])

    def _with_binding(self, kernel: Kernel, name: str) -> str:
        """The text that torch would compile, with another name for the function."""
        found: list[str] = []

        def load_async(text: str, *_: Any, **__: Any) -> Callable[[], None]:
            found.append(text)
            return lambda: None

        call = self._code_cache.call_entry_function.replace(ENTRY, name)
        names = {"entry_function": name, "call_entry_function": call, "load_async": staticmethod(load_async)}
        text_of: Any = type("TextOf", (self._code_cache,), names)
        text_of.load_pybinding_async(list(kernel[0]), kernel[1])
        return f"namespace of_{name} {{\n#define {ENTRY} {name}\n{found[0]}\n#undef {ENTRY}\n}}"


def _name(number: int) -> str:
    """The first has the name that torch's loader asks for."""
    return f"{ENTRY}_{number}" if number else ENTRY


def _module(first: Any, name: str) -> ModuleType:
    """One of the modules that ``first``'s library holds."""
    full_name = f"{first.key}.{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(full_name, first.__file__)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full_name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[full_name]
