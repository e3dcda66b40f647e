"""The layers of ACT: fewer operations for the same result, so a graph of them is small and compiles fast.

Shapes are those of LeRobot's layers: tokens ``(T, B, D)``, images ``(B, C, H, W)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from lerobot.policies.act.modeling_act import ACTDecoder, ACTDecoderLayer, ACTEncoder, ACTEncoderLayer
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from .attention import attend_when_acting, is_plain
from .dropout import attend, attention_better_here, dropout, dropout_of_relu
from .tracing import in_frozen_graph, with_merged_products

STOCK_BATCH_NORM_FORWARD = FrozenBatchNorm2d.forward


def _attend(
    attention: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None
) -> Tensor:
    if attention_better_here(attention, query):
        return attend(attention, query, key, value, padding)
    if with_merged_products() and padding is None and not attention.training and is_plain(attention):
        return attend_when_acting(attention, query, key, value)
    # ACT never reads the attention weights; asking for them rules out fused attention and
    # costs a mean over all heads.
    return attention(query, key, value, key_padding_mask=padding, need_weights=False)[0]


def _residual(
    layer: nn.Module, sublayer: Callable[[Tensor], Tensor], x: Tensor, norm: nn.Module, drop: nn.Module
) -> Tensor:
    if layer.pre_norm:
        return x + dropout(drop, sublayer(norm(x)))
    return norm(x + dropout(drop, sublayer(x)))


def _feed_forward(layer: ACTEncoderLayer | ACTDecoderLayer, x: Tensor) -> Tensor:
    hidden = layer.linear1(x)
    if layer.activation is F.relu:
        return layer.linear2(dropout_of_relu(layer.dropout, hidden))
    return layer.linear2(dropout(layer.dropout, layer.activation(hidden), like=hidden))


def _plus(x: Tensor, position: Tensor | None) -> Tensor:
    return x if position is None else x + position


def encoder_layer_forward(
    self: ACTEncoderLayer, x: Tensor, pos_embed: Tensor | None = None, key_padding_mask: Tensor | None = None
) -> Tensor:
    """Self-attention and feed-forward, ``(T, B, D) -> (T, B, D)``."""

    def attention(h: Tensor) -> Tensor:
        query = _plus(h, pos_embed)
        return _attend(self.self_attn, query, query, h, key_padding_mask)

    x = _residual(self, attention, x, self.norm1, self.dropout1)
    return _residual(self, partial(_feed_forward, self), x, self.norm2, self.dropout2)


def first_token(
    encoder: ACTEncoder, tokens: Tensor, pos_embed: Tensor, key_padding_mask: Tensor | None = None
) -> Tensor:
    """``encoder(tokens, ...)[0]``: what it makes of the first token, ``(T, B, D) -> (B, D)``.

    Nobody reads the other rows of the last layer, so in a graph that layer has one query and one row
    of feed-forward; the keys and values are still those of all tokens. In eager mode, where dropout is
    to draw what stock LeRobot draws, all rows are computed.
    """
    plain = type(encoder) is ACTEncoder and len(encoder.layers) > 0
    if not (torch.compiler.is_compiling() and plain and type(encoder.layers[-1]) in _ENCODER_LAYERS):
        return encoder(tokens, pos_embed=pos_embed, key_padding_mask=key_padding_mask)[0]
    *layers, last = encoder.layers
    for layer in layers:
        tokens = layer(tokens, pos_embed=pos_embed, key_padding_mask=key_padding_mask)

    def attention(first: Tensor) -> Tensor:
        seen = last.norm1(tokens) if last.pre_norm else tokens
        return _attend(last.self_attn, first + pos_embed[:1], seen + pos_embed, seen, key_padding_mask)

    x = _residual(last, attention, tokens[:1], last.norm1, last.dropout1)
    x = _residual(last, partial(_feed_forward, last), x, last.norm2, last.dropout2)
    return encoder.norm(x)[0]


def decoder_input(decoder: nn.Module, positions: Tensor, chunk_size: int, batch_size: int) -> Tensor:
    """Zeros ``(S, B, D)``, or ``(S, 1, D)`` where the first layer needs no more.

    Its self-attention sees these zeros and weights, which are the same for every sample until dropout
    draws its masks.
    """
    first = list(decoder.layers)[:1] if type(decoder) is ACTDecoder else []
    if any(
        type(layer) in _DECODER_LAYERS and attention_better_here(layer.self_attn, positions)
        for layer in first
    ):
        batch_size = 1
    return positions.new_zeros((chunk_size, batch_size, positions.shape[-1]))


def decoder_layer_forward(
    self: ACTDecoderLayer,
    x: Tensor,
    encoder_out: Tensor,
    decoder_pos_embed: Tensor | None = None,
    encoder_pos_embed: Tensor | None = None,
) -> Tensor:
    """Self-attention, cross-attention to ``encoder_out`` (T, B, D), feed-forward; ``(S, B, D)``."""

    def self_attention(h: Tensor) -> Tensor:
        query = _plus(h, decoder_pos_embed)
        if h.shape[1] != encoder_out.shape[1]:  # ``decoder_input`` made it so
            return attend(self.self_attn, query, query, h, batch_size=encoder_out.shape[1])
        return _attend(self.self_attn, query, query, h)

    def cross_attention(h: Tensor) -> Tensor:
        key = _plus(encoder_out, encoder_pos_embed)
        return _attend(self.multihead_attn, _plus(h, decoder_pos_embed), key, encoder_out)

    x = _residual(self, self_attention, x, self.norm1, self.dropout1)
    x = _residual(self, cross_attention, x, self.norm2, self.dropout2)
    return _residual(self, partial(_feed_forward, self), x, self.norm3, self.dropout3)


def frozen_batch_norm_forward(self: FrozenBatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm with fixed statistics, ``(B, C, H, W) -> (B, C, H, W)``, in one operation.

    torchvision's own takes eleven, of which Dynamo's count shows six: without them a graph of aloha
    has 173 operations instead of 273. Torchvision's is called where batch_norm would do something
    else: in an eager step with gradients, for whose backward pass batch_norm holds its input, and
    under autocast, where it would return another dtype. In a graph with constant weights that is allowed:
    there it is folded into the convolution before it, and bf16 activations stay bf16 from one to the next.
    """
    one_operation = torch.compiler.is_compiling() or not torch.is_grad_enabled()
    if not one_operation or (x.dtype != self.weight.dtype and not in_frozen_graph()):
        return STOCK_BATCH_NORM_FORWARD(self, x)
    return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class CompileFriendlyEncoderLayer(ACTEncoderLayer):
    forward = encoder_layer_forward


class CompileFriendlyDecoderLayer(ACTDecoderLayer):
    forward = decoder_layer_forward


class CompileFriendlyFrozenBatchNorm2d(FrozenBatchNorm2d):
    forward = frozen_batch_norm_forward


# Whose forward is known here.
_ENCODER_LAYERS = (ACTEncoderLayer, CompileFriendlyEncoderLayer)
_DECODER_LAYERS = (ACTDecoderLayer, CompileFriendlyDecoderLayer)

LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    ACTEncoderLayer: CompileFriendlyEncoderLayer,
    ACTDecoderLayer: CompileFriendlyDecoderLayer,
    FrozenBatchNorm2d: CompileFriendlyFrozenBatchNorm2d,
}
