"""The backbone's max pooling in a compiled training step on a CPU, by torch's own operators.

Inductor's backward pass looks for each pixel of the images at every window that holds it: 274 of the 5360 ms
of aloha's step (two cores with AVX-512, torch 2.11, batch 8). Torch's own goes over the windows, which are a
quarter as many: 40 ms, and 30 in each pass to find the greatest pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter

_HOW = "int[] kernel, int[] stride, int[] padding, int[] dilation, bool ceil_mode"
_OPERATORS = torch.library.Library("act_compiled", "FRAGMENT")
# In whatever layout Inductor has given the images: it is the convolution's, channels last.
_TAGS = (torch.Tag.flexible_layout,)
_OPERATORS.define(f"max_pool(Tensor images, {_HOW}) -> Tensor", tags=_TAGS)
_OPERATORS.define(f"max_pool_backward(Tensor gradient, Tensor images, {_HOW}) -> Tensor", tags=_TAGS)


def _max_pool(images: Tensor, *how: Any) -> Tensor:
    return torch.ops.aten.max_pool2d_with_indices(images, *how)[0]


def _max_pool_backward(gradient: Tensor, images: Tensor, *how: Any) -> Tensor:
    # Found anew: kept from the forward pass, indices of 8 bytes would be held at the peak of memory.
    indices = torch.ops.aten.max_pool2d_with_indices(images, *how)[1]
    gradient = gradient.permute(0, 3, 1, 2)
    return torch.ops.aten.max_pool2d_with_indices_backward(gradient, images, *how, indices)


def _like_images(_: Tensor, images: Tensor, *__: Any) -> Tensor:
    return torch.empty_like(images)


def _hold(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  # torch names them
    images, *ctx.how = inputs
    ctx.save_for_backward(images)


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    (images,) = ctx.saved_tensors
    # Named by its dimensions, as Inductor forgets a memory format; in another layout all is copied, 160 ms.
    channels_last = gradient.permute(0, 2, 3, 1).contiguous()
    return torch.ops.act_compiled.max_pool_backward(channels_last, images, *ctx.how), *(None,) * 5


for _device in ("CPU", "Meta"):
    _OPERATORS.impl("max_pool", _max_pool, _device)
_OPERATORS.impl("max_pool_backward", _max_pool_backward, "CPU")
_OPERATORS.impl("max_pool_backward", _like_images, "Meta")
torch.library.register_autograd("act_compiled::max_pool", _gradient, setup_context=_hold, lib=_OPERATORS)


def _pair(number: Any) -> list[int]:
    return [number, number] if isinstance(number, int) else list(number)


def _pooled(layer: nn.MaxPool2d, images: Tensor) -> Tensor:
    how = [_pair(each) for each in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)]
    return torch.ops.act_compiled.max_pool(images, *how, layer.ceil_mode)


def _has_hooks(module: nn.Module) -> bool:
    """Whether somebody sees that ``module`` is called."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _better_here(backbone: nn.Module, images: Tensor) -> bool:
    return (
        torch.compiler.is_compiling()
        and backbone.training
        and images.device.type == "cpu"
        and type(backbone) is IntermediateLayerGetter
        and len(backbone.return_layers) == 1
        and not _has_hooks(backbone)
    )


def features_of(backbone: nn.Module, images: Tensor) -> Tensor:
    """``backbone(images)["feature_map"]``, ``(B, C, H, W) -> (B, D, h, w)``.

    A backbone that is not as LeRobot makes it is called as it is, and so is each of its layers but a plain
    max pooling.
    """
    if not _better_here(backbone, images):
        return backbone(images)["feature_map"]
    for layer in backbone.values():
        plain = type(layer) is nn.MaxPool2d and not layer.return_indices and not _has_hooks(layer)
        images = _pooled(layer, images) if plain else layer(images)
    return images
