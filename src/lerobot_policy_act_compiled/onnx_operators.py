"""The operators of torch's ONNX exporter: a source is read only where somebody asks for what is in it.

At each export torch asks onnxscript for its list of 500 operators. For the domain of each, onnxscript parses
the operator's source, though the operator has it at hand. Without that, a first action of aloha takes 2.75 s
and not 2.96 (two cores, torch 2.10, onnxscript 0.7.2, medians of fresh processes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def sources_left_unread() -> Iterator[None]:
    """In the block, in the whole process; one thread at a time. Another onnxscript stays as it is."""
    try:
        from onnxscript.values import TracedOnnxFunction as Operator

        whole = vars(Operator)["function_ir"]
    except (ImportError, KeyError):
        whole = None
    if not isinstance(whole, property):
        yield
        return

    class Unread:
        """What ``function_ir`` gives: the domain at once, and else what the source says."""

        def __init__(self, operator: Any) -> None:
            self._operator = operator

        @property
        def domain(self) -> str:
            found: str = self._operator.opset.domain
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(whole.__get__(self._operator), name)

    Operator.function_ir = property(Unread)
    try:
        yield
    finally:
        Operator.function_ir = whole
