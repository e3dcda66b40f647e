"""How far an index of Inductor's moves with a loop's variable, asked of the terms that move with it alone.

For each index and variable torch lets SymPy simplify the whole index, twice, to learn whether a loop can be
vectorised. In the backward pass of max pooling an index has a minimum within a minimum for height and for
width, and SymPy takes 0.1 to 0.3 s for each: 5 to 8 of the 37 to 40 s of Python that pusht's training step
takes to compile (two cores with AVX-512, torch 2.11). A term without the variable is the same before and
after a step of it, so it is left out. The answers, and the kernels, are torch's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from inspect import signature
from typing import Any

log = logging.getLogger(__name__)

KNOWN = {"stride_at": ["index", "var"], "stride_at_vec_range": ["index", "var", "vec_length"]}


def of_moving_terms() -> None:
    """Ask SymPy for less from now on, in this process; twice is once.

    Where torch's functions are not as they are known, all stays as it is.
    """
    try:
        from torch._inductor.codegen import cpp

        theirs = {name: getattr(cpp, name) for name in KNOWN}
        known = all(list(signature(theirs[name]).parameters) == KNOWN[name] for name in KNOWN)
    except (ImportError, AttributeError, TypeError, ValueError):
        known = False
    if not known:
        log.debug("torch's strides are left as they are: this release has other functions")
        return
    for name, function in theirs.items():
        if not hasattr(function, "of_moving_terms"):
            setattr(cpp, name, _of_moving_terms(function))


def _of_moving_terms(function: Callable[..., Any]) -> Callable[..., Any]:
    @lru_cache(4096)  # torch's own hold 128
    def stride(index: Any, var: Any, vec_length: int | None = None) -> Any:
        if index.is_Add and var.is_Symbol:  # torch asks for sums and quotients too
            index = index.func(*(term for term in index.args if term.has(var)))
        return function(index, var) if vec_length is None else function(index, var, vec_length)

    stride.of_moving_terms = function  # type: ignore[attr-defined]
    return stride
