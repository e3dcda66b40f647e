"""Whether the graph that is traced holds the weights as constants, and what it may hold beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from lerobot.policies.act.modeling_act import ACTSinusoidalPositionEmbedding2d
from torch import Tensor

_frozen = False  # read while a graph is traced, and guarded by it


@contextmanager
def frozen_graphs() -> Iterator[None]:
    """Graphs that are traced in the block hold the weights as constants."""
    global _frozen
    before, _frozen = _frozen, True
    try:
        yield
    finally:
        _frozen = before


def in_frozen_graph() -> bool:
    return _frozen and torch.compiler.is_compiling()


@lru_cache(maxsize=32)
def fixed_position_table(
    dimension: int, height: int, width: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The cameras' position embedding ``(1, 2 * dimension, height, width)``, made once and shared."""
    with torch.inference_mode(False), torch.no_grad():
        features = torch.empty((1, 1, height, width), dtype=dtype, device=device)
        return ACTSinusoidalPositionEmbedding2d(dimension)(features)


@torch.compiler.assume_constant_result
def constant_position_table(
    dimension: int, height: int, width: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """``fixed_position_table`` as a constant of the graph, folded into what it is added to."""
    return fixed_position_table(dimension, height, width, dtype, device)
