"""How a graph is traced: what the tracing thread has asked for, as constants of the graph.

Each thread has flags of its own, and no graph guards them: a function that is compiled under a flag is a
copy with graphs of its own (``inductor.copy_of``), so another thread or policy neither sees the flag nor
gets the graph.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class _Flags(threading.local):
    frozen = False
    masks_of_16_bits = False
    merged_products = False
    constants: list[Tensor] | None = None


_flags = _Flags()


@contextmanager
def traced(
    *,
    frozen: bool | None = None,
    masks_of_16_bits: bool | None = None,
    merged_products: bool | None = None,
    constants: list[Tensor] | None = None,
) -> Iterator[None]:
    """Graphs that this thread traces in the block are of this kind; None leaves a flag as it is.

    Args:
        frozen: they hold the weights as constants.
        masks_of_16_bits: they draw 16 bits for each element of a dropout mask on a CPU.
        merged_products: they attend by fewer products when they act, see ``attention``.
        constants: takes tensors that they hold, for who replays them when torch has forgotten the graph.
    """
    before = _flags.frozen, _flags.masks_of_16_bits, _flags.merged_products, _flags.constants
    _flags.frozen = before[0] if frozen is None else frozen
    _flags.masks_of_16_bits = before[1] if masks_of_16_bits is None else masks_of_16_bits
    _flags.merged_products = before[2] if merged_products is None else merged_products
    _flags.constants = before[3] if constants is None else constants
    try:
        yield
    finally:
        _flags.frozen, _flags.masks_of_16_bits, _flags.merged_products, _flags.constants = before


def hold(constant: Tensor) -> None:
    """Give ``constant`` to whoever asked for those of the graph that this thread traces."""
    if _flags.constants is not None:
        _flags.constants.append(constant)


@torch.compiler.assume_constant_result
def _frozen() -> bool:
    return _flags.frozen


@torch.compiler.assume_constant_result
def _16_bit_masks() -> bool:
    return _flags.masks_of_16_bits


@torch.compiler.assume_constant_result
def _merged_products() -> bool:
    return _flags.merged_products


def in_frozen_graph() -> bool:
    return torch.compiler.is_compiling() and _frozen()


def with_16_bit_masks() -> bool:
    return torch.compiler.is_compiling() and _16_bit_masks()


def with_merged_products() -> bool:
    return torch.compiler.is_compiling() and _merged_products()
