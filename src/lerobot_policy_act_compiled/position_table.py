"""The cameras' position embedding: made once, and a constant of a graph with constant weights."""

from __future__ import annotations

from functools import lru_cache

import torch
from lerobot.policies.act.modeling_act import ACTSinusoidalPositionEmbedding2d
from torch import Tensor

from .tracing import hold


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
    table = fixed_position_table(dimension, height, width, dtype, device)
    hold(table)
    return table
