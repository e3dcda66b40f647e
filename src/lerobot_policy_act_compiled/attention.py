"""Attention with one product for queries and keys where torch's module takes two."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def is_plain(attention: nn.MultiheadAttention) -> bool:
    """Whether ``attention`` is as ACT has it, which is all that is known here."""
    return (
        type(attention) is nn.MultiheadAttention
        and attention.in_proj_weight is not None
        and attention.in_proj_bias is not None
        and attention.bias_k is None
        and not (attention.add_zero_attn or attention.batch_first)
    )


def projected(
    attention: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values ``(B, heads, T, D / heads)`` of ``(T, B, D)`` tensors."""
    weight, bias, width = attention.in_proj_weight, attention.in_proj_bias, attention.embed_dim

    def of(x: Tensor, first: int, last: int) -> list[Tensor]:  # of q, k, v: 0, 1, 2
        part = slice(first * width, (last + 1) * width)
        whole = F.linear(x, weight[part], bias[part]).split(width, dim=-1)  # (T, B, D) each
        return [each.unflatten(-1, (attention.num_heads, -1)).permute(1, 2, 0, 3) for each in whole]

    if query is key:  # one product instead of two, each with half of the rows
        q, k = of(query, 0, 1)
    else:
        (q,), (k,) = of(query, 0, 0), of(key, 1, 1)
    return q, k, of(value, 2, 2)[0]


def merged(attention: nn.MultiheadAttention, mixed: Tensor) -> Tensor:
    """The output ``(T, B, D)`` of ``(B, heads, T, D / heads)``."""
    # Its weights, as torch does: what wraps out_proj as a module, like peft's LoRA, is not called.
    out = attention.out_proj
    return F.linear(mixed.permute(2, 0, 1, 3).flatten(2), out.weight, out.bias)


def attend_when_acting(attention: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What ``attention`` returns in eval mode for ``(T, B, D)`` tensors, by torch's fused attention."""
    return merged(attention, F.scaled_dot_product_attention(*projected(attention, query, key, value)))
