"""A policy's model with weights of its own, laid out as a GPU wants them: made once, not at every step.

Autocast casts each weight of a product or a convolution at every call, 42 of 215 kernels of aloha in bf16 and
90 of 750 us on an H100; cuDNN reads channels-last weights, which a graph otherwise lays out at every call.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor, nn

from .weights import tensors_of

# What autocast casts the weights of: it leaves norms in fp32, and what is only added.
_CAST = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention)


class Twin(nn.Module):
    """The model of ``policy`` as it acts: in eval mode, without gradients, in memory of its own.

    Args:
        policy: its model; what it holds but weights is shared or copied.
        dtype: that of the surrounding autocast; None where there is none.
        channels_last: of the convolutions' weights.
    """

    def __init__(self, policy: ACTPolicy, dtype: torch.dtype | None, *, channels_last: bool) -> None:
        super().__init__()
        theirs: nn.Module = policy._modules["model"]  # not what torch.compile may have wrapped around it
        cast = {id(tensor) for tensor in _of_products(theirs)} if dtype is not None else set()
        memo: dict[int, Any] = {id(policy.config): policy.config}
        for tensor in tensors_of(theirs):
            to = dtype if id(tensor) in cast else tensor.dtype
            own = _laid_out(tensor.detach(), to or tensor.dtype, channels_last=channels_last)
            memo[id(tensor)] = nn.Parameter(own, False) if isinstance(tensor, nn.Parameter) else own
        self.config = policy.config
        self.model = copy.deepcopy(theirs, memo).eval()
        self._kinds = _kinds(theirs)

    @torch.no_grad()
    def take_weights_of(self, policy: ACTPolicy) -> bool:
        """Copy them; False, and nothing is copied, where the model has become another one."""
        theirs: nn.Module = policy._modules["model"]
        if _kinds(theirs) != self._kinds:
            return False
        for own, tensor in zip(tensors_of(self.model), tensors_of(theirs), strict=True):
            own.copy_(tensor)
        return True


def _of_products(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        if isinstance(module, _CAST):
            yield from (p for p in module.parameters(recurse=False) if p.dtype == torch.float32)


def _laid_out(tensor: Tensor, dtype: torch.dtype, *, channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last and tensor.dim() == 4 else torch.contiguous_format
    return torch.empty_like(tensor, dtype=dtype, memory_format=layout).copy_(tensor)


def _kinds(model: nn.Module) -> list[Any]:
    modules = [(name, type(module)) for name, module in model.named_modules()]
    return [*modules, *((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors_of(model))]
