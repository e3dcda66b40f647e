"""Dropout of a compiled training step on a CPU: its random numbers from torch's own generator.

Inductor draws a compiled graph's random numbers itself. On a CPU it does so one number at a time,
and each draw's place in the sequence is a constant of the kernel around it, so that no two layers
share a kernel: the step is slower than an eager one and takes twice as long to compile. Here the
mask is drawn as eager mode draws it, by an operator that a graph calls and does not look into;
what is done with the mask stays in the graph.

On other devices, in eval mode and in eager mode nothing is different.

Eager mode's numbers are slow too: 113 of the 1026 ms that pusht's compiled training step takes (two
cores, batch 8). Short numbers, which ``compile_mode="auto"`` asks for (``tracing``), are 16 bits an element
instead: other masks from the same seed, and of 0.1 a probability of 0.100006.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import is_plain, merged, projected
from .tracing import with_16_bit_masks

_OPERATORS = torch.library.Library("act_compiled", "DEF")
_OPERATORS.define(
    # Random: neither computed a second time in the backward pass nor folded into a constant.
    "keep_mask(Tensor like, float p, bool positive) -> Tensor",
    tags=(torch.Tag.nondeterministic_seeded,),
)
_OPERATORS.define(
    "keep_mask_of_16_bits(Tensor like, int dropped, bool positive) -> Tensor",
    tags=(torch.Tag.nondeterministic_seeded,),
)


def _keep_mask(like: Tensor, p: float, positive: bool) -> Tensor:
    keep = torch.empty_like(like, dtype=torch.bool).bernoulli_(1 - p)
    return _positive(keep, like) if positive else keep


def _positive(keep: Tensor, like: Tensor) -> Tensor:
    return torch.gt(keep, like.le(0), out=keep)  # keep and not ``like <= 0``: NaN stays


def _keep_mask_of_16_bits(like: Tensor, dropped: int, positive: bool) -> Tensor:
    keep = torch.empty_like(like, dtype=torch.bool)  # dense, whatever the strides of ``like``
    drawn = torch.empty((keep.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    numbers = drawn.view(torch.int16)[: keep.numel()]
    torch.ge(numbers, dropped - (1 << 15), out=keep.as_strided(numbers.shape, (1,)))
    return _positive(keep, like) if positive else keep


def _shape_of_mask(like: Tensor, _: float, __: bool) -> Tensor:
    return torch.empty_like(like, dtype=torch.bool)


_OPERATORS.impl("keep_mask", _keep_mask, "CPU")
_OPERATORS.impl("keep_mask", _shape_of_mask, "Meta")
_OPERATORS.impl("keep_mask_of_16_bits", _keep_mask_of_16_bits, "CPU")
_OPERATORS.impl("keep_mask_of_16_bits", _shape_of_mask, "Meta")


def _better_here(x: Tensor, p: float, training: bool) -> bool:
    return torch.compiler.is_compiling() and training and 0 < p < 1 and x.device.type == "cpu"


def attention_better_here(attention: nn.MultiheadAttention, x: Tensor) -> bool:
    """Whether ``attend`` does what ``attention`` does, and its dropout is better drawn here."""
    return _better_here(x, attention.dropout, attention.training) and is_plain(attention)


def _drawn_here(module: nn.Module, x: Tensor) -> bool:
    return type(module) is nn.Dropout and _better_here(x, module.p, module.training)


def dropout(module: nn.Module, x: Tensor, like: Tensor | None = None) -> Tensor:
    """``module(x)``, where ``module`` is an ``nn.Dropout``.

    Args:
        module: any other module is called as it is.
        x: of any shape.
        like: a tensor of the same shape that is held in memory anyway, for the operator to take;
            without it that is ``x``. No two calls may be given the same one: equal calls are one.
    """
    if not _drawn_here(module, x):
        return module(x)
    keep, scale = _mask(module.p, x if like is None else like)
    return x * keep * scale


def dropout_of_relu(module: nn.Module, x: Tensor) -> Tensor:
    """``module(relu(x))``, where ``module`` is an ``nn.Dropout``; any other is called as it is.

    One mask says what both let through. Of relu alone Inductor keeps another for the backward pass, and
    writes it one element at a time with AVX-512: 233 of the 5360 ms of aloha's training step.
    """
    if not _drawn_here(module, x):
        return module(F.relu(x))
    keep, scale = _mask(module.p, x, positive=True)
    return torch.where(keep, x * scale, 0)


def _mask(p: float, like: Tensor, *, positive: bool = False) -> tuple[Tensor, float]:
    """What to keep of ``like``, each element with a probability of ``1 - p``, and what to multiply it by.

    Args:
        positive: keep nothing that is not more than zero.
    """
    dropped = round(p * (1 << 16))  # of so many equally likely numbers
    if with_16_bit_masks() and 0 < dropped < 1 << 16:
        keep = torch.ops.act_compiled.keep_mask_of_16_bits(like, dropped, positive)
        p = dropped / (1 << 16)
    else:
        keep = torch.ops.act_compiled.keep_mask(like, p, positive)
    return keep, 1 / (1 - p)


def attend(
    attention: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    padding: Tensor | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """What ``attention`` returns for ``(T, B, D)`` tensors, its dropout drawn by ``keep_mask``.

    Scaled dot-product attention (Vaswani et al. 2017).

    Args:
        padding: ``(B, T)``, True where a key is not to be seen.
        batch_size: of the result, where the tensors are ``(T, 1, D)``: the same for every sample until
            dropout draws a mask for each.
    """
    q, k, v = projected(attention, query, key, value)
    scores = q @ k.transpose(-1, -2)
    scaled = scores * attention.head_dim**-0.5
    if padding is not None:
        scaled = scaled.masked_fill(padding[:, None, None, :], float("-inf"))
    weights = scaled.softmax(-1)
    if batch_size is not None:
        scores, weights = (each.expand(batch_size, -1, -1, -1) for each in (scores, weights))
    keep, scale = _mask(attention.dropout, scores)
    return merged(attention, (weights * keep * scale) @ v)
