"""Gradients that outlive the CUDA graph that made them: two backward passes before an optimizer's step."""

from __future__ import annotations

import weakref
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .weights import tensors_of

_kept: WeakKeyDictionary[nn.Module, dict[int, weakref.ref[Tensor]]] = WeakKeyDictionary()


@torch.no_grad()
def keep_gradients(module: nn.Module) -> None:
    """Copy gradients that the last backward pass left, before the next forward pass overwrites their memory.

    torch's CUDA graphs write every step's gradients to the same memory. What is copied once is added to in
    place from then on, and not copied again. Views, as DistributedDataParallel's buckets, are in no graph.
    """
    before = _kept.setdefault(module, {})
    for tensor in tensors_of(module):
        gradient = tensor.grad
        if gradient is None or gradient._is_view():
            continue
        ours = before.get(id(tensor))
        if ours is None or ours() is not gradient:
            tensor.grad = gradient.clone()
            before[id(tensor)] = weakref.ref(tensor.grad)
